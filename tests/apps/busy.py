"""Keeps threads and processes busy in ways that the test controls; / says which ones answer."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from told import event, wait_until_let

LOCK = threading.Lock()
LOCAL = threading.local()
running = most = 0


@contextmanager
def counted() -> Iterator[None]:
    """Count how many are in here at once."""
    global running, most
    with LOCK:
        running += 1
        most = max(most, running)
    try:
        yield
    finally:
        with LOCK:
            running -= 1


def who(query: str) -> dict[str, Any]:
    """Process and thread, and how many requests this thread had."""
    LOCAL.requests = getattr(LOCAL, "requests", 0) + 1
    return {"pid": os.getpid(), "thread": threading.get_ident(), "requests": LOCAL.requests}


def wait(query: str) -> dict[str, Any]:
    """Wait until told; the most requests there ever were at once."""
    with counted():
        event(f"in {query}.")
        wait_until_let(query)
    return {"most": most, "pid": os.getpid()}


def compute(query: str) -> dict[str, Any]:
    """Hold the interpreter, but for its switch interval, until told."""
    with counted():
        event(f"in {query}.")
        while not os.path.exists(f"let-{query}"):
            for _ in range(1_000_000):
                pass
    event(f"computed {query}.")
    return {}


def beat() -> None:
    """What a background thread does."""
    while True:
        with open("beats", "a") as file:
            file.write(".")
        time.sleep(0.005)


def background(query: str) -> dict[str, Any]:
    """Start a thread that outlives the request."""
    threading.Thread(target=beat, daemon=True).start()
    return {}


def run_program(query: str) -> dict[str, Any]:
    """Another interpreter, with the same packages."""
    code = "import sys; print(sys.prefix); sys.exit(5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return {"prefix": done.stdout.strip(), "mine": sys.prefix, "status": done.returncode}


def square(number: int) -> int:
    """Work for another process."""
    return number * number


def run_processes(query: str) -> dict[str, Any]:
    """A pool of processes, started the way the query says."""
    with multiprocessing.get_context(query).Pool(2) as pool:
        return {"squares": pool.map(square, range(5))}


def fork(query: str) -> dict[str, Any]:
    """A child that ends at once, or by the signal whose number is given."""
    number = int(query)
    pid = os.fork()
    if pid == 0:
        time.sleep(60 if number else 0)
        os._exit(7)
    if number:
        os.kill(pid, number)
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


CASES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/": who,
    "/wait": wait,
    "/compute": compute,
    "/background": background,
    "/program": run_program,
    "/processes": run_processes,
    "/fork": fork,
}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path says and answer in JSON."""
    body = json.dumps(CASES[environ["PATH_INFO"]](environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
