"""Every answer is a redirect with a single empty piece, as Django gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """To the same place."""
    start_response("302 Found", [("Location", environ["PATH_INFO"]), ("Content-Length", "0")])
    return iter([b""])
