"""shop: the home page of a Django project, with SQLite and PostgreSQL, processes x threads."""

import pairs
from model import ALL_SERVERS, FEW_SERVERS, App, Case, Load, Plot, Scenario
from services import SHOP, Services

HOME = Load("home page, 50 connections", warmup_s=1.5)
# Two shapes of one database meet a server one after the other, in every round: then their ratio
# does not depend on what the machine does meanwhile. Those that bounds are near to meet all rounds.
CLOSE = (
    "in-process",
    "myserver",
    "bjoern",
    "granian",
    "uwsgi-nginx",
    "gunicorn-sync",
    "gunicorn-gthread",
)
DATABASES = "PostgreSQL", "SQLite"
ONE, TEN = "2 x 1", "2 x 10"


def shop_app(services: Services, database: str) -> App:
    """The project with its data in `sqlite` or `postgres`."""
    env = services.shop_env(database)
    return App("shop.wsgi:application", "shop.asgi:application", SHOP, env)


def scenario(services: Services, quick: bool) -> Scenario:
    """From 1x1 to 4x10; the in-process ceiling is 2x1 and 1x1, for threads add nothing to it."""
    sqlite, postgres = shop_app(services, "sqlite"), shop_app(services, "postgres")
    fewest = ("myserver", "gunicorn-gthread", "granian", "uwsgi-nginx")
    servers = FEW_SERVERS if quick else ALL_SERVERS
    shapes = [
        ("PostgreSQL", postgres, 2, 1, ("in-process", *servers), 3),
        ("PostgreSQL", postgres, 2, 10, servers, 3),
        ("SQLite", sqlite, 2, 1, ("in-process", *fewest), 2),
        ("SQLite", sqlite, 2, 10, fewest, 2),
        ("SQLite", sqlite, 1, 1, ("in-process", *fewest[:2]), 1),
        ("SQLite", sqlite, 4, 10, fewest[:2], 1),
    ]
    cases = [
        Case(
            f"{name}, {processes} x {threads}",
            app,
            processes,
            threads,
            [HOME],
            chosen,
            rounds=rounds,
            thorough=() if app is sqlite else CLOSE,
            group=f"{name}{rounds}",
        )
        for name, app, processes, threads, chosen, rounds in (shapes[:2] if quick else shapes)
    ]
    plotted = "Django page, PostgreSQL: 2 processes of 10 threads"
    plots = [Plot(f"PostgreSQL, {TEN}", HOME.name, "rps", plotted)]
    notes = [
        "in-process has no client: on as many CPUs as processes it has all that PostgreSQL leaves,"
        " where a server shares that with wrk; the ratio of CPU a request is free of that"
    ]
    title = "The shop's home page"
    return Scenario(title, cases, plots, seconds=3, rounds=1, minutes=6.5, notes=notes)


def extras(result: dict) -> list[str]:
    """For every server, round by round: what ten threads cost, and how far in-process is."""
    lines = []
    for database in DATABASES:
        one, ten = f"{database}, {ONE}", f"{database}, {TEN}"
        ceiling = pairs.samples(result, "in-process", one, HOME.name)
        for server in pairs.servers(result, one, HOME.name):
            if server == "in-process":
                continue
            alone = pairs.samples(result, server, one, HOME.name)
            many = pairs.samples(result, server, ten, HOME.name)
            shapes = pairs.text(pairs.ratios("rps", many, alone))
            of_most = pairs.text(pairs.ratios("rps", alone, ceiling))
            cpu = pairs.text(pairs.ratios("cpu_s_per_1000", alone, ceiling))
            lines.append(
                f"{server}, {database}: requests/s of {TEN} to {ONE} {shapes}; of {ONE} to"
                f" in-process {of_most}, CPU a request {cpu}"
            )
    return lines
