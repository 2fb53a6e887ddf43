"""Hooks for prometheus_client's multiprocess mode: `hooks = myserver.prometheus`.

Needs the directory PROMETHEUS_MULTIPROC_DIR, which the option `env` may set. At the start of the server
files of earlier runs are removed, before the application is imported; before the workers are
forked, those of the process that they are forked from, which serves nothing; and when a worker has ended,
however it did, its gauges that count living processes only. Counters and histograms of ended
workers stay, as they are part of the sums.
"""

import os
from collections.abc import Iterator

import myserver

_NAME = "PROMETHEUS_MULTIPROC_DIR"


class DirectoryError(Exception):
    """The directory of the metrics cannot be used."""


def _directory() -> str:
    directory = os.environ.get(_NAME) or os.environ.get(_NAME.lower()) or ""
    if not directory:
        raise DirectoryError(
            f"hooks = myserver.prometheus needs {_NAME}: set it in the environment of the server, or "
            f"with env = {_NAME}=DIR"
        )
    return directory


def _files(of: str = "") -> Iterator[str]:
    """The files of all processes, or of the process with this pid."""
    for entry in os.scandir(_directory()):
        stem, extension = os.path.splitext(entry.name)
        if extension == ".db" and (not of or stem.rpartition("_")[2] == of):
            yield entry.path


def begin(cause: str) -> None:
    """Makes the directory; at "start" removes what earlier runs have left. Raises OSError."""
    os.makedirs(_directory(), exist_ok=True)
    for path in _files() if cause == "start" else ():
        os.unlink(path)


@myserver.prefork
def _leave_mold_out() -> None:
    """Removes the files of this process; each worker makes its own with its first value. Not where it
    has been a worker itself (refork-after): then what it has counted is in them.
    """
    if myserver.worker_id() > 0:
        return
    for path in _files(str(os.getpid())):
        os.unlink(path)


@myserver.child_exit
def _mark_dead(_number: int, pid: int, _reason: str) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
