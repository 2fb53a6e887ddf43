"""EXPLAIN of one statement, on a connection of its own. A script: reads an order, as JSON, from stdin.

Runs with the application's Python and settings, in a process of its own. The transaction is
read-only and has a timeout. Values are not known, so the plan is the general one unless they are given.
"""

import contextlib
import functools
import gc
import importlib
import importlib.util
import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What may stand for a value, and what only looks like it.
_TOKEN = re.compile(
    r"""(?P<other>"[^"]*"|`[^`]*`|%%|::|\?[|&?])
      |(?P<value>%s|%\(\w+\)s|\$\d+|(?<![\w:]):[A-Za-z_]\w*|\?\d*)""",
    re.X,
)
_MANY_ROWS = 1000
_SHARE = 0.5
_ITS_COLUMNS = "its WHERE or ORDER BY"


class ExplainError(Exception):
    """It cannot be explained; the text says why."""


# A type in front of a text: that is no expression in which a placeholder may stand for the text.
_TYPED = re.compile(r"\b(DATE|TIME|TIMESTAMP|TIMESTAMPTZ|TIMETZ|INTERVAL)\s+%s", re.I)


def _with_casts(statement: str, vendor: str) -> str:
    """DATE %s as CAST(%s AS DATE). INTERVAL %s DAY of MySQL takes a placeholder."""

    def replace(match: re.Match[str]) -> str:
        is_quantity = vendor == "mysql" and match[1].upper() == "INTERVAL"
        return match[0] if is_quantity else f"CAST(%s AS {match[1]})"

    return statement if vendor == "sqlite" else _TYPED.sub(replace, statement)


