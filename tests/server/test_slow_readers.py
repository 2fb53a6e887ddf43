"""Clients that read more slowly than an application produces: they hold no thread for long, they get
every byte, and what the application owns stays until then."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import select
import socket
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness import SLOWNESS, Server, descriptors, wait_for, whole_lines
from test_clients import leave_rudely, small_disk  # noqa: F401
from wire import Answer, Wire, ask, let, request

Start = Callable[..., Server]

BLOCK = 65536
# More than socket buffers and memory of the server hold, less than the file may have.
MANY = 240
LOG = {"access_logfile": "access.log", "access_logformat": "json"}


def access(s: Server) -> list[dict[str, object]]:
    """The lines of the access log."""
    path = s.dir / "access.log"
    return [json.loads(line) for line in whole_lines(path.read_text())] if path.exists() else []


def ended(s: Server, path: str) -> dict[str, object]:
    """Wait for the line about a request of this path."""
    return wait_for(
        lambda: next((e for e in access(s) if str(e["path"]) == path), None), 20, f"end of {path}"
    )


def blocks(count: int) -> bytes:
    """What the application sends."""
    return b"".join(bytes([number % 251]) * BLOCK for number in range(count))


def spilled_files(s: Server, directory: str = "/tmp") -> list[int]:
    """Sizes of the unlinked files that the workers have open there."""
    sizes = []
    for pid in s.workers():
        for fd, target in descriptors(pid).items():
            with suppress(FileNotFoundError):  # closed meanwhile
                if re.match(rf"{directory}/.*\(deleted\)$", target):
                    sizes.append(os.stat(f"/proc/{pid}/fd/{fd}").st_size)
    return sizes


def read_whole(wire: Wire) -> Answer:
    """The next response. Joins the pieces once: there are many."""
    answer = wire.head()
    if answer.get("Transfer-Encoding") is None:
        wire.read_body(answer)
        return answer
    pieces = []
    while piece := wire.chunk():
        pieces.append(piece)
    answer.body, answer.complete = b"".join(pieces), piece is not None
    return answer


class Deaf:
    """Clients that send a request and read nothing."""

    def __init__(self, stack: ExitStack, s: Server, target: str, count: int) -> None:
        self.wires = [stack.enter_context(Wire(s, 60)) for _ in range(count)]
        for wire in self.wires:
            wire.request("GET", target)


# ---- the thread is free


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("kind", ["finite", "length", "write"])
def test_stream_holds_no_thread(server: Start, kind: str, bind: str, version: str) -> None:
    """One thread: while a client does not read its stream, others are served; then it gets all."""
    s = server("slow_readers", binds=[bind], **LOG)
    with Wire(s, 60) as slow:
        slow.request("GET", f"/{kind}?{MANY} HTTP/{version}", None, "Connection: keep-alive")
        assert s.log_contains(f"event: {kind} done")
        for _ in range(3):
            assert ask(s, "/").text == "hello"
        answer = read_whole(slow)
        assert answer.body == blocks(MANY) and answer.complete
        if version == "1.1" or kind == "length":
            assert slow.is_open()
        else:
            assert slow.is_closed()
    line = ended(s, f"/{kind}")
    assert (line["bytes"], line["end"]) == (MANY * BLOCK, None)
    wait_for(lambda: not spilled_files(s), what="the file to be closed")


def test_forty_deaf_clients_of_streams(server: Start) -> None:
    """Sixteen threads: what they have asked for is kept for them, and the next one is served."""
    s = server("slow_readers", workers=2, threads=8)
    with ExitStack() as stack:
        deaf = Deaf(stack, s, "/finite?150", 40)
        with Wire(s, 60) as wire:
            assert wire.ask("/").text == "hello"
        for wire in deaf.wires:
            assert read_whole(wire).body == blocks(150)


def test_pipelined_behind_a_spilled_answer(server: Start) -> None:
    """The next answers follow, in order."""
    s = server("slow_readers", threads=2)
    with Wire(s, 60) as wire:
        wire.send(request("GET", f"/finite?{MANY}") * 2 + request("GET", "/"))
        assert s.log_contains("event: finite done")
        assert ask(s, "/").text == "hello"
        for _ in range(2):
            assert read_whole(wire).body == blocks(MANY)
        assert wire.answer().text == "hello"


def test_head_of_a_stream(server: Start) -> None:
    """HEAD has no body, whoever reads it."""
    s = server("slow_readers")
    with Wire(s) as wire:
        wire.request("HEAD", f"/finite?{MANY}")
        answer = wire.answer("HEAD")
        assert (answer.status, answer.body, answer.complete) == (200, b"", True)
        assert wire.is_open()


def test_while_the_application_pauses(server: Start) -> None:
    """What it has produced reaches the client before the next piece (PEP 3333)."""
    s = server("slow_readers", threads=2)
    with Wire(s, 60) as wire:
        head = wire.request("GET", f"/paused?{MANY}").head()
        assert s.log_contains("event: paused pauses")
        got = b"".join(wire.chunk() or b"" for _ in range(MANY))
        assert got == blocks(MANY) and head.status == 200
        let(s, "paused")
        assert (wire.chunk(), wire.chunk()) == (b"the end", b"")
        assert wire.is_open()


# ---- bounds


@pytest.mark.parametrize("bound", ["file", "files"])
def test_bounds(server: Start, bound: str) -> None:
    """Beyond them the application waits; nothing is lost."""
    options = {f"limit_response_{bound}": "8m"}
    s = server("slow_readers", threads=2, send_timeout="300s", **options, **LOG)
    with Wire(s, 60) as wire:
        wire.request("GET", f"/finite?{MANY}")
        wait_for(lambda: sum(spilled_files(s)) > 7 << 20, 20, "the bound")
        assert sum(spilled_files(s)) <= 8 << 20
        assert ask(s, "/").text == "hello"
        assert "event: finite done" not in s.log
        assert read_whole(wire).body == blocks(MANY)
    assert s.log_contains("event: finite done")


def test_bound_of_a_long_stream(server: Start) -> None:
    """A reader that is a little slower all the time: the file does not grow without end."""
    s = server("slow_readers", limit_response_file="8m", **LOG)
    with Wire(s, 60) as wire:
        wire.request("GET", "/endless").head()
        for _ in range(1000):
            assert len(wire.chunk() or b"") == BLOCK
        assert sum(spilled_files(s)) <= 8 << 20
    assert ended(s, "/endless")["end"] == "client closed"


def test_no_file(server: Start) -> None:
    """With 0, and where tmp-dir is gone, the thread waits as long as the client."""
    s = server("slow_readers", threads=2, limit_response_file="0")
    with Wire(s, 60) as wire:
        wire.request("GET", f"/finite?{MANY}").head()
        assert ask(s, "/").text == "hello"
        assert not spilled_files(s) and "event: finite done" not in s.log
        assert b"".join(iter(wire.chunk, b"")) == blocks(MANY)


@pytest.mark.parametrize("cause", ["full", "gone", "limit"])
def test_disk_that_takes_nothing(
    server: Start,
    small_disk: Path,  # noqa: F811
    cause: str,
) -> None:
    """Full, gone, or a limit of file sizes: said once, and every client gets every byte."""
    directory = small_disk / "here"
    directory.mkdir()
    s = server("slow_readers", threads=4, tmp_dir=directory)
    if cause == "gone":
        directory.rmdir()
    if cause == "limit":
        for pid in s.workers():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
    with ExitStack() as stack:
        deaf = Deaf(stack, s, f"/finite?{MANY}", 3)
        assert s.log_contains(r"\[warning\] .*cannot be kept in a file: .* in .*/here")
        assert ask(s, "/").text == "hello"
        for wire in deaf.wires:
            assert read_whole(wire).body == blocks(MANY)
    assert s.log.count("cannot be kept in a file") == 1


# ---- how such answers end


def test_stream_that_breaks(server: Start) -> None:
    """The connection is cut, without the end of a whole answer."""
    s = server("slow_readers", **LOG)
    with Wire(s, 60) as wire:
        wire.request("GET", f"/breaking?{MANY}")
        assert s.log_contains("ValueError: the stream broke")
        assert ask(s, "/").text == "hello"
        answer = wire.answer()
        assert answer.status == 200 and not answer.complete
    assert ended(s, "/breaking")["end"] == "application failed"


@pytest.mark.parametrize("rude", [False, True], ids=["fin", "rst"])
def test_client_that_leaves(server: Start, rude: bool) -> None:
    """The file goes with it."""
    s = server("slow_readers", **LOG)
    wire = Wire(s).request("GET", f"/finite?{MANY}")
    assert s.log_contains("event: finite done")
    wait_for(lambda: spilled_files(s), what="the file")
    leave_rudely(wire) if rude else wire.close()
    assert ended(s, "/finite")["end"] == "client closed"
    wait_for(lambda: not spilled_files(s), what="the file to be closed")


@pytest.mark.parametrize("kind", ["finite", "endless"])
def test_send_timeout(server: Start, kind: str) -> None:
    """It counts for what is in the file, too."""
    s = server("slow_readers", **LOG, send_timeout=f"{SLOWNESS}s")
    with Wire(s, 60) as wire:
        wire.request("GET", f"/{kind}?{MANY}")
        assert ended(s, f"/{kind}")["end"] == "send timeout"
        assert not wire.answer().complete
    assert ask(s, "/").text == "hello"


def test_worker_that_drains(server: Start) -> None:
    """TERM while a spilled answer is on its way: it arrives whole."""
    s = server("slow_readers")
    with Wire(s, 60) as wire:
        wire.request("GET", f"/finite?{MANY}")
        assert s.log_contains("event: finite done")
        os.kill(s.pid, 15)
        assert s.log_contains("draining")
        assert read_whole(wire).body == blocks(MANY)
    assert s.wait() == 0


def test_recycled_worker(server: Start) -> None:
    """The same where only the worker ends."""
    s = server("slow_readers", max_requests=1, max_requests_jitter=0)
    with Wire(s, 60) as wire:
        wire.request("GET", f"/finite?{MANY}")
        assert s.log_contains("event: finite done")
        assert ask(s, "/").text == "hello"
        assert s.log_contains("draining")
        assert ask(s, "/").text == "hello"
        assert read_whole(wire).body == blocks(MANY)


# ---- clients that take nothing, and requests that wait


@pytest.mark.parametrize(("workers", "threads"), [(2, 8), (1, 4)])
def test_deaf_clients_of_endless_streams(server: Start, workers: int, threads: int) -> None:
    """They are ended so that others are served; a slow reader and server-sent events live on."""
    s = server("slow_readers", workers=workers, threads=threads, limit_response_files="16m", **LOG)
    stop = threading.Event()
    taken = []

    def read_slowly(wire: Wire) -> None:
        while not stop.is_set():
            taken.append(len(wire.stream.read(10_000)))
            time.sleep(0.2)

    with ExitStack() as stack:
        news = stack.enter_context(Wire(s, 60)).request("GET", "/events")
        assert news.head().status == 200
        slow = stack.enter_context(Wire(s, 60)).request("GET", "/endless")
        reader = threading.Thread(target=read_slowly, args=(slow,))
        reader.start()
        Deaf(stack, s, "/endless", 40 if threads == 8 else 8)
        with Wire(s, 60) as wire:
            assert wire.ask("/").text == "hello"
        before = len(taken)
        wait_for(lambda: len(taken) > before + 10, 20, "the slow reader to read on")
        stop.set()
        reader.join()
        assert set(taken) == {10_000}
        for _ in range(20):
            assert news.chunk()
    assert s.log_contains(
        r"\[warning\] .*ended the answer to GET /endless: its client 127.0.0.1 took nothing for "
        r"\d+\.\d s, and requests wait for the thread"
    )
    wait_for(lambda: [e for e in access(s) if e["end"] == "made room for waiting requests"])


def test_deaf_clients_while_nobody_waits(server: Start) -> None:
    """They may stay until send-timeout."""
    s = server("slow_readers", threads=2, limit_response_file="1m", **LOG)
    with ExitStack() as stack:
        deaf = Deaf(stack, s, "/endless", 2)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert not access(s)
            time.sleep(0.2)
        for wire in deaf.wires:
            assert wire.head().status == 200


# ---- close() of a file


@pytest.fixture
def large(request: pytest.FixtureRequest) -> Iterator[bytes]:
    """What a file has that no socket takes at once."""
    yield b"A" * (16 << 20)


def is_locked(path: Path) -> bool:
    """Whether another process has it locked."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize("threads", [1, 3])
