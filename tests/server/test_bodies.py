"""Large bodies in memory: they arrive whole in whatever way they are read, and cost no new pages."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness import FLAVOUR, SLOWNESS, Server, descriptors, wait_for
from test_clients import leave_rudely
from test_hostile import everything_returns, private_kib
from wire import Wire, ask, chunked, request

Start = Callable[..., Server]

BINDS = ["127.0.0.1:0", "unix:app.sock"]
MEGABYTE = 1 << 20
# Lines of a few hundred bytes, and one that is longer than any piece of memory.
LARGE = random.Random(7).randbytes(2 * MEGABYTE) + b"x" * 700_000 + b"\nend"
WAYS = ["all", "pieces", "small", "lines", "iterated", "filled", "mixed"]
counted = pytest.mark.skipif(FLAVOUR != "release", reason="sanitizers have memory of their own")


def expected(body: bytes) -> dict[str, object]:
    """What the application finds in it."""
    return {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@pytest.fixture(scope="module")
def site() -> Iterator[Server]:
    """One server for all ways to read."""
    with Server("uploads", binds=BINDS, threads=2) as server:
        yield server


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_every_way_to_read(site: Server, framing: str, way: str) -> None:
    """Of each length the same bytes, by TCP and a unix socket, and the next request is in step."""
    for name in site.names:
        with Wire(site, name=name) as wire:
            for size in (65_000, 66_000, 131_072, 1_000_000, len(LARGE)):
                body = LARGE[-size:]
                if framing == "length":
                    wire.request("POST", f"/digest?{way}", body)
                else:
                    data = chunked(body, 50_001)
                    wire.request("POST", f"/digest?{way}", data, "Transfer-Encoding: chunked")
                assert wire.answer().json() == expected(body)


@pytest.mark.parametrize("read", [0, 10, 300_000])
def test_what_is_not_read(site: Server, read: int) -> None:
    """It is nobody else's: the request behind it is answered."""
    body = b"y" * len(LARGE)
    for name in site.names:
        with Wire(site, name=name) as wire:
            for _ in range(3):
                wire.send(request("POST", f"/first?{read}", body) + request("GET", "/first?5"))
                assert wire.answer().json() == {"first": "y" * read}
                assert wire.answer().json() == {"first": ""}


def test_a_body_that_pauses(site: Server) -> None:
    """What has come is kept meanwhile; it arrives whole."""
    data = request("POST", "/digest?pieces", LARGE)
    for name in site.names:
        with Wire(site, name=name) as wire:
            for start in range(0, len(data), 900_000):
                wire.send(data[start : start + 900_000])
                assert start + 900_000 >= len(data) or wire.is_silent()
            assert wire.answer().json() == expected(LARGE)


@pytest.mark.parametrize("sent", [70_000, 1_500_000])
def test_a_body_that_stops(server: Start, sent: int) -> None:
    """408, wherever the bytes are that have come."""
    s = server("uploads", binds=BINDS, body_timeout="300ms")
    for name in s.names:
        with Wire(s, name=name) as wire:
            wire.send(request("POST", "/digest?all", LARGE)[:sent])
            assert wire.answer().status == 408
            assert wire.is_closed()


def test_a_client_that_leaves_meanwhile(server: Start, tmp_path: Path) -> None:
    """The application has the whole body also when its client is gone before it is read."""
    s = server("uploads", threads=2)
    now = tmp_path / "now"
    with Wire(s) as wire:
        wire.request("POST", f"/late?{now}", LARGE)
        assert s.log_contains("event: begun")
        leave_rudely(wire)
    now.touch()
    found = s.log_contains("event: read (.*)")
    assert found and json.loads(found[1]) == expected(LARGE)


