"""Tells the server what it needs of the application's settings to give advice.

Called by the C side when the application is loaded, where `observe` is on; applications never import
this module. Opens no connection.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import _myserver

# By the vendor: the number that the server has for the connection, and what it allows: all, without what
# it keeps for others; the database's or the user's own limit, where there is one.
_LIMITS = {
    "postgresql": """\
SELECT pg_backend_pid(),
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int,
       (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
       (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)""",
    "mysql": "SELECT connection_id(), @@max_connections, nullif(@@max_user_connections, 0)",
}
# What the driver was told when it connected.
_NUMBERS: dict[str, Callable[[Any], int]] = {
    "postgresql": lambda connection: connection.info.backend_pid,
    "mysql": lambda connection: connection.thread_id(),
}


def note() -> None:
    """Notes the settings of Django, if the application uses it."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if not getattr(settings, "configured", False):
        return
    _myserver.hint_debug(bool(getattr(settings, "DEBUG", False)))
    connections = getattr(sys.modules.get("django.db"), "connections", None)
    with contextlib.suppress(Exception):  # whoever uses one that is wrong gets the exception
        for alias, database in getattr(connections, "settings", {}).items():
            _note_database(alias, database)
    _myserver.set_limit_finder(allowed)


def _note_database(alias: str, database: Mapping[str, Any]) -> None:
    engine = str(database.get("ENGINE", ""))
    server = f"{database.get('HOST', '')}:{database.get('PORT', '')}"
    is_network = not engine.endswith((".sqlite3", ".spatialite", ".dummy"))
    keeps = database.get("CONN_MAX_AGE", 0) != 0
    pool = database.get("OPTIONS", {}).get("pool") if is_network else None
    _myserver.hint_database(alias, server, is_network, keeps, _pool_max(pool))


def _pool_max(pool: object) -> int:
    """How many connections psycopg's pool has at most: 4 if nothing is said."""
    if not pool:
        return 0
    options = pool if isinstance(pool, Mapping) else {}
    return int(options.get("max_size") or options.get("min_size") or 4)


def allowed(wrapper: Any) -> int:
    """How many connections the server of a database allows the application; 0 if that is not known.

    Asks on a connection of Django's that was just opened and is in no transaction. What stands in
    between (PgBouncer, ProxySQL) has a limit of its own, and gives connections other numbers than the
    server has for them.
    """
    if wrapper.vendor not in _LIMITS or not wrapper.get_autocommit():
        return 0
    with wrapper.connection.cursor() as cursor:
        cursor.execute(_LIMITS[wrapper.vendor])
        number, *limits = cursor.fetchone()
    if number != _NUMBERS[wrapper.vendor](wrapper.connection):
        return 0
    return min(int(limit) for limit in limits if limit is not None)