def test_file_is_closed_when_the_client_has_it(server: Start, large: bytes, threads: int) -> None:
    """Its lock holds until then, and is given back soon after, though nobody asks for anything."""
    s = server("slow_readers", threads=threads)
    path = s.dir / "large.bin"
    path.write_bytes(large)
    with Wire(s, 60) as wire:
        head = wire.request("GET", "/locked?large.bin").head()
        for _ in range(5):
            assert ask(s, "/").text == "hello"
        assert is_locked(path) and "event: closed" not in s.log
        wire.read_body(head)
        assert head.body == large
        assert s.log_contains("event: closed large.bin")
        wait_for(lambda: not is_locked(path), what="the lock")
        assert wire.is_open()
    assert s.log.count("event: closed") == 1


@pytest.mark.parametrize("how", ["closed", "reset", "timeout", "shorter"])
def test_file_is_closed_whatever_ends_it(server: Start, large: bytes, how: str) -> None:
    """Once."""
    limit = f"{SLOWNESS}s" if how == "timeout" else "60s"
    s = server("slow_readers", send_timeout=limit, **LOG)
    path = s.dir / "large.bin"
    path.write_bytes(large)
    with Wire(s, 60) as wire:
        wire.request("GET", "/locked?large.bin").head()
        assert ask(s, "/").text == "hello"
        assert how == "timeout" or "event: closed" not in s.log
        if how == "reset":
            leave_rudely(wire)
        elif how == "closed":
            wire.close()
        elif how == "shorter":
            os.truncate(path, 8 << 20)
            wire.stream.read()
        assert s.log_contains("event: closed large.bin")
    assert ended(s, "/locked")["end"]
    assert ask(s, "/").text == "hello"
    assert s.log.count("event: closed") == 1


