"""shutdown-delay: between TERM and the end, load balancers learn that they must turn away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from control_client import ask, stats
from harness import Server, can_connect, run, wait_for
from test_master import load, wait_for_workers
from wire import Wire

Start = Callable[..., Server]

LONG = {"shutdown_delay": "10m", "control": "unix:control.sock"}
SAID = r"stopping in 600\.0 s: /readyz says so"


def assert_delays(s: Server) -> None:
    """It has been told to stop, says so to who asks, and serves."""
    assert s.log_contains(SAID)
    assert (ask(s, "/readyz").status, ask(s, "/readyz").text) == (503, "stopping\n")
    assert ask(s, "/livez").status == 200
    assert stats(s)["stopping"] is True and stats(s)["ready"] is False
    assert "myserver_ready 0\n" in ask(s, "/metrics").text
    health = run("--health", "--control=unix:control.sock", cwd=s.dir)
    assert (health.returncode, health.stdout) == (1, "not ready: stopping\n")
    assert s.get("/").status == 200


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_serves_until_told_again(server: Start, second: int) -> None:
    """New connections and kept ones; then the usual drain, in which nothing is lost either."""
    s = server("stuck", workers=2, threads=2, **LONG)
    with Wire(s) as kept, s.connect() as slow:
        with load(s) as requests:
            assert kept.ask("/").complete
            s.signal(signal.SIGTERM)
            assert_delays(s)
            answered = len(requests.bodies)
            wait_for(lambda: len(requests.bodies) > answered + 50, what="more requests")
            assert kept.ask("/").get("Connection") != "close"
        slow.sendall(b"GET /sleep/0.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert s.log_contains("running /sleep/0.5")
        s.signal(second)
        assert slow.recv(12) == b"HTTP/1.1 200"
    assert requests.errors == []
    assert s.wait() == 0
    assert s.log_contains("draining: told to stop")
    assert "stopping at once" not in s.log


def test_ends_by_itself(server: Start, free_port: int) -> None:
    """After so long, in which it serves as above."""
    s = server(shutdown_delay="1s", control="unix:control.sock", binds=[f"127.0.0.1:{free_port}"])
    start = time.monotonic()
    s.signal(signal.SIGTERM)
    assert s.log_contains("stopping in 1.0 s")
    assert s.wait() == 0
    assert time.monotonic() - start >= 1
    assert not can_connect(s.address)


def test_a_third_signal_does_not_wait_for_requests(server: Start) -> None:
    """As the second one does without a delay."""
    s = server("stuck", **LONG)
    with s.connect() as client:
        client.sendall(b"GET /sleep/60 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert s.log_contains("running /sleep/60")
        s.signal(signal.SIGTERM)
        assert s.log_contains(SAID)
        s.signal(signal.SIGTERM)
        assert s.log_contains("draining: told to stop")
        s.signal(signal.SIGTERM)
        assert s.wait() == 0
    assert s.log_contains("stopping at once, not waiting any longer")


def test_quit_does_not_wait(server: Start) -> None:
    s = server(**LONG)
    s.signal(signal.SIGTERM)
    assert s.log_contains(SAID)
    assert s.stop(signal.SIGQUIT) == 0


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGQUIT], ids=["INT", "QUIT"])
def test_only_term_is_delayed(server: Start, first: int) -> None:
    s = server(**LONG)
    assert s.stop(first) == 0
    assert "stopping in" not in s.log


def test_nothing_to_turn_away_from(server: Start) -> None:
    """A server that is paused has said 503 for long."""
    s = server(**LONG)
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    assert s.stop() == 0
    assert "stopping in" not in s.log


def test_the_house_is_kept_meanwhile(server: Start) -> None:
    """A worker that dies is replaced; there is no upgrade any more."""
    s = server("crash", expect_deaths=True, **LONG)
    (first,) = s.workers()
    s.signal(signal.SIGTERM)
    assert s.log_contains(SAID)
    s.signal(signal.SIGUSR2)
    assert s.log_contains("no upgrade now: ")
    os.kill(first, signal.SIGKILL)
    wait_for_workers(s, 1, without=first)
    assert s.get("/").status == 200
    assert_delays(s)
    assert s.stop() == 0
