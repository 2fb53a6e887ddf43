"""What was asked of the benchmarks, beside what was measured: `bounds.py [RESULTS]`.

Reads the JSON that `run.py all` has written there, writes bounds.md beside it and prints it. Only
the asked numbers stand here. A ratio is the median of those of the rounds that both were measured
in; of several peers, loads or shapes the one that is hardest to meet counts, and is named. A peer
that left a tenth of the connections without any answer, or made errors, did not do what is compared:
it is named, and does not count.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curves
import pairs
from model import HERE
from pairs import OURS
from scenarios import (
    bodies,
    hello,
    mixed,
    observe,
    ramp,
    reload,
    shop,
    slowclients,
    start,
    upstream,
)

Result = dict[str, Any]
Group = tuple[str, str]  # a case and a load
# Their CPU is compared with every peer's.
BESIDE_PEERS = (
    "hello",
    "proxied",
    "shop",
    "upstream",
    "ramp",
    "mixed",
    "slowclients",
    "bodies",
)
SCENARIOS = (*BESIDE_PEERS, "order", "reload", "start", "scale", "observe")
LIMITS = ("ceiling", "in-process")
UWSGI = ("uwsgi", "uwsgi-nginx", "uwsgi-gevent")
GUNICORN = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent")
ERRORS_MOST = 0.001  # of the requests
STARVED_MOST = 0.1  # of the connections
BODY_MB = 10


@dataclass
class Compared:
    """Ours with something, round by round; none where that did not do what is compared."""

    ratios: list[float]
    beside: str
    digits: int = 2  # no two runs agree to more

    @property
    def value(self) -> float:
        """The median."""
        return round(statistics.median(self.ratios), self.digits)


Measure = Callable[[Result], Iterable[Compared]]


@dataclass(frozen=True)
class Bound:
    """What is asked of a ratio: at least `asked`, or `at_most`."""

    scenario: str
    text: str
    asked: float
    measure: Measure
    at_most: bool = False
    why: str = ""  # it is not met, where that is known

    def row(self, result: Result | None) -> str:
        """A line of the table."""
        found = list(self.measure(result)) if result else []
        counted = [compared for compared in found if compared.ratios]
        failed = [compared.beside for compared in found if not compared.ratios]
        asked = f"{'at most' if self.at_most else 'at least'} {self.asked:g}"
        if not counted:
            return f"| {self.scenario}: {self.text} | {asked} | not measured | |"
        hardest = (max if self.at_most else min)(counted, key=lambda compared: compared.value)
        value = hardest.value
        met = value <= self.asked if self.at_most else value >= self.asked
        without = f"; without {', '.join(dict.fromkeys(failed))}" if failed else ""
        said = pairs.text(hardest.ratios, f".{hardest.digits}f")
        measured = f"{said}: {hardest.beside}{without}"
        verdict = "yes" if met else f"**no**{': ' if self.why else ''}{self.why}"
        return f"| {self.scenario}: {self.text} | {asked} | {measured} | {verdict} |"


def compared(
    metric: str, ours: pairs.Samples, theirs: pairs.Samples, beside: str
) -> Iterator[Compared]:
    """One comparison; none where there is nothing to compare."""
    if found := pairs.ratios(metric, ours, theirs):
        yield Compared(found, beside)


def failure(samples: pairs.Samples) -> str:
    """Why what was measured of a peer is not what was asked for."""
    for sample in samples.values():
        if sample.get("starved", 0) > STARVED_MOST * sample.get("connections", 1):
            return "connections starve"
        if sample["errors"] > ERRORS_MOST * sample["requests"]:
            return "errors"
    return ""


def beside(result: Result, servers: Iterable[str], group: Group, metric: str) -> Iterator[Compared]:
    """Ours and each of these servers, in one load of one case."""
    ours = pairs.samples(result, OURS, *group)
    for server in servers:
        theirs = pairs.samples(result, server, *group)
        if not ours or not theirs:
            continue
        if not any(sample["requests"] for sample in theirs.values()):
            continue  # no answer at all within the time
        where = f"{server}; {'; '.join(group)}"
        if reason := failure(theirs):
            yield Compared([], f"{server} ({reason})")
        else:
            yield from compared(metric, ours, theirs, where)


def to(servers: Sequence[str], group: Group, metric: str = "rps") -> Measure:
    """Ours to these servers."""
    return lambda result: beside(result, servers, group, metric)


def groups(result: Result) -> list[Group]:
    """All loads of all cases."""
    return list(dict.fromkeys((row["case"], row["load"]) for row in result["results"]))


def to_peers(metric: str, only: Group | None = None) -> Measure:
    """Ours to every peer; the page with the light client has bounds of its own."""

    def measure(result: Result) -> Iterator[Compared]:
        for group in [only] if only else groups(result):
            if group in upstream.LIGHT.values():
                continue
            names = pairs.servers(result, *group)
            peers = [name for name in names if name not in LIMITS and not name.startswith(OURS)]
            yield from beside(result, peers, group, metric)

    return measure


def to_in_process(result: Result) -> Iterator[Compared]:
    """Ours to the application without a server, where both have the same shape."""
    for group in groups(result):
        yield from beside(result, ["in-process"], group, "rps")


def ten_to_one(result: Result) -> Iterator[Compared]:
    """The shop with ten threads to the shop with one."""
    for database in shop.DATABASES:
        shapes = [f"{database}, {shape}" for shape in (shop.TEN, shop.ONE)]
        ten, one = (pairs.samples(result, OURS, shape, shop.HOME.name) for shape in shapes)
        yield from compared("rps", ten, one, database)


def upstream_possible(result: Result) -> Iterator[Compared]:
    """Ours to the lesser of threads / latency and what the same calls reach without a server."""
    ceiling = pairs.samples(result, "in-process", *upstream.HUNDRED)
    most = 100 / upstream.PAGE_S
    possible = {n: {"rps": min(most, sample["rps"])} for n, sample in ceiling.items()}
    ours = pairs.samples(result, OURS, *upstream.HUNDRED)
    yield from compared("rps", ours, possible, "; ".join(upstream.HUNDRED))


def light_possible(result: Result) -> Iterator[Compared]:
    """The same with the client that leaves the threads room to wait."""
    for threads, group in upstream.LIGHT.items():
        most = threads / upstream.PAGE_S
        ceiling = pairs.samples(result, "in-process", *group)
        possible = {n: {"rps": min(most, sample["rps"])} for n, sample in ceiling.items()}
        ours = pairs.samples(result, OURS, *group)
        yield from compared("rps", ours, possible, "; ".join(group))


def to_greenlets(result: Result) -> Iterator[Compared]:
    """CPU a request with the light client, to servers of greenlets."""
    for group in upstream.LIGHT.values():
        yield from beside(result, upstream.GREENLETS, group, "cpu_s_per_1000")


def reload_cost(result: Result) -> Iterator[Compared]:
    """p99 of eight workers while they are reloaded, to that without."""
    ours = [
        pairs.samples(result, OURS, reload.EIGHT, load.name)
        for load in (reload.ROWS_RELOAD, reload.ROWS)
    ]
    yield from compared("p99_ms", *ours, reload.EIGHT)


def reload_cpu(result: Result) -> Iterator[Compared]:
    """CPU of a reload of eight workers, to the peers'."""
    ours = reload.cpu_of_reload(result, OURS)
    for server in reload.EIGHT_SERVERS[1:]:
        theirs = reload.cpu_of_reload(result, server)
        if ours and theirs:
            said = f"{statistics.median(ours):.2f} s; {server}"
            yield Compared([statistics.median(ours) / statistics.median(theirs)], said)


