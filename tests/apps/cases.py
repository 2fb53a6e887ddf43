"""One small application per question to the server: the first part of the path names it.

Those made with @valid run inside `wsgiref.validate`; the others break a rule on purpose, or need
what the validator would hide, such as the file wrapper itself. The query names the request.
"""

from __future__ import annotations

import ast
import functools
import gzip
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote
from wsgiref.validate import validator

from django.core.files.base import ContentFile, File

from told import Body, event, wait_until_let

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
App = Callable[[Environ, Start], Iterable[bytes]]

TEXT = ("Content-Type", "text/plain")
CASES: dict[str, App] = {}
kept: dict[str, Any] = {}


def raw(case: App) -> App:
    """Register a case as it is."""
    CASES[case.__name__] = case
    return case


def valid(case: App) -> App:
    """Register a case inside the validator."""
    CASES[case.__name__] = validator(case)
    return case


def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Run the case that the path names; / says hello."""
    name = environ["PATH_INFO"].split("/")[1] or "hello"
    return CASES[name](environ, start_response)


def text(start_response: Start, body: str | bytes, *headers: tuple[str, str]) -> list[bytes]:
    """A plain answer."""
    start_response("200 OK", [TEXT, *headers])
    return [body if isinstance(body, bytes) else body.encode()]


def query(environ: Environ) -> str:
    """The query, decoded."""
    return unquote(environ["QUERY_STRING"])


@raw
def hello(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Answer."""
    return text(start_response, "hello")


