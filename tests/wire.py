"""HTTP/1.1 as bytes: requests that no well-behaved client would send, answers seen exactly."""

from __future__ import annotations

import fcntl
import json
import socket
import termios
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from harness import PATIENCE_S, Server, wait_for


@dataclass
class Answer:
    """One response, down to how it ended."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False  # as long as its head said, or ended by a clean close
    reset: bool = False  # the connection was reset while it was read

    def all(self, name: str) -> list[str]:
        """The values of every header of this name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a header that must not stand twice; None when it is missing."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        assert self.status == 200, self
        return json.loads(self.body)


class Wire:
    """A connection that speaks bytes."""

    def __init__(
        self,
        server: Server,
        timeout: float = PATIENCE_S,
        name: str | None = None,
        source: str | None = None,
    ) -> None:
        self.socket = server.connect(timeout, name, source)
        self.stream: BinaryIO = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both ends of what the connection is here."""
        self.stream.close()
        self.socket.close()

    def send(self, data: bytes) -> Wire:
        """Send all of it."""
        self.socket.sendall(data)
        return self

    def request(self, method: str, target: str, body: bytes | None = None, *lines: str) -> Wire:
        """Send a request with a Host and, if there is a body, its length."""
        return self.send(request(method, target, body, *lines))

    def ask(
        self, target: str, *lines: str, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        """One request and its answer."""
        return self.request(method, target, body, *lines).answer(method)

    def head(self) -> Answer:
        """The next head; an Answer without status when the connection has ended instead."""
        answer = Answer()
        line = self.stream.readline()
        if not line:
            return answer
        assert line.startswith(b"HTTP/1.1 ") and line.endswith(b"\r\n"), line
        answer.status, answer.reason = int(line[9:12]), line[13:-2].decode("latin-1")
        while (line := self.stream.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), line
            name, colon, value = line[:-2].decode("latin-1").partition(": ")
            assert colon, line
            answer.headers.append((name, value))
        return answer

    def answer(self, method: str = "GET") -> Answer:
        """The next response."""
        answer = Answer()
        try:
            answer = self.head()
            self.read_body(answer, method)
        except ConnectionResetError:
            answer.reset = True
        return answer

    def read_body(self, answer: Answer, method: str = "GET") -> None:
        """Read what follows the head."""
        if answer.status == 0:
            return
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            answer.complete = True
        elif answer.get("Transfer-Encoding"):
            assert answer.get("Transfer-Encoding") == "chunked"
            assert answer.get("Content-Length") is None
            while piece := self.chunk():
                answer.body += piece
            answer.complete = piece is not None
        elif (length := answer.get("Content-Length")) is not None:
            answer.body = self.stream.read(int(length))
            answer.complete = len(answer.body) == int(length)
        else:
            answer.body = self.stream.read()
            answer.complete = True

    def chunk(self) -> bytes | None:
        """One chunk; b"" is the last, None says that the connection ended before."""
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            return None
        length = int(line, 16)
        piece = self.stream.read(length + 2)
        if len(piece) < length + 2:
            return None
        assert piece.endswith(b"\r\n"), piece[-10:]
        return piece[:-2]

    def is_closed(self) -> bool:
        """Whether the server ends the connection without another byte."""
        try:
            return self.stream.read() == b""
        except ConnectionResetError:
            return True

    def is_open(self) -> bool:
        """Whether another request on the connection is answered."""
        return self.ask("/").complete

    def is_silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing has come so far, and no end of the connection either."""
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)


def request(method: str, target: str, body: bytes | None = None, *lines: str) -> bytes:
    """The bytes of a request; its version is 1.1 unless the target ends with another."""
    line = target if " HTTP/" in target else f"{target} HTTP/1.1"
    head = [f"{method} {line}", *lines]
    if not any(line.lower().startswith("host:") for line in lines):
        head.insert(1, "Host: test.example")
    if body is not None and not any("transfer-encoding" in line.lower() for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(body: bytes, step: int) -> bytes:
    """A body in chunks of `step` bytes."""
    pieces = [body[i : i + step] for i in range(0, len(body), step)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def is_read(client: socket.socket) -> bool:
    """Whether the other end of a unix socket has read all that was sent."""
    return not any(fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))


def ask(server: Server, target: str, *lines: str, **options: Any) -> Answer:
    """One request on a connection of its own."""
    with Wire(server) as wire:
        return wire.ask(target, *lines, **options)


def wire_to(s: Server, stack: ExitStack, number: int) -> Wire:
    """A kept-alive connection that this worker has; the answer to /pid begins with its pid."""
    found = s.log_contains(rf"worker {number} \(pid (\d+)\) serves")
    assert found

    def try_another() -> Wire | None:
        wire = stack.enter_context(Wire(s, 20))
        return wire if wire.ask("/pid").text.split()[0] == found[1] else None

    return wait_for(try_another, what=f"worker {number} to accept somebody")


def let(server: Server, name: str) -> None:
    """Let an application go on that waits for this word (see `apps/told.py`)."""
    (Path(server.dir) / f"let-{name}").touch()
