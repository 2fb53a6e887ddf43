"""An application that has, or does, what a fork breaks. $HAS names it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import myserver
from told import event

HAS = os.environ.get("HAS", "")


@myserver.prefork
def before() -> None:
    """In the mold."""
    event(f"prefork {os.getpid()}")


@myserver.prefork
def before_too() -> None:
    """In the mold, after the first."""
    event("prefork again")


@myserver.postfork
def after() -> None:
    """In each worker."""
    event(f"postfork {os.getpid()} is worker {myserver.worker_id()}")


os.register_at_fork(
    before=lambda: event("at fork, before"),
    after_in_parent=lambda: event(f"at fork, parent {os.getpid()}"),
    after_in_child=lambda: event(f"at fork, child {os.getpid()}"),
)

if HAS == "executor":
    executor = ThreadPoolExecutor(2)
    assert list(executor.map(str, range(8))) == [str(i) for i in range(8)]
elif HAS == "busy executor":
    executor = ThreadPoolExecutor(2, thread_name_prefix="sender")
    executor.submit(time.sleep, 1000)
elif HAS == "thread":
    threading.Thread(target=time.sleep, args=(1000,), name="uploader", daemon=True).start()
elif HAS == "socket":
    listening = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection(listening.getsockname())
elif HAS == "slow import":
    time.sleep(7)
elif HAS == "children in postfork":

    @myserver.postfork
    def begin() -> None:
        """A program and a process of its own, which are ended as anywhere."""
        sleeper = subprocess.Popen(["sleep", "600"])
        sleeper.terminate()
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        title = "starting"
        while "starting" in title:  # it says what it is when it runs
            time.sleep(0.01)
            title = Path(f"/proc/{child.pid}/cmdline").read_text().strip("\0")
        child.terminate()
        child.join()
        event(f"ended {sleeper.wait()} and {child.exitcode}, {title}")

elif HAS == "import in postfork":
    myserver.postfork(lambda: importlib.import_module("colorsys"))
elif HAS == "forking prefork":
    myserver.prefork(lambda: None if os.fork() else event("copied"))
elif HAS == "failing prefork":
    myserver.prefork(lambda: 1 // 0)
elif HAS == "failing postfork":
    myserver.postfork(lambda: 1 // 0)


def forked() -> str:
    """A child of the worker's own."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def leaving() -> str:
    """A child that believes it is the program."""
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    return str(os.waitpid(pid, 0)[1])


ANSWERS: dict[str, Callable[[], str]] = {
    "/": lambda: str(os.getpid()),
    "/executor": lambda: ",".join(executor.map(str, range(8))),
    "/fork": forked,
    "/import": lambda: importlib.import_module("wave").__name__,
    "/leaves": leaving,
    "/subprocess": lambda: subprocess.run(["echo", "hello"], capture_output=True).stdout.decode(),
    "/threads": lambda: ",".join(thread.name for thread in threading.enumerate()),
}


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """What the path names."""
    answer = ANSWERS[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
