"""Clients that are slow, silent, rude or gone, and what the others notice of them: nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from harness import REQUESTS, SLOWNESS, Server, descriptors, wait_for, whole_lines
from wire import Wire, ask, chunked, let, request

Start = Callable[..., Server]

BIG = 16 << 20
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    return sum(target.startswith("socket:") for target in descriptors(pid).values())


@contextmanager
def no_connection_left(s: Server) -> Iterator[None]:
    """What is opened inside is closed by the server soon after, and it goes on serving."""
    (pid,) = s.workers()
    before = sockets(pid)
    yield
    wait_for(lambda: sockets(pid) == before, what="connections to be closed")
    assert ask(s, "/").text == "hello"
    # Whatever waited before this one has been accepted by now.
    wait_for(lambda: sockets(pid) == before, what="connections to be closed")


def cpu_share(pid: int, seconds: float = 0.5) -> float:
    """How much of a CPU a process uses for a while."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    begin, before = time.monotonic(), ticks()
    time.sleep(seconds)
    return (ticks() - before) * TICK_S / (time.monotonic() - begin)


def access_lines(s: Server) -> list[dict[str, object]]:
    """The lines of a JSON access log that goes to the common log."""
    return [json.loads(line) for line in whole_lines(s.log) if line.startswith('{"time"')]


def ended(s: Server, how: str) -> bool:
    """Wait for a line of the access log that ended like this."""
    return wait_for(lambda: any(e["end"] == how for e in access_lines(s)), what=how)


