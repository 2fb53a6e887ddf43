"""Answers with what it is told of the request's trace; /sleep waits for 10 ms."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(0.01)
    names = ("HTTP_TRACEPARENT", "myserver.traceparent")
    body = json.dumps({name: environ[name] for name in names if name in environ}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
