"""start: a Django project of 300 models with 8 workers, from exec to its first answer."""

import sys
import time
from typing import TYPE_CHECKING

from measure import cpu_s, memory_mb, settle
from model import Case, Load, Plot, Scenario
from servers import StartFailed, make
from services import Services

if TYPE_CHECKING:
    from run import Run

SERVERS = (
    "myserver",
    "myserver-prewarm",
    "uwsgi",
    "uwsgi-lazy",
    "gunicorn-sync",
    "gunicorn-preload",
    "granian",
)
FEW = ("myserver", "uwsgi")
WORKERS = 8
CASE = f"{WORKERS} x 1, 300 models"
START = Load("start", ("/page/",))
ASK_S = 0.002  # between two attempts
READY_S = 60.0  # the most that all workers may take
QUIET_S = 0.4  # nothing done for so long: all are ready


def scenario(services: Services, quick: bool) -> Scenario:
    """The first page has rows of a database and a template."""
    case = Case(CASE, services.project(), WORKERS, 1, [START], FEW if quick else SERVERS)
    plots = [Plot(CASE, START.name, "start_ms", "300 models, 8 workers: to the first answer")]
    notes = [
        "measured from the exec to the last byte of the first answer with status 200, of a page with"
        " fifty rows, asked for every 2 ms until somebody listens; all ready: when no process of the"
        f" server has computed for {QUIET_S} s, without these; CPU is what all of them took until"
        " then. The files are in the page cache, the modules compiled",
    ]
    rounds = 1 if quick else 3
    return Scenario("Start", [case], plots, rounds=rounds, notes=notes)


def measure_start(run: "Run", case: Case, name: str, number: int) -> None:
    """One start."""
    server = make(name, case, run.venv)
    try:
        begun_s = time.monotonic()
        server.launch()
        server.wait_ready(START.paths[0], ASK_S)
        first_s = time.monotonic() - begun_s
        settle(server.roots, READY_S, QUIET_S)
        run.add(
            case,
            START,
            name,
            number,
            tool="one client",
            seconds=0,
            requests=1,
            errors=0,
            error_kinds={},
            start_ms=first_s * 1000,
            idle_ms=(time.monotonic() - begun_s - QUIET_S) * 1000,
            cpu_total_s=cpu_s(server.roots),
            memory_mb=memory_mb(server.roots),
        )
    except StartFailed as reason:
        run.failures[case.name, name] = str(reason)
    finally:
        server.stop()


def measure(run: "Run") -> None:
    """Rounds of all servers, each beginning with another one."""
    for case in run.scenario.cases:
        for number in range(run.rounds_of(case)):
            print(f"  {case.name}, round {number + 1}", file=sys.stderr)
            for at in range(len(case.servers)):
                name = case.servers[(at + number) % len(case.servers)]
                measure_start(run, case, name, number)
