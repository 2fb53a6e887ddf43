"""Says which requests reach it, and where; /500 and others answer what their name says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import myserver
from told import Body, event

event(f"loaded in {os.getpid()}")


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/raise raises, /import imports (?404 is then its status), /broken fails if there is a file of that name."""
    path = environ["PATH_INFO"]
    words = [environ["REQUEST_METHOD"], path, environ["HTTP_HOST"], environ["QUERY_STRING"]]
    words[-1] += f", {environ.get('HTTP_X_KEY', 'no key')}"
    if environ["wsgi.url_scheme"] == "https":
        words.append("https")
    event(f"asked {' '.join(words)}; {myserver.worker_id()}.")
    event(f"asked by {environ.get('HTTP_USER_AGENT')}.")
    if path == "/raise":
        raise ValueError("as asked")
    if path == "/import":
        import colorsys  # noqa: F401
    status = next((s for s in (path[1:], environ["QUERY_STRING"]) if s.isdigit()), "200")
    if path == "/broken" and os.path.exists("broken"):
        status = "503"
    write = start_response(f"{status} So", [("Content-Type", "text/plain")])
    if path.startswith("/write"):
        write(b"written")
    if path == "/write_and_raise":
        raise ValueError("as asked")
    return Body(f"{path} in {myserver.worker_id()}", [b"a", b"b"])
