"""Sockets that the application takes over: WebSocket under WSGI, by the libraries that there are."""

from __future__ import annotations

import itertools
import json
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families
from simple_websocket import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import control_client
from harness import Server, descriptors, read_all, wait_for
from test_master import load, wait_for_workers
from wire import Wire

Start = Callable[..., Server]
Nginx = Callable[..., str]

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: line\r\n\r\n"
PROXIED = """proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
"""


def start(server: Start, threads: int = 4, **options: object) -> Server:
    """The application, with an access log and metrics."""
    options = {"access_logfile": "access.log", **control_client.OPTIONS, **options}
    return server("sockets_taken", threads=threads, **options)


def open_socket(s: Server, path: str = "/flask") -> ClientConnection:
    """A WebSocket."""
    return connect(f"ws://127.0.0.1:{s.port}{path}", proxy=None)


def upgrade(
    path: str,
    ahead: bytes = b"",
    version: str = "1.1",
    connection: str = "keep-alive, Upgrade",
    fields: str = "Upgrade: line\r\n",
) -> bytes:
    """A request that asks for another protocol, and what the client sends with it."""
    head = f"GET {path} HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n{fields}\r\n"
    return head.encode() + ahead


def access_lines(s: Server, path: str = "") -> list[str]:
    """Of that path."""
    text = (s.dir / "access.log").read_text()
    return [line for line in text.splitlines() if f" {path}" in line]


def metric(s: Server, name: str, **labels: str) -> float:
    """A number of /metrics."""
    text = control_client.ask(s, "/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"myserver_{name}" and labels.items() <= sample.labels.items()
    )


def taken_over(s: Server) -> int:
    """How many sockets applications have, by the metrics."""
    return int(metric(s, "taken_over_connections"))


# ---- the libraries


@pytest.mark.parametrize("path", ["/flask", "/echo"])
@pytest.mark.parametrize("threads", [1, 4])
def test_echo(server: Start, path: str, threads: int) -> None:
    """Flask-Sock and simple-websocket, with the client `websockets`; the next request is as any."""
    s = start(server, threads)
    for _ in range(3):
        with open_socket(s, path) as ws:
            for text in ("hello", "x" * 200_000, b"bytes"):
                ws.send(text)
                assert ws.recv() == text
            wait_for(lambda: taken_over(s) == 1)
        assert s.get("/flask/page").text == "a page"
    wait_for(lambda: taken_over(s) == 0, what="the end of all")
    wait_for(lambda: len(access_lines(s, path + " ")) == 3, what="a line each")
    assert all('HTTP/1.1" 101 ' in line for line in access_lines(s, path + " "))
    assert metric(s, "responses_total", **{"class": "1xx"}) == 3
    assert "Traceback" not in s.log and "[error]" not in s.log


@pytest.mark.parametrize("path", ["/flask", "/echo"])
def test_echo_through_nginx(server: Start, nginx: Nginx, path: str) -> None:
    """With the two lines that the documentation gives, also over a unix socket."""
    for bind in ("127.0.0.1:0", "unix:app.sock"):
        s = start(server, binds=[bind])
        url = nginx(s, keepalive=False, extra=PROXIED).replace("http://", "ws://")
        with connect(url + path, proxy=None) as ws:
            for number in range(20):
                ws.send(f"hello {number}")
                assert ws.recv() == f"hello {number}"


def test_simple_websocket_client(server: Start) -> None:
    s = start(server)
    ws = Client(f"ws://127.0.0.1:{s.port}/echo")
    ws.send("hello")
    assert ws.receive() == "hello"
    ws.close()
    assert s.log_contains("^event: closed 1000$")
    ws.thread.join()


def test_flask_socketio(server: Start) -> None:
    """Its threading mode: Engine.IO 4 over a WebSocket from the beginning."""
    s = server("socketio_app:app", threads=4)
    with connect(f"ws://127.0.0.1:{s.port}/socket.io/?EIO=4&transport=websocket", proxy=None) as ws:
        assert json.loads(ws.recv()[1:])["sid"]  # type: ignore[arg-type]
        ws.send("40")
        assert ws.recv().startswith("40")  # type: ignore[arg-type]
        ws.send('42["shout","hello"]')
        assert ws.recv() == '42["louder","HELLO"]'
    assert "Traceback" not in s.log


def test_many_at_once(server: Start) -> None:
    """As many as there are threads, of all workers; then requests wait, and are answered at the end."""
    s = start(server, threads=10, workers=2)
    wait_for_workers(s, 2)
    with ExitStack() as stack:
        all_open = [stack.enter_context(open_socket(s)) for _ in range(20)]
        for turn in range(3):
            for number, ws in enumerate(all_open):
                ws.send(f"{turn} {number}")
            for number, ws in enumerate(all_open):
                assert ws.recv() == f"{turn} {number}"
        wait_for(lambda: taken_over(s) == 20)
        assert s.log_contains(r"as many sockets as this worker has threads \(10\)")
        with s.connect() as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            all_open[7].send("still here")
            assert all_open[7].recv() == "still here"
            all_open[3].close()
            assert read_all(waiting).startswith(b"HTTP/1.1 200 OK")
    wait_for(lambda: taken_over(s) == 0)