def with_placeholders(statement: str, make: Any, vendor: str) -> tuple[str, int]:
    """The statement with make(n), n from 1, for each value, and how many there are."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        text = match[0]
        if match["other"] or (vendor == "postgresql" and text.startswith("?")):
            return "%" if text == "%%" else text
        count += 1
        return str(make(count))

    shown = _with_casts(statement.replace(", ...", ""), vendor)
    return _TOKEN.sub(replace, shown), count


def _remedy(statement: str, columns: str) -> str:
    """What would spare reading a whole table."""
    if re.search(r"\blike\b", statement, re.I):
        return "an index would spare that; where a LIKE begins with %, only a full-text or trigram index"
    return f"an index on the columns of {columns} would spare that"


def sqlite(connection: Any, order: Any) -> list[str]:
    """The plan of SQLite, which has no costs."""
    if order["analyze"]:
        raise ExplainError("SQLite has no EXPLAIN ANALYZE: leave out --analyze")
    statement, count = with_placeholders(order["statement"], lambda _n: "?", "sqlite")
    values: list[Any] = order["parameters"] or [None] * count
    connection.ensure_connection()
    raw = connection.connection
    end = time.monotonic() + order["timeout"]
    raw.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    raw.execute("PRAGMA query_only = 1")
    rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    depths = {0: 0}
    lines = []
    for number, parent, _, text in rows:
        depths[number] = depths.get(parent, 0) + 1
        lines.append("  " * (depths[number] - 1) + text)
    hints = (_sqlite_hint(raw, row[3], statement) for row in rows)
    return lines + [hint for hint in hints if hint]


def _sqlite_hint(raw: Any, text: str, statement: str) -> str:
    match = re.fullmatch(r"SCAN (?:TABLE )?(\w+)(?: AS \w+)?", text)
    if not match:
        return ""
    try:
        query = f'SELECT max(rowid) FROM "{match[1]}"'  # nosec B608: a name of SQLite's own plan
        (rows,) = raw.execute(query).fetchone()
    except Exception:
        return ""  # a subquery, or an alias
    if not rows or rows < _MANY_ROWS:
        return ""
    return (
        f"hint: all of {match[1]}, some {rows} rows, is read for this statement: "
        f"{_remedy(statement, _ITS_COLUMNS)}"
    )


def postgresql(connection: Any, order: Any) -> list[str]:
    """The plan of PostgreSQL: the general one, or with values the one for these."""
    milliseconds = int(order["timeout"] * 1000)
    verb = "EXPLAIN (ANALYZE, BUFFERS)" if order["analyze"] else "EXPLAIN"
    statement, count = with_placeholders(order["statement"], lambda n: f"${n}", "postgresql")
    if order["analyze"] and count and not order["parameters"]:
        raise ExplainError(
            f"to run it, its {count} values are needed: give --param for each, in order"
        )
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}")
        cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
        if order["parameters"] or not count:
            text, _ = with_placeholders(order["statement"], lambda _n: "%s", "postgresql")
            cursor.execute(f"{verb} {text}", order["parameters"] or None)
        else:
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            cursor.execute(f"PREPARE myserver_explain AS {statement}")
            nulls = ", ".join(["NULL"] * count)
            cursor.execute(f"{verb} EXECUTE myserver_explain({nulls})")
        lines = [row[0] for row in cursor.fetchall()]
        hints = _postgresql_hints(lines, cursor, order["statement"])
    connection.rollback()
    return lines + hints


def _rows_of(table: str, cursor: Any) -> int:
    """How many rows PostgreSQL thinks that a table has; for a small one it needs no index."""
    cursor.execute("SELECT max(reltuples) FROM pg_class WHERE relname = %s", [table])
    (rows,) = cursor.fetchone()
    return int(rows or 0)


def _postgresql_hints(lines: list[str], cursor: Any, statement: str) -> list[str]:
    cost = re.compile(r"cost=[\d.]+\.\.([\d.]+) rows=(\d+)")
    top = cost.search(lines[0]) if lines else None
    hints = []
    for i, line in enumerate(lines):
        scan = re.search(r"Seq Scan on (\w+)", line)
        found = cost.search(line)
        if not scan or not found or not top or float(found[1]) < _SHARE * float(top[1]):
            continue
        below = lines[i + 1].strip() if i + 1 < len(lines) else ""
        rows = _rows_of(scan[1], cursor)
        if not below.startswith("Filter:") or rows < _MANY_ROWS:
            continue
        hints.append(
            f"hint: {100 * float(found[1]) / float(top[1]):.0f} % of the cost is reading all of "
            f"{scan[1]}, some {rows} rows: {_remedy(statement, below)}"
        )
    return hints


def mysql(connection: Any, order: Any) -> list[str]:
    """The plan of MySQL or MariaDB. It has none without values: 1 stands for those that are not given."""
    statement, count = with_placeholders(order["statement"], lambda _n: "%s", "mysql")
    if order["analyze"] and count and not order["parameters"]:
        raise ExplainError(
            f"to run it, its {count} values are needed: give --param for each, in order"
        )
    values = order["parameters"] or [1] * count
    with connection.cursor() as cursor:
        _mysql_bounds(cursor, order["timeout"], connection.mysql_is_mariadb)
        verb = "ANALYZE" if connection.mysql_is_mariadb else "EXPLAIN ANALYZE"
        cursor.execute("START TRANSACTION READ ONLY")
        cursor.execute(f"{verb if order['analyze'] else 'EXPLAIN'} {statement}", values or None)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute("ROLLBACK")
    return [_mysql_line(row) for row in rows] + _mysql_hints(rows, order)


def _mysql_bounds(cursor: Any, seconds: float, is_mariadb: bool) -> None:
    """Nothing of this session runs, or waits for a lock, for longer."""
    if is_mariadb:
        cursor.execute(f"SET SESSION max_statement_time = {float(seconds)}")
    else:
        cursor.execute(f"SET SESSION max_execution_time = {int(seconds * 1000)}")
    for name in ("lock_wait_timeout", "innodb_lock_wait_timeout"):
        cursor.execute(f"SET SESSION {name} = {math.ceil(seconds)}")


def _mysql_line(row: dict[str, Any]) -> str:
    if len(row) == 1:
        return str(next(iter(row.values())))  # a tree, of EXPLAIN ANALYZE
    return ", ".join(f"{name}={value}" for name, value in row.items() if value is not None)


def _mysql_hints(rows: list[dict[str, Any]], order: Any) -> list[str]:
    hints = [
        f"hint: all of {row['table']}, some {row['rows']} rows, is read for this statement: "
        f"{_remedy(order['statement'], _ITS_COLUMNS)}"
        for row in rows
        if row.get("type") == "ALL" and int(row.get("rows") or 0) >= _MANY_ROWS
    ]
    if not order["parameters"] and any("Impossible WHERE" in str(row.get("Extra")) for row in rows):
        hints.append(
            "hint: 1 stands for each value, and no row fits that: give --param for each, in order"
        )
    return hints


_VENDORS: dict[str, Callable[[Any, Any], list[str]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "mysql": mysql,
}


# ---- which connection


class _Engine:
    """One of SQLAlchemy's, with what is used of a connection of Django's."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.vendor = engine.dialect.name.replace("mariadb", "mysql")

    @functools.cached_property
    def _pooled(self) -> Any:
        return self._engine.raw_connection()

    @property
    def connection(self) -> Any:
        """The driver's."""
        return self._pooled.driver_connection

    @property
    def mysql_is_mariadb(self) -> bool:
        """Known when it is connected."""
        return bool(self._pooled and self._engine.dialect.is_mariadb)

    def ensure_connection(self) -> None:
        """As Django's."""

    def set_autocommit(self, on: bool) -> None:
        """As Django's; an engine may have it on."""
        self.connection.autocommit = on

    def cursor(self) -> Any:
        """For a with statement, whether or not the driver's own are."""
        return contextlib.closing(self.connection.cursor())

    def rollback(self) -> None:
        """As Django's."""
        self.connection.rollback()

    def close(self) -> None:
        """What the pool has; the one in use ends with the process."""
        self._engine.dispose()