def leave_rudely(wire: Wire) -> None:
    """Close with a reset instead of an end."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def logged(**options: object) -> dict[str, object]:
    """Options for a server whose access log is JSON, in the common log."""
    return {"access_logfile": "-", "access_logformat": "json", **options}


# ---- many slow ones

HALF_BODY = request("POST", "/echo").replace(b"\r\n\r\n", b"\r\nContent-Length: 100\r\n\r\nhalf")
SLOW = {
    "silent": b"",
    "half a line": b"GET / HT",
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    "half a body": HALF_BODY,
    "half a chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nhalf",
    "not reading": request("GET", f"/big?{1 << 20}"),
    "idle": request("GET", "/"),
}


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
def test_slow_clients_cost_nothing(server: Start, threads: int, bind: str) -> None:
    """350 of them, of all kinds: every request of a normal client is answered."""
    s = server("cases", threads=threads, binds=[bind], body_buffer="4k")
    with no_connection_left(s), ExitStack() as stack:
        wires = []
        for _ in range(50):
            for data in SLOW.values():
                wires.append(stack.enter_context(Wire(s)).send(data))
        normal = stack.enter_context(Wire(s))
        drips = [wire for i, wire in enumerate(wires) if i % len(SLOW) in (2, 3)]
        for _ in range(10):
            assert normal.ask("/").text == "hello"
            assert ask(s, "/echo?x", method="POST", body=b"y").text == "POST x y"
            for wire in drips:
                wire.send(b"d")


# ---- large uploads

# No two pages of it are alike.
LARGE = random.Random(5).randbytes(1 << 20)


def pipes(pid: int) -> int:
    """How many ends of pipes a process has open."""
    return sum(target.startswith("pipe:") for target in descriptors(pid).values())


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
def test_large_body_in_two_parts(server: Start, threads: int, bind: str) -> None:
    """Wherever it is cut it arrives whole, and so does the request behind it."""
    s = server("cases", threads=threads, binds=[bind], body_buffer="4k")
    (pid,) = s.workers()
    before = pipes(pid)
    first = request("POST", "/echo?a", LARGE)
    head, end = len(first) - len(LARGE), len(first)
    cuts = [head, head + 1, head + 4096, head + 4097, head + 100_000, end - (1 << 16) - 2]
    cuts += [end - (1 << 16) - 1, end - (1 << 16), end - 2, end - 1, end, end + 1]
    with Wire(s) as wire:
        for cut in cuts:
            data = first + request("GET", "/echo?b")
            wire.send(data[:cut])
            assert wire.is_silent() or cut >= end
            wire.send(data[cut:])
            assert wire.answer().body == b"POST a " + LARGE
            assert wire.answer().body == b"GET b "
    assert pipes(pid) == before + 2, "it has not come by a pipe"


def test_large_bodies_at_once(server: Start) -> None:
    """Each part goes to the body that it is of."""
    s = server("cases", threads=4, body_buffer="4k")
    bodies = [LARGE[i:] + LARGE[:i] for i in range(1, 9)]
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)) for _ in bodies]
        requests = [request("POST", "/echo?x", body) for body in bodies]
        for start in range(0, len(requests[0]), 150_000):
            for wire, data in zip(wires, requests, strict=True):
                wire.send(data[start : start + 150_000])
        for wire, body in zip(wires, bodies, strict=True):
            assert wire.answer().body == b"POST x " + body


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_client_leaves_a_large_body(server: Start, reset: bool) -> None:
    """What has come of it is forgotten, and is in no other body."""
    s = server("cases", **logged(body_buffer="4k"))
    with no_connection_left(s):
        for _ in range(3):
            with Wire(s) as wire:
                wire.send(request("POST", "/echo", bytes(len(LARGE)))[:500_000])
                assert wire.is_silent()
                if reset:
                    leave_rudely(wire)
    wait_for(
        lambda: len(access_lines(s)) == 4, what="a line for each, and that of no_connection_left"
    )
    ends = [entry["end"] for entry in access_lines(s)]
    assert ends.count("client closed") == 3
    assert ask(s, "/echo?x", method="POST", body=LARGE).body == b"POST x " + LARGE


def test_large_body_that_drips(server: Start) -> None:
    """408, however much has come before."""
    s = server("cases", **logged(body_buffer="4k", body_timeout="300ms"))
    with Wire(s) as wire:
        wire.send(request("POST", "/echo", LARGE)[:500_000])
        while wire.is_silent():
            wire.send(b"x")
        answer = wire.answer()
        assert (answer.status, answer.get("Connection")) == (408, "close")
        assert wire.is_closed()
    assert ended(s, "body timeout")


# ---- timeouts


@pytest.mark.parametrize("drip", [False, True])
@pytest.mark.parametrize("start", ["GET / HTTP/1.1\r\nX: ", "G"])
def test_header_timeout(server: Start, drip: bool, start: str) -> None:
    """408 for a head that takes too long as a whole, however steadily it drips."""
    s = server("cases", **logged(header_timeout="1s"))
    with Wire(s) as wire:
        wire.send(start.encode())
        while drip and wire.is_silent():
            wire.send(b"x")
        answer = wire.answer()
        assert (answer.status, answer.get("Connection")) == (408, "close")
        assert answer.complete and wire.is_closed()
    assert ended(s, "header timeout")
    assert [entry["status"] for entry in access_lines(s)] == [408]


def test_header_timeout_of_a_silent_one(server: Start) -> None:
    """A connection that never said anything is closed without a word."""
    s = server("cases", **logged(header_timeout="300ms"))
    with no_connection_left(s), Wire(s) as wire:
        assert wire.is_closed()
        assert not access_lines(s)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_timeout(server: Start, framing: str) -> None:
    """408 for a body that stops."""
    s = server("cases", **logged(body_timeout="300ms"))
    with Wire(s) as wire:
        wire.send(SLOW["half a body" if framing == "length" else "half a chunk"])
        answer = wire.answer()
        assert (answer.status, answer.get("Connection")) == (408, "close")
        assert wire.is_closed()
    assert ended(s, "body timeout")


def test_slow_body_that_comes(server: Start) -> None:
    """One that goes on is waited for."""
    s = server("cases", body_timeout="20s")
    with Wire(s) as wire:
        wire.send(request("POST", "/echo").replace(b"\r\n\r\n", b"\r\nContent-Length: 30\r\n\r\n"))
        for _ in range(30):
            wire.send(b"d")
            time.sleep(0.01)
        assert wire.answer().text == "POST  " + "d" * 30


def test_keep_alive_timeout(server: Start) -> None:
    """An idle connection is closed without a word."""
    s = server("cases", **logged(keep_alive="500ms"))
    with no_connection_left(s), Wire(s) as wire:
        wire.send(request("GET", "/") * 2)
        assert wire.answer().complete
        assert wire.answer().complete
        assert wire.is_closed()
    wait_for(lambda: len(access_lines(s)) == 3, what="two lines, and that of no_connection_left")


def test_no_keep_alive(server: Start) -> None:
    """With 0 every answer says that it is the last."""
    s = server("cases", keep_alive="0s")
    with Wire(s) as wire:
        wire.send(request("GET", "/") * 2)
        answer = wire.answer()
        assert (answer.text, answer.get("Connection")) == ("hello", "close")
        assert wire.is_closed()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", [f"/big?{BIG}", "/file_named?big.bin", "/closing/endless?it"])
def test_send_timeout(server: Start, threads: int, target: str) -> None:
    """A client that takes nothing for too long is dropped; the body is closed."""
    s = server("cases", threads=threads, **logged(send_timeout="300ms"))
    (s.dir / "big.bin").write_bytes(bytes(BIG))
    with no_connection_left(s), Wire(s) as wire:
        wire.request("GET", target)
        assert ended(s, "send timeout")
        got = wire.answer()
        assert got.status == 200 and not got.complete
    if "endless" in target:
        assert s.log_contains("event: closed it")
    if "file" in target:
        assert s.log_contains("event: file closed")


def test_send_timeout_under_a_timer(server: Start) -> None:
    """The signals of the application interrupt the wait, and do not make it longer."""
    s = server("ticks", **logged(send_timeout="300ms"))
    with no_connection_left(s), Wire(s) as wire:
        wire.request("GET", "/endless")
        assert ended(s, "send timeout")


def test_slow_reader_that_reads(server: Start) -> None:
    """One that takes a little now and then is served to the end."""
    s = server("cases", send_timeout="20s")
    with Wire(s) as wire:
        wire.request("GET", f"/big?{BIG}")
        wire.head()
        size = 0
        for _ in range(16):
            size += len(wire.stream.read(BIG // 16))
            time.sleep(0.01)
        assert size == BIG
        assert wire.is_open()


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"])
@pytest.mark.parametrize("target", [f"/big?{BIG}", "/closing/endless?it"])
def test_slow_reader_that_frees_little(server: Start, bind: str, target: str) -> None:
    """One whose pace does not empty a third of the socket's buffer within the time is served too."""
    limit = 1 * SLOWNESS
    s = server("cases", binds=[bind], **logged(send_timeout=f"{limit}s"))

    def reads_steadily(wire: Wire) -> bool:
        """For longer than the time; False: one of the two had no CPU for half of it."""
        begin = last = time.monotonic()
        while last < begin + 3 * limit:
            piece = b""
            with suppress(ConnectionResetError):
                piece = wire.stream.read(20_000)
            time.sleep(0.02)
            before, last = last, time.monotonic()
            if last - before > 0.5 * limit:
                return False
            assert len(piece) == 20_000
        return True

    def is_served() -> bool:
        count = len(access_lines(s))
        with Wire(s) as wire:
            wire.request("GET", target).head()
            if is_steady := reads_steadily(wire):
                assert len(access_lines(s)) == count
                assert ended(s, "send timeout")  # now that it stops
        wait_for(lambda: len(access_lines(s)) > count, what="its line")
        return is_steady

    wait_for(is_served, 60, "a steady pace")


