"""As in a container: a root that is read-only, any user, a process namespace, a limit of memory.

What needs rights that the machine does not give is skipped, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import harness
from harness import Server
from wire import Wire, chunked, request

Start = Callable[..., Server]

UID = 10001  # known to no /etc/passwd
AS_UNKNOWN = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
# /tmp is a file system of its own on many machines.
CLOSE = """\
for directory in / /tmp /var/tmp; do
    ! mountpoint -q $directory || mount -o remount,bind,ro $directory
done
"""
MEMORY_SAID = "tmp-dir: none of $TMPDIR, /tmp and /var/tmp can be written to"


def closed_ancestor(path: Path) -> Path | None:
    """The first directory above that not every user may enter, such as /root."""
    return next((p for p in reversed(path.parents) if not p.stat().st_mode & 0o001), None)


def open_up() -> str:
    """Shell commands, for a mount namespace, that let every user read Python and these tests."""
    lines = ["set -e", "mount -t tmpfs none /mnt"]
    needed = dict.fromkeys([Path(sys.base_prefix), harness.VENV.resolve(), harness.ROOT])
    closed = {path: hidden for path in needed if (hidden := closed_ancestor(path))}
    for number, path in enumerate(closed):
        lines += [f"mkdir /mnt/{number}", f"mount --bind {path} /mnt/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 none {hidden}" for hidden in {*closed.values()}]
    for number, path in enumerate(closed):
        lines += [f"mkdir -p {path}", f"mount --bind /mnt/{number} {path}"]
    lines += [f"mount -o remount,bind,ro {hidden}" for hidden in {*closed.values()}]
    return "\n".join([*lines, "mount -o remount,bind,ro /mnt", ""])


def read_only(command: list[str], *, unshare: str = "--mount") -> list[str]:
    """The command with no directory on disk that it could write to, as a user without a name."""
    script = open_up() + f'{CLOSE}exec "$@"'
    prefix = ["unshare", *unshare.split(), "--propagation=private", "sh", "-c", script, "sh"]
    return [*prefix, *AS_UNKNOWN, *command]


@pytest.fixture
def sealed(server: Start) -> Start:
    """Start a server as a user without a name on a root that is read-only."""
    tried = subprocess.run(
        read_only(["test", "!", "-w", "/var/tmp"]), capture_output=True, text=True
    )
    if tried.returncode != 0:
        pytest.skip(f"a read-only root cannot be made: {tried.stderr.strip()}")

    def make(*args: object, **options: object) -> Server:
        s = server(*args, start=False, **options)
        s.command = read_only(s.command)
        s.dir.chmod(0o755)
        return s.start()

    return make


def own_group(version: int) -> Path | None:
    """The directory of this process's group that has the controller of memory."""
    mount = Path("/sys/fs/cgroup") / ("memory" if version == 1 else "")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(",") if version == 1 else line.startswith("0::"):
            return mount / group.lstrip("/")
    return None


@pytest.fixture
def memory_group() -> Iterator[Callable[[int], Path]]:
    """Make a control group with a limit, of the version that the machine has; its directory.

    To be asked for before `server`, so that its processes have ended when the group is removed.
    """
    made: list[Path] = []

    def make(limit_bytes: int) -> Path:
        # Of version 2, a group with processes in it has no groups below: a sibling is made.
        tries = [(own_group(1), "memory.limit_in_bytes")]
        if second := own_group(2):
            tries += [(second, "memory.max"), (second.parent, "memory.max")]
        problem = "there is no controller of memory"
        for parent, file in tries:
            group = parent / f"myserver-test-{os.getpid()}-{len(made)}" if parent else None
            try:
                if group is None:
                    continue
                group.mkdir()
                made.append(group)
                (group / file).write_text(str(limit_bytes))
                return group
            except OSError as error:
                problem = str(error)
        pytest.skip(f"a control group cannot be made: {problem}")

    yield make
    for group in made:
        harness.wait_for(lambda group=group: not (group / "cgroup.procs").read_text())
        group.rmdir()


def inside(group: Path, command: list[str]) -> list[str]:
    """The command in that group."""
    return ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh", *command]


