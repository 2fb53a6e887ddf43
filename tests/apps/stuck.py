"""Requests that do not end by themselves, each in its own way; / answers at once with the pid."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import threading
import time

from told import is_let, wait_until_let

PAIRS: list[tuple[socket.socket, socket.socket]] = []
LOCK = threading.Lock()
LOCK.acquire()


def say(text: str) -> None:
    """Print in one piece: print() writes the end of the line by itself."""
    os.write(1, f"{text}\n".encode())


def recv() -> None:
    """Wait for bytes that nobody sends."""
    PAIRS.append(socket.socketpair())
    PAIRS[-1][0].recv(1)


def recv_timeout() -> None:
    """The same in poll(2), as with every socket that has a timeout."""
    PAIRS.append(socket.socketpair())
    PAIRS[-1][0].settimeout(600)
    PAIRS[-1][0].recv(1)


def lock() -> None:
    """Wait for a lock that nobody gives back."""
    LOCK.acquire()


def sleep() -> None:
    """Sleep for long."""
    time.sleep(600)


def regex() -> None:
    """Backtrack in C with the GIL held, practically for ever."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def loop() -> None:
    """Compute in Python."""
    while True:
        pass


def swallow() -> None:
    """Compute, and not be interrupted."""
    while True:
        try:
            loop()
        except BaseException as error:
            say(f"swallowed {type(error).__name__}")


def database() -> None:
    """Let PostgreSQL sleep."""
    import psycopg

    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT pg_sleep(600)")


WAYS = {
    f"/{f.__name__}": f for f in (recv, recv_timeout, lock, sleep, regex, loop, swallow, database)
}


def drip(environ, start_response):
    """Begin an answer and get stuck in it."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun"
    lock()


def flood(environ, start_response):
    """Answer with more than any socket takes at once."""
    start_response("200 OK", [("Content-Length", str(64 * 65536))])
    for _ in range(64):
        yield bytes(65536)


def hold(seconds: float) -> None:
    """Hold the GIL for so long, and say so: ctypes keeps it around functions of a PyDLL."""
    say("holds it")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def hold_until_opened(path: str) -> None:
    """Hold it until somebody writes to a pipe that has a name."""
    ctypes.PyDLL(None).open(path.encode(), os.O_RDONLY)


def busy(seconds: float) -> None:
    """Compute for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def busy_until_let() -> None:
    """Compute until told."""
    while not is_let("go"):
        pass


def late_file(environ, start_response):
    """Swallow the timeout, and answer with a file as if nothing had been."""
    with contextlib.suppress(BaseException):
        while True:
            time.sleep(0.01)
    start_response("200 OK", [])(b"x")
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))  # noqa: SIM115


def application(environ, start_response):
    """Get stuck as the path says; /sleep/1.5 and /busy/1.5 end after so long and answer."""
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    say(f"running {path}")
    if query.startswith("timeout="):
        environ["myserver.set_timeout"](float(query.removeprefix("timeout=")))
    if query.startswith("let="):
        wait_until_let(query.removeprefix("let="))
        if path in WAYS:
            environ["myserver.set_timeout"](0.1)
    if path == "/drip":
        return drip(environ, start_response)
    if path == "/late-file":
        return late_file(environ, start_response)
    if path == "/flood":
        return flood(environ, start_response)
    if path.startswith("/sleep/"):
        time.sleep(float(path.removeprefix("/sleep/")))
    elif path.startswith("/busy/"):
        busy(float(path.removeprefix("/busy/")))
    elif path == "/busy":
        busy_until_let()
    elif path == "/hold-until-opened":
        hold_until_opened("held")
    elif path.startswith("/signal/"):
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN if path.endswith("ignore") else lambda *_: None
        )
    elif path == "/hold-later":
        threading.Timer(0.3, hold, [600]).start()
    elif path == "/gone":
        while not environ["myserver.client_disconnected"]():
            time.sleep(0.01)
        say("the client has gone")
    elif path in WAYS:
        WAYS[path]()
    body = bytes(64 * 65536) if path == "/big" else str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
