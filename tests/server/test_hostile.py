"""Floods and holders: what many bad clients can take is bounded, and the good ones are served."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness import FLAVOUR, SLOWNESS, Server, descriptors, wait_for, whole_lines
from soak import soak
from wire import Wire, ask, request

Start = Callable[..., Server]

KILOBYTE = 1024
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
HALF_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "
GET = request("GET", "/")
# Sanitizers keep freed memory, and have shadows of all.
measured = pytest.mark.skipif(FLAVOUR != "release", reason="memory is not the program's own")


def private_kib(pid: int) -> int:
    """The memory that only this process has."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = [line.split() for line in rollup.splitlines() if line.startswith("Private_")]
    return sum(int(line[1]) for line in lines)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


@contextmanager
def memory_bounded(s: Server, kib: int) -> Iterator[None]:
    """The worker has no more than `kib` more, at any time until the end."""
    (pid,) = s.workers()
    before, most = private_kib(pid), 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, private_kib(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert FLAVOUR != "release" or most - before < kib, f"{most - before} KiB more"


@contextmanager
def everything_returns(s: Server, kib: int = 1500) -> Iterator[None]:
    """Descriptors and memory are soon what they were, and the worker is the same."""
    (pid,) = s.workers()
    for _ in range(50):
        ask(s, "/")
    files, memory = len(descriptors(pid)), private_kib(pid)
    yield
    wait_for(lambda: len(descriptors(pid)) <= files, what="descriptors to be given back")
    if FLAVOUR == "release":
        try:
            wait_for(lambda: private_kib(pid) < memory + kib)
        except AssertionError:
            pytest.fail(f"{private_kib(pid) - memory} KiB are not given back")
    assert s.workers() == [pid]
    assert ask(s, "/").status == 200


# ---- the bound on connections


@pytest.fixture
def twenty(server: Start) -> Server:
    """A worker with room for twenty."""
    return server("cases", worker_connections=20, header_timeout="6s", keep_alive="60s")


def test_idle_ones_make_room(twenty: Server) -> None:
    """A new client is served at once; the connection that was opened first is closed for it."""
    with ExitStack() as stack:
        idle = [stack.enter_context(Wire(twenty)) for _ in range(20)]
        for wire in idle:
            assert wire.ask("/").text == "hello"
        for _ in range(5):
            assert stack.enter_context(Wire(twenty)).ask("/").text == "hello"
        for wire in idle[:5]:
            assert wire.is_closed()
        for wire in idle[5:]:
            assert wire.ask("/").text == "hello"


def test_idle_ones_go_where_there_is_room(server: Start) -> None:
    """Whichever worker takes a client, none is closed before all workers have as many as they may."""
    s = server("cases", workers=3, worker_connections=8, header_timeout="60s", keep_alive="60s")
    with ExitStack() as stack:
        idle = [stack.enter_context(Wire(s)) for _ in range(24)]
        for wire in idle:
            assert wire.ask("/").text == "hello"
        ended = select.select([wire.socket for wire in idle], [], [], 0)[0]
        assert not ended
        for wire in idle:
            assert wire.ask("/").text == "hello"
        assert stack.enter_context(Wire(s)).ask("/").text == "hello"
        wait_for(lambda: len(select.select([wire.socket for wire in idle], [], [], 0)[0]) == 1)


def test_the_busy_ones_stay(server: Start) -> None:
    """No request is lost for a new connection: not one half sent, nor one half answered."""
    twenty = server("cases", worker_connections=20, header_timeout="60s", keep_alive="60s")
    with ExitStack() as stack:
        halves = [stack.enter_context(Wire(twenty)).send(GET[:-2]) for _ in range(10)]
        slow = [stack.enter_context(Wire(twenty)) for _ in range(5)]
        for wire in slow:
            wire.request("GET", f"/big?{1 << 24}")
            assert wire.head().status == 200
        idle = [stack.enter_context(Wire(twenty)) for _ in range(5)]
        for wire in idle:
            assert wire.ask("/").text == "hello"
        for _ in range(20):
            assert ask(twenty, "/").text == "hello"
        for wire in halves:
            assert wire.send(b"\r\n").answer().text == "hello"
        for wire in slow:
            assert len(wire.stream.read(1 << 24)) == 1 << 24


@measured
def test_making_room_among_many(server: Start) -> None:
    """Where thousands are half way through a request, an idle one is found as fast as among ten."""

    def cost_of_a_client(halves: int) -> float:
        clients = 400
        s = server("cases", worker_connections=halves + 10, header_timeout="300s")
        (pid,) = s.workers()
        with ExitStack() as stack:
            for _ in range(halves):
                stack.enter_context(s.connect()).sendall(HALF_HEAD)
            wait_for(lambda: len(descriptors(pid)) > halves, what="all of them")
            before = cpu_seconds(pid)
            for _ in range(clients):
                client = stack.enter_context(s.connect())
                client.sendall(GET)
                assert b" 200 " in client.recv(4096)
            assert "none of them idle" not in s.log
            return (cpu_seconds(pid) - before) / clients

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(hard - 2000, 12_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (many + 2000, hard))
    try:
        # A walk over all of them would take 400 times 0.5 ms more; a tick of the clock is 10 ms.
        assert cost_of_a_client(many) < 2 * cost_of_a_client(100) + 4 * TICK_S / 400
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limits_of_fields_are_those_of_the_settings(server: Start) -> None:
    """How many, and how long one may be; a head at both limits is served."""
    s = server("cases", limit_request_fields=4, limit_request_field_size="100")
    longest = "X-Long: " + "x" * (100 - len("X-Long: "))
    some = ["A: b", "C: d"]
    assert ask(s, "/", *some, longest).status == 200
    assert ask(s, "/", *some, longest, "E: f").status == 431
    assert ask(s, "/", *some, longest + "x").status == 431
    assert ask(s, "/", *some, longest).status == 200


def test_full_of_halves(twenty: Server) -> None:
    """Without an idle one, new clients wait, nothing spins, and time makes room."""
    (pid,) = twenty.workers()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Wire(twenty)).send(HALF_HEAD)
        with Wire(twenty) as late:
            late.send(GET)
            before = cpu_seconds(pid)
            assert late.is_silent(0.4)
            assert cpu_seconds(pid) - before < 0.1 * SLOWNESS
            assert late.answer().text == "hello"
    assert twenty.log.count("none of them idle: more than worker-connections wait") == 1


