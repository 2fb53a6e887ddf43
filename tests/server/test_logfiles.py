"""Log files: rotated, deleted, replaced, on a full disk; JSON; syslog."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from control_client import OPTIONS, ask
from harness import FLAVOUR, SLOWNESS, Server, StartFailed, descriptors, run, wait_for
from test_privileges import for_nobody
from wire import Wire

Start = Callable[..., Server]

SAYS = """\
def application(environ, start_response):
    path = environ["PATH_INFO"]
    print("printed", path, flush=True)
    if path == "/fail":
        raise ValueError("not this")
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def says(server: Start, start: bool = True, code: str = SAYS, **options: object) -> Server:
    """A server of an application that prints each path."""
    s = server("prints", start=False, prewarm_rounds=0, **options)
    (s.dir / "prints.py").write_text(code)
    return s.start() if start else s


class Asker(threading.Thread):
    """Requests one after the other on one connection, each with a path of its own."""

    def __init__(self, s: Server, name: str) -> None:
        super().__init__(daemon=True)
        self.s, self.label = s, name
        self.over = threading.Event()
        self.paths: list[str] = []
        self.start()

    def run(self) -> None:
        """Ask until told to stop."""
        client = http.client.HTTPConnection("localhost", timeout=10 * SLOWNESS)
        client.sock = self.s.connect()
        while not self.over.is_set():
            path = f"/{self.label}-{len(self.paths)}"
            client.request("GET", path)
            response = client.getresponse()
            response.read()
            assert response.status == 200
            self.paths.append(path)
            if response.will_close:
                client.sock = self.s.connect()
        client.close()


@contextmanager
def load(s: Server) -> Iterator[list[Asker]]:
    """Three clients; they have stopped at the end."""
    askers = [Asker(s, name) for name in "abc"]
    try:
        yield askers
    finally:
        for asker in askers:
            asker.over.set()
        for asker in askers:
            asker.join()


def all_lines(pattern: str, directory: Path) -> list[str]:
    """The lines of several files."""
    text = "".join(p.read_text() for p in sorted(directory.glob(pattern)))
    assert text.endswith("\n")
    return text.splitlines()


def rotate(s: Server, *paths: Path, suffix: object = "old") -> None:
    """What logrotate does: move the files away, then tell the master; wait for the new ones."""
    for path in paths:
        path.rename(f"{path}.{suffix}")
    s.signal(signal.SIGUSR1)
    wait_for(lambda: all(p.exists() for p in paths))


# ---- rotation


@pytest.mark.parametrize("threads", [1, 3])
def test_rotation_loses_no_line(server: Start, threads: int) -> None:
    """Under load every request has one whole line, in one of the files."""
    s = server(workers=2, threads=threads, access_logfile="access.log")
    log = s.dir / "access.log"
    with load(s) as askers:
        for turn in range(12):
            asked = sum(len(asker.paths) for asker in askers)
            wait_for(lambda a=asked: sum(len(asker.paths) for asker in askers) > a + 5)
            rotate(s, log, suffix=turn)
    wait_for(lambda: log.stat().st_size > 0 or s.get("/last") is None)
    s.stop()
    lines = all_lines("access.log*", s.dir)
    seen: Counter[str] = Counter()
    for line in lines:
        match = re.fullmatch(r'127\.0\.0\.1 - - \[.*\] "GET (\S+) HTTP/1\.1" 200 14 "-" "-"', line)
        assert match, f"torn: {line!r}"
        seen[match[1]] += 1
    asked = Counter(path for asker in askers for path in asker.paths)
    assert {path: n for path, n in seen.items() if path != "/last"} == asked
    assert len(asked) > 50


def test_rotation_of_the_error_log(server: Start) -> None:
    """Records of all processes and what the application prints go to the new file."""
    s = says(server, workers=2, error_logfile="error.log", start=False, **OPTIONS)
    log = s.dir / "error.log"
    s.log_path = log
    s.start()
    rotate(s, log)
    assert s.log_contains(r"\[info\] master .*: logs reopened")
    for pid in s.workers():
        wait_for(lambda p=pid: os.readlink(f"/proc/{p}/fd/2") == str(log))
    s.get("/fail")
    assert s.log_contains(r"printed /fail")
    assert s.log_contains(r"worker \d .*GET /fail")
    old = log.with_suffix(".log.old").read_text()
    assert "ready: " in old and "/fail" not in old
    s.stop()
    assert "stopped" not in old and re.search(r"worker \d .*: stopped", log.read_text())


