"""Says which requests reach it, and where; /500 and others answer what their name says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

import myserver
import myserver.boot
from told import Body, event

event(f"loaded in {os.getpid()}")
# A file changes what the next reload finds.
ROOT_STATUS = os.environ.get("ROOT_STATUS", "200")
if os.path.exists("root"):
    with open("root") as file:
        ROOT_STATUS = file.read()
close_connections = myserver.boot.close_connections


def told_close_connections() -> None:
    """The server calls it before the last round."""
    event("connections are closed.")
    close_connections()


def answer_root(environ: dict[str, str]) -> str:
    """The status of /, if it has one."""
    scheme = environ["wsgi.url_scheme"]
    if ROOT_STATUS == "exit":
        os._exit(70)
    if ROOT_STATUS == "raise":
        raise ValueError("as asked")
    if ROOT_STATUS == "hangs":
        time.sleep(600)
    if ROOT_STATUS == "asks":
        import urllib.request  # here: what it loads leaks, which ASan tells of in other tests

        url = f"http://{environ['SERVER_NAME']}:{environ['SERVER_PORT']}/204"
        with urllib.request.urlopen(url) as answer:
            return str(answer.status)
    if ROOT_STATUS == "slow":
        time.sleep(0.5)
        return "200"
    if ROOT_STATUS.startswith("secure"):
        return (ROOT_STATUS[6:] or "200") if scheme == "https" else "301"
    return ROOT_STATUS


if ROOT_STATUS == "hangs":  # and does not want to be disturbed
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
if ROOT_STATUS == "unseen":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ROOT_STATUS = "exit"
if ROOT_STATUS == "slow":
    myserver.boot.close_connections = told_close_connections


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/raise raises, /import imports (?404 is then its status), /broken fails if there is a file of that name."""
    path = environ["PATH_INFO"]
    words = [environ["REQUEST_METHOD"], path, environ["HTTP_HOST"], environ["QUERY_STRING"]]
    words[-1] += f", {environ.get('HTTP_X_KEY', 'no key')}"
    if environ["wsgi.url_scheme"] == "https":
        words.append("https")
    event(f"asked {' '.join(words)}; {myserver.worker_id()}.")
    event(f"asked by {environ.get('HTTP_USER_AGENT')}.")
    if path == "/raise":
        raise ValueError("as asked")
    if path == "/import":
        import colorsys  # noqa: F401
    status = next((s for s in (path[1:], environ["QUERY_STRING"]) if s.isdigit()), "200")
    if path == "/":
        status = answer_root(environ)
    if path == "/broken" and os.path.exists("broken"):
        status = "503"
    write = start_response(f"{status} So", [("Content-Type", "text/plain")])
    if path.startswith("/write"):
        write(b"written")
    if path == "/write_and_raise":
        raise ValueError("as asked")
    return Body(f"{path} in {myserver.worker_id()}", [b"a", b"b"])
