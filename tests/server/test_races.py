"""What goes wrong only at the wrong moment: hand-overs between threads and workers, turns, ends."""

from __future__ import annotations

import os
import select
import signal
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

import stress
from harness import FLAVOUR, PATIENCE_S, SLOWNESS, Server, wait_for, whole_lines
from wire import let

APP = "mix:application"


class Line:
    """A connection that asks one thing after the other."""

    def __init__(self, server: Server) -> None:
        self.client = stress.Client(server, stress.Accounts())

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def send(self, target: str, body: bytes = b"", *lines: str) -> None:
        """Send one request."""
        self.client.send(stress.request(target, body, *lines))

    def ask(self, target: str, body: bytes = b"", *lines: str) -> bytes:
        """Send one request; the body of its answer."""
        self.send(target, body, *lines)
        return self.answer()

    def answer(self) -> bytes:
        """The body of the next answer."""
        status, body = self.client.answer()
        assert status == 200, (status, body)
        return body.partition(b"\n")[2]

    def is_waiting(self) -> bool:
        """Whether nothing of an answer has come."""
        return not self.client.data and self.is_waiting_for_bytes()

    def is_waiting_for_bytes(self) -> bool:
        """Whether nothing has come that it has not read."""
        return not select.select([self.client.socket], [], [], 0)[0]


def ask_once(server: Server, target: str, body: bytes = b"") -> bytes:
    """One request on a connection of its own."""
    with Line(server) as line:
        return line.ask(target, body)


# ---- turns


class Crowd:
    """Lines that ask again as soon as they are answered. One thread speaks for all of them: when the
    kernel lets it wait, they wait too, and none is late because of another."""

    def __init__(self, server: Server, stack: ExitStack, count: int, target: str) -> None:
        self.lines = [stack.enter_context(Line(server)) for _ in range(count)]
        self.answers = [0] * count
        self.target = target
        for line in self.lines:
            line.send(target)

    def turn(self, *others: Line) -> None:
        """Wait until something comes, and let those who are answered ask again."""
        sockets = [line.client.socket for line in (*self.lines, *others)]
        ready = select.select(sockets, [], [], PATIENCE_S * SLOWNESS)[0]
        assert ready, "nobody is answered"
        for i, line in enumerate(self.lines):
            if line.client.socket in ready:
                line.answer()
                self.answers[i] += 1
                line.send(self.target)


@pytest.mark.parametrize("busy", [1, 16])
@pytest.mark.parametrize("ms", [5, 25])  # with 25 the standby leads in between
def test_new_clients_get_in_beside_busy_ones(
    server: Callable[..., Server], busy: int, ms: int
) -> None:
    """A new one is accepted as soon as the thread is free, not when a timer rings."""
    s = server(APP)
    passed = []
    with ExitStack() as stack:
        crowd = Crowd(s, stack, busy, f"/sleep?ms={ms}")
        while min(crowd.answers) == 0:
            crowd.turn()
        for _ in range(8):
            before = sum(crowd.answers)
            with Line(s) as new:
                new.send("/fast")
                while new.is_waiting():
                    crowd.turn(new)
                new.answer()
            passed.append(sum(crowd.answers) - before)
    assert statistics.median(passed) <= 2 * busy, passed
    assert max(passed) <= 32, passed


@pytest.mark.parametrize("workers", [1, 2])
def test_busy_clients_wait_in_turn(server: Callable[..., Server], workers: int) -> None:
    """Also when workers give each other connections, nobody goes to the end of a queue again."""
    s = server(APP, workers=workers)
    with ExitStack() as stack:
        crowd = Crowd(s, stack, 20, "/sleep?ms=20")
        while sum(crowd.answers) < 100:
            crowd.turn()

        def is_fair() -> bool:
            before = list(crowd.answers)
            while sum(crowd.answers) - sum(before) < 200:
                crowd.turn()
            served = [after - earlier for after, earlier in zip(crowd.answers, before, strict=True)]
            return max(served) <= 2 * min(served)

        # A worker that the machine stops for a while serves nobody meanwhile.
        wait_for(is_fair, what="200 answers for all alike")


