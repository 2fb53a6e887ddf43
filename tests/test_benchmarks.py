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

import pytest

import bounds
import curves
import harness
import in_process
import measure
import pairs
import run
import servers
from harness import SLOWNESS, Server, can_connect, wait_for
from model import App, Case, Load, Scenario
from scenarios import mixed, observe, reload

BENCHMARKS = harness.ROOT / "benchmarks"
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
        self.where = f"127.0.0.1:{self.listener.getsockname()[1]}"
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
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        said = load_said(tools, where, "-1", "-c", "1", "-w", "0", "-d", "0.2", "/")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20 * SLOWNESS)
        for connection in accepted:
            stack.enter_context(connection)
    # One may be under way when the seconds that count begin, and one when they end.
    assert 1 < said["count"] <= len(accepted) <= said["count"] + 2


def test_who_is_answered_before_whom(tools: Path) -> None:
    """A server that answers the later of two clients three times, and then both in turn."""

    def serve(listener: socket.socket) -> None:
        first, later = (listener.accept()[0] for _ in range(2))
        with first, later, suppress(OSError):
            first.recv(65536)
            for _ in range(3):
                later.recv(65536)
                later.sendall(ANSWER)
            later.recv(65536)
            while True:
                for connection in (first, later):
                    connection.sendall(ANSWER)
                    if not connection.recv(65536):
                        return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        said = load_said(tools, where, "-c", "2", "-w", "0", "-d", "0.2", "/")
        thread.join(20 * SLOWNESS)
    assert said["passed"]["new"]["count"] == 0 and said["passed"]["kept"]["count"] > 4
    assert said["passed"]["kept"]["max"] == (3 + 1) / 2
    assert said["passed"]["kept"]["p50"] == 1