def test_a_copy_that_close_makes_ends(server: Start, large: bytes) -> None:
    """It does not go on as a second worker."""
    s = server("slow_readers")
    (s.dir / "large.bin").write_bytes(large)
    with Wire(s, 60) as wire:
        head = wire.request("GET", "/forking?large.bin").head()
        assert ask(s, "/").text == "hello"
        assert "event: closed" not in s.log
        wire.read_body(head)
        assert s.log_contains("event: closed large.bin")
    assert s.log_contains("a process that the application forked came back from its request")
    assert ask(s, "/").text == "hello"


@pytest.mark.parametrize("how", ["term", "recycled", "refork"])
def test_file_is_closed_before_the_worker_ends(server: Start, large: bytes, how: str) -> None:
    """Though it ends as soon as the client has the file."""
    options = {"term": {}, "recycled": {"max_requests": 1, "max_requests_jitter": 0}}
    options["refork"] = {"refork_after": "1"}
    s = server("slow_readers", threads=2, **options[how])
    (s.dir / "large.bin").write_bytes(large)
    with Wire(s, 60) as wire:
        head = wire.request("GET", "/locked?large.bin").head()
        if how == "term":
            os.kill(s.pid, 15)
        else:
            assert ask(s, "/").text == "hello"
        assert s.log_contains("draining|drains to become the mold")
        wire.read_body(head)
        assert head.body == large
    assert s.log_contains("event: closed large.bin")
    if how == "term":
        assert s.wait() == 0
    assert s.log.count("event: closed") == 1