def test_answered_ones_make_room(twenty: Server) -> None:
    """Refused clients that do not close wait for nothing."""
    with ExitStack() as stack:
        for _ in range(20):
            wire = stack.enter_context(Wire(twenty)).send(b"nonsense\r\n\r\n")
            assert wire.answer().status == 400
        assert ask(twenty, "/").text == "hello"


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """What is started inside has so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stalled_uploads_leave_descriptors(server: Start) -> None:
    """Their files are a quarter of what clients may have; the rest is refused, others are served."""
    with few_descriptors(256):
        s = server("cases", body_buffer="4k", log_level="debug")
    (pid,) = s.workers()
    start = request("POST", "/echo")[:-2] + b"Content-Length: 99999\r\n\r\n" + b"x" * 9000
    with everything_returns(s, 2500), ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)).send(start) for _ in range(120)]
        assert stack.enter_context(Wire(s)).ask("/").text == "hello"
        assert s.log_contains("503 no descriptor is left for a body in a file")
        for _ in range(50):
            assert ask(s, "/").text == "hello"
        assert len(descriptors(pid)) < 256 - 32

        def answered() -> list[Wire]:
            return [wire for wire in wires if select.select([wire.socket], [], [], 0)[0]]

        refused = wait_for(lambda: found if len(found := answered()) >= 60 else None)
        assert len(refused) <= 75
        for wire in refused:
            assert wire.answer().status == 503
    assert "Too many open files" not in s.log


def test_deaf_downloads_leave_descriptors(server: Start) -> None:
    """Files that slow clients are sent count like connections: new ones wait, none is lost."""
    size = 8 << 20
    with few_descriptors(256):
        s = server("cases", log_level="debug")
    (s.dir / "large").write_bytes(bytes(size))
    (pid,) = s.workers()
    with everything_returns(s, 2500), ExitStack() as stack:
        target = "/file_named?large"
        wires = [stack.enter_context(Wire(s, 30)).request("GET", target) for _ in range(130)]
        assert s.log_contains(
            r"none of them idle: more than RLIMIT_NOFILE has room for wait; raise it \(ulimit -n, LimitNOFILE\)$"
        )
        assert 150 < len(descriptors(pid)) < 256 - 32
        for wire in wires:
            answer = wire.answer()
            assert (answer.status, answer.complete, len(answer.body)) == (200, True, size)
            wire.close()
    assert "Too many open files" not in s.log


@pytest.mark.parametrize("workers", [1, 2])
def test_deaf_downloads_over_idle_connections(server: Start, workers: int) -> None:
    """Clients that are connected already ask for files, and do not read: the application can still
    open its own, and no connection is lost between workers."""
    with few_descriptors(256):
        s = server("cases", workers=workers, threads=2, log_level="debug")
    (s.dir / "large").write_bytes(bytes(8 << 20))

    def status(wire: Wire) -> int:
        try:
            return wire.head().status
        except ConnectionResetError:
            return 0

    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s, 30)) for _ in range(160 * workers)]
        for wire in wires:
            assert wire.ask("/").text == "hello"
        for wire in wires:
            wire.request("GET", "/file_named?large")
        assert s.log_contains("too many files are on their way to slow clients")
        statuses = Counter(status(wire) for wire in wires)
        assert set(statuses) <= {0, 200, 503} and statuses[200] > 10 * workers
        # Idle ones make room, and that is all that are closed.
        assert statuses[0] <= s.log.count(" closed: made room")
        assert max(len(descriptors(pid)) for pid in s.workers()) < 256 - 10
    assert ask(s, "/").text == "hello"
    assert "Too many open files" not in s.log
    assert "was lost" not in s.log


def test_limit_by_descriptors(server: Start) -> None:
    """Without a number it is what RLIMIT_NOFILE has room for, and accept never fails."""
    with few_descriptors(256):
        s = server("cases", header_timeout="60s", log_level="debug")
    (pid,) = s.workers()
    with ExitStack() as stack:
        for _ in range(300):
            assert stack.enter_context(Wire(s)).ask("/").text == "hello"
        assert 150 < len(descriptors(pid)) < 256 - 32
    assert "no connection is accepted" not in s.log


def test_a_limit_that_cannot_be_kept(server: Start) -> None:
    """It says so, and takes what it can."""
    with few_descriptors(256):
        s = server("cases", worker_connections=5000)
    assert s.log_contains("worker-connections is 5000, but RLIMIT_NOFILE leaves room for 1")


# ---- memory


@measured
@pytest.mark.parametrize("threads", [1, 4])
def test_ten_thousand_idle_ones(server: Start, threads: int) -> None:
    """They take less than 10 MB of one worker, and a request beside them no more time."""
    count = 10_000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 2000:
        count = resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 3000), hard))
    try:
        options = {"header_timeout": "600s", "keep_alive": "600s"}
        s = server("hello:application", threads=threads, **options)
        (pid,) = s.workers()
        for _ in range(100):
            s.get("/")
        before = private_kib(pid)
        with ExitStack() as stack:
            for number in range(count):
                client = stack.enter_context(s.connect())
                if number % 2:
                    client.sendall(GET)
                    assert b" 200 " in client.recv(4096)
            wait_for(lambda: len(descriptors(pid)) > count, what="all of them")
            grown = private_kib(pid) - before
            assert grown < 10_000 and grown < count, f"{grown} KiB for {count}"
            used = cpu_seconds(pid)
            assert s.get("/").status == 200
            assert cpu_seconds(pid) - used < 10 * TICK_S
        wait_for(lambda: private_kib(pid) < before + 1500, what="memory to be given back")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_large_piece_is_not_copied(server: Start) -> None:
    """Of a body in pieces, for a client that does not read yet: it goes to a file, from the
    application's own, which is freed."""
    s = server("cases", threads=2)
    (pid,) = s.workers()
    ask(s, "/")
    size = 32 << 20
    before = private_kib(pid)
    with memory_bounded(s, (size >> 10) * 3 // 2), Wire(s) as slow:
        answer = slow.request("GET", f"/big_piece?{size}").head()
        for _ in range(20):
            assert ask(s, "/").text == "hello"
        if FLAVOUR == "release":
            wait_for(lambda: private_kib(pid) < before + (size >> 11), what="the piece to be freed")
        slow.read_body(answer)
    assert answer.body == bytes(range(256)) * (size // 256) + b"end"


def test_memory_of_a_flood_returns(server: Start) -> None:
    """A thousand half heads, half bodies and refused ones leave nothing."""
    s = server("cases", header_timeout="1s", body_timeout="1s")
    half_body = request("POST", "/echo")[:-2] + b"Content-Length: 60000\r\n\r\n" + b"x" * 9000
    with everything_returns(s), ExitStack() as stack:
        for _ in range(250):
            for data in (HALF_HEAD, half_body, b"\0\r\n\r\n", GET):
                stack.enter_context(Wire(s)).send(data)
        assert ask(s, "/").text == "hello"


@pytest.mark.parametrize("mapped", ["131072", "1073741824"], ids=["mapped", "heap"])
def test_memory_of_answers_that_nobody_takes(server: Start, mapped: str) -> None:
    """Above 256 MB those are given up that have taken nothing for seconds; one that reads is not.
    malloc may have them in mappings of their own, or in its heap, which keeps what is freed."""
    env = {"MALLOC_MMAP_THRESHOLD_": mapped}
    log = {"access_logfile": "access.log", "access_logformat": "json"}
    s = server("cases", env=env, send_timeout="60s", **log)
    size, count = 16 << 20, 32
    with everything_returns(s, 4000), ExitStack() as stack:
        reader = stack.enter_context(Wire(s, 30)).request("GET", f"/big?{size}")
        assert reader.head().status == 200
        left = size
        deaf = [stack.enter_context(Wire(s)).request("GET", f"/big?{size}") for _ in range(count)]

        def given_up() -> int:
            nonlocal left
            left -= len(reader.stream.read(min(left - 1, 100_000)))
            return (s.dir / "access.log").read_text().count("made room for other answers")

        # The kernel takes some of each answer: they are a little less than the application's.
        fit = (256 << 20) // size
        wait_for(lambda: given_up() >= (count - fit) // 3, what="some to be given up")
        assert given_up() <= count - fit
        assert ask(s, "/").text == "hello"
        assert len(reader.stream.read(left)) == left
        for wire in deaf:
            wire.close()


def test_answers_that_nobody_takes_go_before_those_that_are_read(server: Start) -> None:
    """Also when those who read have done so for longer."""
    s = server("cases", access_logfile="access.log", access_logformat="json")
    with ExitStack() as stack:
        reader = stack.enter_context(Wire(s, 30)).request("GET", f"/big?{96 << 20}")
        assert reader.head().status == 200
        left = 96 << 20

        def read_until(condition: Callable[[], object]) -> None:
            nonlocal left
            end = time.monotonic() + 30 * SLOWNESS
            while not condition():
                assert time.monotonic() < end
                left -= len(reader.stream.read(100_000))
                time.sleep(0.02)

        begin = time.monotonic()
        read_until(lambda: time.monotonic() > begin + 5.5)  # it has no time of grace any more
        for _ in range(16):
            stack.enter_context(Wire(s)).request("GET", f"/big?{16 << 20}")
        read_until(lambda: "made room" in (s.dir / "access.log").read_text())
        assert len(reader.stream.read(left)) == left


def test_memory_of_stalled_bodies(server: Start) -> None:
    """Each is small enough to stay in memory; all together they have 64 MB and what is being read."""
    s = server("cases", body_buffer="512k")
    size = 400_000
    start = request("POST", "/echo")[:-2] + b"Content-Length: %d\r\n\r\n" % (size + 1)
    with everything_returns(s, 4000), memory_bounded(s, 110_000), ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)).send(start + b"x" * size) for _ in range(180)]
        for _ in range(50):
            assert ask(s, "/").text == "hello"
        for wire in wires:
            assert wire.send(b"y").answer().text == "POST  " + "x" * size + "y"


