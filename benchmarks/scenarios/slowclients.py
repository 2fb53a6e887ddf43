"""slowclients: normal requests, alone and beside 1,000 clients that send or read a byte a second."""

import pairs
from model import ALL_SERVERS, FEW_SERVERS, Case, Load, Scenario, bench_app
from services import Services

SLOW_CLIENTS = 1000
RATE = 1000  # so that a few seconds have enough for the slowest of a hundred
PATH = "/json?kb=1"
# Without kept connections, for a normal client is a new one; a server must accept it.
NORMAL = {"connections": 32, "keep_alive": False, "rate": RATE, "timeout_s": 2}
SLOW = {"slow_clients": SLOW_CLIENTS, "slow_path": "/whole?kb=512"}
ALONE = Load("alone", (PATH,), **NORMAL)
BESIDE = Load("beside slow clients", (PATH,), **NORMAL, **SLOW)
BURST = Load(
    "while they begin",
    (PATH,),
    seconds=2,
    every_round=False,
    slow_from="burst",
    **NORMAL,
    **SLOW,
)
LOADS = [ALONE, BESIDE, BURST]
# One of gevent, and one of uWSGI, which nginx protects.
SERVERS = [name for name in ALL_SERVERS if name not in ("uwsgi", "uwsgi-gevent")]
CLOSE = ("myserver",)


def scenario(services: Services, quick: bool) -> Scenario:
    """2 processes of 4 threads at a rate that all of them can answer."""
    app = bench_app("bodies", BENCH_VAR=str(services.var))
    chosen = FEW_SERVERS if quick else SERVERS
    cases = [Case("2 x 4", app, 2, 4, LOADS, chosen, checks=[PATH], thorough=CLOSE)]
    if not quick:
        single = ("myserver", "bjoern", "gunicorn-sync")
        cases.append(Case("2 x 1", app, 2, 1, LOADS, single, checks=[PATH], thorough=CLOSE))
    notes = [
        "half of the slow clients send a request a byte a second, half ask for 512 kB and read"
        " them so",
        f"{BESIDE.name}: measured when every one of them has begun to send or to read;"
        f" {BURST.name}: from when all are connected, so with the second in which 500 of them ask",
    ]
    title = "Normal clients beside slow ones"
    return Scenario(title, cases, seconds=3, rounds=4, minutes=4, notes=notes)


def extras(result: dict) -> list[str]:
    """For every server: what the slow clients cost, once they are there and while they come."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in result["results"]):
        for server in pairs.servers(result, case, ALONE.name):
            alone, beside, burst = (pairs.samples(result, server, case, x.name) for x in LOADS)
            if any(not sample.get("slow_ready") for sample in beside.values()):
                lines.append(f"{server}, {case}: never has all slow clients send or read")
            if any(not sample["requests"] for sample in beside.values()):
                continue
            lines.append(
                f"{server}, {case}: slowest of a hundred, beside slow clients to alone:"
                f" {pairs.text(pairs.ratios('p99_ms', beside, alone), '.2f')}; while they begin:"
                f" {pairs.text(pairs.ratios('p99_ms', burst, alone), '.1f')}"
            )
    return lines
