"""The server, as seen from the application it runs.

Importable anywhere: outside the server the functions answer as if there were no workers.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

try:
    import _myserver
except ImportError:  # not running in the server: tests, a shell, another server
    _myserver = None  # type: ignore[assignment]

__all__ = [
    "LogHandler",
    "RequestCosts",
    "RequestTimeout",
    "child_exit",
    "in_server",
    "postfork",
    "prefork",
    "request_costs",
    "when_ready",
    "worker_exit",
    "worker_id",
    "worker_start",
]

_LEVELS: Final = (
    (logging.CRITICAL, 4),
    (logging.ERROR, 3),
    (logging.WARNING, 2),
    (logging.INFO, 1),
)


Hook = TypeVar("Hook", bound=Callable[[], object])
ExitHook = TypeVar("ExitHook", bound=Callable[[str], object])
ChildHook = TypeVar("ChildHook", bound=Callable[[int, int, str], object])

_prefork_hooks: list[Callable[[], object]] = []
_postfork_hooks: list[Callable[[], object]] = []
_ready_hooks: list[Callable[[], object]] = []
_exit_hooks: list[Callable[[str], object]] = []
_child_hooks: list[Callable[[int, int, str], object]] = []


class RequestTimeout(BaseException):
    """Raised in the thread of a request that has passed its timeout, where `timeout-interrupt` is on.

    The client has got its 504 by then. Not an Exception, so that no handler for those holds it up:
    catch it only to clean up, and raise it again.
    """

    def __str__(self) -> str:
        return "the request has passed its timeout"


def prefork(function: Hook) -> Hook:
    """Decorator: calls `function` once, without arguments, when the application is loaded and
    warmed and workers are about to be forked: close there what workers must not share.

    Returns `function`, so that it can be called by its name as before; what it returns is dropped.
    Functions are called in the order of their decoration, in the process from which the workers are
    forked. An exception in one fails the start (or the reload). Outside the server none is called.
    """
    _prefork_hooks.append(function)
    return function


def postfork(function: Hook) -> Hook:
    """Decorator: calls `function` once in every worker, without arguments, before it serves:
    start threads there, open connections.

    Returns `function`, so that it can be called by its name as before; what it returns is dropped.
    Functions are called in the order of their decoration, on the main thread. An exception in one
    ends the worker. Outside the server none is called.
    """
    _postfork_hooks.append(function)
    return function


worker_start = postfork


def when_ready(function: Hook) -> Hook:
    """Decorator: calls `function` once a generation, without arguments, when its first worker serves.

    Returns `function`. It is called in a process that the generation has for its hooks, forked from the
    one that has loaded the application: it serves nothing, runs `child_exit` too, and lives as long as
    the generation, so a thread that `function` starts goes on. That of the generation before has ended
    by then. An exception is logged and changes nothing. Outside the server none is called.
    """
    _ready_hooks.append(function)
    return function


def worker_exit(function: ExitHook) -> ExitHook:
    """Decorator: calls `function(reason)` in each worker that has served and ends in an orderly way.

    Returns `function`. It is called on the main thread, before threads are joined and atexit functions
    run, when all requests of the worker are answered. `reason` is "stop" (the server stops, or fewer
    workers are wanted), "reload", "requests", "lifetime", "memory", "refork" or "stuck", as in
    /metrics. Not called when the worker crashes, is killed or is stopped at once: see `child_exit`. An
    exception is logged, and the worker ends as it would. Outside the server none is called.
    """
    _exit_hooks.append(function)
    return function


def child_exit(function: ChildHook) -> ChildHook:
    """Decorator: calls `function(worker_id, pid, reason)` when a worker has ended, however it did.

    Returns `function`. It is called after the end of the process `pid`, in the process that the
    generation in service has for its hooks (see `when_ready`), one call at a time. `reason` is as for
    `worker_exit`, or "crash: " and what the kernel says, such as "signal 9 (SIGKILL)". An exception is
    logged and changes nothing. Outside the server none is called.
    """
    _child_hooks.append(function)
    return function


def in_server() -> bool:
    """Whether this process belongs to a running server: also while the application is loaded."""
    return _myserver is not None


def worker_id() -> int:
    """The number of this worker, from 1; 0 while the application is loaded, and outside the server.

    Workers that serve at the same time have different numbers. One that has finished its requests
    may still run its exit handlers when another has got its number.
    """
    return _myserver.worker_id() if _myserver else 0


class RequestCosts(NamedTuple):
    """Where the time of a request went, in seconds, and how many statements it has made."""

    waited: float
    """From its first byte until its thread ran it."""
    gil: float
    """Its thread waited for the interpreter."""
    cpu: float
    """Its thread computed."""
    database: float
    """In calls of a database driver."""
    runqueue: float
    """Its thread could run, and no CPU was free; known once it runs for 10 ms."""
    other: float
    """Its thread waited for something else."""
    send: float
    """Its answer was sent."""
    queries: int
    """Statements to databases."""


def request_costs() -> RequestCosts | None:
    """What the request that this thread runs has cost so far: the parts that are in the access log.

    Takes some microseconds. None where this thread runs no request, `observe` is off, and outside the
    server. In an async view the thread of the view runs none: ask in a middleware.
    """
    found = _myserver.request_costs() if _myserver else None
    return RequestCosts._make([*(ns / 1e9 for ns in found[:7]), found[7]]) if found else None


class LogHandler(logging.Handler):
    """A logging handler that writes to the server's error log: one line a record, and below it the
    traceback, indented.

    The record's level becomes the nearest of the server's below it (DEBUG to CRITICAL); the option
    `log-level` decides whether it is written. Outside the server records go to `logging.lastResort`
    (stderr). Raises nothing: what goes wrong is told to `handleError()`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes `record`, formatted by this handler's formatter."""
        try:
            text = self.format(record)
            if _myserver is not None:
                level = next((ours for theirs, ours in _LEVELS if record.levelno >= theirs), 0)
                _myserver.log(level, *_split(text, record))
            elif logging.lastResort is not None:
                logging.lastResort.handle(record)
        except Exception:
            self.handleError(record)


def _split(text: str, record: logging.LogRecord) -> tuple[bytes, bytes]:
    """The message, and what a formatter has put below it: the traceback, the stack.

    Not found by its form but by what it is, so that no message can pass for it. A formatter of the
    application's may have made something else of it: then all is message.
    """
    detail = "\n".join(filter(None, (record.exc_text, record.stack_info)))
    if detail and text.endswith(f"\n{detail}"):
        text = text[: -len(detail) - 1]
    else:
        detail = ""
    return text.encode("utf-8", "backslashreplace"), detail.encode("utf-8", "backslashreplace")
