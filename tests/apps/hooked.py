"""An application with every hook, each of which says in the log that it was called. $DOES names what
one of them does beside.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import myserver
from told import event, wait_until_let

DOES = os.environ.get("DOES", "")
KEPT: list[object] = []


@myserver.prefork
def before() -> None:
    """In the mold."""
    event(f"prefork {os.getpid()}")


@myserver.worker_start
def start() -> None:
    """In each worker."""
    event(f"worker_start {myserver.worker_id()} {os.getpid()}")


@myserver.when_ready
def ready() -> None:
    """In the process for hooks."""
    event(f"when_ready {os.getpid()}")
    if DOES == "port":
        KEPT.append(socket.create_server(("127.0.0.1", int(os.environ["HOOK_PORT"]))))
    elif DOES == "thread":
        threading.Thread(target=tick, daemon=True).start()
    elif DOES == "fails":
        raise ValueError("not ready at all")
    elif DOES == "fork" and os.fork() == 0:
        return


@myserver.worker_exit
def leave(reason: str) -> None:
    """In a worker that ends."""
    if DOES == "fails":
        sys.exit("no exit")
    event(f"worker_exit {reason} {os.getpid()}")


@myserver.child_exit
def gone(worker_id: int, pid: int, reason: str) -> None:
    """In the process for hooks: a worker has ended."""
    alive = Path(f"/proc/{pid}").exists()
    event(f"child_exit {worker_id} {pid} {reason} in {os.getpid()}{' alive' * alive}")
    if DOES == "hangs":
        time.sleep(1000)
    elif DOES == "waits":
        wait_until_let("go")
    elif DOES == "fails":
        raise KeyError(pid)


@myserver.child_exit
def gone_too(worker_id: int, pid: int, reason: str) -> None:
    """After the first, whatever that one does."""
    event(f"child_exit again {pid}")


def tick() -> None:
    """Goes on while nothing happens."""
    for number in range(100_000):
        event(f"tick {number}")
        time.sleep(0.05)


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The pid, or what this worker has that only the hooks' process should have."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/kept":
        return [f"{len(KEPT)} {threading.active_count()}".encode()]
    return [str(os.getpid()).encode()]
