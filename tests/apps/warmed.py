"""Says which requests reach it, and where; /500 and others answer what their name says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import myserver
from told import Body, event

event(f"loaded in {os.getpid()}")
ROOT_STATUS = os.environ.get("ROOT_STATUS", "200")


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/raise raises, /import imports (?404 is then its status), /broken fails if there is a file of that name."""
    path = environ["PATH_INFO"]
    words = [environ["REQUEST_METHOD"], path, environ["HTTP_HOST"], environ["QUERY_STRING"]]
    words[-1] += f", {environ.get('HTTP_X_KEY', 'no key')}"
    if environ["wsgi.url_scheme"] == "https":
        words.append("https")
    event(f"asked {' '.join(words)}; {myserver.worker_id()}.")
    if path == "/raise":
        raise ValueError("as asked")
    if path == "/import":
        import colorsys  # noqa: F401
    status = next((s for s in (path[1:], environ["QUERY_STRING"]) if s.isdigit()), "200")
    if path == "/" and ROOT_STATUS == "exit":
        os._exit(70)
    if path == "/" and ROOT_STATUS == "hangs":
        time.sleep(600)
    if path == "/":
        status = ROOT_STATUS
    if status == "secure":
        status = "200" if environ["wsgi.url_scheme"] == "https" else "301"
    if path == "/broken" and os.path.exists("broken"):
        status = "503"
    start_response(f"{status} So", [("Content-Type", "text/plain")])
    return Body(f"{path} in {myserver.worker_id()}", [b"a", b"b"])