def bent(result: Result) -> Iterator[Compared]:
    """Curves that are neither flat nor a line, where nothing says why."""
    found = []
    for curve in result["curves"]:
        points = curves.points_of(result, curve)
        if len(points) > 1 and not curve["why"]:
            verdict = curves.verdict(points, ".3g")
            if not curves.is_met(curve, verdict):
                found.append(f"{curve['title']}, {curve['metric']}")
    yield Compared([len(found)], "; ".join(found) or "each is flat, a line, or explained")


def idle_lost(result: Result) -> Iterator[Compared]:
    """Idle connections that the server has closed."""
    samples = [sample for sample in result["samples"] if "idle_lost" in sample]
    if samples:
        most = max(samples, key=lambda sample: sample["idle_lost"])
        yield Compared([most["idle_lost"]], most["case"])


def observed(case: str, load: str, which: tuple[str, str, str]) -> Measure:
    """CPU a request with something that looks to the same without, each start a round."""

    def measure(result: Result) -> Iterator[Compared]:
        above, below, _ = which
        ratios = observe.session_ratios(result, case, load, above, below)
        if ratios:
            _, low, high = observe.interval(ratios)
            yield Compared(ratios, f"95 % of the mean: {low:.3f} to {high:.3f}; {case}", digits=3)

    return measure


