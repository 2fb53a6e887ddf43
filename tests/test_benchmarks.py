"""The benchmarks' own tools: what they count, and what they make of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import SLOWNESS, Server, can_connect, wait_for

BENCHMARKS = harness.ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import bounds  # noqa: E402
import in_process  # noqa: E402
import measure  # noqa: E402
import pairs  # noqa: E402
import run  # noqa: E402
from model import App, Case, Load, Scenario  # noqa: E402
from scenarios import mixed  # noqa: E402

Start = Callable[..., Server]
PAGE_S = 1.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generators and the ceiling, compiled."""
    out = tmp_path_factory.mktemp("tools")
    command = ["make", "-s", "-C", str(BENCHMARKS / "load"), f"OUT={out}"]
    subprocess.run(command, check=True, timeout=200 * SLOWNESS)
    return out


def load_said(tools: Path, where: str, *arguments: str) -> dict[str, Any]:
    """The result of benchmarks/load."""
    options, paths = arguments[:-1], arguments[-1].split()
    command = [str(tools / "load"), *options, where, *paths]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60 * SLOWNESS)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_ceiling_answers(tools: Path, tmp_path: Path) -> None:
    """It is made of the program's own files."""
    where = tmp_path / "ceiling.sock"
    with subprocess.Popen([tools / "ceiling", where, "1"]) as ceiling:
        try:
            wait_for(lambda: can_connect(str(where)))
            said = load_said(tools, f"unix:{where}", "-c", "2", "-d", "0.2", "/")
        finally:
            ceiling.terminate()
    assert said["count"] > 0 and not any(said["errors"].values())


def test_requests_longer_than_what_counts(server: Start, tools: Path) -> None:
    """None ends within, and yet the rate is that of the threads."""
    s = server("mix", threads=4)
    path = f"/sleep?ms={PAGE_S * 1000:.0f}"
    options = ("-c", "4", "-w", "0.2", "-d", "0.5", "-T", "60")
    without = load_said(tools, s.names[0], *options, path)
    said = load_said(tools, s.names[0], "-p", *options, path)
    assert without["count"] == said["count"] == 0
    assert "rate" not in without
    assert 0 < said["rate"] <= 4 / PAGE_S