def test_nothing_grows(server: Start) -> None:
    """After thousands of requests of all kinds, good, bad and left, it is as before."""
    s = server("cases", threads=2)
    kinds = [
        GET,
        request("POST", "/echo", b"x" * 3000),
        request("GET", "/nowhere"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\r\n",
        GET[:20],
        request("POST", "/echo", b"x" * 3000)[:-10],
    ]

    def round_of(count: int) -> None:
        for number in range(count):
            with Wire(s) as wire:
                data = kinds[number % len(kinds)]
                wire.send(data)
                if number % len(kinds) < 5:
                    wire.answer()

    round_of(700)
    with everything_returns(s, 1000):
        round_of(6000 // SLOWNESS)


# ---- floods


def test_pipelining_flood(server: Start) -> None:
    """Requests are not read while answers are not taken; at last each has its answer, in order."""
    s = server("cases")
    count = 20_000 // SLOWNESS
    with everything_returns(s), memory_bounded(s, 2000), Wire(s, timeout=30) as wire:
        data = b"".join(request("GET", f"/echo?{number}") for number in range(count))

        def send() -> None:
            wire.socket.sendall(data)

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(20):
            assert ask(s, "/").text == "hello"
        for number in range(count):
            assert wire.answer().text == f"GET {number} "
        sender.join()


FLOODS = {
    "endless head": (HALF_HEAD, b"x" * 4000, 431),
    "endless fields": (b"GET / HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n" * 500, 431),
    "endless target": (b"GET /", b"x" * 4000, 414),
    "endless empty lines": (b"", b"\r\n" * 1000, 400),
    "endless extension": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        b"x" * 4000,
        400,
    ),
    "endless extensions": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1;xxxxxxxxxxxxxxxxxxxx\r\nx\r\n" * 200,
        400,
    ),
    "endless trailers": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"a: b\r\n" * 500,
        431,
    ),
    "endless body": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        (b"fa0\r\n" + b"x" * 4000 + b"\r\n"),
        413,
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood(server: Start, name: str) -> None:
    """It is refused at its limit, by fifty clients at once, and others are served meanwhile."""
    start, more, status = FLOODS[name]
    s = server("cases", limit_request_body="100k", body_buffer="16k")
    with everything_returns(s, 2500), memory_bounded(s, 50 * 100), ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)).send(start) for _ in range(50)]
        for _ in range(60):
            for wire in wires:
                try:
                    wire.socket.sendall(more)
                except (BrokenPipeError, ConnectionResetError):
                    pass
            assert ask(s, "/").text == "hello"
        for wire in wires:
            answer = wire.answer()
            assert answer.reset or answer.status == status


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_drips(server: Start, framing: str) -> None:
    """A byte now and then does not hold a connection: the rate counts, not the last byte."""
    s = server("cases", body_timeout="500ms")
    coding = "Content-Length: 5000" if framing == "length" else "Transfer-Encoding: chunked"
    piece = b"x" if framing == "length" else b"1\r\nx\r\n"
    with Wire(s) as wire:
        wire.send(request("POST", "/echo")[:-2] + coding.encode() + b"\r\n\r\n")
        began = time.monotonic()
        while wire.is_silent(0.05):
            wire.send(piece)
            assert time.monotonic() - began < 30 * SLOWNESS
        assert wire.answer().status == 408
        assert wire.is_closed()