def our_rows(result: Result, case: str) -> dict[str, dict[str, Any]]:
    """Our line of each load of a case."""
    rows = [row for row in result["results"] if row["server"] == OURS]
    return {row["load"]: row for row in rows if row["case"] == case}


def ramp_errors(result: Result) -> Iterator[Compared]:
    """Errors with the most users."""
    if row := our_rows(result, ramp.MOST[0]).get(ramp.MOST[1]):
        yield Compared([row["errors"]], f"of {row['requests']:,} requests")


def ramp_growth(result: Result) -> Iterator[Compared]:
    """In a closed system latency = users / throughput - think time: it grows no faster than the
    users as long as throughput does not fall."""
    rows = our_rows(result, ramp.MOST[0])
    most = rows.pop(ramp.MOST[1], None)
    if most and rows:
        best = max(row["rps"]["median"] for row in rows.values())
        latency = f"median latency {most['p50_ms']['median']:.1f} ms"
        yield Compared([most["rps"]["median"] / best], latency)


def ramp_best(result: Result) -> Iterator[Compared]:
    """Ours to the best, which may be ours."""
    yield Compared([1.0], OURS)
    yield from to_peers("rps", ramp.MOST)(result)


def mixed_ideal(result: Result) -> Iterator[Compared]:
    """Ours to the ideal of the same arrivals."""
    for load, ideal in mixed.ideals(result).items():
        yield from compared("p99_ms", pairs.samples(result, OURS, mixed.CASE, load), ideal, load)


def overtaken(result: Result) -> Iterator[Compared]:
    """How many are answered between a request and its own answer, to one queue's; by kind of client."""
    for case, load in groups(result):
        found = pairs.samples(result, OURS, case, load).values()
        for kind in ("kept", "new"):
            if counted := [s["passed"][kind]["p99"] for s in found if s.get("passed")]:
                yield Compared(counted, f"{case}; {load}; {kind} connections")


def slow_cost(result: Result) -> Iterator[Compared]:
    """Ours beside slow clients to ours alone, of all rounds of all shapes: a pair alone has not
    enough requests for a percentile of the slowest."""
    found, cases = [], list(dict.fromkeys(case for case, _ in groups(result)))
    loads = slowclients.BESIDE.name, slowclients.ALONE.name
    for case in cases:
        found += pairs.ratios("p99_ms", *(pairs.samples(result, OURS, case, x) for x in loads))
    if found:
        yield Compared(found, " and ".join(cases))


def body_memory(result: Result) -> Iterator[Compared]:
    """How much more memory bodies of 10 MB take than those of 1 kB, in bodies of 10 MB."""
    for case in dict.fromkeys(case for case, _ in groups(result)):
        rows = our_rows(result, case)
        small = rows.pop(bodies.SMALL, None)
        for load in bodies.LARGE if small else ():
            if load in rows:
                grown_mb = rows[load]["memory_mb"]["median"] - small["memory_mb"]["median"]
                yield Compared([grown_mb / BODY_MB], f"{load}; {case}")