def test_a_whole_upload_meets_a_thread_that_becomes_free(server: Callable[..., Server]) -> None:
    s = server(APP)
    with Line(s) as busy, Line(s) as upload:
        for i in range(60):
            busy.send("/sleep?ms=20")
            time.sleep(0.005)
            upload.client.send(b"POST /upload?x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
            time.sleep(0.013 + i % 10 * 0.0004)
            upload.client.send(b"b")
            upload.answer()
            busy.answer()


def test_a_request_that_computes_now_and_then_lets_others_in(
    server: Callable[..., Server],
) -> None:
    s = server(APP, threads=2)
    with Line(s) as busy, Line(s) as modest:
        modest.ask("/fast")
        for _ in range(12):
            busy.ask("/cpu?ms=100")
        busy.send("/duty")
        assert s.log_contains("event: duty")
        modest.ask("/fast")
        assert busy.is_waiting()
        let(s, "duty")
        busy.answer()


def test_pipelined_requests_let_others_in(server: Callable[..., Server]) -> None:
    s = server(APP, access_logfile="access.log")
    with Line(s) as greedy, Line(s) as modest:
        modest.ask("/fast")
        greedy.client.send(stress.request("/held") + stress.request("/cpu?ms=2") * 399)
        assert s.log_contains("event: held")
        modest.send("/fast?modest")
        let(s, "go")
        modest.answer()
        for _ in range(400):
            greedy.answer()
    access = s.dir / "access.log"
    wait_for(lambda: len(whole_lines(access.read_text())) == 402, what="all lines")
    before_it = access.read_text().partition("/fast?modest")[0]
    assert before_it.count("/cpu") < 150


def test_uploads_and_downloads_let_others_in(server: Callable[..., Server]) -> None:
    s = server(APP, limit_request_body="1g")
    with Line(s) as modest:
        modest.ask("/fast")
        for target in "/big", "/file":
            with Line(s) as large:
                large.send(target)
                for _ in range(5):
                    modest.ask("/fast")
                large.answer()

        def uploads_and_lets_in() -> bool:
            answers = 0
            thread = threading.Thread(target=ask_once, args=(s, "/upload", bytes(150_000_000)))
            thread.start()
            while thread.is_alive():
                modest.ask("/fast")
                answers += 1
                time.sleep(0.005)
            return answers > 8

        # The thread is the application's only while it reads and hashes the whole body.
        wait_for(uploads_and_lets_in, 60, "answers during an upload")


def test_waiting_connections_move_past_one_that_cannot(server: Callable[..., Server]) -> None:
    """A pipelining connection has to stay; those behind it need not."""
    s = server(APP, workers=2)
    with ExitStack() as stack:
        met: dict[bytes, list[Line]] = {}
        for _ in range(12):
            line = stack.enter_context(Line(s))
            met.setdefault(line.ask("/pid"), []).append(line)
        first, *others = max(met.values(), key=len)
        assert len(others) >= 5
        first.client.send(stress.request("/held") * 2)
        assert s.log_contains("event: held")
        for line in others:
            line.ask("/fast")
        let(s, "go")
        first.answer()
        first.answer()


# ---- nothing of one connection reaches another


def test_empty_lines_of_one_connection_count_for_that_one(server: Callable[..., Server]) -> None:
    s = server(APP)
    with Line(s) as one, Line(s) as two:
        for _ in range(3):
            one.client.send(b"\r")
            time.sleep(0.03)
            one.client.send(b"\n")
            time.sleep(0.03)
            two.client.send(b"\r\n\r\n")
            two.ask("/fast")
            one.ask("/fast")


def test_write_belongs_to_the_thread_of_the_request(server: Callable[..., Server]) -> None:
    s = server(APP, threads=2)
    with Line(s) as line:
        for _ in range(3):
            assert b"thread" in line.ask("/elsewhere")


def test_a_child_of_the_application_does_not_answer(server: Callable[..., Server]) -> None:
    s = server(APP, threads=2)
    with Line(s) as line:
        for i in range(5):
            assert line.ask(f"/fork?{i}") == b"parent"
        assert line.ask("/fast?after") == b""


# ---- memory


def test_a_long_stream_keeps_only_its_backlog(server: Callable[..., Server]) -> None:
    # A unix socket takes less at once than the backlog, which so is never empty.
    s = server(APP, threads=2, binds=["unix:s.sock"])
    with Line(s) as line, Line(s) as meter:
        before = int(meter.ask("/memory"))
        line.send("/stream?n=6000&size=10000")
        total, most = 0, 0
        while total < 50_000_000:
            for _ in range(100):
                total += len(line.client.socket.recv(65536))
                time.sleep(0.001)  # always a little behind
            most = max(most, int(meter.ask("/memory")))
    if FLAVOUR == "release":
        assert most - before < 15_000, (before, most)


# ---- ends


def test_a_moved_idle_connection_keeps_its_time(server: Callable[..., Server]) -> None:
    s = server(APP, workers=1, header_timeout="1500ms", keep_alive="60s")
    with Line(s) as line:
        old = line.ask("/pid")
        s.signal(signal.SIGHUP)
        wait_for(lambda: s.workers() and [int(old)] != s.workers()[:1], what="a new worker")
        wait_for(lambda: int(old) not in s.workers(), what="the old worker's end")
        time.sleep(2.5)
        assert line.ask("/pid") != old


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("workers", [1, 2])
def test_term_under_load_loses_nothing(
    server: Callable[..., Server], workers: int, threads: int
) -> None:
    s = server(APP, workers=workers, threads=threads)
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(s)) for _ in range(8)]
        for line in lines:
            line.ask("/fast")  # accepted, all of them
        for i, line in enumerate(lines):
            line.send(f"/sleep?ms={100 + 20 * i}")
        time.sleep(0.05)
        s.signal(signal.SIGTERM)
        for line in lines:
            line.answer()
        assert s.wait() == 0


def test_quit_and_kill_under_load(server: Callable[..., Server]) -> None:
    s = server(APP, workers=2, threads=2, expect_deaths=True)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Line(s)).send("/held")
        wait_for(lambda: s.log.count("event: held") == 4, what="all threads to be busy")
        victim = s.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(set(s.workers()) - {victim}) == 2, what="a new worker")
        assert s.stop(signal.SIGQUIT) == 0  # long before the time that TERM would leave them


# ---- everything at once


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1, "threads": 1},
        {"workers": 1, "threads": 4},
        {"workers": 2, "threads": 1, "reload_every": 1.0},
        {"workers": 2, "threads": 4, "reload_every": 1.0},
        {"workers": 2, "threads": 2, "kill_every": 0.7},
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
)
def test_stress(options: dict[str, float]) -> None:
    accounts = stress.stress(4, seed=7, **options)
    assert not accounts.faults
    assert accounts.counts["answered"] > 50
