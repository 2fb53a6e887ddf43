"""What slow readers get: streams of many kinds, and files that must stay as they are."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from told import event, wait_until_let

BLOCK = 65536


def block(number: int) -> bytes:
    """No two that follow each other are alike."""
    return bytes([number % 251]) * BLOCK


def finite(count: int) -> Iterator[bytes]:
    """So many blocks, as fast as they are taken."""
    for number in range(count):
        yield block(number)


def said(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The same, and the log says when the application is done."""
    try:
        yield from pieces
    finally:
        event(f"{name} done.")


def breaking(count: int) -> Iterator[bytes]:
    """It fails behind so many blocks."""
    yield from finite(count)
    raise ValueError("the stream broke")


def endless() -> Iterator[bytes]:
    """As fast as they are taken, for ever."""
    while True:
        yield b"x" * BLOCK


def events() -> Iterator[bytes]:
    """Server-sent events."""
    for number in range(600):
        yield b"data: %d\n\n" % number
        time.sleep(0.1)


def paused(count: int, name: str) -> Iterator[bytes]:
    """Many blocks, then nothing until it is let, then one."""
    yield from finite(count)
    event(f"{name} pauses.")
    wait_until_let(name)
    yield b"the end"


def opened(path: str, before_close: Callable[[], None]) -> BinaryIO:
    """A file that is locked while it is open, and says when it is closed. As Django does it."""
    file = open(path, "rb")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_SH)
    close = file.close

    def say_and_close() -> None:
        before_close()
        event(f"closed {path}.")
        close()

    file.close = say_and_close  # type: ignore[method-assign]
    return file


def fail() -> None:
    """What a bad close() does."""
    raise ValueError("close broke")


def fork() -> None:
    """A copy that leaves as a request may."""
    if os.fork() == 0:
        sys.exit(0)


CLOSES: dict[str, Callable[[], None]] = {
    "forking": fork,
    "locked": lambda: None,
    "failing": fail,
    "hanging": lambda: wait_until_let("close"),
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """/KIND?ARGUMENT."""
    kind, argument = environ["PATH_INFO"].lstrip("/"), environ["QUERY_STRING"]
    headers = [("Content-Type", "text/plain")]
    if kind == "":
        start_response("200 OK", headers)
        return [b"hello"]
    if kind == "length":
        headers.append(("Content-Length", str(int(argument) * BLOCK)))
    write = start_response("200 OK", headers)
    if kind == "write":
        for number in range(int(argument)):
            write(block(number))
        event("write done.")
        return []
    if kind in CLOSES:
        return environ["wsgi.file_wrapper"](opened(argument, CLOSES[kind]))
    streams = {
        "finite": lambda: said(finite(int(argument)), "finite"),
        "length": lambda: said(finite(int(argument)), "length"),
        "breaking": lambda: said(breaking(int(argument)), "breaking"),
        "endless": endless,
        "events": events,
        "paused": lambda: paused(int(argument), "paused"),
    }
    return streams[kind]()
