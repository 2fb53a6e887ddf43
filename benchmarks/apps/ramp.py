"""A page of two queries: psycopg and a connection per thread (WSGI), asyncpg and a pool (ASGI).

RAMP_DATABASE_URL names a PostgreSQL database; `python ramp.py` makes the table.
"""

import asyncio
import json
import os
import threading

ITEM = "SELECT id, name, price FROM bench_item WHERE id = "
RELATED = "SELECT id, name FROM bench_item WHERE category = {} ORDER BY id LIMIT 20"
ITEM_ID = 4711
POOL_SIZE = 10  # a process; as many connections as the threads of a WSGI server have

_local = threading.local()
_pool = None
_pool_lock = asyncio.Lock()


def url() -> str:
    """Where the database is."""
    return os.environ["RAMP_DATABASE_URL"]


def page(item, related) -> tuple[bytes, list[tuple[str, str]]]:
    """Body and headers from the rows of the two queries."""
    value = {"item": list(item), "related": [list(row) for row in related]}
    body = json.dumps(value).encode()
    return body, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]


def application(environ, start_response):
    """Two queries, one after the other."""
    import psycopg

    # A server may call the application before it forks; what it opened then is not ours to use.
    if getattr(_local, "pid", None) != os.getpid():
        _local.connection = psycopg.connect(url(), autocommit=True)
        _local.pid = os.getpid()
    item = _local.connection.execute(ITEM + "%s", (ITEM_ID,)).fetchone()
    related = _local.connection.execute(RELATED.format("%s"), (ITEM_ID % 100,)).fetchall()
    body, headers = page(item, related)
    start_response("200 OK", headers)
    return [body]


async def pool():
    """The pool of the process, opened by its first request."""
    import asyncpg

    global _pool
    async with _pool_lock:
        if _pool is None:
            _pool = await asyncpg.create_pool(url(), min_size=1, max_size=POOL_SIZE)
    return _pool


async def asgi(scope, receive, send):
    """The same two queries."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    async with (_pool or await pool()).acquire() as connection:
        item = await connection.fetchrow(ITEM + "$1", ITEM_ID)
        related = await connection.fetch(RELATED.format("$1"), ITEM_ID % 100)
    body, headers = page(item, related)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def make_table() -> None:
    """10,000 items in 100 categories."""
    import psycopg

    with psycopg.connect(url(), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE bench_item (id int PRIMARY KEY, name text, price int, category int)"
        )
        connection.execute(
            "INSERT INTO bench_item SELECT n, 'item ' || n, n % 997, n % 100"
            " FROM generate_series(1, 10000) AS n"
        )
        connection.execute("CREATE INDEX ON bench_item (category, id)")
        connection.execute("ANALYZE bench_item")


if __name__ == "__main__":
    make_table()
