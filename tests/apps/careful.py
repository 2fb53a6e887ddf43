"""An application beside what the server takes care of, in a state that $CASE names."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable

CASE = os.environ["CASE"]

if CASE in ("unconfigured", "url"):  # as libraries do where Django is only installed
    import django.core.cache
    import django.db
    import django.template
    import django.urls  # noqa: F401
elif CASE == "old":
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "old.sqlite3"}}
    )
    from django.db import connections

    def old_all() -> list[object]:
        """Before Django 4.1."""
        return [connections[alias] for alias in connections]

    connections.all = old_all
    connections["default"].ensure_connection()
elif CASE == "raises":
    import pymemcache

    class Broken(pymemcache.Client):
        """Cannot be closed."""

        def close(self) -> None:
            """Fails."""
            raise ValueError("as asked")

    broken = Broken(("127.0.0.1", 1))
elif CASE == "thread":
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def send() -> None:
        """An agent that connects again and again, and has often just done so."""
        while True:
            with socket.create_connection(listening.getsockname()):
                listening.accept()[0].close()
                time.sleep(0.001)

    threading.Thread(target=send, daemon=True).start()


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """It works."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"well"]