def open_files(pids: list[int]) -> list[str]:
    """What the files that are no sockets, pipes and the like are called."""
    return [name for pid in pids for name in harness.descriptors(pid).values()]


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_large_bodies_without_a_directory(sealed: Start, way: str) -> None:
    """They are files in memory; the log says so once, not once a worker."""
    s = sealed("cases", workers=2, body_buffer="4k")
    body = os.urandom(3 << 20)
    data = request("POST", "/echo", body)
    if way == "chunked":
        data = request("POST", "/echo", chunked(body, 5000), "Transfer-Encoding: chunked")
    for _ in range(3):
        with Wire(s) as wire:
            assert wire.send(data).answer("POST").body == b"POST  " + body
    assert s.log.count(MEMORY_SAID) == 1
    assert s.stop() == 0


def test_memory_of_large_bodies_is_given_back(sealed: Start) -> None:
    """Not kept for the next body, as a file on disk is."""
    s = sealed("cases", body_buffer="4k")
    with s.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        client.sendall(bytes(500_000))
        harness.wait_for(
            lambda: any("memfd:myserver-large" in name for name in open_files(s.workers()))
        )
        client.sendall(bytes(500_000))
        assert client.recv(12) == b"HTTP/1.1 200"
    harness.wait_for(
        lambda: not any("memfd:myserver-large" in name for name in open_files(s.workers()))
    )


def test_bodies_in_memory_are_bounded(
    memory_group: Callable[[int], Path], server: Start, sealed: Start
) -> None:
    """By a quarter of the group's memory, so that a body fails and not the container."""
    del sealed  # it has found out that such a root can be made
    s = server("cases", start=False, body_buffer="4k")
    s.command = inside(memory_group(96 << 20), read_only(s.command))
    s.start()
    (worker,) = s.workers()
    assert "up to 24.0 MB of each in every worker" in s.log
    with Wire(s) as bystander, Wire(s) as wire:
        assert bystander.ask("/").complete
        wire.request("POST", "/echo", bytes(64 << 20))
        assert wire.answer("POST").status == 500
        assert s.log_contains(r"No space left on device in memory, and tmp-dir names no directory")
        body = os.urandom(4 << 20)
        assert bystander.ask("/echo", method="POST", body=body).body == b"POST  " + body
    assert s.workers() == [worker]


def test_answers_to_slow_clients_without_a_directory(sealed: Start) -> None:
    """The thread is free although nobody reads the stream, and the stream comes whole."""
    s = sealed("slow_readers", threads=1)
    with s.connect() as slow:
        slow.sendall(b"GET /finite?400 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        harness.wait_for(
            lambda: any("memfd:myserver-large" in name for name in open_files(s.workers()))
        )
        assert s.get("/").status == 200
        assert len(harness.read_all(slow)) > 400 * 65536


def test_a_directory_of_the_environment_is_taken(sealed: Start) -> None:
    """$TMPDIR, such as a volume that is mounted there; one that is not writable is left out."""
    s = sealed("cases", body_buffer="4k", env={"TMPDIR": "/dev/shm"})
    assert MEMORY_SAID not in s.log
    assert s.request("POST", "/echo", bytes(100_000)).status == 200


@pytest.mark.parametrize("value", ["/nonexistent", "relative", "/proc"])
def test_a_bad_directory_of_the_environment_is_no_error(server: Start, value: str) -> None:
    s = server("cases", body_buffer="4k", env={"TMPDIR": value})
    assert MEMORY_SAID not in s.log
    assert s.request("POST", "/echo", bytes(100_000)).status == 200


# ---- max-worker-memory = auto


