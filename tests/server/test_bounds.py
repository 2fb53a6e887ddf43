"""What many bad clients can make a worker hold, or write, has a number; the good ones are served."""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from harness import FLAVOUR, SLOWNESS, Server, wait_for, whole_lines
from test_hostile import HALF_HEAD, everything_returns, few_descriptors, memory_bounded
from wire import Wire, ask, request

Start = Callable[..., Server]

POST = request("POST", "/echo")[:-2]
HALVES = {
    "head": HALF_HEAD + b"x" * 7000 + (b"\r\nX-Slow: " + b"x" * 7000) * 7,
    "head of a first buffer": HALF_HEAD + b"x" * 8000,
    "body": POST + b"Content-Length: 65000\r\n\r\n" + b"x" * 60_000,
    "chunked body": POST + b"Transfer-Encoding: chunked\r\n\r\nfde8\r\n" + b"x" * 60_000,
    "body behind a long head": POST
    + b"X-Long: %b\r\nContent-Length: 65000\r\n\r\n" % (b"x" * 8000)
    + b"x" * 60_000,
}


@pytest.mark.parametrize("kind", HALVES)
def test_memory_of_half_requests(server: Start, kind: str) -> None:
    """Thousands that stall have 128 MB, and 16 KB each; what does not fit is refused."""
    count = 4000 // SLOWNESS
    limits = {"header_timeout": "300s", "body_timeout": "300s", "limit_request_field_size": "9k"}
    form = b"x" * 3000
    with few_descriptors(6000), ExitStack() as late:
        s = server("cases", **limits)
        late.enter_context(everything_returns(s, 4000))
        with memory_bounded(s, (128 << 10) + count * 16), ExitStack() as stack:
            for _ in range(count):
                wire = stack.enter_context(Wire(s))
                try:
                    wire.send(HALVES[kind])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # refused before it was whole
            for _ in range(50):
                assert ask(s, "/").text == "hello"
                assert ask(s, "/echo", method="POST", body=form).body.endswith(form)
    if FLAVOUR == "release" and kind != "head of a first buffer":
        assert s.log_contains("503 half requests have too much|503 no descriptor is left for")


def test_peak_of_answers_that_nobody_takes(server: Start) -> None:
    """Above 512 MB the slowest are reset at once, before they had their seconds; who reads is not."""
    s = server("cases", send_timeout="60s")
    size, count = 16 << 20, 60
    left = 2 * size
    with memory_bounded(s, (512 + 64) << 10), ExitStack() as stack:
        reader = stack.enter_context(Wire(s, 30)).request("GET", f"/big?{left}")
        assert reader.head().status == 200
        for _ in range(count):
            deaf = stack.enter_context(Wire(s)).request("GET", f"/big?{size}")
            assert select.select([deaf.socket], [], [], 30 * SLOWNESS)[0]
            left -= len(reader.stream.read(500_000))
        assert len(reader.stream.read(left)) == left
        wait_for(lambda: ask(s, f"/big?{size}").complete, what="another one to be answered")


def test_records_about_clients(server: Start) -> None:
    """Of a flood of refused requests 20 a second are written, the others counted."""
    count = 3000
    log = {"access_logfile": "access.log", "access_logformat": "json"}
    s = server("cases", **log)
    began = time.monotonic()
    for _ in range(count):
        s.raw(b"\n")

    def records() -> int:
        return s.log.count(": refused a request from 127.0.0.1: 400 ")

    def left_out() -> int:
        more = re.findall(r": and (\d+) more records about clients in that second$", s.log, re.M)
        return sum(map(int, more))

    # The last ones without another request.
    wait_for(lambda: records() + left_out() >= count, what="all to be written or counted")
    assert records() + left_out() == count
    assert records() <= 20 * (time.monotonic() - began + 2)
    log = s.dir / "access.log"
    wait_for(lambda: len(whole_lines(log.read_text())) == count, what="a line of each")
