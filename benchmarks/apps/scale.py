"""Bodies of any size, and pages that wait: /upload, /pieces?kb=N, /wait; else a short answer."""

import time

PIECE = bytes(range(256)) * 256
WAIT_S = 0.2


def pieces(size_bytes: int):
    """So many bytes in pieces of 64 kB."""
    for left in range(size_bytes, 0, -len(PIECE)):
        yield PIECE if left >= len(PIECE) else PIECE[:left]


def receive(environ) -> int:
    """Reads the body; its length."""
    received, stream = 0, environ["wsgi.input"]
    while piece := stream.read(len(PIECE)):
        received += len(piece)
    return received


def application(environ, start_response):
    """See the top of the file."""
    path = environ["PATH_INFO"]
    if path == "/pieces":
        size = int(environ["QUERY_STRING"].removeprefix("kb=")) * 1024
        start_response("200 OK", [("Content-Length", str(size))])
        return pieces(size)
    if path == "/wait":
        time.sleep(WAIT_S)
    body = str(receive(environ)).encode() if path == "/upload" else b"Hello, world!\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
