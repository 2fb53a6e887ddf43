"""Says what it was asked, as JSON; `wsgiref.validate` watches both sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

PIECE_BYTES = 65536


def describe(environ: dict[str, Any]) -> dict[str, Any]:
    """What came: method, path, query, targets, headers, and the body by length and hash."""
    digest = hashlib.sha1()
    length = 0
    while piece := environ["wsgi.input"].read(PIECE_BYTES):
        digest.update(piece)
        length += len(piece)
    headers = {k: v for k, v in environ.items() if k.startswith(("HTTP_", "CONTENT_"))}
    return {
        "method": environ["REQUEST_METHOD"],
        "path": environ.get("PATH_INFO", ""),
        "query": environ.get("QUERY_STRING", ""),
        "target": environ.get("RAW_URI"),
        "protocol": environ["SERVER_PROTOCOL"],
        "headers": headers,
        "body_length": length,
        "body_sha1": digest.hexdigest(),
    }


@validator
def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer 200 with `describe(environ)`."""
    body = json.dumps(describe(environ), indent=1).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
