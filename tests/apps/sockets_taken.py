"""An application that takes over the sockets of its clients, by each of the ways that there are.

/flask is Flask-Sock's; what else is answered is said by `ANSWERS`.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server

from told import event, wait_until_let

Environ = dict[str, Any]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: line\r\n\r\n"

flask = Flask(__name__)
sock = Sock(flask)


@sock.route("/flask")
def flask_echo(ws: Server) -> None:
    """The page of Flask-Sock's documentation."""
    while True:
        ws.send(ws.receive())


@flask.route("/flask/page")
def page() -> str:
    """Another page of the same application."""
    return "a page"


def echo(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """WebSocket by simple-websocket, without a framework."""
    ws = Server(environ, ping_interval=1)
    try:
        while True:
            ws.send(ws.receive())
    except ConnectionClosed as closed:
        event(f"closed {int(closed.reason)}")
    return []


def lines(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """A protocol of lines, on a file of the socket; it ends when the client says so, or has gone."""
    s = environ["myserver.socket"]()
    event(f"taken, {s.pending()} ahead, {s.gettimeout()}")
    s.sendall(SWITCH)
    with s.makefile("rwb") as file:
        for line in file:
            if line == b"bye\n":
                break
            file.write(line.upper())
            file.flush()
        else:
            event("the client has gone")
    start("200 OK", [("Content-Length", "9")])(b"is ")
    return [b"not", b"sent"]


def pieces(environ: Environ, start: Callable[..., object]) -> Iterator[bytes]:
    """Takes the socket in a generator."""
    s = environ["myserver.socket"]()
    s.sendall(SWITCH + s.recv(3) + s.recv(100))
    yield b"nothing"
    s.sendall(b"the end")
    s.close()
    s.close()
    yield b"of this"


def twice(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """Only one may have it."""
    s = environ["myserver.socket"]()
    try:
        environ["myserver.socket"]()
    except RuntimeError as error:
        s.sendall(SWITCH + str(error).encode())
    return []


def late(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """When the answer has begun."""
    write = start("200 OK", [("Content-Type", "text/plain")])
    write(b"begun: ")
    try:
        environ["myserver.socket"]()
    except RuntimeError as error:
        return [str(error).encode()]
    return [b"no error"]


def fails(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """An exception when it has the socket."""
    environ["myserver.socket"]().sendall(SWITCH)
    raise ValueError("in the middle")


def nothing(environ: Environ, start: Callable[..., object]) -> None:
    """No response at all."""
    environ["gunicorn.socket"].sendall(SWITCH)


def leaves(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """A thread that reads on when the request has returned, and says when it sees the end."""
    s = environ["myserver.socket"]()
    s.sendall(SWITCH)

    def read() -> None:
        try:
            event(f"thread has read {s.recv(100)!r}")
        except OSError as error:
            event(f"thread has got {error!r}")

    threading.Thread(target=read).start()
    time.sleep(0.05)
    return []


def limited(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """Sets itself a limit."""
    s = environ["myserver.socket"]()
    s.sendall(SWITCH)
    environ["myserver.set_timeout"](0.3)
    try:
        s.recv(100)
    finally:
        event("limited has ended")
    return []


def deaf(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """Does not care for the end of its socket."""
    environ["myserver.socket"]().sendall(SWITCH)
    wait_until_let("deaf")
    return []


def stolen(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """Waits until the watch has answered."""
    try:
        wait_until_let("stolen")
    except BaseException as error:  # RequestTimeout, which is what is tested
        try:
            environ["myserver.socket"]()
        except RuntimeError as second:
            event(f"{type(error).__name__}, then {second}")
    return []


def waits(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """By select, as programs with a timeout of their own do."""
    s = environ["gunicorn.socket"]
    s.sendall(SWITCH)
    ready, _, _ = select.select([s], [], [], 20)
    s.sendall(b"got " + s.recv(100) if ready else b"nothing")
    return []


def keys(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """Ignores what is offered, but looks at it."""
    found = [key for key in ("myserver.socket", "gunicorn.socket") if key in environ]
    text = f"{found} {len(repr(environ))} {hasattr(environ.get('gunicorn.socket'), '__deepcopy__')}"
    start("200 OK", [("Content-Type", "text/plain")])
    return [text.encode(), environ["wsgi.input"].read()]


def hello(environ: Environ, start: Callable[..., object]) -> list[bytes]:
    """The pid."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


ANSWERS: dict[str, Callable[[Environ, Callable[..., object]], Iterable[bytes] | None]] = {
    f"/{function.__name__}": function
    for function in (
        echo,
        lines,
        pieces,
        twice,
        late,
        fails,
        nothing,
        leaves,
        limited,
        deaf,
        stolen,
        waits,
        keys,
    )
}


def application(environ: Environ, start: Callable[..., object]) -> Iterable[bytes] | None:
    """What the path names."""
    if environ["PATH_INFO"].startswith("/flask"):
        return flask(environ, start)
    return ANSWERS.get(environ["PATH_INFO"], hello)(environ, start)