SEVERAL, SINGLE = ("TCP, 2 processes", hello.FIFTY.name), ("TCP, 1 process", hello.ONE.name)
FIRST_ANSWER = to(
    ("uwsgi", "gunicorn-sync", "gunicorn-preload"), (start.CASE, start.START.name), "start_ms"
)
HELLO_8 = observe.SMALL, observe.HELLO.name
SHOP_4 = observe.SHOP, observe.HOME.name
ALL_ON, PROFILE = observe.COMPARISONS
WARM_UP = (
    "addresses, views, templates and languages are loaded before the fork, once; who does not do that"
    " does it in the first requests of each worker"
)
THREADS = "the page's own threads, which cost as much without a server (in-process)"
BOUNDS = (
    Bound("hello", "requests/s to bjoern", 1.5, to(["bjoern"], SEVERAL)),
    Bound("hello", "to uWSGI, its best", 2, to(UWSGI, SEVERAL)),
    Bound("hello", "to granian", 1.5, to(["granian"], SEVERAL)),
    Bound("hello", "to gunicorn, its best", 8, to(GUNICORN, SEVERAL)),
    Bound("hello", "to our ceiling without Python", 0.65, to(["ceiling"], SEVERAL)),
    Bound("hello", "latency to bjoern's", 1, to(["bjoern"], SINGLE, "p50_ms"), at_most=True),
    Bound("shop", "requests/s to in-process", 0.95, to_in_process),
    Bound("shop", "to every peer", 1, to_peers("rps")),
    Bound("shop", "ten threads to one", 0.95, ten_to_one),
    Bound("upstream", "requests/s to what is possible", 0.95, upstream_possible),
    Bound("upstream", "to every peer", 1, to_peers("rps", upstream.HUNDRED)),
    Bound("ramp", "errors with 2,000 users", 0, ramp_errors, at_most=True),
    Bound("ramp", "requests/s with 2,000 users to the most with fewer", 0.95, ramp_growth),
    Bound("ramp", "to the best, with 2,000 users", 0.95, ramp_best),
    Bound("mixed", "p99 of fast requests to one queue's", 1.25, mixed_ideal, at_most=True),
    Bound("slowclients", "p99 beside slow clients to alone", 1.1, slow_cost, at_most=True),
    Bound(
        "order",
        "p99 of requests answered between a request and its answer, to one queue's",
        1.1,
        overtaken,
        at_most=True,
        why="four processes on two CPUs take turns, and what they hold waits",
    ),
    Bound("bodies", "requests/s to every peer", 1, to_peers("rps")),
    Bound("bodies", "memory for bodies, in bodies", 1, body_memory, at_most=True),
    Bound("proxied", "requests/s behind nginx to every peer", 1, to_peers("rps")),
    Bound("proxied", "p99 to every peer's", 1, to_peers("p99_ms"), at_most=True),
    Bound("upstream", "light client, to what is possible", 1, light_possible),
    Bound(
        "upstream", "light client, CPU to greenlets'", 1, to_greenlets, at_most=True, why=THREADS
    ),
    Bound("reload", "p99 of 8 workers, during to without", 1.2, reload_cost, at_most=True),
    Bound("reload", "CPU of 8 workers to every peer's", 1, reload_cpu, at_most=True),
    Bound("start", "first answer to every peer's", 1, FIRST_ANSWER, at_most=True, why=WARM_UP),
    Bound("scale", "curves that bend", 0, bent, at_most=True),
    Bound("scale", "idle connections that were closed", 0, idle_lost, at_most=True),
    Bound("observe", "all that is on, hello", 1.03, observed(*HELLO_8, ALL_ON), at_most=True),
    Bound("observe", "all that is on, the shop", 1.01, observed(*SHOP_4, ALL_ON), at_most=True),
    Bound("observe", "a profile, hello", 1.03, observed(*HELLO_8, PROFILE), at_most=True),
    Bound("observe", "a profile, the shop", 1.03, observed(*SHOP_4, PROFILE), at_most=True),
    *(
        Bound(name, "CPU a request to every peer's", 1, to_peers("cpu_s_per_1000"), at_most=True)
        for name in BESIDE_PEERS
    ),
)


def load_results(directory: Path) -> dict[str, Result]:
    """What has been measured."""
    paths = [directory / f"{name}.json" for name in SCENARIOS]
    return {path.stem: json.loads(path.read_text()) for path in paths if path.exists()}


def are_measured(directory: Path) -> bool:
    """Whether there is a result of each scenario that a bound is about."""
    return load_results(directory).keys() >= set(SCENARIOS)


def table(results: dict[str, Result]) -> str:
    """All bounds."""
    machines = [result["machine"] for result in results.values()]
    facts = [{**machine, "day": machine["when"][:10]} for machine in machines]
    commits, cpus, days = (
        ", ".join(dict.fromkeys(fact[key] for fact in facts)) for key in ("commit", "cpu", "day")
    )
    lines = [
        "## The bounds, and what was measured",
        "",
        f"{machines[0]['cpus']} CPUs ({cpus}), load generator included; commit"
        f" {commits}, {days}. Ours to another, in one run; of several the one that"
        " is hardest to meet. Who left connections without an answer or made errors is named and does"
        " not count. Medians of the rounds, with the least and the most.",
        "",
        "| bound | asked | measured | met |",
        "|---|---|---|---|",
        *(bound.row(results.get(bound.scenario)) for bound in BOUNDS),
    ]
    return "\n".join(lines) + "\n"


def write(directory: Path) -> str:
    """bounds.md; returns it."""
    text = table(load_results(directory))
    (directory / "bounds.md").write_text(text)
    return text


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results"))