# ---- the socket itself


def test_what_comes_ahead_is_not_lost(server: Start) -> None:
    """All ways to read have the bytes that were sent right behind the head, also an empty line in front."""
    s = start(server)
    assert s.raw(upgrade("/lines", b"one\ntwo\nbye\n")) == SWITCHED + b"ONE\nTWO\n"
    assert s.log_contains("^event: taken, 12 ahead, None$")
    assert s.raw(b"\r\n" + upgrade("/pieces", b"abcdefgh")) == SWITCHED + b"abcdefghthe end"
    long = b"".join(b"line %d\n" % number for number in range(20_000))
    with s.connect() as client:
        client.sendall(upgrade("/lines", long[:1000]))
        client.sendall(long[1000:] + b"bye\n")
        assert read_all(client) == SWITCHED + long.upper()


def test_nothing_is_sent_but_by_the_application(server: Start) -> None:
    """Neither what start_response, write() and the iterable give, nor an error page."""
    s = start(server)
    assert s.raw(upgrade("/lines", b"bye\n")) == SWITCHED
    assert s.raw(upgrade("/nothing")) == SWITCHED
    assert s.raw(upgrade("/fails")) == SWITCHED
    assert s.log_contains("GET /fails: uncaught exception")
    assert s.raw(upgrade("/twice")).endswith(b"cannot be had: it is taken already")
    assert len(re.findall("Traceback", s.log)) == 1
    wait_for(lambda: len([line for line in access_lines(s) if " 101 " in line]) == 4)
    assert s.get("/").status == 200


def test_answer_that_has_begun_goes_on(server: Start) -> None:
    s = start(server)
    with Wire(s) as wire:
        wire.send(upgrade("/late"))
        assert wire.answer().text.endswith("the answer has begun")
        assert wire.ask("/").status == 200


NOT_OFFERED = [
    upgrade("/keys", version="1.0"),
    upgrade("/keys", connection="keep-alive"),
    upgrade("/keys", fields=""),
    upgrade("/keys", fields="Upgrade:\r\n"),
    upgrade("/keys", b"body", fields="Upgrade: line\r\nContent-Length: 4\r\n"),
    upgrade(
        "/keys",
        b"4\r\nbody\r\n0\r\n\r\n",
        fields="Upgrade: x\r\nTransfer-Encoding: chunked\r\n",
    ),
    upgrade("/keys", b"0\r\n\r\n", fields="Upgrade: x\r\nTransfer-Encoding: chunked\r\n"),
    b"GET /keys HTTP/1.1\r\nHost: a\r\n\r\n",
]


def test_other_requests_are_offered_nothing(server: Start) -> None:
    s = start(server)
    for request_bytes in NOT_OFFERED:
        with Wire(s) as wire:
            answer = wire.send(request_bytes).answer()
        assert answer.status == 200 and answer.text.startswith("[] "), (request_bytes, answer)


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.2, HTTP/2.0"])
def test_application_that_ignores_the_key_answers(server: Start, protocol: str) -> None:
    """Also twice on one connection: looking at environ takes nothing."""
    s = start(server)
    asks = upgrade("/keys", fields=f"Upgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n")
    with Wire(s) as wire:
        for _ in range(2):
            wire.send(asks)
            assert wire.answer().text.startswith("['myserver.socket', 'gunicorn.socket'] ")
        wire.send(asks + asks)  # pipelined
        assert wire.answer().status == wire.answer().status == 200
    assert taken_over(s) == 0


def test_warmup_has_no_socket(server: Start) -> None:
    s = start(server, prewarm="/keys | Connection: Upgrade | Upgrade: line", prewarm_rounds=2)
    assert s.get("/").status == 200


def test_no_descriptor_is_left(server: Start) -> None:
    s = start(server)
    (pid,) = s.workers()
    s.raw(upgrade("/pieces", b"abcdef"))
    wait_for(lambda: taken_over(s) == 0)
    before = set(descriptors(pid))
    for _ in range(50):
        assert s.raw(upgrade("/pieces", b"abcdef")) == SWITCHED + b"abcdefthe end"
        assert s.raw(upgrade("/leaves")) == SWITCHED
    wait_for(lambda: len(descriptors(pid)) <= len(before), what="the last ones to be closed")


# ---- clients


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("path", ["/lines", "/flask"])
def test_client_that_vanishes(server: Start, how: str, path: str) -> None:
    """The application sees it, and its thread is free again."""
    s = start(server, threads=1)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    with s.connect() as client:
        client.sendall(upgrade(path, fields=f"Upgrade: websocket\r\n{key}"))
        assert client.recv(12) == b"HTTP/1.1 101"
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert s.get("/").status == 200
    wait_for(lambda: taken_over(s) == 0)
    wait_for(lambda: metric(s, "connections") == 0, what="the end of its connection")


