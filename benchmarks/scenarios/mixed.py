"""mixed: 10 % of the requests wait 200 ms, over 64 kept-alive connections as nginx holds them."""

import heapq
import random

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
SLOW_S, SLOW_SHARE = 0.2, 0.1
FAST_S = 0.0003  # what a request costs on its way, measured on an idle server
RATE = round(0.7 * PROCESSES * THREADS / (SLOW_SHARE * SLOW_S + (1 - SLOW_SHARE) * FAST_S))
PATHS = ("9*/fast", "1*/slow")
FULL = Load("all busy", PATHS, CONNECTIONS, percentiles_of="/fast")
STEADY = Load(f"{RATE} requests/s", PATHS, CONNECTIONS, rate=RATE, percentiles_of="/fast")


def one_queue(rate: float, requests: int = 200_000) -> list[float]:
    """Latencies of fast requests when any free thread of any worker takes the oldest request."""
    chance = random.Random(1)
    free_at = [0.0] * (PROCESSES * THREADS)  # heap: when each thread is free
    coming = [0.0] * CONNECTIONS  # heap: when each connection asks, without a rate
    now, fast = 0.0, []
    for _ in range(requests):
        now = now + chance.expovariate(rate) if rate else heapq.heappop(coming)
        slow = chance.random() < SLOW_SHARE
        ended = max(now, heapq.heappop(free_at)) + (SLOW_S if slow else FAST_S)
        heapq.heappush(free_at, ended)
        if not rate:
            heapq.heappush(coming, ended)
        if not slow:
            fast.append(ended - now)
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
    notes = []
    for load in (FULL, STEADY):
        fast = one_queue(load.rate)
        p50, p99 = (fast[int(len(fast) * share)] * 1000 for share in (0.5, 0.99))
        notes.append(
            f"{load.name}: the ideal, one queue for all {PROCESSES * THREADS} threads (simulated),"
            f" has p50 {p50:.1f} ms and p99 {p99:.1f} ms; gevent and uvicorn are not bound by it,"
            " for they have no threads to run out of"
        )
    plots = [
        Plot(
            case.name, STEADY.name, "p99_ms", "Fast requests among slow ones: slowest of a hundred"
        )
    ]
    return Scenario("Fast requests among slow ones", [case], plots, 2 if quick else 3, 2, notes)
