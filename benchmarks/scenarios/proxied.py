"""proxied: every server behind the same nginx, as it is used; CPU of the server and of nginx apart."""

import pairs
from model import App, Case, Load, Plot, Scenario, bench_app
from scenarios.shop import shop_app
from services import Services

SERVERS = (
    "myserver",
    "myserver-uwsgi",
    "bjoern",
    "fastwsgi",
    "granian",
    "uwsgi-protocol",
    "gunicorn-sync",
    "gunicorn-gthread",
    "mod_wsgi",
    "uvicorn-a2wsgi",
)
FEW = ("myserver", "granian", "uwsgi-protocol", "gunicorn-sync", "gunicorn-gthread")
HELLO = Load("hello", warmup_s=0.3)
HOME = Load("home page", seconds=2, warmup_s=1)
DOWN = Load("1 MB down", ("/whole?kb=1024",), 16, warmup_s=0.3)
UP = Load("1 MB up", (f"/upload={1 << 20}",), 16, warmup_s=0.3)
# The nearest of each kind meet all rounds.
CLOSE = ("myserver", "bjoern", "fastwsgi", "granian", "uwsgi-protocol", "gunicorn-gthread")


def scenario(services: Services, quick: bool) -> Scenario:
    """Two workers and two processes of nginx; one thread a worker, which all servers can have."""
    hello, bodies = bench_app("hello"), bench_app("bodies", BENCH_VAR=str(services.var))
    servers = FEW if quick else SERVERS

    def case(name: str, app: App, threads: int, loads: list[Load], check: str) -> Case:
        """One application in one shape."""
        title = f"{name}, 2 x {threads}"
        return Case(
            title, app, 2, threads, loads, servers,
            checks=[check], thorough=CLOSE, group=name, proxied=True,
        )  # fmt: skip

    cases = [case("hello", hello, 1, [HELLO], "/")]
    if not quick:
        shop = shop_app(services, "sqlite")
        cases += [case("the shop with SQLite", shop, threads, [HOME], "/") for threads in (1, 4)]
        cases.append(case("bodies", bodies, 1, [DOWN, UP], "/whole?kb=1024"))
    plots = [Plot(cases[0].name, HELLO.name, "rps", "Behind nginx: hello world, 2 processes")]
    notes = [
        "nginx is the same for all, with the settings of conf/nginx.conf, and asks by a unix socket,"
        " except fastwsgi and mod_wsgi, which listen on TCP only. It keeps its connections to servers"
        " that keep theirs: gunicorn's sync workers and the uwsgi protocol have none to keep",
        "CPU is the server's alone; nginx's is beside it",
    ]
    title = "Behind nginx, as it is used"
    return Scenario(title, cases, plots, seconds=1, rounds=2, minutes=3.5, notes=notes)


def extras(result: dict) -> list[str]:
    """Ours to the best of the others in each case, round by round."""
    lines = []
    for case, load in dict.fromkeys((row["case"], row["load"]) for row in result["results"]):
        ours = pairs.samples(result, pairs.OURS, case, load)
        names = [name for name in pairs.servers(result, case, load) if pairs.OURS not in name]
        if not names or not ours:
            continue
        theirs = pairs.samples(result, names[0], case, load)
        said = ", ".join(
            f"{what} {pairs.text(pairs.ratios(metric, ours, theirs), '.2f')}"
            for metric, what in (
                ("rps", "requests/s"),
                ("cpu_s_per_1000", "CPU"),
                ("p99_ms", "p99"),
            )
        )
        lines.append(f"{case}, {load}: {pairs.OURS} to the fastest other, {names[0]}: {said}")
    return lines