def test_new_and_kept_connections_side_by_side(server: Start, tools: Path) -> None:
    """As many as asked for are new for each request."""
    s = server("hello")
    said = load_said(tools, s.names[0], "-c", "4", "-n", "1", "-w", "0", "-d", "0.3", "/")
    passed = said["passed"]
    assert passed["new"]["count"] > 1 and passed["kept"]["count"] > 1
    # At the end one answer may come too late to count, and the next request be under way.
    assert 0 <= said["connects"] - (passed["new"]["count"] + 3) <= 2


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
    script = (
        "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ninput()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdin and busy.stdout
        measure.settle([busy.pid], most_s=60 * SLOWNESS)
        used_s = measure.cpu_s([busy.pid])
        assert busy.stdout.readline() == b"done\n"
        busy.stdin.close()
    assert used_s >= 0.5


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


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


def idle_said(tools: Path, where: str, count: int) -> tuple[int, int]:
    """What benchmarks/idle says: how many were open, and how many were closed meanwhile."""
    with subprocess.Popen([tools / "idle", where, str(count)], stdin=-1, stdout=-1) as idle:
        assert idle.stdin and idle.stdout
        opened = json.loads(idle.stdout.readline())["open"]
        idle.stdin.close()
        return opened, json.loads(idle.stdout.read())["lost"]


def test_idle_connections_are_counted(server: Start, tools: Path) -> None:
    s = server("hello", worker_connections=20, keep_alive="1h")
    assert idle_said(tools, s.names[0], 20) == (20, 0)
    assert idle_said(tools, s.names[0], 30) == (30, 10)


def test_nginx_counts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind it is the server, on a unix socket; both end."""
    monkeypatch.setattr(servers.Myserver, "binary", harness.BINARY)
    app = App("hello:application", directory=BENCHMARKS / "apps")
    case = Case("any", app, 1, 1, [Load("any")], ["myserver"], proxied=True)
    server = servers.make("myserver", case, harness.VENV)
    try:
        server.start("/")
        assert server.get("/") == (200, b"Hello, world!\n")
        ours, theirs = (
            {Path(f"/proc/{pid}/exe").resolve().name for pid in measure.processes_of(roots)}
            for roots in (server.roots, server.proxy_roots)
        )
        everybody = [*server.roots, *server.proxy_roots]
    finally:
        server.stop()
    assert (ours, theirs) == ({"myserver"}, {"nginx"})
    assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)


def test_a_protocol_needs_nginx() -> None:
    case = Case("any", App("hello:application"), 1, 1, [Load("any")], ["myserver-uwsgi"])
    with pytest.raises(servers.Unsupported):
        servers.make("myserver-uwsgi", case, Path())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((10, 11, 9, 12), "flat"),
        ((10, 11, 20, 110), "linear"),
        ((0.1, 1, 10, 100), "linear"),
        ((10, 10, 10, 100), "bends"),
        ((1, 100, 10_000, 1_000_000), "bends"),
        ((100, 90, 50, 10), "bends"),
    ],
)
def test_what_a_curve_is(values: tuple[float, ...], kind: str) -> None:
    points = [(10.0**n, value) for n, value in enumerate(values)]
    assert curves.verdict(points, "g").kind == kind


def test_the_interval_of_starts() -> None:
    """The turns of a start are one value; between starts is what the interval is made of."""
    result = {
        "samples": [
            {"server": name, "case": "c", "load": "l", "round": n, "session": n // 2}
            | {"cpu_s_per_1000": cpu * (1 + n // 2)}
            for n in range(6)
            for name, cpu in ((observe.OFF, 1.0), (observe.ON, (1.1, 1.21)[n % 2]))
        ]
    }
    ratios = observe.session_ratios(result, "c", "l", observe.ON, observe.OFF)
    assert ratios == pytest.approx([(1.1 * 1.21) ** 0.5] * 3)
    assert observe.interval(ratios) == pytest.approx([ratios[0]] * 3)
    mean, low, high = observe.interval([1.0, 1.02])
    assert low < 1 < mean < 1.02 < high


def test_the_cpu_of_a_reload() -> None:
    """What it took beyond its requests, of which there may be fewer."""
    common = {"server": "myserver", "case": reload.EIGHT, "round": 0}
    alone = common | {"load": reload.ROWS.name, "requests": 100, "cpu_s_per_1000": 10.0}
    during = common | {"load": reload.ROWS_RELOAD.name, "requests": 50, "cpu_total_s": 2.0}
    assert reload.cpu_of_reload({"samples": [alone, during]}, "myserver") == [1.5]


def test_why_a_bound_is_not_met() -> None:
    bound = bounds.Bound("any", "text", 1, lambda _: [bounds.Compared([0.5], "x")], why="reason")
    assert bound.row(result_of(("myserver", 0, 1))).endswith("| **no**: reason |")


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
    scenario = Scenario("any", [*grouped, Case("last", app, 1, 1, loads, ["far"])], rounds=1)
    first = [(0, "in-process", "one"), (0, "myserver", "one"), (0, "myserver", "ten")]
    first += [(0, "far", "one"), (0, "far", "ten")]
    second = [(1, "myserver", "ten"), (1, "myserver", "one"), (1, "in-process", "one")]
    assert visits_of(scenario) == [*first, *second, (0, "far", "last")]
    asked = visits_of(scenario, rounds=2)
    assert {(1, "far", "ten"), (1, "far", "last")} <= set(asked)


def test_without_time_only_ours_is_measured() -> None:
    """And who was left out is said."""
    case = Case("one", App("a:b"), 1, 1, [Load("any")], ("granian", "myserver", "bjoern"))
    measured = run.Run(Scenario("any", [case], rounds=1), Path())
    measured.peers_until = 0
    visited = []
    note = lambda case, name, number: visited.append(name)  # noqa: E731
    measured.visit = note  # type: ignore[method-assign]
    measured.run(None, until=float("inf"))
    assert visited == ["myserver"]
    assert measured.left_out == {"one": ["granian", "bjoern"]}


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
    assert bound_row("requests/s to bjoern", result)[2].startswith(
        "2.50 (2.00–3.00, 2 rounds): bjoern; "
    )


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
