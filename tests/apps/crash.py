"""Ends its process in several ways.

A file `crash` in the working directory lets every new worker die before it serves.
"""

import os
import signal
import subprocess


def die_if_told() -> None:
    """End a worker that was just forked."""
    if os.path.exists("crash"):
        os._exit(7)


def make_orphan() -> None:
    """Leave a process behind whose parent is gone."""
    subprocess.run(["sh", "-c", "sleep 1000 &"], check=True)


def die_of_segv() -> None:
    """As a bug in C code does, also where a sanitizer has a handler for it."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


os.register_at_fork(after_in_child=die_if_told)

ACTIONS = {
    "/": lambda: None,
    "/exit": lambda: os._exit(7),
    "/abort": os.abort,
    "/segv": die_of_segv,
    "/orphan": make_orphan,
}


def application(environ, start_response):
    """Do what the path says, then answer with the pid."""
    ACTIONS[environ["PATH_INFO"]]()
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