@valid
def echo(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Method, query and body."""
    body = environ["wsgi.input"].read(-1)
    said = f"{environ['REQUEST_METHOD']} {environ['QUERY_STRING']} ".encode() + body
    return text(start_response, said)


# ---- environ


def describe(value: Any) -> list[str]:
    """Type and value."""
    return [type(value).__name__, value if isinstance(value, str) else repr(value)]


@valid
def environ(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """All of it, with types; then spoil it for the next request."""
    seen = {key: describe(value) for key, value in environ.items()}
    seen["type"] = describe(environ)
    environ["SPOILT"] = "yes"
    environ["wsgi.url_scheme"] = "gopher"
    return text(start_response, json.dumps(seen))


@valid
def errors(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Any text goes to the log."""
    log = environ["wsgi.errors"]
    log.write("event: surrogate \udce9 emoji \U0001f40d nul-free\n")
    log.writelines(["event: first line\n", "event: second line\n"])
    log.flush()
    return text(start_response, "ok")


# ---- input

READS: dict[str, Callable[[Any], Any]] = {
    "read": lambda i: [i.read()],
    "read-1": lambda i: [i.read(-1)],
    "read-none": lambda i: [i.read(None)],
    "read0": lambda i: [i.read(0), i.read(3), i.read(0), i.read(-1)],
    "read7": lambda i: list(iter(lambda: i.read(7), b"")),
    "read-more": lambda i: [i.read(10**9)],
    "readline": lambda i: list(iter(i.readline, b"")),
    "readline-1": lambda i: list(iter(lambda: i.readline(-1), b"")),
    "readline-none": lambda i: list(iter(lambda: i.readline(None), b"")),
    "readline0": lambda i: [i.readline(0), i.readline()],
    "readline3": lambda i: list(iter(lambda: i.readline(3), b"")),
    "readlines": lambda i: i.readlines(),
    "readlines-none": lambda i: i.readlines(None),
    "readlines-hint": lambda i: [i.readlines(4), i.readlines(1), i.readlines(0)],
    "iterate": lambda i: list(i),
    "mixed": lambda i: [i.read(2), i.readline(), next(i), i.readlines(1), i.read()],
    "end": lambda i: [i.read(), i.read(), i.read(1), i.readline(), i.readlines(), list(i)],
}
BAD_READS: dict[str, Callable[[Any], Any]] = {
    "text": lambda i: i.read("1"),
    "float": lambda i: i.readline(1.5),
    "two": lambda i: i.read(1, 2),
    "huge": lambda i: i.read(10**30),
    "lines": lambda i: i.readlines("1"),
}


def result_of(function: Callable[[Any], Any], argument: Any) -> str:
    """What a call gives or raises."""
    try:
        return repr(function(argument))
    except Exception as error:
        return f"raised {type(error).__name__}"


@raw
def reads(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """What a way of reading gives here, and what it gives of a BytesIO with the same bytes."""
    stream, way = environ["wsgi.input"], query(environ)
    if way in BAD_READS:
        return text(start_response, result_of(BAD_READS[way], stream))
    given = READS[way](stream)
    expected = READS[way](io.BytesIO(environ["HTTP_X_BODY"].encode().replace(b"|", b"\n")))
    same = {"given": repr(given), "expected": repr(expected)}
    return text(start_response, json.dumps(same))


@valid
def lines(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """How many lines and bytes the body has, read line by line."""
    count = length = 0
    for line in environ["wsgi.input"]:
        count += 1
        length += len(line)
    return text(start_response, f"{count} {length} {environ.get('CONTENT_LENGTH')}")


@raw
def keep_input(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Keep what ends with this request."""
    kept["input"] = environ["wsgi.input"]
    kept["start_response"] = start_response
    kept["write"] = start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@raw
def use_kept(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Use it in another one."""
    tries = {
        "read": lambda: kept["input"].read(),
        "readline": lambda: kept["input"].readline(),
        "readlines": lambda: kept["input"].readlines(),
        "next": lambda: next(kept["input"]),
        "start_response": lambda: kept["start_response"]("200 OK", []),
        "write": lambda: kept["write"](b"forged"),
    }
    said = {name: result_of(lambda call: call(), call) for name, call in tries.items()}
    return text(start_response, json.dumps(said))


# ---- start_response, write


@raw
def twice(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A second call without exc_info."""
    start_response("200 OK", [TEXT])
    try:
        start_response("404 Not Found", [TEXT])
    except Exception as error:
        return [f"raised {type(error).__name__}".encode()]
    return [b"accepted"]


BAD_STARTS: dict[str, tuple[Any, ...]] = {
    "value": ("200 OK", [("X-Bad", "a\nb")]),
    "type": ("200 OK", [("X-Bad", 1)]),
    "status": ("OK", [TEXT]),
    "exc_info": ("200 OK", [TEXT], "no tuple"),
    "exc_info_late": ("200 OK", [("X Bad", "1")], (ValueError, ValueError(), None)),
}


@raw
def twice_after_error(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A first call that raises, and a second one without exc_info."""
    try:
        start_response(*BAD_STARTS[query(environ)])
    except (TypeError, ValueError):
        said = result_of(lambda call: call("200 OK", [TEXT]), start_response)
        start_response("404 Not Found", [TEXT], sys.exc_info())
    return [said.encode()]


@raw
def failed_start(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A call that raises, and a body."""
    result_of(lambda call: call("200", [TEXT]), start_response)
    return [b"without a head"]


@valid
def replaced(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Nothing has left: status and headers are replaced."""
    start_response("200 OK", [TEXT, ("X-Old", "1"), ("Content-Length", "100")])
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response(
            "404 Not Found", [TEXT, ("X-New", "1"), ("Content-Length", "4")], sys.exc_info()
        )
    return [b"gone"]


@raw
def replaced_by_keyword(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The same, and None is no exc_info."""
    start_response("200 OK", [TEXT], exc_info=None)
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response("404 Not Found", [TEXT], exc_info=sys.exc_info())
    return [b"gone"]


@raw
def replaced_late(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """Empty blocks are no output: the head can still be replaced."""
    start_response("200 OK", [TEXT, ("X-Old", "1")])
    yield b""
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response("404 Not Found", [TEXT, ("X-New", "1")], sys.exc_info())
    yield b""
    yield b"gone"


@raw
def too_late(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """After output the given exception comes back."""
    start_response("200 OK", [TEXT])
    yield b"begun"
    error = ValueError("too late")
    try:
        raise error
    except ValueError:
        try:
            start_response("500 Oops", [TEXT], sys.exc_info())
        except ValueError as again:
            event(f"the same: {again is error}.")
            raise


@raw
def no_exception(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """exc_info without an exception, after output."""
    start_response("200 OK", [TEXT])
    yield b"begun "
    for wrong in ((None, None, None), (), (1, 2, 3), (ValueError, 1, 2), "abc"):
        try:
            start_response("500 Oops", [TEXT], wrong)
        except Exception as error:
            yield f"{type(error).__name__} ".encode()


@raw
def bad_replacement(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """write() after a start_response that failed has no head to send."""
    write = start_response("200 OK", [TEXT])
    try:
        start_response("200 OK", [("bad name", "1")], (ValueError, ValueError(), None))
    except ValueError:
        pass
    try:
        write(b"headless")
    except RuntimeError as error:
        event(f"write raised {type(error).__name__}.")
        raise
    return [b"never"]


class Slow:
    """No header; to say so takes until somebody lets it."""

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()

    def __repr__(self) -> str:
        self.asked.set()
        self.let.wait()
        return "slow"


@raw
def fails_elsewhere(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """start_response on another thread, which fails for longer than the request lasts."""
    kept["slow"] = slow = Slow()

    def other() -> None:
        kept["said"] = result_of(lambda call: call("200 OK", [TEXT, slow]), start_response)

    kept["thread"] = thread = threading.Thread(target=other)
    thread.start()
    slow.asked.wait()
    return [b"body"]


@raw
def fails_at_last(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The request in which it has failed."""
    start_response("200 OK", [TEXT, ("X-Mine", "1")])
    kept["slow"].let.set()
    kept["thread"].join()
    return [kept["said"].encode()]


@raw
def bad(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """start_response with the arguments in the query."""
    start_response(*ast.literal_eval(query(environ)))
    return [b"body"]


@valid
def writes(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """write() comes before the iterable."""
    write = start_response("200 OK", [TEXT])
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"three ", b"four"]


@raw
def writes_big(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """More by write() than a socket takes at once."""
    write = start_response("200 OK", [TEXT, ("Content-Length", str(3 << 20))])
    for letter in b"abc":
        write(bytes([letter]) * (1 << 20))
    return []


@raw
def writes_past(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """write() beyond the length raises and sends nothing of it."""
    write = start_response("200 OK", [TEXT, ("Content-Length", "5")])
    write(b"abc")
    try:
        write(b"defg")
    except Exception as error:
        event(f"write raised {type(error).__name__}.")
    write(b"de")
    return []


@raw
def writes_text(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """write() takes bytes."""
    start_response("200 OK", [TEXT])("text")
    return []


class WritesWhenClosed(Body):
    """Calls write() and start_response in its close()."""

    def __init__(self, name, pieces, write, start_response):
        super().__init__(name, pieces)
        self.late = [lambda: write(b"late"), lambda: start_response("200 OK", [])]

    def close(self):
        """Too late for both."""
        for call in self.late:
            event(f"late: {result_of(lambda call: call(), call)}.")


@raw
def writes_when_closed(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Nothing may follow the end of a body."""
    write = start_response("200 OK", [TEXT])
    return WritesWhenClosed(query(environ), [b"one ", b"two"], write, start_response)


@valid
def steps(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """The second block is made when the client has the first."""
    start_response("200 OK", [TEXT])
    name = query(environ)
    yield b"first"
    wait_until_let(name)
    yield b""
    yield b"second"


@raw
def writes_in_steps(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The same by write()."""
    write = start_response("200 OK", [TEXT])
    write(b"first")
    wait_until_let(query(environ))
    write(b"second")
    return []


# ---- close(), and how bodies end


def failing(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces, then an exception."""
    yield from pieces
    raise ValueError("the body broke")


def endless(name: str) -> Iterator[bytes]:
    """Blocks until nobody wants them."""
    try:
        while True:
            yield b"x" * 65536
            time.sleep(0.001)
    finally:
        event(f"generator {name} ended.")


def listening(name: str) -> Iterator[bytes]:
    """Looks for news for half a minute, and finds none."""
    event(f"generator {name} began.")
    for _ in range(600):
        yield b""
        time.sleep(0.05)
    event(f"generator {name} found nothing.")


class FailsInClose(Body):
    """Its close() raises."""

    def close(self):
        """Count, then fail."""
        super().close()
        raise ValueError("close broke")


class FailsInIter(Body):
    """It cannot even be iterated."""

    def __iter__(self):
        raise ValueError("iter broke")


ENDINGS: dict[str, tuple[str, list[tuple[str, str]], Callable[[str], Body]]] = {
    "normal": ("200 OK", [], lambda name: Body(name, [b"one", b"two"])),
    "empty": ("200 OK", [], lambda name: Body(name, [])),
    "fails-first": ("200 OK", [], lambda name: Body(name, failing([]))),
    "fails-in-iter": ("200 OK", [], lambda name: FailsInIter(name, [])),
    "fails-late": ("200 OK", [], lambda name: Body(name, failing([b"one"]))),
    "fails-short": (
        "200 OK",
        [("Content-Length", "9")],
        lambda name: Body(name, failing([b"one"])),
    ),
    "not-bytes": ("200 OK", [], lambda name: Body(name, [b"one", "two"])),
    "reset-content": ("205 Reset Content", [], lambda name: Body(name, [b"one", b"two"])),
    "no-content": ("204 No Content", [], lambda name: Body(name, [b"one", b"two"])),
    "not-modified": ("304 Not Modified", [], lambda name: Body(name, [b"one", b"two"])),
    "length": ("200 OK", [("Content-Length", "6")], lambda name: Body(name, [b"one", b"two"])),
    "long": ("200 OK", [("Content-Length", "4")], lambda name: Body(name, [b"one", b"two", b"x"])),
    "short": ("200 OK", [("Content-Length", "9")], lambda name: Body(name, [b"one", b"two"])),
    "close-fails": ("200 OK", [], lambda name: FailsInClose(name, [b"one", b"two"])),
    "endless": ("200 OK", [], lambda name: Body(name, endless(name))),
    "silent": ("200 OK", [], lambda name: Body(name, listening(name))),
}


@raw
def closing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """/closing/KIND?NAME: a body that ends in one of many ways."""
    status, headers, make = ENDINGS[environ["PATH_INFO"].split("/")[2]]
    start_response(status, headers)
    return make(query(environ))


@valid
def closing_valid(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The normal one, watched by the validator."""
    start_response("200 OK", [TEXT])
    return Body(query(environ), [b"one", b"two"])


@raw
def slow_close(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A generator that is told to stop while it produces, and ends properly."""
    start_response("200 OK", [TEXT])
    name = query(environ)

    def pieces() -> Iterator[bytes]:
        yield b"first"
        event(f"waiting {name}.")
        wait_until_let(name)
        yield b"second"

    return Body(name, pieces())


# ---- wrong answers

RESULTS: dict[str, Any] = {
    "none": None,
    "number": 5,
    "text": "text",
    "bytes": b"bytes",
    "object": object(),
    "list-of-text": ["text"],
    "list-of-number": [5],
    "list-of-none": [None],
    "bytearray": [bytearray(b"x")],
}


@raw
def returns(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Something that is no body."""
    start_response("200 OK", [TEXT])
    return RESULTS[query(environ)]


@raw
def silent(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """No start_response at all."""
    return [b"body"] if query(environ) == "body" else []


def recurse(depth: int) -> int:
    """Too deep."""
    return recurse(depth + 1) + 1


def exit_hard(name: str) -> None:
    """Raise the exception of this name."""
    if name == "RecursionError":
        recurse(0)
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "StopIteration": StopIteration(),
        "MemoryError": MemoryError(),
        "BaseException": BaseException("the secret"),
        "ValueError": ValueError("the secret \udce9\n2026-01-01 [info] forged"),
    }[name]


@raw
def raises(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Before anything else."""
    exit_hard(query(environ))
    return []


class Raising:
    """An iterable whose first item raises, whatever the exception."""

    def __init__(self, name):
        self.name = name

    def __iter__(self):
        return self

    def __next__(self):
        exit_hard(self.name)


@raw
def raises_in_body(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """While the body is made."""
    start_response("200 OK", [TEXT])
    return Raising(query(environ))


# ---- files


def watched(name: str) -> Any:
    """A file that says when it is closed, as Django's are closed: by an attribute."""
    file = open(name, "rb")  # noqa: SIM115
    close = file.close

    def close_and_say() -> None:
        if not file.closed:
            event(f"file closed {name}.")
        close()

    file.close = close_and_say
    return file


class NoFile:
    """As little as a file-like object may be."""

    def __init__(self, pieces):
        self.pieces = list(pieces)

    def read(self, size=-1):
        """The next piece, whatever size it has."""
        return self.pieces.pop(0) if self.pieces else b""


class CountsCloses(NoFile):
    """The same with a close() that says how often, and of which request."""

    called = "one"

    def close(self):
        """Called once."""
        event(f"countable {self.called} closed.")


class Unreadable(NoFile):
    """It fails behind its first piece."""

    def read(self, size=-1):
        """One piece."""
        if not self.pieces:
            raise OSError("the disk broke")
        return super().read(size)


def a_file(content: bytes, buffered: bool = True) -> Any:
    """A file without a name, at its beginning."""
    file = tempfile.TemporaryFile(buffering=-1 if buffered else 0)
    file.write(content)
    file.seek(0)
    return file


def advanced(file: Any) -> Any:
    """A file of which a line was read already."""
    file.readline()
    return file


def a_pipe() -> Any:
    """The end of a pipe with something in it."""
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    return os.fdopen(reading, "rb")


def peeked(file: Any) -> Any:
    """A file of which the buffer is full, and nothing was read."""
    file.peek(3)
    return file


def past_the_end(file: Any) -> Any:
    """A file that is positioned behind its end."""
    file.seek(100)
    return file


def zipped(content: bytes) -> Any:
    """A file whose bytes are not those of its descriptor."""
    file = tempfile.NamedTemporaryFile()
    file.write(gzip.compress(content))
    file.flush()
    return gzip.open(file.name)


def named(content: bytes) -> Any:
    """A file in a wrapper of the standard library."""
    file = tempfile.NamedTemporaryFile()
    file.write(content)
    file.seek(0)
    return file


class Deciphering:
    """A file that reads what another one has in store, in plain text."""

    def __init__(self, content: bytes) -> None:
        self.file = a_file(content.translate(CIPHER))
        self.fileno, self.tell, self.flush = self.file.fileno, self.file.tell, self.file.flush

    def read(self, size: int = -1) -> bytes:
        """The text."""
        return self.file.read(size).translate(CIPHER)

    def close(self) -> None:
        """Of the store, too."""
        self.file.close()


def patched(content: bytes) -> Any:
    """A file of which a part was written last, and lies in its buffer still."""
    file = tempfile.TemporaryFile()
    file.write(content[:5] + b"?????" + content[10:])
    file.seek(0)
    file.read(5)
    file.write(content[5:10])
    file.seek(0)
    return file


def sparse() -> Any:
    """A file that has a size and no blocks."""
    file = tempfile.TemporaryFile()
    file.truncate(5000)
    return file


class StopsEarly(io.FileIO):
    """A part of a file, such as one of a container."""

    def readinto(self, buffer: Any) -> int:
        """Of the first ten bytes only."""
        left = max(0, 10 - self.tell())
        return super().readinto(memoryview(buffer)[:left])

    def readall(self) -> bytes:
        """The same."""
        return super().read(max(0, 10 - self.tell()))

    def read(self, size: int = -1) -> bytes:
        """The same."""
        return self.readall()


class Shouting(io.BufferedReader):
    """A reader that changes what it reads, and so do the next ones."""

    def read(self, size: int | None = -1) -> bytes:
        """In capitals."""
        return super().read(size).upper()


class ShoutingFile(io.FileIO):
    """Only read() is its own."""

    def read(self, size: int = -1) -> bytes:
        """In capitals."""
        return super().read(size).upper()


class ShoutingDjango(File):
    """A storage's own kind of file."""

    def read(self, size: int = -1) -> bytes:
        """In capitals."""
        return self.file.read(size).upper()


def on_disk(content: bytes) -> str:
    """The name of a file that nobody removes while the process lives."""
    file = named(content)
    kept.setdefault("files", []).append(file)
    return file.name


def shouting(file: Any, attribute: str = "read") -> Any:
    """A file of which somebody has replaced a method."""
    original = getattr(file, attribute)

    @functools.wraps(original)
    def shout(*args: Any) -> bytes:
        return original(*args).upper()

    setattr(file, attribute, shout)
    return file


def shouting_below(file: io.BufferedReader) -> io.BufferedReader:
    """A file whose lower layer has been changed."""
    original = file.raw.readinto

    def shout(buffer: Any) -> int:
        count = original(buffer)
        buffer[:count] = bytes(buffer[:count]).upper()
        return count

    file.raw.readinto = shout
    return file


def of_another(file: Any, other: Any) -> Any:
    """A file with the read() of another one."""
    file.read = other.read
    return file


def spooled(content: bytes, in_memory: int) -> Any:
    """A file of the standard library that begins in memory."""
    file = tempfile.SpooledTemporaryFile(in_memory)
    file.write(content)
    file.seek(0)
    return file


def updated() -> Any:
    """A file that was opened to read and to append."""
    file = open(on_disk(DATA), "a+b")  # noqa: SIM115
    file.write(b", more")
    file.seek(6)
    return file


class Delegating:
    """A file by all its attributes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        """Of the other one."""
        return getattr(self._file, name)


CIPHER = bytes(byte ^ 7 for byte in range(256))
DATA = b"first line\nsecond line\nthe rest"
FILES: dict[str, Callable[[], Any]] = {
    "plain": lambda: a_file(DATA),
    "unbuffered": lambda: a_file(DATA, buffered=False),
    "advanced": lambda: advanced(a_file(DATA)),
    "past-the-end": lambda: past_the_end(a_file(DATA)),
    "empty": lambda: a_file(b""),
    "zipped": lambda: zipped(DATA),
    "named": lambda: named(DATA),
    "deciphering": lambda: Deciphering(DATA),
    "patched": lambda: patched(DATA),
    "part": lambda: io.BufferedReader(StopsEarly(on_disk(DATA))),
    "part-unbuffered": lambda: StopsEarly(on_disk(DATA)),
    "reader-of-a-subclass": lambda: Shouting(io.FileIO(on_disk(DATA))),
    "file-of-a-subclass": lambda: ShoutingFile(on_disk(DATA)),
    "storage": lambda: ShoutingDjango(a_file(DATA)),
    "django": lambda: File(a_file(DATA)),
    "django-advanced": lambda: File(advanced(File(named(DATA)))),
    "django-in-memory": lambda: ContentFile(DATA),
    "replaced-read": lambda: shouting(open(on_disk(DATA), "rb")),
    "replaced-read-unbuffered": lambda: shouting(a_file(DATA, buffered=False)),
    "replaced-read-named": lambda: shouting(named(DATA)),
    "replaced-below": lambda: shouting_below(open(on_disk(DATA), "rb")),
    "read-of-another": lambda: of_another(a_file(DATA), io.BytesIO(b"other")),
    "read-of-another-named": lambda: of_another(named(DATA), named(b"other")),
    "spooled": lambda: spooled(DATA, 1000),
    "spooled-on-disk": lambda: spooled(DATA, 1),
    "updated": updated,
    "delegating": lambda: Delegating(advanced(a_file(DATA))),
    "peeked": lambda: peeked(a_file(DATA)),
    "without-size": lambda: open("/proc/self/comm", "rb"),  # noqa: SIM115
    "with-invented-size": lambda: open("/sys/devices/system/cpu/online", "rb"),  # noqa: SIM115
    "sparse": sparse,
    "memory": lambda: advanced(io.BytesIO(DATA)),
    "pipe": a_pipe,
    "only-written": lambda: open(on_disk(DATA), "ab", buffering=0),
    "text": lambda: open(on_disk(DATA)),
    "minimal": lambda: NoFile([b"one ", b"two"]),
    "counted": lambda: CountsCloses([b"one ", b"two"]),
    "unreadable": lambda: Unreadable([b"one "]),
    "unreadable-at-once": lambda: Unreadable([]),
}


def headers_of(environ: Environ) -> list[tuple[str, str]]:
    """The Content-Length that the request asks for."""
    length = environ.get("HTTP_X_LENGTH")
    return [TEXT, ("Content-Length", length)] if length else [TEXT]


@raw
def file(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A file by its wrapper; counted&NAME is called so when it is closed."""
    kind, _, name = query(environ).partition("&")
    opened = FILES[kind]()
    if name:
        opened.called = name
    start_response("200 OK", headers_of(environ))
    return environ["wsgi.file_wrapper"](opened)


@valid
def file_in_validator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The wrapper as any iterable."""
    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](FILES[query(environ)](), 4)


@raw
def file_iterated(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A middleware that changes what the wrapper gives."""
    wrapper = environ["wsgi.file_wrapper"](FILES[query(environ)](), 8)
    start_response("200 OK", [TEXT])
    return Body(query(environ), (block.upper() for block in wrapper))


@raw
def file_after_write(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """write() comes before the file."""
    start_response("200 OK", [TEXT])(b"written, ")
    return environ["wsgi.file_wrapper"](FILES[query(environ)]())


@raw
def file_named(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The file that the query names, in the server's directory."""
    opened = watched(query(environ))
    start_response("200 OK", headers_of(environ))
    return environ["wsgi.file_wrapper"](opened)


@raw
def file_wrappers(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """What the type takes."""
    wrapper = environ["wsgi.file_wrapper"]
    tries = [
        lambda: wrapper(),
        lambda: wrapper(io.BytesIO(b"abc"), "4"),
        lambda: b"|".join(wrapper(io.BytesIO(b"abcdefg"), 3)),
        lambda: b"|".join(wrapper(io.BytesIO(b"abcdefg"), blksize=4)),
        lambda: next(wrapper(5)),
        lambda: wrapper(5).close(),
        lambda: next(wrapper(io.StringIO("text"))),
    ]
    said = [result_of(lambda call: call(), call) for call in tries]
    return text(start_response, json.dumps(said))


# ---- bodies of many bytes


@raw
def big(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """As many bytes as the query says, whole."""
    count = int(query(environ))
    start_response("200 OK", [TEXT])
    return [bytes(range(256)) * (count // 256)]


@raw
def big_piece(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """As many bytes as the query says, as the first of two pieces."""
    count = int(query(environ))
    start_response("200 OK", [TEXT])
    yield bytes(range(256)) * (count // 256)
    yield b"end"


@raw
def header(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The headers in the query, and how the body is framed by default."""
    start_response("200 OK", ast.literal_eval(query(environ)))
    return [b"body"]


@raw
def pid(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Which process and thread."""
    return text(start_response, f"{os.getpid()} {threading.get_ident()}")
