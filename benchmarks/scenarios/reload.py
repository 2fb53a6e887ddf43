"""reload: the shop's home page at a fixed rate, alone and while the server is told to reload."""

from model import Case, Load, Plot, Scenario
from scenarios.shop import shop_app
from services import Services

SERVERS = ("myserver", "uwsgi", "gunicorn-sync", "gunicorn-gthread")
RATE = 30  # so that there is time to load the new code beside it
CONNECTIONS = 16
SECONDS = 8  # the reload begins after one, and takes some
ALONE_SECONDS = 5
# Each client is a new one, or one that stays: what a server does with the latter is the hard part.
NEW = Load(
    "new connections", connections=CONNECTIONS, keep_alive=False, rate=RATE, seconds=ALONE_SECONDS
)
NEW_RELOAD = Load(
    "new connections, reload", connections=CONNECTIONS, keep_alive=False, rate=RATE, reload_after_s=1
)
KEPT = Load("kept connections", connections=CONNECTIONS, rate=RATE, seconds=ALONE_SECONDS)
KEPT_RELOAD = Load(
    "kept connections, reload", connections=CONNECTIONS, rate=RATE, reload_after_s=1
)
PAIRS = ((NEW, NEW_RELOAD), (KEPT, KEPT_RELOAD))


def scenario(services: Services, quick: bool) -> Scenario:
    """2 processes; HUP is what reloads all of them."""
    pairs = PAIRS[:1] if quick else PAIRS
    loads = [load for pair in pairs for load in pair]
    case = Case("2 x 1", shop_app(services, "postgres"), 2, 1, loads, SERVERS)
    plots = [Plot(case.name, NEW_RELOAD.name, "p99_ms", "During a reload: slowest of a hundred")]
    notes = ["a reload is one HUP to the master, a second after the load has begun"]
    return Scenario("A reload under load", [case], plots, seconds=SECONDS, rounds=1, notes=notes)


def extras(result: dict) -> list[str]:
    """For every server: what the reload has cost."""
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