def used_mb(group: Path) -> float:
    """What the group uses, without file pages that the kernel can take back."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    first = (group / "memory.usage_in_bytes").exists()
    used = int((group / ("memory.usage_in_bytes" if first else "memory.current")).read_text())
    return (used - int(stat["total_inactive_file" if first else "inactive_file"])) / (1 << 20)


def killed(group: Path) -> int:
    """How many processes the kernel has killed for memory."""
    events = "memory.oom_control" if (group / "memory.oom_control").exists() else "memory.events"
    counts = dict(line.split() for line in (group / events).read_text().splitlines())
    return int(counts["oom_kill"])


def test_a_worker_is_replaced_before_the_kernel_kills_one(
    memory_group: Callable[[int], Path], server: Start
) -> None:
    """The one that has grown most, and each time again; no request is lost."""
    group = memory_group(240 << 20)
    s = server("grows", start=False, workers=2)
    s.command = inside(group, s.command)
    s.start()
    harness.wait_for(lambda: len(s.workers()) == 2)
    replaced = r"replacing worker \d \(pid (\d+)\): it has grown most, and memory is short"
    for round_ in range(1, 3):
        grown = Counter[int]()
        while len(re.findall(replaced, s.log)) < round_:
            if used_mb(group) <= 240 * 0.91:
                grown[int(s.get("/3").text)] += 3
        fat = int(re.findall(replaced, s.log)[-1])
        if round_ == 1:
            # One answer may still be under way when the server looks.
            assert grown[fat] >= max(grown.values()) - 3
        harness.wait_for(lambda fat=fat: fat not in s.workers() and used_mb(group) < 240 * 0.9)
        assert s.get("/").status == 200
    assert killed(group) == 0
    assert "more private memory than max-worker-memory" not in s.log


def test_no_worker_is_replaced_for_what_others_use(
    memory_group: Callable[[int], Path], server: Start
) -> None:
    """Once a warning; nothing else would help."""
    group = memory_group(240 << 20)
    s = server("grows", start=False, workers=2)
    s.command = inside(group, s.command)
    s.start()
    harness.wait_for(lambda: len(s.workers()) == 2)
    pids = s.workers()
    left = int(240 * 0.93 - used_mb(group)) << 20
    hold = f"kept = b'x' * {left}; print(flush=True); input()"
    with subprocess.Popen(
        inside(group, [sys.executable, "-c", hold]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdin
        other.stdout.readline()
        warned = r"uses 2\d\d\.\d of its 240\.0 MB of memory, and no worker has grown much"
        assert s.log_contains(warned)
        assert s.get("/").status == 200
        other.stdin.write(b"\n")
    assert s.workers() == pids
    assert len(re.findall(warned, s.log)) == 1
    assert killed(group) == 0


# ---- process 1, and how it is started


BLOCK_ALL = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 65)) - {32, 33})
for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_started_with_every_signal_blocked(server: Start) -> None:
    """As some runtimes of containers do: the server and its workers still hear what is for them."""
    s = server("orphans", start=False, workers=2, timeout="10s")
    s.command = [sys.executable, "-c", BLOCK_ALL, *s.command]
    s.start()
    harness.wait_for(lambda: len(s.workers()) == 2)
    s.signal(signal.SIGUSR1)
    assert s.log_contains("logs reopened")
    s.signal(signal.SIGHUP)
    assert s.log_contains("reloaded: all workers are of generation 2")
    assert s.get("/child").text == "15"  # a child of the application can be ended by TERM
    assert s.stop() == 0
    assert s.log_contains("draining: told to stop")
    assert "did not leave" not in s.log


def master_of(s: Server) -> int:
    """The master's pid, where `pid` is that of the program before it."""
    return harness.wait_for(
        lambda: next((p.pid for p in s.relatives() if p.name == "myserver:master"), 0)
    )


@pytest.fixture
def process_one(server: Start) -> Start:
    """Start a server as process 1 of a namespace with a read-only root."""
    options = "--mount --pid --fork --kill-child --mount-proc"
    tried = subprocess.run(read_only(["true"], unshare=options), capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"a process namespace cannot be made: {tried.stderr.strip()}")

    def make(*args: object, **options_: object) -> Server:
        s = server(*args, start=False, **options_)
        s.command = read_only(s.command, unshare=options)
        s.dir.chmod(0o755)
        return s.start()

    return make