def test_close_that_fails(server: Start, large: bytes) -> None:
    """The log has the traceback with the request; the client has its file."""
    s = server("slow_readers")
    (s.dir / "large.bin").write_bytes(large)
    with Wire(s, 60) as wire:
        answer = wire.ask("/failing?large.bin")
        assert answer.body == large and answer.complete
        assert s.log_contains(r"\[error\] .*GET /failing: exception in close\(\) of the response")
        assert s.log_contains("ValueError: close broke")
        assert wire.is_open()


def test_close_that_hangs(server: Start, large: bytes) -> None:
    """It keeps one thread, which the watch knows; others are served, and the end waits for it."""
    s = server("slow_readers", threads=2, timeout="300s")
    (s.dir / "large.bin").write_bytes(large)
    assert ask(s, "/hanging?large.bin").body == large
    for _ in range(5):
        assert ask(s, "/").text == "hello"
    os.kill(s.workers()[0], 12)
    assert s.log_contains(r"running requests and all stacks(.|\n)*GET /hanging")
    os.kill(s.pid, 15)
    assert s.log_contains("draining")
    let(s, "close")
    assert s.wait() == 0
    assert s.log.count("event: closed") == 1


def test_many_files_at_once(server: Start, large: bytes) -> None:
    """Each is closed once, when its own client has it."""
    s = server("slow_readers", threads=3)
    for number in range(8):
        (s.dir / f"{number}.bin").write_bytes(large)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s, 60)) for _ in range(8)]
        heads = [wire.request("GET", f"/locked?{i}.bin").head() for i, wire in enumerate(wires)]
        for number, (wire, head) in enumerate(zip(wires, heads, strict=True)):
            assert is_locked(s.dir / f"{number}.bin")
            wire.read_body(head)
            assert head.body == large
            assert s.log_contains(f"event: closed {number}.bin")
    assert s.log.count("event: closed") == 8