def test_a_client_that_leaves_before_a_thread_is_free(server: Start, tmp_path: Path) -> None:
    """It is not run for nobody, though its body lies in the kernel before the end of its bytes."""
    s = server("uploads", access_logfile="access.log", access_logformat="json")
    now = tmp_path / "now"
    with Wire(s) as first:
        first.request("POST", f"/late?{now}", b"x")
        assert s.log_contains("event: begun")
        with Wire(s) as wire:
            wire.request("POST", "/digest?all", LARGE[:100_000])
        time.sleep(1)  # after half a second it counts as gone
        now.touch()
        assert first.answer().status == 200
    log = s.dir / "access.log"
    (line,) = wait_for(lambda: [x for x in log.read_text().splitlines() if "/digest" in x])
    assert json.loads(line)["end"] == "client closed while it waited"


def test_a_child_that_reads(server: Start) -> None:
    """What lies in the kernel is with the server alone: a child is told, and takes nothing of what
    follows."""
    s = server("uploads")
    for size in (1000, 100_000, 1_000_000):
        with Wire(s) as wire:
            wire.send(request("POST", "/fork", LARGE[:size]) + request("POST", "/first?3", b"abc"))
            found = wire.answer().json()["found"]
            assert found == f"{size} bytes" or "read it before the fork" in found
            assert wire.answer().json() == {"first": "abc"}


def minor_faults(pid: int) -> int:
    """Pages that a process was given, or copied, since it began."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@counted
@pytest.mark.parametrize("name", BINDS, ids=["tcp", "unix"])
@pytest.mark.parametrize("way", ["pieces", "filled"])
def test_memory_is_used_again(server: Start, name: str, way: str) -> None:
    """Uploads one after another cost no new pages; one of 8 MB in new memory costs 2,000."""
    s = server("uploads", binds=[name])
    (pid,) = s.workers()
    data = request("POST", f"/digest?{way}", bytes(8 * MEGABYTE))
    with Wire(s) as wire:
        for _ in range(3):
            assert wire.send(data).answer().json()["length"] == 8 * MEGABYTE
        before = minor_faults(pid)
        for _ in range(20):
            assert wire.send(data).answer().json()["length"] == 8 * MEGABYTE
        assert minor_faults(pid) - before < 20 * 200


@counted
def test_memory_is_given_back(server: Start) -> None:
    """What a body has is the system's again soon after it, also when its client has left it."""
    s = server("uploads", binds=["unix:app.sock"])
    (pid,) = s.workers()
    data = request("POST", "/digest?pieces", bytes(9 * MEGABYTE))
    with everything_returns(s):
        before = private_kib(pid)
        with Wire(s) as wire:
            wire.send(data[: 8 * MEGABYTE])
            wait_for(lambda: private_kib(pid) > before + 7 * 1024, what="it to be in memory")
        with Wire(s) as wire:
            assert wire.send(data).answer().json()["length"] == 9 * MEGABYTE


@counted
def test_slow_clients_leave_memory_to_others(server: Start, tmp_path: Path) -> None:
    """When many hold much of it, those who have had a second go to files; nothing is lost."""
    s = server("uploads", binds=BINDS, tmp_dir=str(tmp_path))
    (pid,) = s.workers()
    data = request("POST", "/digest?pieces", LARGE * 3)
    with everything_returns(s), ExitStack() as stack:
        before, files = private_kib(pid), len(descriptors(pid))
        wires = [stack.enter_context(Wire(s, name=s.names[i % 2])) for i in range(8)]
        for wire in wires:
            wire.send(data[:-1_000])
        wait_for(lambda: len(descriptors(pid)) > files + 10, what="files of bodies")
        wait_for(lambda: private_kib(pid) < before + 40 * 1024, what="memory to be left to others")
        with Wire(s) as wire:
            wire.request("POST", "/digest?pieces", LARGE)
            assert wire.answer().json() == expected(LARGE)
        for wire in wires:
            assert wire.send(data[-1_000:]).answer().json() == expected(LARGE * 3)


def test_small_requests_beside_uploads(server: Start) -> None:
    """None waits for a body that is on its way."""
    s = server("uploads")
    data = request("POST", "/digest?all", LARGE)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)).send(data[:-1]) for _ in range(10)]
        for _ in range(20 // SLOWNESS):
            assert ask(s, "/first?0").json() == {"first": ""}
        for wire in wires:
            assert wire.send(data[-1:]).answer().json() == expected(LARGE)
