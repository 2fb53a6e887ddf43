"""mixed: 10 % of the requests wait 200 ms, over 64 kept-alive connections as nginx holds them."""

import heapq
import math
from collections.abc import Iterator

import pairs
from model import FEW_SERVERS, Case, Load, Scenario, bench_app
from services import Services

SERVERS = (
    "myserver",
    "granian",
    "uwsgi",
    "uwsgi-nginx",
    "gunicorn-gthread",
    "mod_wsgi",
    "gunicorn-gevent",
    "uvicorn",
)
CLOSE = ("myserver",)
PROCESSES, THREADS = 2, 8
CASE = f"{PROCESSES} x {THREADS}"
CONNECTIONS = 64
STEADY_S = 1.0  # what load.c does not count
SLOW_S, SLOW_SHARE = 0.2, 0.1
RATE = round(0.7 * PROCESSES * THREADS / (SLOW_SHARE * SLOW_S))
PATHS = ("9*/fast", "1*/slow")
MIX = {"connections": CONNECTIONS, "steady_s": STEADY_S, "percentiles_of": "/fast"}
FULL = Load("all busy", PATHS, seconds=3, **MIX)
STEADY = Load(f"{RATE} requests/s", PATHS, rate=RATE, **MIX)
# Nobody waits for anybody: what the two requests take is what the ideal's threads work with.
IDLE = Load("40 requests/s", PATHS, rate=40, every_round=False, seconds=2, **MIX)


def chances(seed: int) -> Iterator[float]:
    """The numbers that load/load.c draws: the ideal meets the same requests as the servers."""
    state = 88172645463325252 ^ (seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    while True:
        state ^= (state << 13) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= (state << 17) & 0xFFFFFFFFFFFFFFFF
        yield (state >> 11) / 2**53


def one_queue(rate: float, seconds: float, seed: int, slow_s: float, fast_s: float) -> list[float]:
    """Latencies of fast requests when any free thread of any worker takes the oldest request."""
    chance = chances(seed)
    free_at = [0.0] * (PROCESSES * THREADS)  # heap: when each thread is free
    # heap: when each connection asks, without a rate; load.c lets them come as it says
    coming = [STEADY_S / 2 * n / CONNECTIONS for n in range(CONNECTIONS)]
    now, fast = 0.0, []
    while now < STEADY_S + seconds:
        if not rate:
            now = heapq.heappop(coming)
        slow = next(chance) >= 1 - SLOW_SHARE
        ended = max(now, heapq.heappop(free_at)) + (slow_s if slow else fast_s)
        heapq.heappush(free_at, ended)
        heapq.heappush(coming, ended)
        if not slow and STEADY_S <= ended < STEADY_S + seconds:
            fast.append(ended - now)
        if rate:
            now -= math.log(1 - next(chance)) / rate
    return sorted(fast)


def scenario(services: Services, quick: bool) -> Scenario:
    """Idle; with all connections always busy; with arrivals at 70 % of what is possible."""
    case = Case(
        CASE,
        bench_app("mixed"),
        PROCESSES,
        THREADS,
        [IDLE, FULL, STEADY],
        FEW_SERVERS if quick else SERVERS,
        checks=["/fast", "/slow"],
        thorough=CLOSE,
    )
    title = "Fast requests among slow ones"
    return Scenario(title, [case], seconds=4 if quick else 6, rounds=4, minutes=2.5)


def ideals(result: dict) -> dict[str, dict[int, dict[str, float]]]:
    """For each load, for each round: what one queue for all threads would have had. What a request
    takes on its way is what ours takes when it is idle."""
    idle = pairs.samples(result, pairs.OURS, CASE, IDLE.name)
    found: dict[str, dict[int, dict[str, float]]] = {FULL.name: {}, STEADY.name: {}}
    if not idle:
        return found
    slow_s, fast_s = (idle[0]["p50_ms_of"][path] / 1000 for path in ("/slow", "/fast"))
    for load in (FULL, STEADY):
        for number, sample in pairs.samples(result, pairs.OURS, CASE, load.name).items():
            fast = one_queue(load.rate, sample["seconds"], number, slow_s, fast_s)
            p50, p99 = (fast[int(len(fast) * share)] * 1000 for share in (0.5, 0.99))
            found[load.name][number] = {"p50_ms": p50, "p99_ms": p99}
    return found


def extras(result: dict) -> list[str]:
    """The ideal, and how far each server is from it, round by round."""
    lines = []
    for load, ideal in ideals(result).items():
        if not ideal:
            continue
        p50s, p99s = ([one[key] for one in ideal.values()] for key in ("p50_ms", "p99_ms"))
        lines.append(
            f"{load}: the ideal, one queue for all {PROCESSES * THREADS} threads, simulated with"
            f" the arrivals of each round, has p50 {pairs.median(p50s):.1f} ms and p99"
            f" {pairs.text(p99s, '.1f')} ms"
        )
        said = []
        for server in pairs.servers(result, CASE, load):
            found = pairs.samples(result, server, CASE, load)
            said.append(f"{server} {pairs.text(pairs.ratios('p99_ms', found, ideal), '.2f')}")
        lines.append(f"{load}, p99 of the fast ones to the ideal: {'; '.join(said)}")
    lines.append("gevent and uvicorn are not bound by it, for they have no threads to run out of")
    return lines
