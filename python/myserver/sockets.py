"""Taking over the client's socket: WebSocket under WSGI.

A request that asks for an upgrade (RFC 9110 7.8) and has no body has two keys more in its environ:
`myserver.socket`, a function that hands the socket over, and `gunicorn.socket`, which stands for the
socket itself, for libraries that look there (simple-websocket, and with it Flask-Sock and
Flask-SocketIO), and takes it over when it is first used. An application that uses neither is
answered for as any other.

The C side calls `begin`; applications find the rest in their environ.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 60),  # seconds, until the kernel asks a silent client
    (socket.TCP_KEEPINTVL, 15),
    (socket.TCP_KEEPCNT, 4),  # then the socket is at its end
)

_take: Callable[[], tuple[int, bytes]]  # set by begin


class ClientSocket(socket.socket):
    """The socket of a client, blocking, in the hands of the application until its request returns.

    Then the server ends the connection, so closing it early is not needed, and closing it twice does no
    harm: this is a descriptor of its own. What the client has sent right behind its request comes first
    from `recv`, `recv_into` and `makefile`; as with TLS sockets, `select` does not see it, but `pending`.
    """

    def __init__(self, descriptor: int, ahead: bytes) -> None:
        super().__init__(fileno=descriptor)
        self._ahead = ahead
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.setblocking(True)
        if self.family in (socket.AF_INET, socket.AF_INET6):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                self.setsockopt(socket.IPPROTO_TCP, option, value)

    def pending(self) -> int:
        """How many bytes were sent ahead and are not read yet."""
        return len(self._ahead)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As of any socket."""
        if self._ahead:
            with self._lock:
                piece = self._ahead[:bufsize]
                if not flags & socket.MSG_PEEK:
                    self._ahead = self._ahead[len(piece) :]
            if piece or bufsize == 0:
                return piece
        return super().recv(bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As of any socket."""
        if not self._ahead:
            return super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer).cast("B") as view:
            piece = self.recv(nbytes or len(view), flags)
            view[: len(piece)] = piece
        return len(piece)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As of any socket of a connection."""
        return self.recv(bufsize, flags), None

    def _real_close(self, *arguments: Any) -> None:
        # The server has the connection open until the request returns; its client is told now. Not by
        # a process that the application has forked, which closes only its copy.
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                self.shutdown(socket.SHUT_WR)
        super()._real_close(*arguments)  # type: ignore[misc]


class _Deferred:
    """Stands for the socket until somebody calls one of its methods: then it is taken over."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: ClientSocket | None = None

    def _socket(self) -> ClientSocket:
        if self._found is None:
            self._found = take()
        return self._found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy, pickle and their like only look
            raise AttributeError(name)
        if self._found is None and callable(getattr(ClientSocket, name)):
            return lambda *arguments, **named: getattr(self._socket(), name)(*arguments, **named)
        return getattr(self._socket(), name)


def take() -> ClientSocket:
    """Takes over the client's socket, on the thread that runs its request.

    The server sends nothing more to this client; `timeout` does not count, until
    `environ["myserver.set_timeout"]` sets another one. When the request returns, whatever it returns, the
    connection ends. RuntimeError: it is taken already, the answer has begun, or the request has timed
    out.
    """
    return ClientSocket(*_take())


def offer(environ: dict[str, Any]) -> None:
    """Puts the keys into the environ of a request that asks for an upgrade."""
    environ["myserver.socket"] = take
    environ["gunicorn.socket"] = _Deferred()


def begin(function: Callable[[], tuple[int, bytes]]) -> Callable[[dict[str, Any]], None]:
    """To be called once: `function` returns a descriptor, and the bytes that came ahead. Returns what
    is to be called with each such environ.
    """
    global _take
    _take = function
    return offer
