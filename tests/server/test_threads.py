"""Who runs a request: how many at once, in which process, in which thread."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from control_client import stats
from harness import SLOWNESS, Server, wait_for
from wire import Wire, ask, let

Start = Callable[..., Server]


class Asker(threading.Thread):
    """One request in the background, on a connection of its own or on a given one."""

    def __init__(self, s: Server, target: str, wire: Wire | None = None) -> None:
        super().__init__(daemon=True)
        self.s, self.target, self.wire = s, target, wire
        self.said: Any = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Ask, and keep what was said."""
        with ExitStack() as stack:
            try:
                wire = self.wire or stack.enter_context(Wire(self.s, 60))
                self.said = wire.ask(self.target).json()
            except Exception as error:  # whose it is says `result`
                self.error = error

    def result(self) -> Any:
        """Wait for the answer."""
        self.join(60 * SLOWNESS)
        assert self.said is not None, f"no answer to {self.target}: {self.error!r}"
        return self.said


def inside(s: Server, name: str) -> int:
    """How many requests have begun with this name."""
    return s.log.count(f"event: in {name}.")


@contextmanager
def busy(
    s: Server, count: int = 1, wire: Wire | None = None, name: str = "busy", path: str = "/wait"
) -> Iterator[list[Asker]]:
    """Keep `count` threads busy meanwhile."""
    askers = [Asker(s, f"{path}?{name}", wire) for _ in range(count)]
    wait_for(lambda: inside(s, name) == count, 20, "all to be busy")
    try:
        yield askers
    finally:
        let(s, name)
    for asker in askers:
        asker.result()


@pytest.mark.parametrize("threads", [1, 4, 16])
def test_exactly_so_many_at_once(server: Start, threads: int) -> None:
    """`threads` requests run at once, no more, and the others wait their turn."""
    s = server("busy", threads=threads)
    askers = [Asker(s, "/wait?all") for _ in range(threads + 5)]
    wait_for(lambda: inside(s, "all") >= threads, 20, "all threads to be busy")
    let(s, "all")
    assert max(asker.result()["most"] for asker in askers) == threads


def wires_of_workers(s: Server, stack: ExitStack, count: int, workers: int) -> list[list[Wire]]:
    """Open connections until so many workers have `count` of them; those."""
    found: dict[int, list[Wire]] = {}
    for _ in range(200):
        wire = stack.enter_context(Wire(s))
        found.setdefault(wire.ask("/").json()["pid"], []).append(wire)
        full = [wires[:count] for wires in found.values() if len(wires) >= count]
        if len(full) == workers:
            return full
    raise AssertionError("no worker has so many")


def wires_of_one_worker(s: Server, stack: ExitStack, count: int) -> list[Wire]:
    """Open connections until one worker has so many; those."""
    return wires_of_workers(s, stack, count, 1)[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
def test_new_connections_go_to_the_free_worker(server: Start, threads: int, bind: str) -> None:
    """None of them waits behind a busy worker while another one is free."""
    s = server("busy", workers=2, threads=threads, binds=[bind])
    wait_for(lambda: s.log.count(" serves\n") == 2, what="both workers")
    with ExitStack() as stack:
        askers = []
        for i, wire in enumerate(wires_of_one_worker(s, stack, threads)):
            askers += stack.enter_context(busy(s, 1, wire, f"full{i}"))
        pids = {ask(s, "/").json()["pid"] for _ in range(20)}
        assert len(pids) == 1
    assert pids.isdisjoint(asker.said["pid"] for asker in askers)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
def test_kept_connections_do_not_wait(server: Start, bind: str) -> None:
    """Requests on connections of a busy worker are answered by the idle one."""
    s = server("busy", workers=2, binds=[bind])
    wait_for(lambda: s.log.count(" serves\n") == 2, what="both workers")
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)) for _ in range(8)]
        for name in ("one", "two", "three"):
            for wire in wires:
                assert wire.ask("/").complete
            with busy(s, 1, wires[0], name) as askers:
                pids = {wire.ask("/").json()["pid"] for _ in range(3) for wire in wires[1:]}
                assert len(pids) == 1
            assert askers[0].said["pid"] not in pids


def test_kept_connections_do_not_wait_after_one_has_closed(server: Start) -> None:
    """What an idle worker is given for nothing, a connection that has ended, does not make it look
    busy to the other."""
    s = server("busy", workers=2, log_level="debug")
    wait_for(lambda: s.log.count(" serves\n") == 2, what="both workers")
    with ExitStack() as stack:
        wires = wires_of_one_worker(s, stack, 3)
        with busy(s, 1, wires[0]) as askers:
            before = s.log.count("client closed")
            wires[1].close()
            wait_for(lambda: s.log.count("client closed") > before, what="the end to be noticed")
            pid = wires[2].ask("/").json()["pid"]
        assert askers[0].said["pid"] != pid


@pytest.mark.parametrize("crowded", [0, 1])
def test_each_listener_has_its_turn(server: Start, crowded: int) -> None:
    """A queue of one that is never empty does not keep the other's clients out."""
    s = server("busy", binds=["127.0.0.1:0", "unix:app.sock"])
    let(s, "crowd")
    let(s, "single")
    with ExitStack() as stack:
        with busy(s):
            wires = [stack.enter_context(Wire(s, 60, s.names[crowded])) for _ in range(20)]
            wires.append(stack.enter_context(Wire(s, 60, s.names[1 - crowded])))
            for wire in wires:
                wire.request("GET", "/wait?single" if wire is wires[-1] else "/wait?crowd")
        assert all(wire.answer().complete for wire in wires)
    assert s.log.partition("event: in single.")[0].count("event: in crowd.") <= 2


