"""ramp: more and more users of a page with two queries; where latency doubles, where errors are."""

from model import Case, Load, Plot, Scenario, bench_app
from services import Services

SERVERS = ("myserver", "gunicorn-sync", "gunicorn-gthread", "gunicorn-uvicorn", "uvicorn")
USERS = (10, 50, 100, 200, 500, 1000, 2000)
THINK_MS = 500
CASE = "2 x 10"


def scenario(services: Services, quick: bool) -> Scenario:
    """Users think for 0 to 1 s between two requests."""
    app = bench_app("ramp", RAMP_DATABASE_URL=services.ramp_url())
    loads = [
        Load(f"{users} users", connections=users, think_ms=THINK_MS, warmup_s=1, timeout_s=10)
        for users in ((10, 2000) if quick else USERS)
    ]
    # The sync worker has no threads: it gets the same case with one.
    cases = [
        Case(CASE, app, 2, 10, loads, [name for name in SERVERS if name != "gunicorn-sync"]),
        Case("2 x 1", app, 2, 1, loads, ["gunicorn-sync", "myserver"]),
    ]
    plots = [
        Plot(CASE, "2000 users", "rps", "Two queries: 2,000 users"),
        Plot(CASE, "2000 users", "p99_ms", "Two queries: slowest of a hundred, 2,000 users"),
    ]
    return Scenario("More and more users", cases, plots, seconds=2, rounds=1)


def extras(results: list[dict]) -> list[str]:
    """For every server: from how many users on the latency is twice that of the fewest."""
    lines = []
    keys = {(r["case"], r["server"]) for r in results}
    for case, server in sorted(keys):
        rows = [r for r in results if (r["case"], r["server"]) == (case, server)]
        rows.sort(key=lambda r: int(r["load"].split()[0]))
        least = rows[0]["p50_ms"]["median"]
        doubled = [r["load"] for r in rows if r["p50_ms"]["median"] > 2 * least]
        broken = [r["load"] for r in rows if r["errors"]]
        lines.append(
            f"{server}, {case}: median latency twice that of the fewest users from"
            f" {doubled[0] if doubled else 'none'} on; errors from"
            f" {broken[0] if broken else 'none'} on"
        )
    return lines
