"""Processes that help: $KIND says which, $WHEN whether they are made at import or by a request."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from common import Environ, serve

KIND, WHEN = os.environ["KIND"], os.environ["WHEN"]
LINES = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
lock = threading.Lock()
ask: Callable[[str], str] | None = None


def echo(user: str) -> str:
    """What a process of the pool does."""
    return user


def make() -> Callable[[str], str]:
    """Starts the processes; the returned function asks them."""
    if KIND == "executor":
        executor = ProcessPoolExecutor(2)
        return lambda user: executor.submit(echo, user).result(timeout=5)
    if KIND == "pool":
        pool = multiprocessing.Pool(2)
        return lambda user: pool.apply_async(echo, (user,)).get(timeout=5)
    if KIND == "manager":
        shared = multiprocessing.Manager().dict()
        shared["import"] = "import"

        def through_manager(user: str) -> str:
            shared[user] = user
            return shared.pop(user)

        return through_manager
    helper = subprocess.Popen(
        [sys.executable, "-c", LINES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def through_helper(user: str) -> str:
        with lock:
            helper.stdin.write(f"{user}\n")
            helper.stdin.flush()
            return helper.stdout.readline().strip()

    return through_helper


def work(environ: Environ, user: str) -> dict[str, Any]:
    """What the processes answer."""
    global ask
    with lock:
        if ask is None:
            ask = make()
    return {"echo": ask(user)}


if WHEN == "import":
    ask = make()
application = serve(work)
