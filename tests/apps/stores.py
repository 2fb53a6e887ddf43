"""Clients of stores that keep connections; $STORE names one, $STORE_URL says where it is.

Answers what the store says. The connection is opened by the first request, in the warm-up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

STORE, PORT = os.environ["STORE"], int(os.environ.get("STORE_PORT", "0"))
URL = os.environ.get("STORE_URL", "")
ADDRESS = ("127.0.0.1", PORT)
ask: Callable[[], object]

if STORE == "redis":
    import redis

    client = redis.Redis(*ADDRESS, protocol=2)
    ask = client.ping
elif STORE == "pymemcache":
    import pymemcache

    ask = pymemcache.Client(ADDRESS).version
elif STORE == "pymemcache pool":
    import pymemcache

    ask = pymemcache.PooledClient(ADDRESS).version
elif STORE == "django cache":
    from django.conf import settings

    backend = "django.core.cache.backends.memcached.PyMemcacheCache"
    settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": f"127.0.0.1:{PORT}"}})
    from django.core.cache import cache

    def ask() -> object:
        return cache.get("key")

elif STORE == "django redis":
    from django.conf import settings

    backend = "django.core.cache.backends.redis.RedisCache"
    where = {"LOCATION": f"redis://127.0.0.1:{PORT}", "OPTIONS": {"protocol": 2}}
    settings.configure(CACHES={"default": {"BACKEND": backend, **where}})
    from django.core.cache import cache

    def ask() -> object:
        return "key" in cache

elif STORE == "django pool":
    from urllib.parse import urlsplit

    from django.conf import settings

    url = urlsplit(URL)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": url.path[1:],
                "HOST": url.hostname,
                "PORT": url.port,
                "USER": url.username,
                "OPTIONS": {
                    "pool": {"min_size": 1, "max_size": 1},
                    "application_name": "stores",
                },
            }
        }
    )
    from django.db import connection

    def ask() -> object:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 7")
            return cursor.fetchone()

elif STORE == "sqlalchemy":
    import sqlalchemy

    url = URL.replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy.create_engine(f"{url}?application_name=stores" if URL else "sqlite://")
    with engine.begin() as begun:
        if not URL:
            begun.execute(sqlalchemy.text("CREATE TABLE seven AS SELECT 7"))
        begun.execute(sqlalchemy.text("SELECT 7"))

    def ask() -> object:
        with engine.begin() as used:
            return used.execute(
                sqlalchemy.text("SELECT 7" if URL else "SELECT * FROM seven")
            ).scalar()

elif STORE == "psycopg_pool":
    import psycopg_pool

    pool = psycopg_pool.ConnectionPool(URL, min_size=1, max_size=1, open=True)
    pool.wait()

    def ask() -> object:
        return "not asked"


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """What the store says, and who asks."""
    said = ask()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{said} {os.getpid()}".encode()]
