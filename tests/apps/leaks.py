"""Keeps another 1 MB with every request to /leak."""

from typing import Any

KEPT = []


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with how many MB it keeps."""
    if environ["PATH_INFO"] == "/leak":
        KEPT.append(bytearray(b"x" * (1024 * 1024)))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(len(KEPT)).encode()]
