"""DATABASE_URL to Django's DATABASES entry."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# Connections outlive a request: opening one to PostgreSQL costs more than a page.
PERSISTENT = {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}


def sqlite(path: Path) -> dict[str, Any]:
    """An SQLite file that several processes may read while one writes."""
    options = {
        "timeout": 20,  # seconds to wait for another writer
        # A transaction that reads first and writes later cannot wait for a lock: take it early.
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": options,
        **PERSISTENT,
    }


def from_url(url: str) -> dict[str, Any]:
    """`postgresql://user:password@host:port/name?option=value`, or `sqlite:///path`.

    A unix socket's directory is written `?host=/directory`, as for psql.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path.removeprefix("/"))))
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"DATABASE_URL: {parts.scheme!r} is neither postgresql nor sqlite"
        )
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or unquote(parts.hostname or ""),
        "PORT": options.pop("port", None) or parts.port or "",
        "OPTIONS": options,
        **PERSISTENT,
    }
