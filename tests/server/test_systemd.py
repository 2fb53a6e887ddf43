"""The service manager: sockets it opens, and what it is told, over a real notify socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import BINARY, PATIENCE_S, ROOT, SLOWNESS, Server, StartFailed, wait_for
from test_master import versioned, write_app
from test_upgrade import end, upgrade
from wire import Wire, let

Start = Callable[..., Server]


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path, abstract: bool = False) -> None:
        name = f"\0{path}" if abstract else str(path)
        self.name = name.replace("\0", "@")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.settimeout(0.05)
        self.seen: list[str] = []

    def listen(self) -> list[str]:
        """All lines so far."""
        while True:
            try:
                self.seen += self.socket.recv(4096).decode().splitlines()
            except TimeoutError:
                return self.seen

    def wait_for(self, *lines: str) -> None:
        """Wait until these lines have come, in this order, and forget them and all before."""
        for line in lines:
            wait_for(lambda line=line: line in self.listen(), what=f"{line} in {self.seen}")
            del self.seen[: self.seen.index(line) + 1]


HELD = """\
from told import event, wait_until_let
{before}
def application(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        event("held.")
        wait_until_let("go")
    start_response("200 OK", [])
    return [b"{text}"]
"""
HELD_AT_START = """\
import myserver
event("load"); wait_until_let("load")
@myserver.postfork
def begin():
    event("begin"); wait_until_let("begin")
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    m = Manager(tmp_path / "notify")
    yield m
    m.socket.close()


def test_ready_when_the_first_worker_serves(server: Start, manager: Manager) -> None:
    """Not while it loads, nor while its workers begin."""
    s = server("versioned", start=False, env={"NOTIFY_SOCKET": manager.name}, workers=2)
    (s.dir / "versioned.py").write_text(HELD.format(before=HELD_AT_START, text="one"))
    starting = threading.Thread(target=s.start)
    starting.start()
    for held in ("load", "begin"):
        assert s.log_contains(f"event: {held}")
        assert "READY=1" not in manager.listen()
        let(s, held)
    starting.join()
    manager.wait_for("READY=1")
    manager.wait_for("STATUS=2 of 2 workers serve, generation 1")
    s.stop()
    manager.wait_for("STOPPING=1")
    assert "READY=1" not in manager.listen()


def test_not_ready_when_the_application_does_not_load(server: Start, manager: Manager) -> None:
    s = server("versioned", start=False, env={"NOTIFY_SOCKET": manager.name})
    write_app(s, "one", "1 / 0")
    with pytest.raises(StartFailed) as failure:
        s.start()
    assert failure.value.status == 3
    assert "READY=1" not in manager.listen()


def test_abstract_socket(server: Start, tmp_path: Path) -> None:
    manager = Manager(tmp_path / "abstract", abstract=True)
    server(env={"NOTIFY_SOCKET": manager.name})
    manager.wait_for("READY=1")
    manager.socket.close()


def test_reload(server: Start, manager: Manager) -> None:
    s = versioned(server, "one", env={"NOTIFY_SOCKET": manager.name})
    manager.wait_for("READY=1")
    write_app(s, "second")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    s.signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    usec = next(line for line in manager.listen() if line.startswith("MONOTONIC_USEC="))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(usec.partition("=")[2]) <= after
    manager.wait_for("READY=1")
    assert s.get("/").text == "second"
    assert s.log_contains("reloaded: all workers")


def test_ready_after_the_last_of_two_reloads(server: Start, manager: Manager) -> None:
    """Not when the workers of the first have drained, while the second loads."""
    s = server("versioned", start=False, env={"NOTIFY_SOCKET": manager.name})
    (s.dir / "versioned.py").write_text(HELD.format(before="", text="one"))
    s.start()
    manager.wait_for("READY=1")
    with Wire(s, 60) as wire:
        wire.request("GET", "/held")
        assert s.log_contains("event: held")
        s.signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        assert s.log_contains("reload: generation 2 serves")
        before = 'event("loading."); wait_until_let("load")'
        (s.dir / "versioned.py").write_text(HELD.format(before=before, text="last"))
        s.signal(signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        assert s.log_contains("event: loading")
        let(s, "go")
        assert wire.answer().text == "one"
    assert s.log_contains("reloaded: all workers are of generation 2")
    assert "READY=1" not in manager.listen()
    let(s, "load")
    manager.wait_for("READY=1")
    assert s.get("/").text == "last"


@pytest.mark.parametrize("code", ["1 / 0", "import os; os._exit(1)"])
def test_reload_that_fails_is_over_too(server: Start, manager: Manager, code: str) -> None:
    s = versioned(server, "one", env={"NOTIFY_SOCKET": manager.name}, expect_deaths=True)
    manager.wait_for("READY=1")
    write_app(s, "two", code)
    s.signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1", "READY=1")
    assert s.log_contains("reload failed")


def test_reload_with_broken_settings_is_over_too(server: Start, manager: Manager) -> None:
    s = server("slow", start=False, env={"NOTIFY_SOCKET": manager.name})
    (s.dir / "it.ini").write_text("[myserver]\n")
    s.command += ["-c", "it.ini"]
    s.start()
    manager.wait_for("READY=1")
    (s.dir / "it.ini").write_text("[myserver]\nno = 1\n")
    s.signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1", "READY=1")


def test_watchdog(server: Start, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000"}
    s = server("versioned", start=False, env=env)
    (s.dir / "versioned.py").write_text(HELD.format(before="", text="one"))
    s.start()
    with Wire(s, 60) as wire:
        wire.request("GET", "/held")  # the only worker is busy: the master is not
        assert s.log_contains("event: held")

        def took() -> float:
            manager.listen().clear()
            begin = time.monotonic()
            manager.wait_for(*["WATCHDOG=1"] * 5)
            return time.monotonic() - begin

        # At least once in its time, and not much more often than twice; on a busy machine one of
        # several windows shows it.
        wait_for(lambda: 0.6 < took() < 5 * 0.4 * SLOWNESS, 40, "five in their time")
        let(s, "go")
        assert wire.answer().text == "one"
    s.signal(signal.SIGSTOP)
    wait_for(lambda: any(p.pid == s.pid and p.state == "T" for p in s.relatives()))
    manager.listen().clear()
    time.sleep(0.6)
    assert "WATCHDOG=1" not in manager.listen()
    s.signal(signal.SIGCONT)
    manager.wait_for("WATCHDOG=1")


def test_watchdog_of_another_process(server: Start, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    server(env=env)
    time.sleep(0.5)
    assert "WATCHDOG=1" not in manager.listen()


def test_upgrade_changes_the_main_pid(server: Start, manager: Manager) -> None:
    s = server("slow", env={"NOTIFY_SOCKET": manager.name}, workers=2)
    manager.wait_for("READY=1")
    new = upgrade(s)
    manager.wait_for(f"MAINPID={new}")
    # When the old one has gone, systemd is the parent of the new one, and has to look again: it
    # waits only for the end of a main process that was its child when it became that.
    wait_for(lambda: f"MAINPID={new}" in manager.listen(), what="the main process again")
    told = [line for line in manager.seen if line.startswith("MAINPID=")]
    between = int(told[0].partition("=")[2])
    assert told == [f"MAINPID={between}", f"MAINPID={new}"]
    assert between != new and between in [p.pid for p in s.relatives()]
    assert "STOPPING=1" not in manager.seen
    end(s, new)
    manager.wait_for("STOPPING=1")


def test_upgrade_that_is_called_off_is_no_news(server: Start, manager: Manager) -> None:
    """With NotifyAccess=all the manager would believe the new master that the service stops."""
    s = versioned(server, "one", env={"NOTIFY_SOCKET": manager.name})
    manager.wait_for("READY=1", "STATUS=1 of 1 workers serve, generation 1")
    write_app(s, "two", "time.sleep(60)")
    s.signal(signal.SIGUSR2)
    found = s.log_contains(r"upgrading: the new master is pid (\d+)")
    assert found
    wait_for(lambda: len(s.molds()) == 2)
    os.kill(int(found[1]), signal.SIGTERM)
    assert s.log_contains(r"upgrade called off")
    assert manager.listen() == []
    s.stop()
    manager.wait_for("STOPPING=1")


def test_application_does_not_see_the_manager(server: Start, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000"}
    before = "import os; seen = sorted(n for n in os.environ if n.startswith(('NOTI', 'WATCH')))"
    s = versioned(server, "one", before + "; print('seen', seen)", env=env)
    assert "seen []" in s.log


# ---- socket activation


@contextmanager
def activated(
    s: Server, sockets: list[socket.socket], names: tuple[str, ...] = ()
) -> Iterator[None]:
    """Starts the server as systemd would: descriptors from 3 on, and its pid in LISTEN_PID."""
    fdnames = ":".join(names or ["http" for _ in sockets])
    fds = [sock.fileno() for sock in sockets]
    moves = "; ".join(
        [f"exec {100 + i}<&{fd}" for i, fd in enumerate(fds)]
        + [f"exec {3 + i}<&{100 + i} {100 + i}<&-" for i in range(len(fds))]
    )
    script = f"{moves}; export LISTEN_PID=$$ LISTEN_FDS={len(fds)} LISTEN_FDNAMES={fdnames}; "
    command = [*s.command]
    with s.log_path.open("ab") as log:
        s.process = subprocess.Popen(
            ["bash", "-c", script + 'exec "$@"', "bash", *command],
            cwd=s.dir,
            env=s.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=fds,
        )
    assert s.log_contains(r"\bready: "), s.log
    s.names = [line.split()[-1] for line in s.log.splitlines() if "listening on" in line]
    yield


def test_socket_activation(server: Start, tmp_path: Path) -> None:
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "sock"))
    unix.listen()
    s = server("slow", start=False, workers=2, binds=["127.0.0.1:1"])
    with activated(s, [tcp, unix]):
        host, port = tcp.getsockname()
        assert s.names == [f"{host}:{port}", f"unix:{tmp_path}/sock"]
        assert s.get("/").status == 200
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "sock"))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        s.signal(signal.SIGHUP)
        assert s.log_contains(r"reloaded: ")
        new = upgrade(s)
        assert s.get("/").status == 200
        end(s, new)
    # They are systemd's: the file is there, and who connects waits for the next start.
    assert (tmp_path / "sock").exists()
    with socket.create_connection(tcp.getsockname(), 20) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        again = server("slow", start=False, binds=["127.0.0.1:1"])
        with activated(again, [tcp]):
            client.settimeout(PATIENCE_S * SLOWNESS)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    tcp.close()
    unix.close()


def test_sockets_by_number(server: Start, tmp_path: Path) -> None:
    """`fd://` is what a parent that is no systemd hands down."""
    path = str(tmp_path / "sock")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        fds = [tcp.fileno(), unix.fileno()]
        s = server("slow", start=False, binds=[f"fd://{fd}" for fd in fds])
        s.start(fds=fds)
        s.names = ["{}:{}".format(*tcp.getsockname()), f"unix:{path}"]  # it says their numbers
        for name in s.names:
            with Wire(s, name=name) as wire:
                assert wire.ask("/").status == 200
        new = upgrade(s)
        with Wire(s) as wire:
            assert wire.ask("/").status == 200
        end(s, new)
        for again in (socket.create_connection(tcp.getsockname(), 20), unix_client(path)):
            again.close()  # they are the parent's, which still listens


def unix_client(path: str) -> socket.socket:
    """A connection to a unix socket."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


def test_sockets_for_another_process_are_not_ours(server: Start) -> None:
    s = server(env={"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})
    assert s.get("/").status == 200


# ---- units


# What SECURITY.md promises of conf/, and what the deploys that are described there need.
SERVICE = """
Type=notify
NotifyAccess=all
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec=30
User=www-data
KillMode=mixed
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
PrivateTmp=true
PrivateDevices=true
ProtectSystem=strict
ReadWritePaths=-/srv/%i/media
ProtectHome=true
ProtectClock=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
RemoveIPC=true
UMask=0027
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
""".split("\n")[1:-1]


@pytest.mark.parametrize("line", SERVICE)
def test_service(line: str) -> None:
    """The line stands there, and none takes it back."""
    lines = (ROOT / "conf" / "myserver@.service").read_text().splitlines()
    name = line.partition("=")[0]
    assert [found for found in lines if found.startswith(f"{name}=")] == [line]


def test_socket() -> None:
    assert "\nListenStream=" in (ROOT / "conf" / "myserver@.socket").read_text()


def test_units_mean_something_to_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    units = []
    for name in ("service", "socket"):
        text = (ROOT / "conf" / f"myserver@.{name}").read_text()
        units.append(tmp_path / f"myserver@shop.{name}")
        units[-1].write_text(text.replace("/usr/local/bin/myserver", str(BINARY)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == "" and done.returncode == 0
