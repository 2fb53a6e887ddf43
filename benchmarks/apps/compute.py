"""A page that computes for some milliseconds and waits for nothing, as one does whose data are cached."""

import os

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "1000"))


def render() -> bytes:
    """A list of small texts, made anew."""
    rows = [f"<li>{n * n % 997:04d} {'x' * (n % 7)}</li>" for n in range(ROUNDS * 6)]
    return "".join(rows).encode()[:200]


def application(environ, start_response):
    """The page."""
    body = render()
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    """The same for ASGI servers."""
    body = render()
    headers = [(b"content-type", b"text/html"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
