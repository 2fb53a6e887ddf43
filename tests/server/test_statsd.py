"""statsd: the numbers of /metrics, pushed by the control process to a socket of the test."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control_client import ask as control
from harness import Server, run, wait_for

Start = Callable[..., Server]

LINE = re.compile(r"([A-Za-z0-9_.-]+):([0-9.e+-]+)\|([cg])")


class Daemon:
    """What statsd would have: counters added up, the last value of each gauge."""

    def __init__(self, family: int, address: tuple[str, int] | str) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0.05)
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.packets = 0

    def hear(self) -> None:
        """Take what has come."""
        try:
            packet = self.socket.recv(65536)
        except TimeoutError:
            return
        self.packets += 1
        assert len(packet) <= 1432
        for line in packet.decode().split("\n"):
            match = LINE.fullmatch(line)
            assert match, line
            if match[3] == "c":
                self.counters[match[1]] += float(match[2])  # type: ignore[assignment]
            else:
                self.gauges[match[1]] = float(match[2])

    def wait(self, condition: Callable[[], bool]) -> None:
        """Listen until it is so."""

        def look() -> bool:
            self.hear()
            return condition()

        wait_for(look, 30)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """On a port of 127.0.0.1."""
    it = Daemon(socket.AF_INET, ("127.0.0.1", 0))
    yield it
    it.socket.close()


def test_the_numbers_of_metrics(server: Start, daemon: Daemon) -> None:
    port = daemon.socket.getsockname()[1]
    s = server(
        "hello",
        statsd=f"127.0.0.1:{port}",
        statsd_prefix="shop.a",
        control="unix:control.sock",
        workers=2,
    )
    daemon.wait(lambda: daemon.gauges.get("shop.a.workers.serving") == 2)
    daemon.wait(lambda: daemon.gauges.get("shop.a.ready") == 1)
    for _ in range(7):
        assert s.get("/").status == 200
    names = ["requests", "responses.2xx", "request_duration_seconds_count"]
    names += ["request_duration_seconds_bucket._Inf"]
    # they may come in several packets
    daemon.wait(lambda: all(daemon.counters[f"shop.a.{name}"] == 7 for name in names))
    daemon.wait(lambda: daemon.counters["shop.a.request_duration_seconds_sum"] > 0)
    assert 0 < daemon.counters["shop.a.request_duration_seconds_sum"] < 60
    assert s.raw(b"GARBAGE\r\n\r\n").startswith(b"HTTP/1.1 400")
    daemon.wait(lambda: daemon.counters["shop.a.responses.4xx"] == 1)
    daemon.wait(lambda: daemon.counters["shop.a.requests"] == 8)  # added up, not sent again
    # every number that /metrics has
    text = control(s, "/metrics").text
    shown = set(re.findall(r"^myserver_(\w+?)(?:_total)?[ {]", text, re.M))
    gauges = set(re.findall(r"^# TYPE myserver_(\w+) gauge", text, re.M))
    heard: set[str] = set()

    def has_heard_all() -> bool:
        heard.update(name.removeprefix("shop.a.").partition(".")[0] for name in daemon.gauges)
        return heard >= gauges & shown

    daemon.wait(has_heard_all)
    assert gauges & shown == heard


def test_a_socket_of_the_machine(server: Start, tmp_path: Path) -> None:
    daemon = Daemon(socket.AF_UNIX, str(tmp_path / "statsd"))
    server("hello", args=["--statsd-host", f"unix:{tmp_path}/statsd"])
    daemon.wait(lambda: daemon.gauges.get("myserver.ready") == 1)
    daemon.socket.close()


def test_nobody_listens(server: Start, free_port: int) -> None:
    """That costs nothing, and what comes later is heard."""
    s = server("hello", statsd=f"127.0.0.1:{free_port}")
    wait_for(lambda: any(p.name.startswith("myserver:contr") for p in s.relatives()))
    daemon = Daemon(socket.AF_INET, ("127.0.0.1", free_port))
    daemon.wait(lambda: daemon.packets > 0)
    daemon.socket.close()
    assert s.get("/").status == 200
    assert "statsd" not in s.log


@pytest.mark.parametrize("address", ["host:port", ":8125", "unix:"])
def test_an_address_that_is_none(server: Start, address: str) -> None:
    done = run("--check-config", f"--statsd={address}", "hello")
    assert done.returncode == 2
    assert f'command line: --statsd: "{address}" is not right; write HOST:PORT' in done.stderr