def test_kept_connections_wait_for_the_first_free(server: Start) -> None:
    """With all workers busy, whoever is free first answers."""
    s = server("busy", workers=2)
    wait_for(lambda: s.log.count(" serves\n") == 2, what="both workers")
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)) for _ in range(6)]
        for wire in wires:
            assert wire.ask("/").complete
        with busy(s, 1, name="long"):
            with busy(s, 1, name="short"):
                waiting = [Asker(s, "/", wire) for wire in wires]
            pids = {asker.result()["pid"] for asker in waiting}
            assert len(pids) == 1


def test_who_has_waited_longest_is_next(server: Start) -> None:
    """Also where it waits with a worker that is busy for long: the other one gets it, before those
    who came to that one later."""
    s = server("busy", workers=2, control="unix:control.sock")
    wait_for(lambda: s.log.count(" serves\n") == 2, what="both workers")
    names = [f"younger{i}" for i in range(5)]
    with ExitStack() as stack:
        stuck, other = wires_of_workers(s, stack, 6, 2)
        with busy(s, 1, stuck[0], "long"):
            with busy(s, 1, other[0], "short"):
                let(s, "older")
                stuck[1].request("GET", "/wait?older")
                sent = time.monotonic()
                wait_for(lambda: time.monotonic() - sent > 0.2, what="it to be older")
                for name, wire in zip(names, other[1:], strict=True):
                    wire.request("GET", f"/wait?{name}")
                wait_for(lambda: stats(s)["saturation"] == (2 + 6) / 2, what="all to wait")
            for _ in list(names):  # whoever came first, one after the other
                wait_for(lambda: any(inside(s, name) for name in names), what="the next")
                names.remove(now := next(name for name in names if inside(s, name)))
                let(s, now)
            for wire in (stuck[1], *other[1:]):
                assert wire.answer().complete
    begun = re.findall(r"event: in (older|younger)", s.log)
    assert len(begun) == 6 and begun.index("older") <= 2, begun


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"])
def test_the_oldest_request_is_next_whoever_brings_it(server: Start, bind: str) -> None:
    """Kept connections and new ones wait in one order."""
    s = server("busy", binds=[bind], control="unix:control.sock")
    with ExitStack() as stack:
        kept = [stack.enter_context(Wire(s, 60)) for _ in range(12)]
        for wire in kept:
            assert wire.ask("/").complete
        waiting: list[Wire] = []
        all_wait = lambda: stats(s)["saturation"] == 1 + len(waiting)  # noqa: E731
        with busy(s):
            for group, wires in {"a": kept[:6], "b": None, "c": kept[6:], "d": None}.items():
                let(s, group)
                waiting += wires or [stack.enter_context(Wire(s, 60)) for _ in range(6)]
                for wire in waiting[-6:]:
                    wire.request("GET", f"/wait?{group}")
                wait_for(all_wait, what="all to wait")
        for wire in waiting:
            assert wire.answer().complete
    begun = re.findall(r"event: in ([abcd])\.", s.log)
    assert len(begun) == len(waiting) and begun == sorted(begun)


def test_computing_starves_nobody(server: Start) -> None:
    """While one thread computes without a pause, short requests are answered."""
    s = server("busy", threads=4)
    with busy(s, 1, name="sum", path="/compute"):
        with Wire(s) as wire:
            for _ in range(10):
                assert wire.ask("/").complete
                assert ask(s, "/").complete
        assert "event: computed" not in s.log
    assert "event: computed" in s.log


def test_background_thread_runs_while_idle(server: Start) -> None:
    """A worker that waits for requests does not hold the interpreter."""
    s = server("busy", threads=2)
    ask(s, "/background").json()
    beats = s.dir / "beats"
    wait_for(lambda: beats.exists() and beats.stat().st_size >= 20, what="beats")


@pytest.mark.parametrize("threads", [1, 8])
def test_one_after_the_other_uses_few_threads(server: Start, threads: int) -> None:
    """Last in, first out; and a thread keeps what it has in its locals."""
    s = server("busy", threads=threads)
    seen: dict[int, int] = {}

    def uses_few(wire: Wire) -> bool:
        used = set()
        for i in range(60):
            said = wire.ask("/").json() if i % 2 else ask(s, "/").json()
            # The first may have counted the warm-up.
            before = seen.get(said["thread"], said["requests"] - 1)
            assert said["requests"] == before + 1
            seen[said["thread"]] = said["requests"]
            used.add(said["thread"])
        # The one that runs and the one that leads meanwhile.
        return len(used) <= min(threads, 2)

    with Wire(s) as wire:
        # Another one helps where the machine stops one that has just answered.
        wait_for(lambda: uses_few(wire), what="60 requests that two threads have run")
    assert len(seen) <= threads


@pytest.mark.parametrize("threads", [1, 4])
def test_programs(server: Start, threads: int) -> None:
    """The application starts programs, processes and forks, and gets their status."""
    s = server("busy", threads=threads)
    said = ask(s, "/program").json()
    assert said["prefix"] == said["mine"] and said["status"] == 5
    for number, status in ((0, 7), (15, -15), (3, -3), (2, -2)):
        assert ask(s, f"/fork?{number}").json() == {"status": status}
    for method in ("fork", "spawn", "forkserver"):
        assert ask(s, f"/processes?{method}").json() == {"squares": [0, 1, 4, 9, 16]}
    assert ask(s, "/").complete
    assert s.stop() == 0
    wait_for(lambda: not s.relatives(), what="the helpers of multiprocessing to leave")
