"""Keeps what its requests have made, so that it shows which worker a process comes from.

`THREAD` in the environment: every worker has a thread of its own; `THREAD=ended`: which ends before
a fork. `CONNECTION`: a request opens a connection and leaves it open; `CYCLES`: each thread has
one, in a cycle of objects that nobody else knows, as Django does. `FORK`: the hook in the mold forks,
and the copy comes back from it.
"""

import json
import logging.handlers  # noqa: F401  the server looks for those among all objects
import os
import socket
import threading

import myserver
from told import event, wait_until_let

SERVED_BY = []  # workers that have filled this copy of the memory
CALLS = []
END = threading.Event()
threads = []
sockets = []
own = threading.local()


class Client:
    """Like a client that knows its parts, which know it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.me = self


@myserver.prefork
def prefork():
    """Say so; end the thread."""
    CALLS.append("prefork")
    own.__dict__.clear()
    if "FORK" in os.environ:
        os.fork()
    if os.environ.get("THREAD") == "ended":
        END.set()
        for thread in threads:
            thread.join()
        threads.clear()


@myserver.postfork
def postfork():
    """Say so; start the thread."""
    CALLS.append("postfork")
    if "THREAD" in os.environ:
        END.clear()
        threads.append(threading.Thread(target=END.wait, name="ticker", daemon=True))
        threads[0].start()


def application(environ, start_response):
    """Answer with what this process knows; `/slow` only when let, `/warm` without a trace."""
    path = environ["PATH_INFO"]
    if path != "/warm" and os.getpid() not in SERVED_BY:
        SERVED_BY.append(os.getpid())
    if path == "/slow":
        event("slow.")
        wait_until_let("slow")
    if "CONNECTION" in os.environ and not sockets and path != "/warm":
        sockets.extend(
            socket.create_connection(("127.0.0.1", int(os.environ["CONNECTION"]))) for _ in "1"
        )
    if "CYCLES" in os.environ and not hasattr(own, "client") and path != "/warm":
        own.client = Client(int(os.environ["CYCLES"]))
    known = {"pid": os.getpid(), "served_by": SERVED_BY, "calls": CALLS}
    body = json.dumps(known).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
