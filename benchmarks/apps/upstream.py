"""A page that asks a slow service three times at once: with threads (WSGI) or with asyncio (ASGI).

UPSTREAM_URL names the service; it answers after as many milliseconds as it is asked for. /light asks
with the standard library, which takes a fraction of httpx's CPU: so the threads of one process can
be as many as wait.
"""

import asyncio
import http.client
import itertools
import json
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

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


SERVICE = urlsplit(os.environ["UPSTREAM_URL"])
CONNECTIONS: deque[http.client.HTTPConnection] = deque()  # idle, the last used first
STREAMS: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()


def urls() -> list[str]:
    """The three addresses."""
    return [f"{os.environ['UPSTREAM_URL']}/?ms={delay}" for delay in DELAYS_MS]


def fetch(url: str) -> int:
    """One question."""
    return next(CLIENTS).get(url).json()["waited_ms"]


def fetch_light(delay_ms: int) -> int:
    """The same on a kept connection of http.client."""
    try:
        connection = CONNECTIONS.pop()
    except IndexError:
        connection = http.client.HTTPConnection(SERVICE.hostname, SERVICE.port, timeout=30)
    connection.request("GET", f"/?ms={delay_ms}")
    answer = json.loads(connection.getresponse().read())
    CONNECTIONS.append(connection)
    return answer["waited_ms"]


async def stream_light(delay_ms: int) -> int:
    """The same on a kept pair of streams."""
    if STREAMS:
        reader, writer = STREAMS.pop()
    else:
        reader, writer = await asyncio.open_connection(SERVICE.hostname, SERVICE.port)
    writer.write(f"GET /?ms={delay_ms} HTTP/1.1\r\nHost: {SERVICE.netloc}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    answer = json.loads(await reader.readexactly(length))
    STREAMS.append((reader, writer))
    return answer["waited_ms"]


def page(answers: list[int]) -> tuple[bytes, list[tuple[str, str]]]:
    """Body and headers."""
    body = json.dumps({"answers": answers}).encode()
    return body, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]


def application(environ, start_response):
    """Three threads of its own for each request, as in many a view."""
    with ThreadPoolExecutor(max_workers=len(DELAYS_MS)) as executor:
        light = environ["PATH_INFO"] == "/light"
        asked = executor.map(fetch_light, DELAYS_MS) if light else executor.map(fetch, urls())
        body, headers = page(list(asked))
    start_response("200 OK", headers)
    return [body]


async def asgi(scope, receive, send):
    """The same with asyncio.gather."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/light":
        answers = await asyncio.gather(*(stream_light(delay) for delay in DELAYS_MS))
    else:
        responses = await asyncio.gather(*(next(ASYNC_CLIENTS).get(url) for url in urls()))
        answers = [response.json()["waited_ms"] for response in responses]
    body, headers = page(answers)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": body})