def test_sockets_of_streams_under_load(server: Start) -> None:
    """Readers of all paces beside each other, on few threads: everybody gets what is his."""
    s = server("slow_readers", threads=3)
    wrong: list[str] = []

    def read(pace: float, count: int) -> None:
        with Wire(s, 60) as wire:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            wire.request("GET", f"/finite?{count}").head()
            pieces = []
            while piece := wire.chunk():
                pieces.append(piece)
                if len(pieces) % 16 == 0:
                    time.sleep(pace)
            if b"".join(pieces) != blocks(count):
                wrong.append(f"{pace} {count}")

    readers = [
        threading.Thread(target=read, args=(pace, count))
        for pace in (0, 0.005, 0.02)
        for count in (60, 120, 200)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(120)
    assert not wrong


def unread(s: socket.socket) -> int:
    """Bytes that have come and were not read."""
    return int.from_bytes(fcntl.ioctl(s, termios.FIONREAD, bytes(4)), "little")


def test_an_error_page_that_waits_is_its_clients_alone(server: Start) -> None:
    """Pipelined failures fill the socket, so that a page waits in the server. When it has gone, the
    connection gets nothing of what the server keeps for others."""
    s = server("cases", binds=("unix:socket",))
    count = 1500
    with Wire(s) as failing, Wire(s) as slow:
        failing.send(request("GET", "/bad?(5,)") * count)
        sizes = [-1]

        def is_full() -> bool:
            sizes.append(unread(failing.socket))
            return sizes[-1] == sizes[-2] > 0

        wait_for(is_full, what="a socket that takes no more")
        assert s.log.count("TypeError") < count
        for _ in range(count):
            answer = failing.answer()
            assert (answer.status, answer.complete) == (500, True)
        slow.request("GET", f"/big?{8 << 20}")
        assert slow.stream.read(12) == b"HTTP/1.1 200"
        assert select.select([failing.socket], [], [], 2)[0] == []
        assert failing.ask("/").text == "hello"
