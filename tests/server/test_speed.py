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

from harness import FLAVOUR, SLOWNESS, Server, descriptors, wait_for
from wire import Wire, request

Start = Callable[..., Server]

PIDFD_GETFD = 438  # its number on every architecture
FIRST = 2100
REQUESTS = 50
TRIES = 20  # with so many requests each, until some are calm
CALM = 5  # so many, one after the other, are looked at


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
        wait_for(answered, what="strace to attach")
        if tracer.poll() is not None:
            pytest.skip(f"strace may not: {said.read_text().strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait(20 * SLOWNESS)


def calls_of_the_calmest(trace: str) -> Counter[str]:
    """The fewest system calls of CALM requests in a row: from the arrival of each to that of the next."""
    pieces = trace.split('"GET / ')[1:-1]
    calls = [Counter(re.findall(r"^\d+ +(\w+)\(", piece, re.M)) for piece in pieces]
    runs = [sum(calls[i : i + CALM], Counter()) for i in range(len(calls) - CALM + 1)]
    return min(runs, key=Counter.total, default=Counter())


@pytest.mark.skipif(FLAVOUR != "release", reason="sanitizers call the system for themselves")
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("app", ["hello", "redirects"])
def test_system_calls_of_a_kept_connection(
    server: Start, tmp_path: Path, threads: int, bind: str, app: str
) -> None:
    """A request that is like the one before costs three: epoll_wait, recv, send.

    It is none of the first of its worker, whose pages are counted (pages.c).
    Observing it reads the clock of its thread, at most once in 250 us, which tracing makes each time.
    The looks of the sampler are not the request's.
    """
    s = server(app, threads=threads, binds=[bind], profile_rate=0)
    out, three = tmp_path / "calls", {"epoll_wait": CALM, "recvfrom": CALM, "sendto": CALM}
    with Wire(s) as wire:
        for _ in range(FIRST // 100):
            wire.send(100 * request("GET", "/"))
            assert all(wire.answer().complete for _ in range(100))
        with traced(s.workers()[0], out):
            for _ in range(TRIES):
                for _ in range(REQUESTS):
                    assert wire.ask("/").complete
                # Each 2 ms of a request wake the standby, and other work of the machine makes requests
                # slow. A call that is made now and then is the watch's, or the clock's of the loop.
                calmest = calls_of_the_calmest(out.read_text())
                clock = calmest.pop("clock_gettime", 0)
                if calmest == three:
                    break
    assert calmest == three
    assert clock <= 4 * CALM


def sockets_of(pid: int) -> Iterator[socket.socket]:
    """Copies of the TCP sockets that a process has."""
    process = os.pidfd_open(pid)
    for fd, target in descriptors(pid).items():
        if not target.startswith("socket:"):
            continue
        copy = ctypes.CDLL(None).syscall(PIDFD_GETFD, process, fd, 0)
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
