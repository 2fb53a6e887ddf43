"""Answers with what it is told of the request's trace; /sleep waits for 10 ms, /keep keeps the text
and answers with all that are kept, /forget forgets them, /intern gives it to the interpreter."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

kept: list[str] = []


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(0.01)
    if environ["PATH_INFO"] == "/keep":
        kept.append(environ["myserver.traceparent"])
    if environ["PATH_INFO"] == "/forget":
        kept.clear()
    if environ["PATH_INFO"] == "/intern":
        sys.intern(environ["myserver.traceparent"])
    names = ("HTTP_TRACEPARENT", "myserver.traceparent")
    told: dict[str, Any] = {name: environ[name] for name in names if name in environ}
    body = json.dumps(told | {"kept": kept}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
