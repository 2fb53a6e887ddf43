"""observe: what our always-on parts cost, and a profile: the same server with and without, in turn.

Two servers of ours stand side by side, one with all that is on by default, one without, and get
many short loads by turns, in another order each time; so what the machine does meanwhile meets both,
and a load that something else has disturbed is one of many: of a start the median counts. They are
started anew several times, because two processes of one kind also differ by where their memory lies:
the intervals are of these starts.
"""

import math
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pairs
from measure import cpu_s, load_command, run_json, settle
from model import ROOT, Case, Load, Scenario, bench_app
from scenarios.shop import shop_app
from servers import MyserverBare, MyserverWatched, Server
from services import Services

if TYPE_CHECKING:
    from run import Run

sys.path.append(str(ROOT / "python"))

from myserver.asking import Control  # noqa: E402
from myserver.profiles import collect  # noqa: E402

ON, OFF, PROFILED = MyserverWatched.name, MyserverBare.name, "myserver-profiled"
TURNS = ((OFF, ON, PROFILED), (PROFILED, ON, OFF))
HZ = 250
SAMPLER_S = 0.2  # until the samplers look so often
SESSIONS, TRIPLES = 8, 10
HELLO = Load("8 connections", connections=8, seconds=0.25)
HOME = Load("4 connections", connections=4, seconds=0.5, warmup_s=1.5)
SHOP, SMALL = "the shop with SQLite, 1 x 4", "hello, 1 x 4"
# Student's t, two-sided, 95 %, by degrees of freedom.
T95 = (math.nan, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def scenario(services: Services, quick: bool) -> Scenario:
    """One worker, so that the client has a CPU of its own."""
    names = ON, OFF, PROFILED
    cases = [Case(SMALL, bench_app("hello"), 1, 4, [HELLO], names)]
    if not quick:
        cases.append(Case(SHOP, shop_app(services, "sqlite"), 1, 4, [HOME], names))
    notes = [
        f"{ON} has all that is on by default; {OFF} has `observe = false` and `profile-rate = 0`;"
        f" {PROFILED} is {ON} while `myserver profile` looks {HZ} times a second",
        f"{SESSIONS} times both are started, {TRIPLES} times each is measured in turn then; of a"
        " start the median of the ratios counts, and the intervals (95 %, Student's t) are of these",
    ]
    title = "What looking costs"
    rounds = 1 if quick else SESSIONS
    return Scenario(title, cases, rounds=rounds, notes=notes)


@contextmanager
def profiled(server: Server, seconds: float) -> Iterator[None]:
    """Around a load of so many seconds."""
    control = Control(str(server.dir / "control.sock"))
    looks = threading.Thread(target=collect.live, args=(control, seconds + 2 * SAMPLER_S, HZ))
    looks.start()
    threading.Event().wait(SAMPLER_S)
    yield
    looks.join()


def window(server: Server, load: Load, seconds: float) -> dict[str, Any]:
    """One short load."""
    settle(server.roots)
    before_s = cpu_s(server.roots)
    result = run_json(load_command(load, server.where, seconds, 0), seconds + 30)
    used_s = cpu_s(server.roots) - before_s
    return {
        "tool": "load",
        "seconds": seconds,
        "requests": result["count"],
        "rps": result["count"] / seconds,
        "p50_ms": result["p50_us"] / 1000,
        "p99_ms": result["p99_us"] / 1000,
        "cpu_s_per_1000": used_s / max(1, result["count"]) * 1000,
        "errors": sum(result["errors"].values()),
        "error_kinds": {},
    }


def measure_session(run: "Run", case: Case, session: int) -> None:
    """Both servers started once."""
    load = case.loads[0]
    seconds = run.seconds_of(load)
    servers = {ON: MyserverWatched(case, run.venv), OFF: MyserverBare(case, run.venv)}
    try:
        for server in servers.values():
            server.start("/")
            run.check(case, server)
            run_json(load_command(load, server.where, load.warmup_s, 0), 60)
        for triple in range(TRIPLES):
            number = session * TRIPLES + triple
            for name in TURNS[triple % 2]:
                if name == PROFILED:
                    with profiled(servers[ON], seconds):
                        sample = window(servers[ON], load, seconds)
                else:
                    sample = window(servers[name], load, seconds)
                run.add(case, load, name, number, session=session, **sample)
    finally:
        for server in servers.values():
            server.stop()


def measure(run: "Run") -> None:
    """All sessions."""
    for case in run.scenario.cases:
        for session in range(run.rounds_of(case)):
            print(f"  {case.name}, start {session + 1}", file=sys.stderr)
            measure_session(run, case, session)


def session_ratios(result: dict, case: str, load: str, above: str, below: str) -> list[float]:
    """CPU a request of one to the other: the median of the turns of each session."""
    ours, theirs = (pairs.samples(result, name, case, load) for name in (above, below))
    turns: dict[int, list[float]] = {}
    for number in sorted(ours.keys() & theirs.keys()):
        ratio = ours[number]["cpu_s_per_1000"] / theirs[number]["cpu_s_per_1000"]
        turns.setdefault(ours[number]["session"], []).append(ratio)
    return [statistics.median(values) for values in turns.values()]


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Mean of some ratios, and the ends of its interval of 95 %; not a number where one is alone."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    wide = math.nan
    if len(logs) > 1:
        t = T95[min(len(logs), len(T95)) - 1]
        wide = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - wide), math.exp(mean + wide)


COMPARISONS = ((ON, OFF, "all that is always on"), (PROFILED, ON, f"a profile at {HZ} Hz"))


def extras(result: dict) -> list[str]:
    """What each costs, in CPU a request: what throughput per CPU second loses."""
    lines = []
    for case, load in dict.fromkeys((row["case"], row["load"]) for row in result["results"]):
        for above, below, what in COMPARISONS:
            ratios = session_ratios(result, case, load, above, below)
            mean, low, high = ((ratio - 1) * 100 for ratio in interval(ratios))
            lines.append(
                f"{case}: {what} takes {mean:+.1f} % of CPU a request"
                f" ({low:+.1f} to {high:+.1f} %, {len(ratios)} starts)"
            )
    return lines
