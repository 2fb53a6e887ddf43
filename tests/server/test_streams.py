"""Standard streams that are closed: nothing else gets their numbers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness import Server, wait_for
from test_isolation import descriptors
from wire import Wire, request, wire_to

Start = Callable[..., Server]


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_at_the_start(server: Start, closed: str) -> None:
    binds = ["127.0.0.1:0", "unix:app.sock"]
    s = server("streams", binds=binds, error_logfile="error.log", start=False)
    s.command = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *s.command]
    s.log_path = s.dir / "error.log"
    s.start(streams=s.dir / "streams.log")
    wait_for(lambda: len(s.relatives()) == 3, what="the master, the mold and a worker alone")
    for process in s.relatives():
        files = descriptors(process.pid)
        assert files[1] == files[2] == str(s.log_path)
    for name in s.names:
        with Wire(s, name=name) as wire:
            assert wire.ask("/print?12").status == 200
    assert s.log.count("printed") == 4


@pytest.mark.parametrize("closed", ["1", "2", "012"])
def test_a_connection_given_by_a_sibling(server: Start, closed: str) -> None:
    """It is taken, and nothing that is printed goes to its client."""
    s = server("streams", workers=2)
    found = s.log_contains(r"worker 2 \(pid (\d+)\) serves")
    assert found
    second = int(found[1])
    (first,) = set(s.workers()) - {second}
    with ExitStack() as stack:
        given, closes = wire_to(s, stack, 2), wire_to(s, stack, 1)
        assert closes.ask(f"/close?{closed}").status == 200
        s.signal(signal.SIGTTOU)
        assert s.log_contains(rf"worker 2 \(pid {second}\) left")
        for _ in range(2):
            assert given.ask(f"/print?{closed}").text == f"{first} 0 of 0"
        files = descriptors(first)
        assert {files.get(int(digit), "/dev/null") for digit in closed} == {"/dev/null"}


@pytest.mark.parametrize("closed", ["1", "012"])
def test_a_body_in_a_file(server: Start, tmp_path: Path, closed: str) -> None:
    """Neither the file nor the pipe to it takes what is printed."""
    s = server("streams", body_buffer="4k", tmp_dir=str(tmp_path))
    (pid,) = s.workers()
    before = set(descriptors(pid).values())
    length = 2_000_000

    def new() -> set[str]:
        return set(descriptors(pid).values()) - before

    with Wire(s, 20) as wire, Wire(s, 20) as other:
        assert other.ask(f"/close?{closed}").status == 200
        head = request("POST", "/", None, f"Content-Length: {length}")
        wire.send(head + b"a" * (length // 2))
        wait_for(lambda: any(file.startswith(str(tmp_path)) for file in new()), what="a file")
        wait_for(lambda: any(file.startswith("pipe:") for file in new()), what="a pipe")
        assert other.ask(f"/print?{closed}").status == 200
        wire.send(b"a" * (length - length // 2))
        assert wire.answer().text == f"{pid} {length} of {length}"


def test_closed_at_import(server: Start) -> None:
    """The event loop does not use the numbers, which are the log's when it is opened again."""
    s = server("streams", env={"CLOSED_AT_IMPORT": "12"}, error_logfile="error.log", start=False)
    s.log_path = s.dir / "error.log"
    s.start(streams=s.dir / "streams.log")
    (pid,) = s.workers()
    assert descriptors(pid)[1] == descriptors(pid)[2] == "/dev/null"
    os.rename(s.log_path, s.dir / "old.log")
    s.signal(signal.SIGUSR1)
    wait_for(lambda: descriptors(pid)[1] == descriptors(pid)[2] == str(s.log_path))
    assert s.get("/print?12").status == 200
    assert s.log.count("printed") == 2
    (s.dir / "error.log").write_text("ready: \n" + s.log)  # the start is what the harness looks for
