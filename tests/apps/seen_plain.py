"""Without a framework: some paths are found, others are not."""

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    found = environ["PATH_INFO"].startswith(("/users", "/found"))
    start_response("200 OK" if found else "404 Not Found", [("Content-Length", "1")])
    return [b"x"]
