"""A page that asks a slow service three times at once: with threads (WSGI) or with asyncio (ASGI).

UPSTREAM_URL names the service; it answers after as many milliseconds as it is asked for.
"""

import asyncio
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor

import httpx

DELAYS_MS = (100, 300, 600)
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
# httpx looks at all connections of a client for every request: with 300 in one, a request takes
# 5 ms of CPU, with 20 it takes 0.7. Therefore several. They connect when they are first used, so a
# fork before that does no harm.
SHARDS = 16
OPTIONS = {"limits": LIMITS, "timeout": 30, "trust_env": False, "verify": False}
CLIENTS = itertools.cycle([httpx.Client(**OPTIONS) for _ in range(SHARDS)])
ASYNC_CLIENTS = itertools.cycle([httpx.AsyncClient(**OPTIONS) for _ in range(SHARDS)])


def urls() -> list[str]:
    """The three addresses."""
    return [f"{os.environ['UPSTREAM_URL']}/?ms={delay}" for delay in DELAYS_MS]


def fetch(url: str) -> int:
    """One question."""
    return next(CLIENTS).get(url).json()["waited_ms"]


def page(answers: list[int]) -> tuple[bytes, list[tuple[str, str]]]:
    """Body and headers."""
    body = json.dumps({"answers": answers}).encode()
    return body, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]


def application(environ, start_response):
    """Three threads of its own for each request, as in many a view."""
    with ThreadPoolExecutor(max_workers=len(DELAYS_MS)) as executor:
        body, headers = page(list(executor.map(fetch, urls())))
    start_response("200 OK", headers)
    return [body]


async def asgi(scope, receive, send):
    """The same with asyncio.gather."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    responses = await asyncio.gather(*(next(ASYNC_CLIENTS).get(url) for url in urls()))
    body, headers = page([response.json()["waited_ms"] for response in responses])
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": body})