def test_signals_reach_process_one(process_one: Start) -> None:
    """Process 1 has no default actions: what it does not handle does nothing."""
    s = process_one("orphans", workers=2)
    master = master_of(s)
    assert " 1\n" in Path(f"/proc/{master}/status").read_text().partition("NSpid:")[2].replace(
        "\t", " "
    )
    os.kill(master, signal.SIGHUP)
    assert s.log_contains("reloaded: all workers are of generation 2")
    os.kill(master, signal.SIGUSR1)
    assert s.log_contains("logs reopened")
    for number in (signal.SIGALRM, signal.SIGPIPE, signal.SIGVTALRM):
        os.kill(master, number)
    assert s.get("/").status == 200
    os.kill(master, signal.SIGTERM)
    assert s.wait() == 0
    assert s.log_contains(r"\): stopped$")


def test_process_one_reaps_orphans(process_one: Start) -> None:
    """Grandchildren that the application leaves behind, and children of a worker that is killed."""
    s = process_one("orphans", workers=1, expect_deaths=True)
    master = master_of(s)
    for _ in range(20):
        s.get("/orphan")
    harness.wait_for(lambda: not zombies(s), what="no zombies")
    s.get("/zombies")  # children that nobody has waited for
    assert len(zombies(s)) == 5
    (worker,) = s.workers()
    os.kill(worker, signal.SIGKILL)
    harness.wait_for(lambda: not zombies(s), what="no zombies")
    os.kill(master, signal.SIGTERM)
    assert s.wait() == 0


def zombies(s: Server) -> list[harness.Process]:
    """Processes of the server that have ended and that nobody has waited for."""
    return [p for p in harness.processes(s.pid) if p.state == "Z"]


# ---- the image of deploy/container


def image_command(name: str) -> list[str]:
    """ENTRYPOINT, CMD or the command of HEALTHCHECK, with the paths of this machine."""
    text = (harness.ROOT / "deploy/container/Containerfile").read_text()
    pattern = r"^HEALTHCHECK .*\\\n *CMD (.*)$" if name == "HEALTHCHECK" else rf"^{name} (.*)$"
    (last,) = re.findall(pattern, text, re.MULTILINE)
    ini = str(harness.ROOT / "deploy/container/myserver.ini")
    here = {"myserver": str(harness.BINARY), "/etc/myserver.ini": ini}
    return [here.get(word, word) for word in json.loads(last)]


def test_the_image_of_deploy(process_one: Start, server: Start) -> None:
    """Its commands, user and settings, on a root that is read-only, in namespaces of their own.

    What cannot be had here is the base image; the virtualenv is that of the tests.
    """
    del process_one  # it has found out that such namespaces can be made
    options = "--mount --pid --fork --kill-child --mount-proc --net"
    s = server("hello:application", start=False)
    s.dir.chmod(0o755)
    given = [f"--virtualenv={harness.VENV}", f"--pythonpath={harness.APPS}", "--workers=2"]
    command = [*image_command("ENTRYPOINT"), *given, "hello:application"]
    up = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    assert "USER 10001:10001" in (harness.ROOT / "deploy/container/Containerfile").read_text()
    s.command = [
        "unshare",
        "--net",
        *up,
        *read_only(command, unshare=options.replace(" --net", "")),
    ]
    s.start()
    master = master_of(s)

    def health() -> tuple[int, str]:
        enter = [
            "nsenter",
            f"--target={master}",
            "--net",
            *AS_UNKNOWN,
            *image_command("HEALTHCHECK"),
        ]
        done = subprocess.run(enter, capture_output=True, text=True, env=s.env)
        return done.returncode, done.stdout + done.stderr

    assert health() == (0, "ready\n")
    client = ["nsenter", f"--target={master}", "--net", sys.executable, "-c"]
    ask = "from urllib.request import urlopen as o; print(o('http://127.0.0.1:8000/').read().decode())"
    done = subprocess.run([*client, ask], capture_output=True, text=True, check=True)
    assert done.stdout == "Hello, world!\n\n"
    os.kill(master, signal.SIGTERM)
    harness.wait_for(lambda: health() == (1, "not ready: stopping\n"))
    os.kill(master, signal.SIGTERM)  # the delay of 15 s is for load balancers
    assert s.wait() == 0
    lines = [json.loads(line) for line in s.log.splitlines()]
    assert [line["path"] for line in lines if line.get("method") == "GET"] == ["/"]
