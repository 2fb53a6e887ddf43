"""What the applications share: the user of a request, and the answer that names him again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., object]], Iterable[bytes]]


def user_of(environ: Environ) -> str:
    """`?user=NAME`: each request of the tool has a name of its own."""
    return parse_qs(environ["QUERY_STRING"]).get("user", ["nobody"])[0]


def is_warm_up(environ: Environ) -> bool:
    """Whether the server itself asks: such requests are not counted and not reported."""
    return "myserver.prewarm" in environ


def serve(work: Callable[[Environ, str], dict[str, Any]]) -> Application:
    """An application that answers with what `work(environ, user)` has found, as JSON."""

    def application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        user = user_of(environ)
        facts = {"user": user, "pid": os.getpid()} | work(environ, user)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(facts).encode()]

    return application