def test_thread_of_the_application_sees_the_end(server: Start) -> None:
    """It has its own descriptor, which nobody else closes, and which keeps no client waiting."""
    s = start(server, threads=1)
    with s.connect() as client:
        client.sendall(upgrade("/leaves"))
        assert read_all(client) == SWITCHED
        assert s.get("/").status == 200
    assert s.log_contains("^event: thread has (read|got)")


# ---- limits in time


def test_timeout_does_not_end_it(server: Start) -> None:
    """A request that takes longer is ended meanwhile, as ever."""
    s = start(server, timeout="300ms", timeout_interrupt=True)
    with open_socket(s) as ws:
        assert s.raw(upgrade("/stolen")).startswith(b"HTTP/1.1 504 ")
        assert s.log_contains(
            "RequestTimeout, then the client's socket cannot be had: the request has pa"
        )
        ws.send("still")
        assert ws.recv() == "still"
    assert len(re.findall("request timeout", s.log)) == 1
    assert len(s.workers()) == 1 and "replacing" not in s.log


def test_set_timeout_does(server: Start) -> None:
    s = start(server)
    assert s.raw(upgrade("/limited")) == SWITCHED
    assert s.log_contains("^event: limited has ended")
    assert s.log_contains(r"request timeout: thread \d: GET /limited.*: its answer had begun")
    assert s.get("/").status == 200


def test_slow_log_and_latencies_leave_it_out(server: Start) -> None:
    s = start(server, log_slow="10ms")
    assert s.raw(upgrade("/leaves")) == SWITCHED
    wait_for(lambda: access_lines(s, "/leaves"), what="its end")
    assert "slow request" not in s.log
    assert metric(s, "request_duration_seconds_count") == 0


# ---- the end of the worker


@pytest.mark.parametrize("path", ["/flask", "/echo"])
def test_reload_during_an_open_socket(server: Start, path: str) -> None:
    """It goes on until graceful-timeout is nearly over; then it sees the end, and nobody is killed."""
    s = start(server, graceful_timeout="5s")
    generations = itertools.count(2)
    wait_for(lambda: goes_on_meanwhile(s, path, next(generations)), 60, "a test that is in time")
    assert s.log_contains(
        "graceful-timeout is nearly over: 1 socket that the application has taken"
    )
    assert "killing it" not in s.log
    assert [line for line in access_lines(s, path) if " 101 " in line]


def goes_on_meanwhile(s: Server, path: str, generation: int) -> bool:
    """Reload beside an open socket. False: the test has had no CPU until its time was over."""
    (old,) = wait_for_workers(s, 1)
    with open_socket(s, path) as ws, load(s) as requests:
        ws.send("before")
        assert ws.recv() == "before"
        begun = time.monotonic()
        s.signal(signal.SIGHUP)
        assert s.log_contains(f"generation {generation} serves")
        assert s.log_contains(rf"worker \d \({old}\): draining")
        try:
            ws.send("meanwhile")
            assert ws.recv() == "meanwhile"
            is_in_time = True
        except ConnectionClosed:
            is_in_time = False
        assert is_in_time or time.monotonic() - begun > 3
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=20)
    assert requests.errors == []
    assert s.log_contains(rf"worker \d \(pid {old}\) left")
    return is_in_time


def test_stop_ends_all(server: Start) -> None:
    s = start(server, workers=2, graceful_timeout="1s")
    wait_for_workers(s, 2)
    with ExitStack() as stack:
        all_open = [stack.enter_context(open_socket(s)) for _ in range(6)]
        s.signal(signal.SIGTERM)
        for ws in all_open:
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=20)
    assert s.wait() == 0
    assert "killing it" not in s.log


def test_application_that_does_not_see_the_end_is_killed(server: Start) -> None:
    s = start(server, graceful_timeout="1s", expect_deaths=True)
    with s.connect() as client:
        client.sendall(upgrade("/deaf"))
        assert client.recv(12) == b"HTTP/1.1 101"
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
    assert re.search(
        r"worker 1 \(pid \d+\) did not finish in time: killing it; it was running$", s.log, re.M
    )
    assert [line for line in access_lines(s, "/deaf") if '" 101 ' in line]


def test_quick_stop(server: Start) -> None:
    s = start(server)
    with open_socket(s) as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
        s.stop(signal.SIGINT)
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=20)
    assert [line for line in access_lines(s, "/flask") if '" 101 ' in line]


def test_worker_that_retires(server: Start) -> None:
    """max-requests: the socket goes on beside the replacement."""
    s = start(server, max_requests=3)
    (old,) = s.workers()
    with open_socket(s) as ws:
        for _ in range(10):
            s.get("/")
        assert s.log_contains(r"worker 2 \(pid \d+\) serves")
        assert s.log_contains(rf"worker 1 \({old}\): draining")
        ws.send("hello")
        assert ws.recv() == "hello"
    assert s.log_contains(rf"\(pid {old}\) left")
