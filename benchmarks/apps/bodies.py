"""Large requests and responses: /upload, /read, /file, /generator, /json?kb=N, /whole?kb=N."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

FILE_BYTES = 10 * 1024 * 1024
PIECE_BYTES = 64 * 1024
PATTERN = bytes(range(256)) * (PIECE_BYTES // 256)


@cache
def big_file() -> Path:
    """A file of 10 MB, made once; renamed into place, so that others never see half of it."""
    path = Path(os.environ.get("BENCH_VAR", tempfile.gettempdir())) / "download.bin"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
            for _ in range(FILE_BYTES // PIECE_BYTES):
                made.write(PATTERN)
        os.chmod(made.name, 0o644)
        os.replace(made.name, path)
    return path


def pieces():
    """10 MB in pieces, as a view that streams."""
    for _ in range(FILE_BYTES // PIECE_BYTES):
        yield PATTERN


def rows(size_kb: int) -> bytes:
    """JSON of about this size, made anew for every request."""
    return json.dumps([{"id": n, "name": f"product {n:06}"} for n in range(size_kb * 24)]).encode()


@cache
def whole(size_kb: int) -> bytes:
    """The same bytes object for every request."""
    return b"x" * (size_kb * 1024)


def size_kb(query: str) -> int:
    """The `kb` of a query string."""
    return min(int(parse_qs(query).get("kb", ["1"])[0]), 16 * 1024)


def answer(path: str, query: str) -> bytes:
    """What needs no reading and no streaming."""
    return rows(size_kb(query)) if path == "/json" else whole(size_kb(query))


def application(environ, start_response):
    """See the top of the file."""
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "application/octet-stream")]
    if path == "/file":
        start_response("200 OK", [*headers, ("Content-Length", str(FILE_BYTES))])
        wrapper = environ.get("wsgi.file_wrapper") or (lambda f, n: iter(lambda: f.read(n), b""))
        return wrapper(big_file().open("rb"), PIECE_BYTES)
    if path == "/generator":
        start_response("200 OK", headers)
        return pieces()
    if path == "/upload":
        received, stream = 0, environ["wsgi.input"]
        left = int(environ.get("CONTENT_LENGTH") or 0)
        while left > 0 and (piece := stream.read(min(left, PIECE_BYTES))):
            received += len(piece)
            left -= len(piece)
        body = str(received).encode()
    elif path == "/read":
        left = int(environ.get("CONTENT_LENGTH") or 0)
        body = str(len(environ["wsgi.input"].read(left))).encode()
    else:
        body = answer(path, environ.get("QUERY_STRING", ""))
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


async def _start(send, length: int | None) -> None:
    headers = [(b"content-type", b"application/octet-stream")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _receive_all(receive) -> int:
    received, more = 0, True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    return received


async def asgi(scope, receive, send):
    """The same for ASGI servers."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    if path in ("/file", "/generator"):
        await _start(send, FILE_BYTES if path == "/file" else None)
        source = pieces()
        if path == "/file":
            opened = big_file().open("rb")
            source = iter(lambda: opened.read(PIECE_BYTES), b"")
        for piece in source:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if path in ("/upload", "/read"):
        body = str(await _receive_all(receive)).encode()
    else:
        body = answer(path, scope["query_string"].decode())
    await _start(send, len(body))
    await send({"type": "http.response.body", "body": body})
