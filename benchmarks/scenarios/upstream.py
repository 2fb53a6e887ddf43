"""upstream: a page that waits for three slow answers; threads against gevent and asyncio."""

from model import FEW_SERVERS, Case, Load, Plot, Scenario, bench_app
from services import Services

SERVERS = (
    "in-process",
    "myserver",
    "granian",
    "uwsgi",
    "uwsgi-gevent",
    "gunicorn-gthread",
    "gunicorn-gevent",
    "mod_wsgi",
    "waitress",
    "uvicorn",
)
FEW = ("in-process", "gunicorn-gevent", *FEW_SERVERS)


def scenario(services: Services, quick: bool) -> Scenario:
    """1 process; as many connections as threads, so that the ideal is threads / 0.6 s."""
    app = bench_app("upstream", UPSTREAM_URL=services.upstream_url())
    cases = []
    for threads in (100,) if quick else (2, 100, 400):
        load = Load(f"{threads} connections", connections=threads, warmup_s=1.5, timeout_s=20)
        chosen = SERVERS if threads == 100 and not quick else FEW
        case = Case(f"1 x {threads}", app, 1, threads, [load], chosen, ceiling_threads=threads)
        cases.append(case)
    plots = [Plot("1 x 100", "100 connections", "rps", "A page that waits: 1 process, 100 threads")]
    ideal = "the page takes 0.6 s: without any cost, N threads answer N / 0.6 requests a second"
    return Scenario(
        "A page that asks a slow service three times",
        cases,
        plots,
        seconds=2 if quick else 3,
        rounds=1,
        notes=[ideal],
    )
