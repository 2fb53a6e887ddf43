"""/N keeps N more megabytes; every answer is the pid."""

import os

KEPT: list[bytes] = []


def application(environ, start_response):
    """Grow by what the path says, then answer."""
    KEPT.append(os.urandom(1024) * 1024 * int(environ["PATH_INFO"].lstrip("/") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
