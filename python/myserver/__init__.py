"""The server, as seen from the application it runs.

Importable anywhere: outside the server the functions answer as if there were no workers.
"""

import logging
from typing import Final

try:
    import _myserver
except ImportError:  # not running in the server: tests, a shell, another server
    _myserver = None

__all__ = ["LogHandler", "in_server", "worker_id"]

_LEVELS: Final = ((logging.CRITICAL, 4), (logging.ERROR, 3), (logging.WARNING, 2), (logging.INFO, 1))


def in_server() -> bool:
    """Whether this process belongs to a running server."""
    return _myserver is not None


def worker_id() -> int:
    """The number of this worker, from 1; 0 while the application is being loaded and outside."""
    return _myserver.worker_id() if _myserver else 0


class LogHandler(logging.Handler):
    """A logging handler that writes to the server's error log, one line a record.

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
                _myserver.log(level, text)
        except Exception:
            self.handleError(record)
