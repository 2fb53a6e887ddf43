"""The shop; each answer names the worker and the connection to PostgreSQL that it has used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from common import Environ

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

from django.db import connection  # noqa: E402

from shop.wsgi import application as shop  # noqa: E402


def application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """The shop's answer with two more headers."""

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> object:
        raw = connection.connection
        backend = raw.info.backend_pid if raw else 0
        more = [("X-Worker", str(os.getpid())), ("X-Backend", str(backend))]
        return start_response(status, headers + more, *error)

    return shop(environ, start)