def test_later_workers_write_to_the_new_file(server: Start) -> None:
    """A worker that the mold forks after a rotation, also after one more."""
    s = server(access_logfile="access.log", expect_deaths=True)
    log = s.dir / "access.log"
    for turn in range(2):
        rotate(s, log, suffix=turn)
        before = s.workers()
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda b=before: s.workers() and s.workers() != b)
        s.get(f"/after-{turn}")
        wait_for(lambda t=turn: f"/after-{t} " in log.read_text())
    assert (s.dir / "access.log.0").read_text() == ""


def test_a_stopped_worker_catches_up(server: Start) -> None:
    """It slept through three rotations and writes to the newest file."""
    s = server(access_logfile="access.log")
    log = s.dir / "access.log"
    pid = s.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    for turn in range(3):
        rotate(s, log, suffix=turn)
    os.kill(pid, signal.SIGCONT)
    s.get("/awake")
    wait_for(lambda: "/awake " in log.read_text())
    assert not any((s.dir / f"access.log.{turn}").read_text() for turn in range(3))


def test_deleted_file_and_replaced_directory(server: Start) -> None:
    """USR1 makes what is gone again; a path leads where it leads by then."""
    s = server(access_logfile="logs/access.log", start=False)
    (s.dir / "logs").mkdir()
    s.start()
    log = s.dir / "logs" / "access.log"
    log.unlink()
    s.get("/lost")
    s.signal(signal.SIGUSR1)
    wait_for(log.exists)
    s.get("/1")
    wait_for(lambda: "/1 " in log.read_text())
    (s.dir / "logs").rename(s.dir / "before")
    (s.dir / "logs").mkdir()
    s.signal(signal.SIGUSR1)
    wait_for(log.exists)
    s.get("/2")
    wait_for(lambda: "/2 " in log.read_text())
    assert "/lost" not in log.read_text()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGUSR1, r"\[error\] .*reopening logs: cannot open logs/access\.log: its dir"),
        (signal.SIGHUP, r"reloaded: all workers"),
    ],
)
def test_without_the_directory_of_the_log(server: Start, number: int, said: str) -> None:
    """The old file goes on; the log says why it was not opened, and a reload has nothing to do with
    files that are open."""
    s = server(access_logfile="logs/access.log", start=False)
    (s.dir / "logs").mkdir()
    s.start()
    (s.dir / "logs").rename(s.dir / "moved")
    s.signal(number)
    assert s.log_contains(said)
    s.get("/still")
    wait_for(lambda: "/still " in (s.dir / "moved" / "access.log").read_text())


