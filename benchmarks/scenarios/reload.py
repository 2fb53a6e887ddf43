"""reload: pages at a fixed rate, alone and while the server is told to reload: the shop with two
workers, a project of 300 models with eight."""

import pairs
from model import Case, Load, Plot, Scenario
from scenarios.shop import shop_app
from services import Services

SERVERS = ("myserver", "uwsgi", "gunicorn-sync", "gunicorn-gthread")
EIGHT_SERVERS = ("myserver", "uwsgi", "gunicorn-sync")
TWO, EIGHT = "2 x 1", "8 x 1, 300 models"
RATE = 30  # so that there is time to load the new code beside it
CONNECTIONS = 16
SECONDS = 8  # the reload begins after one, and takes some
ALONE_SECONDS = 5
# Each client is a new one, or one that stays: what a server does with the latter is the hard part.
NEW = Load(
    "new connections", connections=CONNECTIONS, keep_alive=False, rate=RATE, seconds=ALONE_SECONDS
)
NEW_RELOAD = Load(
    "new connections, reload",
    connections=CONNECTIONS,
    keep_alive=False,
    rate=RATE,
    reload_after_s=1,
)
KEPT = Load("kept connections", connections=CONNECTIONS, rate=RATE, seconds=ALONE_SECONDS)
KEPT_RELOAD = Load("kept connections, reload", connections=CONNECTIONS, rate=RATE, reload_after_s=1)
PAIRS = ((NEW, NEW_RELOAD), (KEPT, KEPT_RELOAD))
EIGHT_SECONDS = 10
PAGE = {"paths": ("/page/",), "connections": 32, "rate": 50, "seconds": EIGHT_SECONDS}
ROWS = Load("rows", **PAGE)
ROWS_RELOAD = Load("rows, reload", reload_after_s=1, **PAGE)


def scenario(services: Services, quick: bool) -> Scenario:
    """HUP is what reloads all of them."""
    loads = [load for pair in (PAIRS[:1] if quick else PAIRS) for load in pair]
    cases = [Case(TWO, shop_app(services, "postgres"), 2, 1, loads, SERVERS)]
    if not quick:
        eight = [ROWS, ROWS_RELOAD]
        project = services.project()
        cases.append(
            Case(EIGHT, project, 8, 1, eight, EIGHT_SERVERS, rounds=3, thorough=("myserver",))
        )
    plots = [Plot(TWO, NEW_RELOAD.name, "p99_ms", "During a reload: slowest of a hundred")]
    notes = ["a reload is one HUP to the master, a second after the load has begun"]
    title = "A reload under load"
    return Scenario(title, cases, plots, seconds=SECONDS, rounds=1, minutes=4, notes=notes)


def extras(result: dict) -> list[str]:
    """For every server: what the reload has cost."""
    return [*failures(result), *costs(result)]


def failures(result: dict) -> list[str]:
    """Requests that failed or waited, of the shop."""
    rows = {(row["server"], row["load"]): row for row in result["results"]}
    lines = []
    for server in SERVERS:
        for alone, during in PAIRS:
            before, after = rows.get((server, alone.name)), rows.get((server, during.name))
            if not before or not after:
                continue
            ratio = after["p99_ms"]["median"] / before["p99_ms"]["median"]
            lines.append(
                f"{server}, {alone.name}: {after['errors']} of"
                f" {after['requests'] + after['errors']} requests failed during the reload, the"
                f" slowest of a hundred took {ratio:.1f} times as long as without one"
            )
    return lines


def cpu_of_reload(result: dict, server: str) -> list[float]:
    """Seconds that the reload of eight workers took, round by round: what was used beyond what its
    requests take without one."""
    alone, during = (
        pairs.samples(result, server, EIGHT, load.name) for load in (ROWS, ROWS_RELOAD)
    )
    return [
        during[number]["cpu_total_s"]
        - during[number]["requests"] * alone[number]["cpu_s_per_1000"] / 1000
        for number in sorted(alone.keys() & during.keys())
    ]


def costs(result: dict) -> list[str]:
    """The CPU and the p99 of a reload of eight workers."""
    lines = []
    for server in EIGHT_SERVERS:
        if not (used := cpu_of_reload(result, server)):
            continue
        alone, during = (
            pairs.samples(result, server, EIGHT, load.name) for load in (ROWS, ROWS_RELOAD)
        )
        failed = sum(sample["errors"] for sample in during.values())
        lines.append(
            f"{server}, {EIGHT}: a reload takes {pairs.text(used, '.2f')} s of CPU; the slowest of"
            f" a hundred takes {pairs.text(pairs.ratios('p99_ms', during, alone), '.2f')} times as"
            f" long as without one; {failed} requests failed"
        )
    return lines
