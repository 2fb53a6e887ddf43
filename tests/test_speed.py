"""What makes the server fast, where it can be counted instead of timed."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import FLAVOUR, SLOWNESS, Server, wait_for
from wire import Wire

Start = Callable[..., Server]

PIDFD_GETFD = 438  # its number on every architecture
WINDOWS = 20
REQUESTS = 20  # in each
OTHERS = 5  # the watch and the clock of the loop go on meanwhile


@contextmanager
def traced(pid: int, out: Path) -> Iterator[None]:
    """Writes the system calls of a process and its threads to a file."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed; `make deps-test` installs it")
    said = out.with_suffix(".said")
    with said.open("wb") as stderr:
        command = [strace, "-f", "-s", "64", "-o", str(out), "-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=stderr)
    try:
        answered = lambda: tracer.poll() is not None or "attached" in said.read_text()  # noqa: E731
        wait_for(answered, 10, "strace to attach")
        if tracer.poll() is not None:
            pytest.skip(f"strace may not: {said.read_text().strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait(20 * SLOWNESS)


def calls_between(trace: str, number: int) -> Counter[str]:
    """The system calls of a window."""
    window = trace.partition(f"GET /begin-{number} ")[2].partition(f"GET /end-{number} ")[0]
    return Counter(re.findall(r"^\d+ +(\w+)\(", window, re.M))


@pytest.mark.skipif(FLAVOUR != "release", reason="sanitizers call the system for themselves")
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("app", ["hello", "redirects"])
def test_system_calls_of_a_kept_connection(
    server: Start, tmp_path: Path, threads: int, bind: str, app: str
) -> None:
    """A request that is like the one before costs three: epoll_wait, recv, send."""
    s = server(app, threads=threads, binds=[bind])
    out = tmp_path / "calls"
    with Wire(s) as wire:
        for _ in range(50):
            assert wire.ask("/").complete
        with traced(s.workers()[0], out):
            for number in range(WINDOWS):
                for target in (f"/begin-{number}", *["/"] * REQUESTS, f"/end-{number}"):
                    assert wire.ask(target).complete
            wait_for(lambda: f"GET /end-{WINDOWS - 1}" in out.read_text(), 20, "strace to write")
    windows = [calls_between(out.read_text(), n) for n in range(WINDOWS)]
    assert all(calls["recvfrom"] >= REQUESTS for calls in windows)  # it is what we look at
    # A machine with other work to do makes requests slow, and each 2 ms of them wake the standby.
    calmest = min(windows, key=Counter.total)
    wakes = [calmest.pop(name, 0) for name in ("timerfd_settime", "read", "futex")]
    assert calmest.total() <= 3 * (REQUESTS + 1) + OTHERS, calmest
    assert max(wakes) < REQUESTS / 2, wakes


def sockets_of(pid: int) -> Iterator[socket.socket]:
    """Copies of the TCP sockets that a process has."""
    process = os.pidfd_open(pid)
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if not os.readlink(link).startswith("socket:"):
            continue
        copy = ctypes.CDLL(None).syscall(PIDFD_GETFD, process, int(link.name), 0)
        if copy < 0:
            pytest.skip("a process may not look at the sockets of another here")
        with socket.socket(fileno=copy) as found:
            if found.family == socket.AF_INET:
                yield found
    os.close(process)


def test_small_pieces_are_sent_at_once(server: Start) -> None:
    """TCP_NODELAY, which a connection has from its listener."""
    s = server("hello")
    with Wire(s) as wire:
        assert wire.ask("/").complete
        (found,) = (
            copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for copy in sockets_of(s.workers()[0])
            if not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
    assert found == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2", None])
def test_file_by_copies_and_by_sendfile(server: Start, source: str | None, method: str) -> None:
    """For a client of this machine (127.0.0.1, unix) a file is copied, to others sent by the kernel."""
    s = server("cases", binds=["127.0.0.1:0" if source else "unix:app.sock"])
    data = bytes(range(251)) * 40_000
    (s.dir / "large.bin").write_bytes(data)
    with Wire(s, source=source) as wire:
        for _ in range(2):
            answer = wire.ask("/file_named?large.bin", method=method)
            assert answer.complete
            assert answer.get("Content-Length") == str(len(data))
            assert answer.body == (data if method == "GET" else b"")
