"""The server, seen from the application it runs: the module that only the program itself has.

Applications import `myserver`, which can be imported anywhere.
"""

from collections.abc import Callable
from typing import Any

def worker_id() -> int:
    """The number of this worker, from 1; 0 while the application is loaded."""

def log(level: int, text: bytes, detail: bytes, /) -> None:
    """One record of the server's log, below it the lines of `detail`.

    `level` is 0 (debug) to 4 (critical), else ValueError; `text` has no NUL byte, else ValueError.
    """

def finalize(object: object, /) -> None:
    """Runs the finalizer (`__del__`) of `object`, unless that has been done.

    It is not done twice for objects that the collector knows. What it raises is reported by
    `sys.unraisablehook`.
    """

def instances(objects: list[Any], kinds: type | tuple[type, ...], /) -> list[Any]:
    """Those of `objects` whose type is one of `kinds`, as issubclass() says.

    It is for all that the collector knows: a type is asked about once, or a few times. No object is asked
    for its class, as isinstance() does with proxies, which that would wake.
    """

def watch_database(function: Callable[..., Any], kind: int, /) -> Callable[..., Any]:
    """The same function; while it runs, a request of this thread counts as in the database.

    `kind` says what its arguments are, else ValueError: 0 anything, 1 (cursor, ...), 2 (cursor, sql,
    parameters), 3 (dialect, cursor, sql, parameters), 4 (strategy, result, cursor, ...), 5 (wrapper),
    which connects, 6 and 7 (cursor, sql, parameters) of a driver for PostgreSQL or MySQL.
    """

def set_line_finder(function: Callable[[], str], /) -> None:
    """`function` is called, now and then, to say which line of the application runs."""

def set_view(name: str, /) -> None:
    """The request that this thread runs is of this view. Nothing where it runs none."""

def expect_views() -> None:
    """From now on each request that has a view says so with `set_view`."""

def thread_costs() -> tuple[int, int, int]:
    """What this thread has used in its life, in nanoseconds: CPU time, time waited for the interpreter,
    time in which it was ready and no CPU was free.
    """

def request_costs() -> tuple[int, int, int, int, int, int, int, int] | None:
    """What the request of this thread has cost so far; None: it runs none, or is not observed.

    Nanoseconds waited, then of GIL, CPU, database, run queue, other waiting and sending; and how many
    statements it has made.
    """

def add_costs(cpu_ns: int, gil_ns: int, delay_ns: int, /) -> None:
    """Another thread has used so much for the request of this one, which waited for it meanwhile."""

def view_name(view: int, /) -> str:
    """The name of the view with that number; empty: there is none."""

def blocks_start() -> None:
    """From now on all blocks of memory are noted, but not those of this thread.

    RuntimeError: that cannot be done in this process.
    """

def blocks_stop() -> None:
    """No longer; forgets all of them."""

def blocks_copy() -> int:
    """Copies what is noted now, for `blocks_read`; returns how many blocks that are."""

def blocks_read(n: int, /) -> list[tuple[int, int, tuple[tuple[str, int], ...] | None]]:
    """The next n blocks of those copied, as far as they are still there: view, bytes, lines.

    The view is its number, -1 where its request has not ended, -2 where it is of no request. The lines
    are tracemalloc's (file, number), innermost first; None: not known. Empty at the end.
    """

def blocks_requests() -> list[tuple[int, int]]:
    """Requests that have begun since `blocks_start` and have ended: view, how many."""

def copied_types(objects: list[Any], /) -> list[tuple[type, int, int]]:
    """Objects that were there before the fork: type, how many, and how many lie on pages that this
    process has copied. `objects` as for `chains_of`. OSError: the kernel does not tell.
    """

def chains_of(objects: list[Any], wanted: list[Any], /) -> list[list[Any]]:
    """For each of the wanted the objects from objects[0] to it, each of which owns the next one.

    Where objects[0] does not own it, the chain begins at something else. `objects` is all that the
    collector knows, behind objects[0].
    """

def hint_debug(on: bool, /) -> None:
    """Whether the framework's debug mode is on, for advice."""

def hint_database(alias: str, server: str, is_network: bool, keeps: bool, pool_max: int, /) -> None:
    """A database of Django's settings, for advice.

    `server` is the same text for all that are on one server; `keeps` whether connections stay open
    behind a request; `pool_max` how many a process has in a pool, 0 if each thread has one.
    """

def hint_lost_thread(text: str, count: int, /) -> None:
    """Of `count` threads of the import that this worker does not have, `text` says which one is, for
    advice.
    """

def set_limit_finder(function: Callable[[Any], int], /) -> None:
    """`function` is called, once for each database, with Django's connection to it that was just opened,
    and returns how many the server allows; 0 if that is not known.
    """
