"""shop: the home page of a Django project, with SQLite and PostgreSQL, processes x threads."""

from model import ALL_SERVERS, FEW_SERVERS, App, Case, Load, Plot, Scenario
from services import SHOP, Services

HOME = Load("home page, 50 connections", warmup_s=1.5)


def shop_app(services: Services, database: str) -> App:
    """The project with its data in `sqlite` or `postgres`."""
    env = services.shop_env(database)
    return App("shop.wsgi:application", "shop.asgi:application", SHOP, env)


def scenario(services: Services, quick: bool) -> Scenario:
    """From 1x1 to 4x10; the in-process ceiling has one thread a process."""
    sqlite, postgres = shop_app(services, "sqlite"), shop_app(services, "postgres")
    few = ("in-process", *FEW_SERVERS)
    fewest = ("in-process", "myserver", "granian", "uwsgi-nginx", "gunicorn-gthread")
    servers = few if quick else ("in-process", *ALL_SERVERS)
    shapes = [
        ("PostgreSQL", postgres, 2, 1, servers),
        ("PostgreSQL", postgres, 2, 10, servers),
        ("SQLite", sqlite, 1, 1, fewest),
        ("SQLite", sqlite, 2, 1, fewest),
        ("SQLite", sqlite, 2, 10, fewest),
        ("SQLite", sqlite, 4, 10, fewest),
    ]
    cases = [
        Case(f"{name}, {processes} x {threads}", app, processes, threads, [HOME], chosen)
        for name, app, processes, threads, chosen in (shapes[:2] if quick else shapes)
    ]
    plots = [
        Plot(f"PostgreSQL, 2 x {threads}", HOME.name, metric, f"Django page, PostgreSQL: {what}")
        for threads, metric, what in (
            (1, "rps", "2 processes"),
            (10, "rps", "2 processes of 10 threads"),
            (10, "memory_mb", "memory of 2 processes of 10 threads"),
        )
    ]
    return Scenario("The shop's home page", cases, plots, seconds=2, rounds=2, minutes=6)
