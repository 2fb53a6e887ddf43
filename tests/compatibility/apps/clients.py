"""Clients of services that are made and used at import: $KIND says which."""

from __future__ import annotations

import os
from typing import Any

from common import Environ, serve

KIND, PORT = os.environ["KIND"], int(os.environ["PORT"])

if KIND == "redis":
    import redis

    client = redis.Redis("127.0.0.1", PORT, protocol=2)

    def ask(user: str) -> str:
        """The echo of the store."""
        return client.echo(user).decode()

elif KIND in ("grpc", "grpc unused"):
    import grpc

    channel = grpc.insecure_channel(f"127.0.0.1:{PORT}")
    say = channel.unary_unary("/echo.Echo/Say")

    def ask(user: str) -> str:
        """The echo of the service."""
        return say(user.encode(), timeout=5).decode()

elif KIND == "psycopg_pool":
    import psycopg_pool

    pool = psycopg_pool.ConnectionPool(os.environ["DATABASE"], min_size=1, max_size=4, open=True)

    def ask(user: str) -> str:
        """The echo of the database."""
        with pool.connection(timeout=5) as connection:
            return connection.execute("SELECT %s::text, pg_sleep(0.002)", [user]).fetchone()[0]


if KIND != "grpc unused":
    ask("import")


def work(environ: Environ, user: str) -> dict[str, Any]:
    """What the service says."""
    return {"echo": ask(user)}


application = serve(work)