class Recorder:
    """A server of one connection that keeps what it is asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        """Until the client has gone, in the midst of an answer or not."""
        with self.listener, self.listener.accept()[0] as connection:
            with suppress(ConnectionError):
                while data := connection.recv(65536):
                    self.paths.append(data.split()[1].decode())
                    connection.sendall(ANSWER)


def test_new_connections_where_the_server_keeps_them(tools: Path) -> None:
    """It is the client who ends each: a server that ignores his wish saves nothing."""
    accepted: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])
                if accepted[-1].recv(65536):
                    accepted[-1].sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        where = "127.0.0.1:%d" % listener.getsockname()[1]
        said = load_said(tools, where, "-1", "-c", "1", "-w", "0", "-d", "0.2", "/")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20 * SLOWNESS)
        for connection in accepted:
            stack.enter_context(connection)
    # One may be under way when the seconds that count begin, and one when they end.
    assert 1 < said["count"] <= len(accepted) <= said["count"] + 2


def test_the_ideal_meets_the_same_requests(tools: Path) -> None:
    """Each seed gives other ones, the same to load.c and to the simulation."""
    asked = []
    for seed in (0, 0, 3):
        recorder = Recorder()
        load_said(tools, recorder.where, "-s", str(seed), "-c", "1", "-d", "0.2", "9*/fast 1*/slow")
        recorder.thread.join(20 * SLOWNESS)
        chance = mixed.chances(seed)
        drawn = ["/slow" if next(chance) >= 0.9 else "/fast" for _ in recorder.paths]
        assert recorder.paths == drawn
        asked.append(recorder.paths[:100])
    assert asked[0] == asked[1] != asked[2]


def test_one_queue_without_a_queue() -> None:
    fast = mixed.one_queue(rate=1, seconds=200, seed=1, slow_s=0.2, fast_s=0.001)
    assert len(fast) > 100
    assert {round(latency, 6) for latency in fast} == {0.001}


def test_parts_of_calls() -> None:
    """A call counts by the part of it that lies within; its latency when it ends there."""
    counted = in_process.Counted(10, 20)
    for begun, ended in ((4, 9), (8, 12), (12, 13), (19, 23), (20, 21), (9, 21)):
        counted.add(begun, ended)
    assert counted.work == pytest.approx(0.5 + 1 + 0.25 + 10 / 12)
    assert counted.latencies_us == [4_000_000, 1_000_000]


def test_in_process_counts_as_load_does(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(
        "import time\n"
        "def application(environ, start_response):\n"
        f"    time.sleep({PAGE_S})\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n"
    )
    command = [sys.executable, str(BENCHMARKS / "in_process.py"), "run", "page:application", "/"]
    done = subprocess.run(
        [*command, "2", "3", "0.2", "1.5"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=True,
        timeout=60 * SLOWNESS,
    )
    said = json.loads(done.stdout)
    assert 0 < said["rate"] <= 2 * 3 / PAGE_S
    assert said["p50_us"] >= PAGE_S * 1e6
    assert said["count"] <= 2 * 3 * 2


def test_settles_when_the_work_is_done() -> None:
    """A process that computes for a while, and then waits."""
    script = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdin and busy.stdout
        measure.settle([busy.pid])
        used_s = measure.cpu_s([busy.pid])
        assert busy.stdout.readline() == b"done\n"
        busy.stdin.close()
    assert used_s >= 0.5


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield "127.0.0.1:%d" % listener.getsockname()[1]


def first_word(tools: Path, where: str, path: str, when: str) -> str:
    """What benchmarks/slow says first, of ten clients."""
    command = [str(tools / "slow"), where, "10", "20", path, when]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as slow:
        assert slow.stdin and slow.stdout
        word = slow.stdout.readline().strip()
        slow.stdin.close()
        assert json.loads(slow.stdout.read())["clients"] == 10
    return word


def test_slow_clients_say_when_all_have_begun(server: Start, tools: Path, silent: str) -> None:
    s = server("hello", threads=4)
    assert first_word(tools, s.names[0], "/", "steady") == "ready"
    assert first_word(tools, silent, "/", "burst") == "ready"
    assert first_word(tools, silent, "/", "steady") == "late"


def visits_of(scenario: Scenario, rounds: int = 0) -> list[tuple[int, str, str]]:
    """In which order a run measures."""
    found = []
    measured = run.Run(scenario, Path(), rounds)
    note = lambda case, name, number: found.append((number, name, case.name))  # noqa: E731
    measured.visit = note  # type: ignore[method-assign]
    measured.run(None, until=float("inf"))
    return found


def test_order_of_a_group() -> None:
    """A server meets the cases of a group in turn; the far ones in the first round only."""
    loads, app = [Load("any")], App("a:b")
    one = Case("one", app, 1, 1, loads, ("in-process", "myserver", "far"))
    ten = Case("ten", app, 1, 10, loads, ("myserver", "far"))
    more: dict[str, Any] = {"group": "both", "rounds": 2, "thorough": ("in-process", "myserver")}
    grouped = [Case(**(vars(case) | more)) for case in (one, ten)]
    scenario = Scenario("any", [*grouped, Case("last", app, 1, 1, loads, ["far"])], [], rounds=1)
    first = [(0, "in-process", "one"), (0, "myserver", "one"), (0, "myserver", "ten")]
    first += [(0, "far", "one"), (0, "far", "ten")]
    second = [(1, "myserver", "ten"), (1, "myserver", "one"), (1, "in-process", "one")]
    assert visits_of(scenario) == [*first, *second, (0, "far", "last")]
    asked = visits_of(scenario, rounds=2)
    assert {(1, "far", "ten"), (1, "far", "last")} <= set(asked)


def result_of(*samples: tuple[str, int, float], **more: Any) -> dict[str, Any]:
    """A result of hello with these servers, rounds and requests/s."""
    case, load = bounds.SEVERAL
    filled = [
        {"case": case, "load": load, "server": server, "round": number, "rps": rps}
        | {"requests": 1000, "errors": 0, "connections": 50}
        | more.get(server.replace("-", "_"), {})
        for server, number, rps in samples
    ]
    rows = [s | {"rps": {"median": s["rps"]}} for s in filled if s["round"] == 0]
    return {"samples": filled, "results": rows}


def bound_row(text: str, result: dict[str, Any] | None) -> list[str]:
    """The cells of a bound of hello."""
    found = [b for b in bounds.BOUNDS if b.scenario == "hello" and b.text == text]
    assert len(found) == 1
    return [cell.strip() for cell in found[0].row(result).strip("|").split("|")]


def test_ratios_are_of_the_same_rounds() -> None:
    """A round that one of the two has not met does not count."""
    ours = [("myserver", number, rps) for number, rps in enumerate((30, 40, 900))]
    result = result_of(*ours, ("bjoern", 0, 10), ("bjoern", 1, 20))
    found = [pairs.samples(result, name, *bounds.SEVERAL) for name in ("myserver", "bjoern")]
    assert pairs.ratios("rps", *found) == [3, 2]
    assert pairs.text(pairs.ratios("rps", *found)) == "2.500 (2.000–3.000, 2 rounds)"
    assert bound_row("requests/s to bjoern", result)[2].startswith("2.50 (2.00–3.00, 2 rounds): bjoern; ")


@pytest.mark.parametrize("rps, met", [(20, "yes"), (19.96, "yes"), (19.94, "**no**")])
def test_the_hardest_peer_decides(rps: float, met: str) -> None:
    result = result_of(("myserver", 0, rps), ("uwsgi", 0, 10), ("uwsgi-nginx", 0, 5))
    _, asked, measured, said = bound_row("to uWSGI, its best", result)
    assert (asked, said) == ("at least 2", met)
    assert ": uwsgi; TCP" in measured


@pytest.mark.parametrize(("count", "starved"), [(400, 6), (40, 0)])
def test_a_slow_server_is_not_one_that_neglects_clients(count: int, starved: int) -> None:
    """Fifty connections cannot all have had an answer where there were only forty."""
    load = Load("any", ("/",), 50)
    result = {"unfinished_oldest_us": 500_000, "starved": 6, "count": count}
    assert measure.starved(load, result, 0.5) == starved


def test_a_peer_that_fails_is_named_and_does_not_count() -> None:
    result = result_of(
        ("myserver", 0, 20), ("uwsgi", 0, 100), ("uwsgi-nginx", 0, 5), ("uwsgi-gevent", 0, 90),
        uwsgi={"starved": 6}, uwsgi_gevent={"errors": 2}, uwsgi_nginx={"starved": 5, "errors": 1},
    )  # fmt: skip
    _, _, measured, said = bound_row("to uWSGI, its best", result)
    assert said == "yes"
    assert measured.startswith("4.00: uwsgi-nginx; ")
    assert "without uwsgi (connections starve), uwsgi-gevent (errors)" in measured


def test_what_was_not_measured_is_not_met() -> None:
    for result in (None, result_of(("myserver", 0, 20)), result_of(("bjoern", 0, 20))):
        assert bound_row("requests/s to bjoern", result)[2:] == ["not measured", ""]
