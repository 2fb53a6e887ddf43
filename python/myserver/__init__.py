"""The server, as seen from the application it runs.

Importable anywhere: outside the server the functions answer as if there were no workers.
"""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

try:
    import _myserver
except ImportError:  # not running in the server: tests, a shell, another server
    _myserver = None

__all__ = ["LogHandler", "RequestTimeout", "in_server", "postfork", "prefork", "worker_id"]

_LEVELS: Final = (
    (logging.CRITICAL, 4),
    (logging.ERROR, 3),
    (logging.WARNING, 2),
    (logging.INFO, 1),
)


Hook = TypeVar("Hook", bound=Callable[[], object])

_prefork_hooks: list[Callable[[], object]] = []
_postfork_hooks: list[Callable[[], object]] = []


class RequestTimeout(BaseException):
    """Raised in the thread of a request that has passed its timeout (timeout-interrupt).

    The client has got its 504 by then. Not an Exception, so that no handler for those holds it up.
    """

    def __str__(self) -> str:
        return "the request has passed its timeout"


def prefork(function: Hook) -> Hook:
    """Decorator: calls `function` once, without arguments, when the application is loaded and
    warmed and workers are about to be forked: close there what workers must not share.

    An exception in it fails the start (or the reload). Outside the server it is never called.
    """
    _prefork_hooks.append(function)
    return function


def postfork(function: Hook) -> Hook:
    """Decorator: calls `function` once in every worker, without arguments, before it serves:
    start threads there, open connections.

    An exception in it ends the worker. Outside the server it is never called.
    """
    _postfork_hooks.append(function)
    return function


def in_server() -> bool:
    """Whether this process belongs to a running server."""
    return _myserver is not None


def worker_id() -> int:
    """The number of this worker, from 1; 0 while the application is being loaded and outside."""
    return _myserver.worker_id() if _myserver else 0


class LogHandler(logging.Handler):
    """A logging handler that writes to the server's error log: one line a record, and below it the
    traceback, indented.

    Outside the server records go to the root "last resort" handler (stderr).
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        try:
            text = self.format(record)
            if _myserver is None:
                logging.lastResort.handle(record)
            else:
                level = next((ours for theirs, ours in _LEVELS if record.levelno >= theirs), 0)
                _myserver.log(level, *_split(text, record))
        except Exception:
            self.handleError(record)


def _split(text: str, record: logging.LogRecord) -> list[bytes]:
    """The message, and what a formatter has put below it: the traceback, the stack.

    Not found by its form but by what it is, so that no message can pass for it. A formatter of the
    application's may have made something else of it: then all is message.
    """
    detail = "\n".join(filter(None, (record.exc_text, record.stack_info)))
    if detail and text.endswith(f"\n{detail}"):
        text = text[: -len(detail) - 1]
    else:
        detail = ""
    return [part.encode("utf-8", "backslashreplace") for part in (text, detail)]
