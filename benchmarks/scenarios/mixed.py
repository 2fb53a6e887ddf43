"""mixed: 10 % of the requests wait 200 ms, over 64 kept-alive connections as nginx holds them."""

import heapq
import math
from collections.abc import Iterator

from model import FEW_SERVERS, Case, Load, Plot, Scenario, bench_app
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
PROCESSES, THREADS = 2, 8
CONNECTIONS = 64
WARMUP_S = 0.1  # what load.c does not count
SLOW_S, SLOW_SHARE = 0.2, 0.1
FAST_S = 0.0003  # what a request costs on its way, measured on an idle server
RATE = round(0.7 * PROCESSES * THREADS / (SLOW_SHARE * SLOW_S + (1 - SLOW_SHARE) * FAST_S))
PATHS = ("9*/fast", "1*/slow")
FULL = Load("all busy", PATHS, CONNECTIONS, percentiles_of="/fast")
STEADY = Load(f"{RATE} requests/s", PATHS, CONNECTIONS, rate=RATE, percentiles_of="/fast")


def chances() -> Iterator[float]:
    """The numbers that load/load.c draws: the ideal meets the same requests as the servers."""
    state = 88172645463325252
    while True:
        state ^= (state << 13) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= (state << 17) & 0xFFFFFFFFFFFFFFFF
        yield (state >> 11) / 2**53


def one_queue(rate: float, seconds: float) -> list[float]:
    """Latencies of fast requests when any free thread of any worker takes the oldest request."""
    chance = chances()
    free_at = [0.0] * (PROCESSES * THREADS)  # heap: when each thread is free
    # heap: when each connection asks, without a rate
    coming = [WARMUP_S * n / CONNECTIONS for n in range(CONNECTIONS)]
    now, fast = 0.0, []
    while now < WARMUP_S + seconds:
        if not rate:
            now = heapq.heappop(coming)
        slow = next(chance) >= 1 - SLOW_SHARE
        ended = max(now, heapq.heappop(free_at)) + (SLOW_S if slow else FAST_S)
        heapq.heappush(free_at, ended)
        heapq.heappush(coming, ended)
        if not slow and WARMUP_S <= ended < WARMUP_S + seconds:
            fast.append(ended - now)
        if rate:
            now -= math.log(1 - next(chance)) / rate
    return sorted(fast)


def scenario(services: Services, quick: bool) -> Scenario:
    """Once with all connections always busy, once with arrivals at 70 % of what is possible."""
    case = Case(
        f"{PROCESSES} x {THREADS}",
        bench_app("mixed"),
        PROCESSES,
        THREADS,
        [FULL, STEADY],
        FEW_SERVERS if quick else SERVERS,
        checks=["/fast", "/slow"],
    )
    seconds = 2 if quick else 3
    notes = []
    for load in (FULL, STEADY):
        fast = one_queue(load.rate, seconds)
        p50, p99 = (fast[int(len(fast) * share)] * 1000 for share in (0.5, 0.99))
        notes.append(
            f"{load.name}: the ideal, one queue for all {PROCESSES * THREADS} threads (simulated, {seconds} s),"
            f" has p50 {p50:.1f} ms and p99 {p99:.1f} ms; gevent and uvicorn are not bound by it,"
            " for they have no threads to run out of"
        )
    plots = [
        Plot(
            case.name, STEADY.name, "p99_ms", "Fast requests among slow ones: slowest of a hundred"
        )
    ]
    return Scenario("Fast requests among slow ones", [case], plots, seconds, 2, 2, notes)
