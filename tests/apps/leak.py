"""Has 100 MB before the fork; /leak keeps another 100 MB, /shared touches nothing."""

import os

SHARED = bytearray(os.urandom(1024) * 1024 * 100)
LEAKED = []


def application(environ, start_response):
    """Leak if the path says so, then answer with the pid."""
    if environ["PATH_INFO"] == "/leak":
        LEAKED.append(bytearray(b"x" * (100 * 1024 * 1024)))
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