def _engines(vendor: str) -> list[Any]:
    """What the import of the application has made for such a database."""
    base = importlib.import_module("sqlalchemy.engine").Engine
    made = [_Engine(found) for found in gc.get_objects() if isinstance(found, base)]
    found = [engine for engine in made if engine.vendor == vendor]
    if not found:
        raise ExplainError(f"the application makes no engine for {vendor} when it is imported")
    return found


def _connections(order: Any) -> list[Any]:
    """Those that may know the tables of the statement."""
    if not order["database"] and "sqlalchemy" in sys.modules:
        return _engines(order["vendor"])
    if "django" not in sys.modules:
        raise ExplainError("only statements of Django and SQLAlchemy can be explained")
    from django.db import connections

    name = order["database"] or "default"
    if name not in connections:
        raise ExplainError(f"the application has no database {name} any more")
    return [connections.create_connection(name)]


def _plan(connection: Any, order: Any) -> list[str]:
    explain = _VENDORS.get(connection.vendor)
    if not explain:
        raise ExplainError(f"statements of {connection.vendor} cannot be explained")
    try:
        return explain(connection, order)
    finally:
        connection.close()


def _first_plan(connections: list[Any], order: Any) -> list[str]:
    """Of the first connection that has one."""
    for connection in connections[:-1]:
        with contextlib.suppress(Exception):
            return _plan(connection, order)
    return _plan(connections[-1], order)


def load(app: str) -> None:
    """Imports the application, which sets Django up, or makes its engines."""
    target = app.partition(":")[0]
    if target.endswith(".py"):
        spec = importlib.util.spec_from_file_location("myserver_explained", target)
        if spec and spec.loader:
            module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)  # in sys.modules it keeps what it has made
    else:
        importlib.import_module(target)


def main() -> int:
    """Reads the order, prints the plan; 1 and a sentence on stderr when there is none."""
    order = json.load(sys.stdin)
    sys.path[:1] = [*order["pythonpath"], ""]  # in place of the directory of this file
    sys.path.append(str(Path(__file__).parents[1]))  # the application may import myserver
    try:
        load(order["app"])
        lines = _first_plan(_connections(order), order)
    except ExplainError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        print(f"the database cannot explain it: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(order["statement"], "", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
