"""Asks the control process of a server under test."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any

from harness import PATIENCE_S, SLOWNESS, Response, Server, read_all

OPTIONS = {"control": "unix:control.sock", "stats": "unix:stats.sock"}


def connect(
    server: Server, name: str = "control.sock", timeout: float = PATIENCE_S
) -> socket.socket:
    """A new connection to one of its unix sockets."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout * SLOWNESS)
    s.connect(str(server.dir / name))
    return s


def ask(
    server: Server,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One request to `control`."""
    client = http.client.HTTPConnection("localhost")
    client.sock = connect(server)
    try:
        client.request(method, path, body, dict(headers or {}))
        response = client.getresponse()
        return Response(response.status, response.reason, response.headers, response.read())
    finally:
        client.close()


def stats(server: Server) -> Any:
    """Our own JSON."""
    response = ask(server, "/stats")
    assert response.status == 200, response
    return json.loads(response.body)


def uwsgi_stats(server: Server) -> Any:
    """What `stats` writes to whoever connects."""
    with connect(server, "stats.sock") as s:
        return json.loads(read_all(s))