@pytest.mark.parametrize("target", [f"/big?{BIG}", "/closing/endless?it"])
def test_client_that_drips(server: Start, target: str) -> None:
    """Who takes a little now and then, so that it never ends, is dropped."""
    s = server("cases", **logged(send_timeout=f"{3 * SLOWNESS}s"))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)  # the window, from the start
        client.settimeout(10 * SLOWNESS)
        client.connect(s.address)
        client.sendall(request("GET", target))

        def is_ended() -> bool:
            with suppress(ConnectionResetError):  # and its line comes
                client.recv(1000)
            time.sleep(0.5 * SLOWNESS)
            return len(access_lines(s)) > 0

        wait_for(is_ended, what="the end")
    assert ended(s, "send timeout")


def test_file_that_becomes_shorter(server: Start) -> None:
    """While it is sent: the answer is cut, and the log says that it was not the client."""
    s = server("cases", **logged())
    (s.dir / "big.bin").write_bytes(bytes(BIG))
    with Wire(s) as wire:
        head = wire.request("GET", "/file_named?big.bin").head()
        os.truncate(s.dir / "big.bin", BIG // 4)
        wire.read_body(head)
        assert (head.status, head.complete) == (200, False)
    assert ended(s, "file failed")
    assert s.log_contains(r"\[error\] .*/file_named: the file that was being sent became shorter")


def test_bytes_of_an_answer_that_was_broken_off(server: Start) -> None:
    """The access log counts what was sent, not what was to be."""
    s = server("cases", **logged())
    with Wire(s) as wire:
        wire.request("GET", f"/big?{2 * BIG}").head()
        wire.stream.read(1000)
    assert ended(s, "client closed")
    (line,) = access_lines(s)
    assert 1000 <= int(str(line["bytes"])) < 2 * BIG


# ---- Expect

EXPECT = ("Expect: 100-continue", "Content-Length: 5")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_expect(server: Start, framing: str) -> None:
    """100 once, before the body, and again for the next request."""
    s = server("cases")
    line = "Content-Length: 5" if framing == "length" else "Transfer-Encoding: chunked"
    body = b"hello" if framing == "length" else chunked(b"hello", 2)
    with Wire(s) as wire:
        for _ in range(2):
            wire.request("POST", "/echo", None, "Expect: 100-Continue", line)
            head = wire.head()
            assert (head.status, head.headers) == (100, [])
            for i in range(len(body)):
                wire.send(body[i : i + 1])
            assert wire.answer().text == "POST  hello"
        assert wire.is_open()


def test_expect_with_its_body(server: Start) -> None:
    """A client that does not wait gets its answer all the same."""
    s = server("cases")
    with Wire(s) as wire:
        wire.send(request("POST", "/echo", None, *EXPECT) + b"hello")
        answer = wire.answer()
        assert (answer if answer.status != 100 else wire.answer()).text == "POST  hello"
        assert wire.is_open()


def test_expect_refused(server: Start) -> None:
    """No 100 before a refusal, nor what nobody knows."""
    s = server("cases", limit_request_body="1k")
    for status, lines in (
        (413, ("Expect: 100-continue", "Content-Length: 2000")),
        (417, ("Expect: miracles", "Content-Length: 5")),
        (400, ("Expect: 100-continue", "Content-Length: x")),
    ):
        with Wire(s) as wire:
            answer = wire.request("POST", "/echo", None, *lines).answer()
            assert (answer.status, answer.get("Connection")) == (status, "close")
            assert wire.is_closed()


def test_expect_nothing(server: Start) -> None:
    """An old client and one without a body get no 100."""
    s = server("cases")
    with Wire(s) as wire:
        wire.request("POST", "/echo HTTP/1.0", None, *EXPECT)
        assert wire.is_silent()
        assert wire.send(b"hello").answer().text == "POST  hello"
    with Wire(s) as wire:
        wire.request("GET", "/", None, "Expect: 100-continue")
        assert wire.answer().text == "hello"


# ---- refusals


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
def test_refused_while_sending(server: Start, bind: str, chunks: bool) -> None:
    """A client that sends its whole body first finds the answer, not a reset."""
    s = server("cases", binds=[bind], limit_request_body="1k", **logged())
    body = bytes(4 << 20)
    if chunks:
        data = request("POST", "/echo", chunked(body, 500), "Transfer-Encoding: chunked")
    else:
        data = request("POST", "/echo", body)
    with no_connection_left(s), Wire(s) as wire:
        wire.send(data)
        answer = wire.answer()
        assert (answer.status, answer.complete) == (413, True)
        assert wire.stream.read() == b""
    wait_for(lambda: len(access_lines(s)) == 2, what="a line for each request")
    assert [entry["status"] for entry in access_lines(s)] == [413, 200]


def test_tls_is_told_apart(server: Start) -> None:
    """Whoever has configured https in front of a plain port finds it in the log."""
    s = server("cases")
    hello = (REQUESTS / "invalid/tls-client-hello.http").read_bytes()
    with Wire(s) as wire:
        assert wire.send(hello).answer().status == 400
        assert wire.is_closed()
    assert s.log_contains("refused a request from 127.0.0.1: 400 TLS where plain HTTP is spoken")


def test_refused_behind_a_full_buffer(server: Start) -> None:
    """The refusal is whole although the answer before it has left no room, or little, for it."""
    s = server("cases", binds=["unix:app.sock"])
    buffered = int(Path("/proc/sys/net/core/wmem_default").read_text())
    for size in range(buffered - 8192, buffered + 16384, 512):
        with Wire(s) as wire:
            wire.send(request("GET", f"/big?{size}") + b"nonsense\r\n\r\n")
            for _ in range(2):  # what came before these has been answered, as far as it can
                assert ask(s, "/").text == "hello"
            for status in (200, 400):
                answer = wire.answer()
                assert (answer.status, answer.complete) == (status, True), size
            assert wire.is_closed()


def test_refused_is_the_end(server: Start) -> None:
    """What follows a refused request is never parsed."""
    s = server("cases", **logged())
    with Wire(s) as wire:
        wire.send(
            request("GET", "/echo?a") + b"GET  / HTTP/1.1\r\n\r\n" + request("GET", "/echo?b")
        )
        assert wire.answer().text == "GET a "
        assert wire.answer().status == 400
        assert wire.send(request("GET", "/echo?c")).is_closed()
    wait_for(lambda: len(access_lines(s)) == 2, what="a line for each request")
    assert [entry["status"] for entry in access_lines(s)] == [200, 400]


def test_bytes_behind_the_last_request(server: Start) -> None:
    """They are not answered; nor do they tear the answer that a slow client still reads."""
    s = server("cases")
    with no_connection_left(s), Wire(s) as wire:
        wire.request("GET", f"/big?{BIG}", None, "Connection: close")
        wire.head()
        wire.send(b"more than was asked for")
        assert len(wire.stream.read(BIG)) == BIG
        assert wire.is_closed()


# ---- clients that leave


@pytest.mark.parametrize("threads", [1, 4])
def test_half_closed(server: Start, threads: int) -> None:
    """A client that has finished sending still gets its answer, also a late one; nobody spins."""
    s = server("cases", threads=threads)

    def is_answered() -> bool:
        """Not if the worker has no CPU for half a second: then the client counts as gone."""
        with Wire(s) as wire:
            wire.request("POST", "/echo", b"body").socket.shutdown(socket.SHUT_WR)
            return wire.answer().body == b"POST  body" and wire.is_closed()

    with no_connection_left(s), Wire(s) as late:
        assert late.request("GET", "/steps?late").head().status == 200
        late.socket.shutdown(socket.SHUT_WR)
        if threads > 1:
            wait_for(is_answered)
        assert cpu_share(s.workers()[0]) < 0.5
        let(s, "late")
        assert (late.chunk(), late.chunk(), late.chunk()) == (b"first", b"second", b"")
        assert late.is_closed()


def test_half_closed_large(server: Start) -> None:
    """The same while the answer is larger than the socket."""
    s = server("cases")
    with no_connection_left(s), Wire(s) as wire:
        wire.request("GET", f"/big?{BIG}").head()
        wire.socket.shutdown(socket.SHUT_WR)
        assert cpu_share(s.workers()[0]) < 0.5
        assert len(wire.stream.read()) == BIG


@pytest.mark.parametrize("rude", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("kind", SLOW)
def test_client_leaves(server: Start, kind: str, rude: bool) -> None:
    """Whenever it goes, nothing of it is left; half a request has its line in the log."""
    s = server("cases", **logged())
    with no_connection_left(s):
        wire = Wire(s).send(SLOW[kind])
        if kind in ("idle", "not reading"):
            wire.head()
        elif kind != "silent":
            assert wire.is_silent()
        leave_rudely(wire) if rude else wire.close()
    count = 1 if kind == "silent" else 2
    wait_for(lambda: len(access_lines(s)) == count, what="a line for each request")
    if kind.startswith("half"):
        ends = {(entry["status"], entry["end"]) for entry in access_lines(s)}
        assert ends == {(200, None), (499, "client closed")}


@pytest.mark.parametrize("threads", [1, 4])
def test_client_leaves_a_running_request(server: Start, threads: int) -> None:
    """The application ends in peace."""
    s = server("cases", threads=threads, **logged())
    with no_connection_left(s):
        wire = Wire(s).request("GET", "/slow_close?it")
        assert s.log_contains("event: waiting it")
        leave_rudely(wire)
        let(s, "it")
        assert s.log_contains("event: closed it")
    assert s.log.count("event: closed it") == 1


# ---- large bodies, several listeners


def test_listeners_and_large_bodies(server: Start) -> None:
    """TCP and unix at once: what goes up and comes down is what was sent."""
    s = server("echo", threads=2, binds=["127.0.0.1:0", "unix:app.sock"], body_buffer="16k")
    body = os.urandom(1 << 20) * 24
    seen: list[str] = []

    def upload(name: str) -> None:
        with Wire(s, 60, name) as wire:
            data = request("POST", "/", chunked(body, 100_003), "Transfer-Encoding: chunked")
            seen.append(wire.send(data).answer().json()["body_sha1"])
            seen.append(wire.request("PUT", "/", body).answer().json()["body_sha1"])

    clients = [threading.Thread(target=upload, args=(name,)) for name in s.names]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert seen == [hashlib.sha1(body).hexdigest()] * 4


def test_large_downloads(server: Start) -> None:
    """Whole, by blocks, by file, each at its own pace, at the same time."""
    s = server("cases", threads=2, binds=["127.0.0.1:0", "unix:app.sock"])
    data = bytes(range(256)) * (BIG // 256)
    (s.dir / "big.bin").write_bytes(data)
    digests = []

    def download(name: str, target: str) -> None:
        with Wire(s, 60, name) as wire:
            digests.append(hashlib.sha1(wire.ask(target).body).digest())

    targets = [f"/big?{BIG}", "/file_named?big.bin"]
    clients = [
        threading.Thread(target=download, args=(name, target))
        for name in s.names
        for target in targets
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert digests == [hashlib.sha1(data).digest()] * 4


# ---- scarcity


def test_no_descriptors(server: Start) -> None:
    """Out of descriptors it waits without spinning, and goes on when there are some again."""
    s = server("cases")
    (pid,) = s.workers()
    limit = max(descriptors(pid)) + 10
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    with ExitStack() as stack:
        first = stack.enter_context(Wire(s))
        assert first.ask("/").complete
        for _ in range(30):
            stack.enter_context(Wire(s))
        assert s.log_contains(
            r"no connection is accepted for a moment: Too many open files; raise the limit of open "
            r"files \(ulimit -n, LimitNOFILE\)$"
        )
        assert cpu_share(pid) < 0.5
        assert first.ask("/").complete
    assert ask(s, "/").text == "hello"
    assert s.workers() == [pid]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunked"])
def test_full_disk(server: Start, small_disk: Path, chunks: bool) -> None:
    """A body that does not fit fails alone, and what it took is given back."""
    s = server("cases", tmp_dir=small_disk, body_buffer="8k")
    body = bytes(3 << 20)
    with Wire(s) as bystander:
        assert bystander.ask("/").complete
        for _ in range(3):
            with Wire(s) as wire:
                if chunks:
                    data = request("POST", "/x", chunked(body, 5000), "Transfer-Encoding: chunked")
                else:
                    data = request("POST", "/x", body)
                answer = wire.send(data).answer()
                assert (answer.status, answer.complete) == (500, True)
                assert s.log_contains(rf"\[error\].* No space left on device in {small_disk}")
            fits = LARGE[:300_000]
            assert bystander.ask("/echo", method="POST", body=fits).body == b"POST  " + fits
    assert not any(small_disk.iterdir())


def test_no_directory_for_bodies(server: Start, tmp_path: Path) -> None:
    """The same when the directory is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    s = server("cases", tmp_dir=gone, body_buffer="8k")
    gone.rmdir()
    assert ask(s, "/echo", method="POST", body=bytes(100_000)).status == 500
    assert ask(s, "/echo", method="POST", body=b"small").text == "POST  small"
