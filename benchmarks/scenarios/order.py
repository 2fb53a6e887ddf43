"""order: who is answered before whom, when a page computes and all threads are busy."""

import heapq
import math

import pairs
from model import Case, Load, Scenario, bench_app
from scenarios.mixed import chances
from services import Services

SERVERS = ("myserver", "granian", "uwsgi", "gunicorn-gthread")
SHAPES = ((1, 1), (2, 1), (2, 10), (4, 10))
OPEN_SHAPE = (2, 1)
CLIENTS = 50
STEADY_S = 1.0
MIX = {"connections": CLIENTS, "new_connections": CLIENTS // 2}
STEADY = Load("steady, half on new connections", steady_s=STEADY_S, **MIX)
BURST = Load("from the moment when all connect at once", burst=True, seconds=2, **MIX)
CLOSED = Load("closed", connections=CLIENTS, steady_s=STEADY_S, seconds=2)
# As many connections as requests may wait: who finds none waits in the client.
OPEN = tuple(
    Load(
        f"arrivals at {percent} % of that",
        connections=400,
        steady_s=STEADY_S,
        of_capacity=percent / 100,
        seconds=5,
    )
    for percent in (80, 95, 110)
)
PERCENTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


def name_of(shape: tuple[int, int]) -> str:
    """Of a case."""
    return f"{shape[0]} x {shape[1]}"


UNIX_CASE = f"{name_of(OPEN_SHAPE)}, unix socket"
OPEN_CASE = f"{name_of(OPEN_SHAPE)}, open loop"


def scenario(services: Services, quick: bool) -> Scenario:
    """Counted, not timed, in a closed loop; then arrivals that do not wait for answers."""
    app = bench_app("compute")
    shapes = SHAPES[1:3] if quick else SHAPES
    cases = [Case(name_of(shape), app, *shape, [STEADY, BURST], SERVERS) for shape in shapes]
    if not quick:
        cases.append(Case(UNIX_CASE, app, *OPEN_SHAPE, [STEADY, BURST], SERVERS, unix=True))
    cases.append(Case(OPEN_CASE, app, *OPEN_SHAPE, [CLOSED, *OPEN], SERVERS))
    title = "The order of service"
    return Scenario(title, cases, seconds=3, rounds=1, minutes=4.5)


def one_queue(
    rate: float, seconds: float, seed: int, service_s: float, servers: int
) -> list[float]:
    """Latencies, in s and sorted, of requests that one queue gives to the first free of `servers`,
    each of which takes `service_s`. They arrive as load/load.c lets them."""
    chance = chances(seed)
    free_at = [0.0] * servers
    now, latencies = 0.0, []
    while now < STEADY_S + seconds:
        ended = max(now, heapq.heappop(free_at)) + service_s
        heapq.heappush(free_at, ended)
        if STEADY_S <= ended < STEADY_S + seconds:
            latencies.append(ended - now)
        now -= math.log(1 - next(chance)) / rate
    return sorted(latencies)


def passed_lines(result: dict) -> list[str]:
    """How many answers came between a request and its own, to the number of the clients."""
    lines = []
    for case in [*map(name_of, SHAPES), UNIX_CASE]:
        for load in (STEADY, BURST):
            said = []
            for server in pairs.servers(result, case, load.name):
                found = pairs.samples(result, server, case, load.name).values()
                of_kinds = []
                for kind in ("kept", "new"):
                    p99, most = (
                        max(s["passed"][kind][key] for s in found) for key in ("p99", "max")
                    )
                    of_kinds.append(f"{kind} {p99:.2f} ({most:.2f})")
                starve = "; connections starve" if any(s.get("starved") for s in found) else ""
                said.append(f"{server} {', '.join(of_kinds)}{starve}")
            if said:
                lines.append(
                    f"{case}; {load.name}: answers between a request and its own, to"
                    f" {CLIENTS} clients, p99 (most); one queue gives 1.00: {'; '.join(said)}"
                )
    return lines


def open_lines(result: dict) -> list[str]:
    """Latencies beside those of one queue for the same arrivals, and as quick as the closed loop."""
    lines = []
    for load in OPEN:
        said = []
        for server in pairs.servers(result, OPEN_CASE, load.name):
            closed = pairs.samples(result, server, OPEN_CASE, CLOSED.name)
            for number, sample in pairs.samples(result, server, OPEN_CASE, load.name).items():
                capacity = closed[number]["rps"]
                ideal = one_queue(
                    load.of_capacity * capacity,
                    sample["seconds"],
                    number,
                    OPEN_SHAPE[0] / capacity,
                    OPEN_SHAPE[0],
                )
                told = (
                    f"{key[:-3]} {sample[key]:.0f} ({ideal[int(len(ideal) * part)] * 1000:.0f})"
                    for key, part in PERCENTILES.items()
                )
                said.append(f"{server} {', '.join(told)}")
        if said:
            lines.append(f"{load.name}: ms (one queue's, simulated): {'; '.join(said)}")
    return lines


def extras(result: dict) -> list[str]:
    """Both, below the tables."""
    return passed_lines(result) + open_lines(result)
