"""Requests that wait 200 ms (/slow) among requests that do not (all others)."""

import asyncio
import time

SLOW_S = 0.2


def application(environ, start_response):
    """`/slow` waits; as a view does that asks another service."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(SLOW_S)
    body = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    """The same for ASGI servers."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/slow":
        await asyncio.sleep(SLOW_S)
    body = scope["path"].encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
