"""Sends requests on, or wants a login."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import myserver
from told import event

PLACES = {
    "/a": "https://localhost/b#top",
    "/b": "/c",
    "/round": "http://localhost/round",
    "/away": "http://localhost.example/c",
    "/account": "/accounts/login/?next=/account",
    "/sso": "https://sso.example/authorize",
}


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/401 and /403 answer so."""
    path = environ["PATH_INFO"]
    event(f"{myserver.worker_id()} {environ['wsgi.url_scheme']} {path}")
    headers = [("Content-Type", "text/plain")]
    status = path[1:] if path[1:].isdigit() else "200"
    if path in PLACES:
        status = "302"
        headers.append(("location", PLACES[path]))
    start_response(f"{status} So", headers)
    return [b"here"]
