"""slowclients: normal requests, alone and beside 1,000 clients that send or read a byte a second."""

from model import ALL_SERVERS, FEW_SERVERS, Case, Load, Plot, Scenario, bench_app
from services import Services

SLOW_CLIENTS = 1000
RATE = 500
PATH = "/json?kb=1"
# Without kept connections, for a normal client is a new one; a server must accept it.
ALONE = Load("alone", (PATH,), 32, keep_alive=False, rate=RATE, timeout_s=5)
BESIDE = Load(
    "beside slow clients",
    (PATH,),
    32,
    keep_alive=False,
    rate=RATE,
    timeout_s=5,
    slow_clients=SLOW_CLIENTS,
    slow_path="/whole?kb=512",
)


def scenario(services: Services, quick: bool) -> Scenario:
    """2 processes of 4 threads at a rate that all of them can answer."""
    app = bench_app("bodies", BENCH_VAR=str(services.var))
    chosen = FEW_SERVERS if quick else ALL_SERVERS
    cases = [Case("2 x 4", app, 2, 4, [ALONE, BESIDE], chosen, checks=[PATH])]
    if not quick:
        single = ("myserver", "bjoern", "gunicorn-sync")
        cases.append(Case("2 x 1", app, 2, 1, [ALONE, BESIDE], single, checks=[PATH]))
    plots = [
        Plot("2 x 4", BESIDE.name, "p99_ms", "Beside 1,000 slow clients: slowest of a hundred")
    ]
    notes = ["half of the slow clients send a request a byte a second, half read a response so"]
    return Scenario("Normal clients beside slow ones", cases, plots, 2 if quick else 3, 1, notes=notes)
