"""ramp: more and more users of a page with two queries; where latency doubles, where errors are."""

import pairs
from model import Case, Load, Scenario, bench_app
from services import Services

SERVERS = ("myserver", "gunicorn-gthread", "gunicorn-uvicorn", "uvicorn")
USERS = (10, 100, 500, 1000, 2000)
THINK_MS = 500
CASE = "2 x 10"
MOST = CASE, f"{USERS[-1]} users"


def load_of(users: int) -> Load:
    """Users come in the first half of the time that does not count, and have mixed at its end.
    The most of them are measured for longer, and in every round."""
    steady_s, seconds = (3, 4) if users == USERS[-1] else (1.2, 2)
    return Load(
        f"{users} users",
        connections=users,
        think_ms=THINK_MS,
        steady_s=steady_s,
        seconds=seconds,
        every_round=users == USERS[-1],
        timeout_s=10,
    )


def scenario(services: Services, quick: bool) -> Scenario:
    """Users think for 0 to 1 s between two requests."""
    app = bench_app("ramp", RAMP_DATABASE_URL=services.ramp_url())
    loads = [load_of(users) for users in ((10, 2000) if quick else USERS)]
    # The sync worker has no threads: it gets the same case with one.
    cases = [
        Case(CASE, app, 2, 10, loads, SERVERS),
        Case("2 x 1", app, 2, 1, loads[-1:], ["gunicorn-sync", "myserver"], rounds=1),
    ]
    return Scenario("More and more users", cases, seconds=2, rounds=3, minutes=3)


def extras(result: dict) -> list[str]:
    """For every server: from how many users on the latency is twice that of the fewest; and with
    the most of them, its throughput and CPU time beside ours."""
    lines = []
    results = result["results"]
    keys = {(r["case"], r["server"]) for r in results}
    for case, server in sorted(keys):
        rows = [r for r in results if (r["case"], r["server"]) == (case, server)]
        rows.sort(key=lambda r: int(r["load"].split()[0]))
        least = rows[0]["p50_ms"]["median"]
        doubled = [r["load"] for r in rows if r["p50_ms"]["median"] > 2 * least]
        broken = [r["load"] for r in rows if r["errors"]]
        most = rows[-1]["load"]
        theirs, ours = (pairs.samples(result, name, case, most) for name in (server, pairs.OURS))
        beside = ", ".join(
            f"{what} {pairs.text(pairs.ratios(metric, ours, theirs))}"
            for metric, what in (("rps", "requests/s"), ("cpu_s_per_1000", "CPU a request"))
        )
        lines.append(
            f"{server}, {case}: median latency twice that of the fewest users from"
            f" {doubled[0] if doubled else 'none'} on; errors from"
            f" {broken[0] if broken else 'none'} on"
            + (f"; of {pairs.OURS} to it with {most}: {beside}" if server != pairs.OURS else "")
        )
    return lines
