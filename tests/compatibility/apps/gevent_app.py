"""A view that asks a service twice at once with gevent; with $PATCH the library is patched."""

from __future__ import annotations

import os
from typing import Any

if os.environ["PATCH"]:
    from gevent import monkey

    monkey.patch_all()
    import socket
else:
    from gevent import socket

import gevent  # noqa: E402

from common import Environ, serve  # noqa: E402

UPSTREAM = ("127.0.0.1", int(os.environ["PORT"]))


def part(user: str) -> str:
    """What the service says, on a connection of its own."""
    with socket.create_connection(UPSTREAM) as connection:
        connection.sendall(f"GET /echo/{user} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    return answer.partition(b"\r\n\r\n")[2].decode()


def work(environ: Environ, user: str) -> dict[str, Any]:
    """Both parts."""
    jobs = [gevent.spawn(part, user), gevent.spawn(part, user)]
    gevent.joinall(jobs, timeout=5, raise_error=True)
    return {"echo_first": jobs[0].value, "echo_second": jobs[1].value}


application = serve(work)
