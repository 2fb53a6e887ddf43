"""hello: what the server itself costs; with the ceiling of our own loop and parser."""

from model import ALL_SERVERS, FEW_SERVERS, Case, Load, Plot, Scenario, bench_app
from services import Services

ONE = Load("1 connection", connections=1, warmup_s=0.3)
FIFTY = Load("50 connections", connections=50, warmup_s=0.3)
FIFTY_EACH = Load("50 connections, new for each request", ("/",), 50, False, warmup_s=0.3)
# The best of each family that a bound is about.
CLOSE = ("ceiling", "myserver", "bjoern", "granian", "uwsgi-nginx", "gunicorn-gevent")


def scenario(services: Services, quick: bool) -> Scenario:
    """TCP and unix socket, 1 process and 2."""
    app = bench_app("hello")
    few = ("ceiling", "bjoern", "uwsgi", *FEW_SERVERS)
    servers = few if quick else ("ceiling", *ALL_SERVERS)
    several = [FIFTY] if quick else [FIFTY, FIFTY_EACH]
    cases = [
        Case("TCP, 1 process", app, 1, 1, [ONE, FIFTY], servers, thorough=CLOSE),
        Case("TCP, 2 processes", app, 2, 1, several, servers, thorough=CLOSE),
        Case("unix socket, 1 process", app, 1, 1, [ONE, FIFTY], few, unix=True, rounds=1),
        Case("unix socket, 2 processes", app, 2, 1, [FIFTY], few, unix=True, rounds=1),
    ]
    plotted = "Hello world: 2 processes, 50 kept-alive connections"
    plots = [Plot("TCP, 2 processes", FIFTY.name, "rps", plotted)]
    return Scenario(
        "Hello, world: what the server costs",
        cases[:2] if quick else cases,
        plots,
        seconds=1,
        rounds=2,
        minutes=4,
    )