def test_a_body_on_a_bad_line(server: Start) -> None:
    """What comes faster than 500 bytes a second is waited for, however long it takes."""
    s = server("cases", body_timeout="3s")
    with Wire(s) as wire:
        wire.send(request("POST", "/echo")[:-2] + b"Content-Length: 5000\r\n\r\n")
        for _ in range(25):
            wire.send(b"x" * 200)
            time.sleep(0.2)
        assert wire.answer().text.endswith("x" * 5000)


def test_empty_lines_hold_nothing(server: Start) -> None:
    """They are no request: the connection is closed after the time for a head."""
    s = server("cases", header_timeout="400ms", keep_alive="600s")
    for data in (b"\r\n", b"\r\n\r\n", b"\r"):
        with Wire(s) as wire:
            assert wire.ask("/").text == "hello"
            wire.send(data)
            assert wire.is_closed() if data != b"\r" else wire.answer().status == 408


def test_zero_windows(server: Start) -> None:
    """A hundred clients that take nothing of a large answer; then they take it all."""
    s = server("cases", threads=2)
    size = 1 << 20
    with everything_returns(s, 4000), ExitStack() as stack:
        wires = []
        for _ in range(100 // SLOWNESS):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(10 * SLOWNESS)
            client.connect(s.address)
            stack.enter_context(client)
            client.sendall(request("GET", f"/big?{size}"))
            wires.append(client)
        for _ in range(50):
            assert ask(s, "/").text == "hello"
        for client in wires:
            with client.makefile("rb") as stream:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += stream.readline()
                assert len(stream.read(size)) == size


def test_each_request_has_one_line(server: Start) -> None:
    """Good, refused, failed, left: each is in the log once, none twice."""
    s = server("cases", access_logfile="access.log", access_logformat="json", header_timeout="3s")
    for number in range(30):
        ask(s, f"/echo?good{number}")
        ask(s, f"/nowhere?failed{number}")
        ask(s, f"/echo?refused{number}", "Content-Length: x")
        with Wire(s) as wire:
            wire.send(
                request("POST", f"/echo?left{number}")[:-2] + b"Content-Length: 9\r\n\r\nhalf"
            )
        with Wire(s) as wire:
            wire.send(request("GET", f"/echo?slow{number}")[:-2])
            if number == 0:
                assert wire.answer().status == 408

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in whole_lines((s.dir / "access.log").read_text())]

    wait_for(lambda: len(lines()) >= 150, what="150 lines")
    time.sleep(0.2)
    found = lines()
    assert len(found) == 150
    statuses = sorted(int(str(line["status"])) for line in found)
    assert statuses == sorted([200] * 30 + [500] * 30 + [400] * 30 + [499] * 59 + [408])


def test_soak_for_a_moment() -> None:
    """What `make soak` does for long."""
    assert not soak(8.0 * SLOWNESS, good=4, bad=4, workers=2, threads=2, seed=7)