def test_a_pipe_that_nobody_reads(server: Start) -> None:
    """It is an error, and nobody waits for its reader."""
    s = server(access_logfile="pipe", start=False)
    os.mkfifo(s.dir / "pipe")
    with pytest.raises(StartFailed) as failure:
        s.start()
    assert failure.value.status == 2
    assert "access-logfile: cannot open pipe: it is a pipe that nobody reads" in s.log
    done = run("--check-config", *s.command[1:], cwd=s.dir)
    assert (done.returncode, "it is a pipe that nobody reads" in done.stderr) == (2, True)
    reader = os.open(s.dir / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    s.start()
    s.get("/one")
    wait_for(lambda: select.select([reader], [], [], 0)[0])
    assert b'"GET /one ' in os.read(reader, 4096)
    os.close(reader)
    s.signal(signal.SIGUSR1)
    assert s.log_contains(r"reopening logs: cannot open pipe: it is a pipe that nobody reads")
    assert s.get("/two").status == 200
    assert s.stop() == 0


def test_access_to_stdout_beside_an_error_log(server: Start) -> None:
    """Neither takes the other's place, also after an upgrade."""
    s = server(error_logfile="error.log", access_logfile="-", start=False)
    stdout, s.log_path = s.log_path, s.dir / "error.log"
    s.start(streams=stdout)
    s.get("/first")
    wait_for(lambda: '"GET /first ' in stdout.read_text())
    s.signal(signal.SIGUSR2)
    found = s.log_contains(r"the new master \(pid (\d+)\) serves")
    assert found
    assert s.wait() == 0
    s.get("/second")
    wait_for(lambda: '"GET /second ' in stdout.read_text())
    assert "GET /" not in s.log
    os.kill(int(found[1]), signal.SIGTERM)
    wait_for(lambda: not s.relatives())


def test_without_files(server: Start) -> None:
    """Nothing to reopen: USR1 does nothing, and harms nobody."""
    s = server(access_logfile="-")
    s.signal(signal.SIGUSR1)
    assert s.log_contains("logs reopened")
    s.get("/there")
    assert s.log_contains(r'"GET /there HTTP/1\.1" 200')


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights up")
def test_workers_without_rights(server: Start) -> None:
    """A worker that may not open the file still gets it after a rotation."""
    drop = "import os\nos.register_at_fork(after_in_child=lambda: os.setuid(65534))\n"
    s = says(server, code=drop + SAYS, access_logfile="logs/access.log", start=False)
    (s.dir / "logs").mkdir(mode=0o700)
    s.dir.chmod(0o755)
    s.start()
    assert Path(f"/proc/{s.workers()[0]}").stat().st_uid == 65534
    log = s.dir / "logs" / "access.log"
    rotate(s, log)
    s.get("/unprivileged")
    wait_for(lambda: "/unprivileged " in log.read_text())


@for_nobody
def test_rotation_with_another_user(server: Start) -> None:
    """In a directory that is root's, logrotate makes the new file for the user of the server."""
    s = server(access_logfile="logs/access.log", user="nobody", start=False)
    s.dir.chmod(0o755)
    (s.dir / "logs").mkdir(mode=0o755)
    s.start()
    log = s.dir / "logs" / "access.log"
    log.rename(s.dir / "logs" / "access.log.1")
    s.signal(signal.SIGUSR1)
    assert s.log_contains(r"reopening logs: cannot open logs/access\.log: Permission denied")
    s.get("/kept")
    wait_for(lambda: "/kept " in (s.dir / "logs" / "access.log.1").read_text())
    log.touch(0o640)
    shutil.chown(log, "nobody")
    s.signal(signal.SIGUSR1)
    assert s.log_contains("logs reopened")
    s.get("/new")
    wait_for(lambda: "/new " in log.read_text())


def test_no_descriptors_leak(server: Start) -> None:
    """Fifty rotations later every process has as many descriptors as after the first."""
    s = server(error_logfile="error.log", access_logfile="access.log", start=False, **OPTIONS)
    s.log_path = s.dir / "error.log"
    s.start()

    def count() -> dict[int, int]:
        s.get("/")
        time.sleep(0.3)
        ask(s, "/livez")
        return {p.pid: len(descriptors(p.pid)) for p in s.relatives()}

    s.signal(signal.SIGUSR1)
    assert s.log_contains("logs reopened")
    before = count()
    for _ in range(50):
        s.signal(signal.SIGUSR1)
        s.get("/")

    def are_no_more() -> bool:
        now = count()
        return now.keys() == before.keys() and all(now[pid] <= before[pid] for pid in now)

    wait_for(are_no_more, what=f"no more than {before}")


# ---- a full disk


def test_full_disk(server: Start) -> None:
    """Requests go on; it is said once, and afterwards how much is missing."""
    s = server(access_logfile="access.log", start=False)
    log = s.dir / "access.log"
    log.symlink_to("/dev/full")
    s.start()
    for _ in range(20):
        assert s.get("/").status == 200
    assert s.log_contains(r"\[error\] .*lines of the access log are lost: No space left on device")
    log.unlink()
    s.signal(signal.SIGUSR1)
    assert s.log_contains("logs reopened")
    for _ in range(5):
        s.get("/back")
    match = s.log_contains(r"\[warning\] .*written again, (\d+) lines are missing")
    assert match
    assert s.log.count("lines of the access log") == 1
    wait_for(lambda: log.read_text().count("/back") == 5)
    assert int(match[1]) + log.read_text().count('"GET / ') == 20


def test_full_disk_for_the_error_log(server: Start) -> None:
    """Nothing can be said, so nothing is; when it can again, it is."""
    s = says(server, error_logfile="error.log", access_logfile="access.log", start=False)
    log = s.dir / "error.log"
    s.log_path = log
    s.start()
    log.unlink()
    log.symlink_to("/dev/full")
    s.signal(signal.SIGUSR1)
    wait_for(lambda: os.readlink(f"/proc/{s.workers()[0]}/fd/2") == "/dev/full")
    for _ in range(3):
        assert s.get("/fail").status == 500
    log.unlink()
    s.signal(signal.SIGUSR1)
    wait_for(log.exists)
    assert s.get("/fail").status == 500
    assert s.log_contains(r"\[warning\] worker 1 .*records of this process are missing above")
    wait_for(lambda: (s.dir / "access.log").read_text().count("/fail") == 4)
    log.write_text("ready: \n" + log.read_text())  # the start is what the harness looks for


# ---- JSON

RECORD_KEYS = {"time", "level", "process", "pid", "message"}


def test_json_error_log(server: Start) -> None:
    """Every record is an object of one line; the harness's words are still there."""
    s = says(server, error_logfile="error.log", log_format="json", log_level="debug", start=False)
    s.log_path = s.dir / "error.log"
    s.start()
    s.names = [name.rstrip('"}') for name in s.names]
    s.get("/fail")
    s.raw(b"GET /\x1b[2J\xff HTTP/1.1\r\n\r\n")
    s.stop()
    records = [json.loads(x) for x in s.log.splitlines()]
    assert all(set(r) - {"detail"} == RECORD_KEYS for r in records)
    for record in records:
        assert datetime.fromisoformat(record["time"]).tzinfo is not None
        assert record["level"] in ("debug", "info", "warning", "error", "critical")
    assert {r["process"] for r in records} >= {"master", "mold", "worker 1"}
    failure = next(r for r in records if "GET /fail" in r["message"])
    assert failure["level"] == "error"
    assert failure["detail"].startswith("Traceback (most recent call last):\n  File ")
    assert failure["detail"].rstrip().endswith("ValueError: not this")


def test_unknown_log_format(server: Start) -> None:
    """There are two."""
    result = run("--log-format=xml", "hello:application")
    assert result.returncode == 2
    assert result.stderr == (
        'myserver: command line: --log-format: "xml" is neither text nor json\n'
    )


# ---- syslog


class Syslog:
    """A daemon that keeps what it gets."""

    def __init__(self, path: Path | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(str(path) if path else ("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.lines: list[str] = []

    @property
    def port(self) -> int:
        """Of a daemon on UDP."""
        return self.socket.getsockname()[1]

    def find(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""
        return wait_for(lambda: self._search(pattern), what=pattern)

    def _search(self, pattern: str) -> re.Match[str] | None:
        while True:
            try:
                self.lines.append(self.socket.recv(65536).decode())
            except BlockingIOError:
                break
        return next((m for line in self.lines if (m := re.fullmatch(pattern, line))), None)

    def close(self) -> None:
        """Go away."""
        self.socket.close()


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[Callable[..., Syslog]]:
    """Start daemons: syslog(path), or syslog() on UDP."""
    daemons: list[Syslog] = []

    def make(path: Path | None = None) -> Syslog:
        daemons.append(Syslog(path))
        return daemons[-1]

    yield make
    for daemon in daemons:
        daemon.close()


LOCAL = r"<{}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d myserver\[\d+\]: "
REMOTE = r"<{}>1 \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z \S+ myserver \d+ - - "


def test_local_syslog(server: Start, tmp_path: Path, syslog: Callable[..., Syslog]) -> None:
    """Both logs as the C library would send them; what the application prints stays on stderr."""
    path = tmp_path / "log"
    daemon = syslog(path)
    where = f"syslog:unix:{path}"
    s = says(server, access_logfile=where, start=False)
    s.command.insert(1, f"--error-logfile={where}")
    launch(s)
    daemon.find(LOCAL.format(30) + r"\[info\] master \(\d+\): ready: .*")
    s.names = [daemon.find(LOCAL.format(30) + r".*listening on (\S+)")[1]]
    assert s.get("/fail").status == 500
    daemon.find(LOCAL.format(27) + r"\[error\] worker 1 \(\d+\): .*GET /fail.*")
    daemon.find(LOCAL.format(27) + r"  ValueError: not this")
    daemon.find(LOCAL.format(30) + r'127\.0\.0\.1 - - .* "GET /fail HTTP/1\.1" 500 .*')
    assert "printed /fail" in s.log and "[info]" not in s.log
    assert s.stop() == 0
    daemon.find(LOCAL.format(30) + r"\[info\] master \(\d+\): stopped")


def launch(s: Server) -> None:
    """Start a server whose records the harness cannot see, without waiting."""
    with s.log_path.open("ab") as log:
        s.process = subprocess.Popen(
            s.command, cwd=s.dir, env=s.env, stdout=log, stderr=log, start_new_session=True
        )


def test_syslog_over_udp(server: Start, syslog: Callable[..., Syslog]) -> None:
    """In the form of RFC 5424, with milliseconds."""
    daemon = syslog()
    s = server(access_logfile=f"syslog:127.0.0.1:{daemon.port}")
    s.get("/far")
    daemon.find(REMOTE.format(30) + r'127\.0\.0\.1 - - .* "GET /far HTTP/1\.1" 200 14 "-" "-"')


def test_json_over_syslog(server: Start, syslog: Callable[..., Syslog]) -> None:
    """One object is one datagram."""
    daemon = syslog()
    s = server(access_logfile=f"syslog:127.0.0.1:{daemon.port}", access_logformat="json")
    s.get("/json")
    match = daemon.find(REMOTE.format(30) + r"(\{.*\})")
    assert json.loads(match[1])["path"] == "/json"


def test_syslog_comes_and_goes(
    server: Start, tmp_path: Path, syslog: Callable[..., Syslog]
) -> None:
    """Without a daemon lines are lost, which is said once; a new one gets them again."""
    path = tmp_path / "log"
    s = server(access_logfile=f"syslog:unix:{path}")
    for _ in range(3):
        assert s.get("/lost").status == 200
    assert s.log_contains(r"\[error\] .*lines of the access log are lost: No such file")
    for round_ in range(2):
        daemon = syslog(path)
        s.get(f"/found-{round_}")
        daemon.find(LOCAL.format(30) + rf'.*"GET /found-{round_} .*')
        daemon.close()
        path.unlink()
        assert s.get("/lost").status == 200
    assert s.log_contains(r"\[warning\] .*written again, \d lines are missing")


@pytest.mark.skipif(FLAVOUR != "release", reason="it is about time")
def test_syslog_that_does_not_read(
    server: Start, tmp_path: Path, syslog: Callable[..., Syslog]
) -> None:
    """A daemon that is stuck costs one request a moment, not every request."""
    path = tmp_path / "log"
    syslog(path)
    s = server(access_logfile=f"syslog:unix:{path}")
    with Wire(s) as wire:
        start = time.monotonic()
        for _ in range(800):
            assert wire.ask("/").status == 200
        assert time.monotonic() - start < 40  # with the wait of 100 ms for each it would be 80
    assert s.log_contains("lines of the access log are lost: Resource temporarily unavailable")


def test_syslog_that_does_not_read_under_a_timer(
    server: Start, tmp_path: Path, syslog: Callable[..., Syslog]
) -> None:
    """The signals of the application interrupt the wait, and do not make it longer."""
    syslog(tmp_path / "log")
    s = server("ticks", access_logfile=f"syslog:unix:{tmp_path / 'log'}")

    def is_full() -> bool:
        assert s.get("/").status == 200
        return "lines of the access log are lost" in s.log

    wait_for(is_full, 20, "a full daemon")


@pytest.mark.parametrize(
    "where", ["syslog:nonsense", "syslog:unix:", "syslog:host:", "syslog::514", "syslog:h:123456"]
)
@pytest.mark.parametrize("option", ["error-logfile", "access-logfile"])
def test_bad_syslog_address(option: str, where: str) -> None:
    """One sentence, before anything is opened."""
    result = run(f"--{option}={where}", "hello:application")
    assert result.returncode == 2
    assert re.fullmatch(rf"myserver: command line: --{option}: .*\n", result.stderr)
