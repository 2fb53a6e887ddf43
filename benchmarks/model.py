"""What a scenario is made of: applications, loads, and cases that put them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
APPS = HERE / "apps"

# Every peer, and what ours is measured against without a server or without Python.
ALL_SERVERS = (
    "myserver",
    "bjoern",
    "granian",
    "uwsgi",
    "uwsgi-nginx",
    "uwsgi-gevent",
    "gunicorn-sync",
    "gunicorn-gthread",
    "gunicorn-gevent",
    "mod_wsgi",
    "waitress",
    "uvicorn",
)
# Those that matter most, where time is short.
FEW_SERVERS = ("myserver", "granian", "uwsgi-nginx", "gunicorn-sync", "gunicorn-gthread", "uvicorn")


@dataclass(frozen=True)
class App:
    """One application, for both kinds of servers."""

    wsgi: str  # "module:callable"
    asgi: str | None = None
    directory: Path = APPS
    env: dict[str, str] = field(default_factory=dict)
    static: Path | None = None  # servers that can do so serve its files below /static


def bench_app(name: str, **env: str) -> App:
    """An application of benchmarks/apps."""
    return App(f"{name}:application", f"{name}:asgi", env=env)


@dataclass(frozen=True)
class Load:
    """What the clients do."""

    name: str
    paths: Sequence[str] = ("/",)  # "[WEIGHT*]PATH[=UPLOAD_BYTES]" as for benchmarks/load
    connections: int = 50
    keep_alive: bool = True
    new_connections: int = 0  # so many of `connections` are new for each request
    rate: float = 0  # arrivals a second; 0: the next request follows the answer
    of_capacity: float = 0  # the rate is this part of what the load before it has reached
    burst: bool = False  # all clients connect at once, and everything counts from then on
    think_ms: float = 0
    warmup_s: float = 0.5  # before it is measured, on connections of its own
    steady_s: float = 0  # instead of that: so long on the same connections before anything counts
    parts: bool = False  # count requests by the part that lies in the seconds that count
    seconds: float = 0  # instead of the scenario's
    every_round: bool = True  # False: in the first round only
    timeout_s: float = 10
    percentiles_of: str = ""  # the path whose latencies are shown, of several
    idle_connections: int = 0  # beside it: each has had an answer, and stays
    slow_clients: int = 0  # clients beside it that send or read a byte a second
    slow_from: str = "steady"  # measured when they all send or read; "burst": while they begin
    slow_path: str = "/"
    reload_after_s: float = 0  # the server is told to reload so long after the beginning; 0: never

    @property
    def for_wrk(self) -> bool:
        """Whether wrk can do it. New connections it cannot: it asks for the end of each, and goes
        on with those that the server leaves open, as uWSGI's http11-socket does."""
        plain = len(self.paths) == 1 and "*" not in self.paths[0]
        upload = "=" in self.paths[0].partition("?")[0]
        special = self.rate or self.think_ms or self.slow_clients or self.steady_s
        special = special or self.new_connections or self.of_capacity or self.burst
        return self.keep_alive and plain and not upload and not special


@dataclass(frozen=True)
class Case:
    """One set-up in which all servers are compared."""

    name: str
    app: App
    processes: int
    threads: int
    loads: Sequence[Load]
    servers: Sequence[str]
    unix: bool = False
    proxied: bool = False  # nginx in front, whose CPU counts apart; the server on a unix socket
    checks: Sequence[str] = ("/",)  # paths whose bodies must be right
    watch_memory: bool = False  # note the peak while loads run, not only the end
    ceiling_threads: int = 1  # of each process of the in-process ceiling
    rounds: int = 0  # instead of the scenario's
    thorough: Sequence[str] = ()  # these servers meet all rounds, the others one; none named: all
    options: Sequence[str] = ()  # more of ours
    group: str = ""  # cases of one name beside each other meet a server in turn, in the same rounds


@dataclass(frozen=True)
class Plot:
    """A picture: bars for one load of one case."""

    case: str
    load: str
    metric: str  # a key of measure.METRICS
    title: str


@dataclass(frozen=True)
class Curve:
    """Cost against work: one metric of ours at several sizes of one thing."""

    title: str
    thing: str  # what there is more and more of
    metric: str  # a key of measure.METRICS
    points: Sequence[tuple[float, str, str]]  # its size, a case and a load
    due: str  # "flat" or "linear"
    why: str = ""  # it is not, where that is known


@dataclass
class Scenario:
    """What a file of benchmarks/scenarios returns."""

    title: str
    cases: list[Case]
    plots: list[Plot] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    seconds: float = 2
    rounds: int = 2
    minutes: float = 3  # when they have passed, no case gets another round after its first
    notes: list[str] = field(default_factory=list)
