"""Fast and slow, small and large, good and bad answers: what stress and races are made of.

Every answer that has a body begins with the query, so that a client knows whose answer it got.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from told import event, is_let, wait_until_let

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]

BIG_BYTES = 3 * 1024 * 1024
BIG = b"0123456789abcdef" * (BIG_BYTES // 16)

FILE = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
FILE.write(BIG)
FILE.flush()

PLACES: dict[str, Callable[[Environ, Start], Iterable[bytes]]] = {}


class Closing:
    """An iterable that counts its close()."""

    opened = closed = 0
    lock = threading.Lock()

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = pieces
        with self.lock:
            Closing.opened += 1

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        """Count."""
        with self.lock:
            Closing.closed += 1


def place(function: Callable[[Environ, Start], Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Serve /NAME with the function of that name."""
    PLACES[function.__name__] = function
    return function


def number(environ: Environ, name: str, default: float) -> float:
    """A number of the query."""
    return float(parse_qs(environ["QUERY_STRING"]).get(name, [default])[0])


def mark(environ: Environ) -> bytes:
    """What an answer begins with."""
    return environ["QUERY_STRING"].encode() + b"\n"


def answer(environ: Environ, start: Start, more: bytes = b"") -> list[bytes]:
    """A small answer, its length known."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [mark(environ) + more]


@place
def fast(environ: Environ, start: Start) -> Iterable[bytes]:
    """At once."""
    return answer(environ, start)


@place
def pid(environ: Environ, start: Start) -> Iterable[bytes]:
    """Which process and how many threads it has used."""
    return answer(environ, start, str(os.getpid()).encode())


@place
def sleep(environ: Environ, start: Start) -> Iterable[bytes]:
    """Wait without the interpreter."""
    time.sleep(number(environ, "ms", 10) / 1000)
    return answer(environ, start)


@place
def held(environ: Environ, start: Start) -> Iterable[bytes]:
    """Wait until the test lets it go on."""
    event("held.")
    wait_until_let("go")
    return answer(environ, start)


@place
def cpu(environ: Environ, start: Start) -> Iterable[bytes]:
    """Compute with it."""
    end = time.thread_time() + number(environ, "ms", 5) / 1000
    while time.thread_time() < end:
        sum(range(500))
    return answer(environ, start)


@place
def duty(environ: Environ, start: Start) -> Iterable[bytes]:
    """Compute for a tenth of the time, until the test lets it end."""
    event("duty.")
    while not is_let("duty"):
        enough = time.thread_time() + 0.005
        while time.thread_time() < enough:
            sum(range(500))
        time.sleep(0.045)
    return answer(environ, start)


@place
def hold(environ: Environ, start: Start) -> Iterable[bytes]:
    """Keep all other threads from the interpreter: one long call that does not give it up."""
    pow(3, 10 ** int(number(environ, "digits", 5)))
    return answer(environ, start)


@place
def big(environ: Environ, start: Start) -> Iterable[bytes]:
    """More than a socket takes at once."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [mark(environ) + BIG]


@place
def stream(environ: Environ, start: Start) -> Iterable[bytes]:
    """Piece by piece, of unknown length."""
    start("200 OK", [("Content-Type", "text/plain")])
    count, size = int(number(environ, "n", 20)), int(number(environ, "size", 1000))
    pause = number(environ, "ms", 0) / 1000

    def pieces() -> Iterator[bytes]:
        yield mark(environ)
        for _ in range(count):
            if pause:
                time.sleep(pause)
            yield b"x" * size

    return Closing(pieces())


@place
def write(environ: Environ, start: Start) -> Iterable[bytes]:
    """The same through write()."""
    send = start("200 OK", [("Content-Type", "text/plain")])
    send(mark(environ))
    for _ in range(int(number(environ, "n", 20))):
        send(b"x" * 1000)
    return []


@place
def file(environ: Environ, start: Start) -> Iterable[bytes]:
    """A file by the kernel."""
    start("200 OK", [("Content-Length", str(BIG_BYTES))])
    # Not a dup: all processes would share one position.
    return environ["wsgi.file_wrapper"](open(f"/proc/self/fd/{FILE.fileno()}", "rb"))


@place
def upload(environ: Environ, start: Start) -> Iterable[bytes]:
    """The length and hash of the body."""
    digest, length = hashlib.sha1(), 0
    while piece := environ["wsgi.input"].read(65536):
        digest.update(piece)
        length += len(piece)
    return answer(environ, start, f"{length} {digest.hexdigest()}".encode())


@place
def boom(environ: Environ, start: Start) -> Iterable[bytes]:
    """Fail."""
    raise RuntimeError("as ordered")


@place
def torn(environ: Environ, start: Start) -> Iterable[bytes]:
    """Fail in the middle of the answer."""
    start("200 OK", [("Content-Type", "text/plain")])

    def pieces() -> Iterator[bytes]:
        yield mark(environ)
        raise RuntimeError("as ordered")

    return Closing(pieces())


@place
def closed(environ: Environ, start: Start) -> Iterable[bytes]:
    """How many iterables are open in this process."""
    return answer(environ, start, str(Closing.opened - Closing.closed).encode())


@place
def fork(environ: Environ, start: Start) -> Iterable[bytes]:
    """Fork, and let the child run on through the server as if nothing had happened."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return answer(environ, start, b"parent")
    return answer(environ, start, b"child")


@place
def elsewhere(environ: Environ, start: Start) -> Iterable[bytes]:
    """write() on a thread that is not the request's."""
    send = start("200 OK", [("Content-Type", "text/plain")])
    said: list[str] = []

    def other() -> None:
        try:
            send(b"x" * 1000)
        except RuntimeError as error:
            said.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    return [mark(environ) + "".join(said).encode()]


@place
def memory(environ: Environ, start: Start) -> Iterable[bytes]:
    """Resident KiB of this process."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return answer(environ, start, str(pages * os.sysconf("SC_PAGE_SIZE") // 1024).encode())


def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Run what the path names."""
    return PLACES[environ["PATH_INFO"].strip("/") or "fast"](environ, start_response)
