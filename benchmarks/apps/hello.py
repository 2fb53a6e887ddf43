"""The smallest application: what a server itself costs. `application` is WSGI, `asgi` is ASGI."""

BODY = b"Hello, world!\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(name.lower().encode(), value.encode()) for name, value in HEADERS],
}


def application(environ, start_response):
    """The same text for everything."""
    start_response("200 OK", list(HEADERS))
    return [BODY]


async def asgi(scope, receive, send):
    """The same for ASGI servers."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send(dict(START))
    await send({"type": "http.response.body", "body": BODY})
