"""Files and other streams of the application: what waits in their buffers, at a fork and at the end.

Applications never import this module.
"""

import gc
import io
import sys
import weakref
from typing import Any

import _myserver

# Nothing is lost when the process ends without closing one of these, if it is flushed.
PLAIN = frozenset(
    {
        io.FileIO,
        io.BytesIO,
        io.StringIO,
        io.BufferedReader,
        io.BufferedWriter,
        io.BufferedRandom,
        io.BufferedRWPair,
        io.TextIOWrapper,
    }
)
# Of module, class and attribute: compressed streams, and how much was written to one.
_COMPRESSED = (
    ("gzip", "GzipFile", "size"),
    ("bz2", "BZ2File", "_pos"),
    ("lzma", "LZMAFile", "_pos"),
)

_noted: list[weakref.ref[io.IOBase]] = []  # what the mold had open
_looked = -1  # see recent()
_written: dict[int, int] = {}  # by id: how much the mold had written to its compressed streams


def note() -> None:
    """In the mold, before all objects are frozen: remembers what is open."""
    _noted[:] = [weakref.ref(stream) for stream in _myserver.instances(gc.get_objects(), io.IOBase)]


def recent(looked: int) -> tuple[list[object], int]:
    """In the mold: what the collector sees and may be new. Only that, as a look at an object writes
    to its page, which the workers forked before share.

    Args:
        looked: what this has returned at the last look; -1: there was none.

    Returns:
        The objects, and how often all of them had been collected.
    """
    collected = gc.get_stats()[-1]["collections"]
    if collected != looked:
        return gc.get_objects(), collected
    return [*gc.get_objects(generation=0), *gc.get_objects(generation=1)], looked


def before_fork() -> None:
    """In the mold, before each fork: no worker shall write what waits in a buffer here.

    A compressed stream to which nothing was written is left to those who do: each begins and ends
    its own.
    """
    global _looked
    found, _looked = recent(_looked)
    streams = _all(found)
    _noted[:] = [weakref.ref(stream) for stream in streams]
    _flush(streams)
    _written.clear()
    for stream in streams:
        written = _count(stream)
        if written:
            flush(stream)
        if written is not None:
            _written[id(stream)] = written


def flush_all() -> None:
    """At the end: flushes all streams, also those of the mold, as a worker may have written to
    them. A compressed stream to which it has written is closed: it cannot be read without its end.
    """
    streams = _all(gc.get_objects())
    _flush(streams)
    for stream in streams:
        written = _count(stream)
        if written is not None and written != _written.get(id(stream), written):
            stream.close()


def flush(stream: Any) -> None:
    """Flushes a stream, if that is possible."""
    try:
        if not stream.closed and stream.writable():
            stream.flush()
    except Exception:  # a full disk, a reader that has gone, a buffer that was taken out of it
        return


def _all(objects: list[object]) -> list[Any]:
    """What is known to be open, and the streams among these."""
    noted = [stream for stream in (ref() for ref in _noted) if stream is not None]
    known = {id(stream) for stream in noted}
    found = _myserver.instances(objects, io.IOBase)
    return noted + [stream for stream in found if id(stream) not in known]


def _flush(streams: list[Any]) -> None:
    """Flushes `streams`, text before the bytes below it; what is written to a compressed stream goes
    no further than into that, and its header stays where it is until there is something behind it.
    """
    compressed = [stream for stream in streams if _count(stream) is not None]
    for stream in compressed:
        stream.flush = lambda: None  # a flush of the text above would call it
    for stream in [sys.stdout, sys.stderr, *_myserver.instances(streams, io.TextIOBase)]:
        flush(stream)
    for stream in compressed:
        del stream.flush
        flush(getattr(stream, "_buffer", None))  # 3.12 and newer
    unbegun = {id(stream) for stream in compressed if _count(stream) == 0}
    unbegun |= {id(getattr(s, "fileobj", None)) for s in compressed if id(s) in unbegun}
    known = {id(stream) for stream in compressed} | unbegun
    for stream in streams:
        if id(stream) not in known and not issubclass(type(stream), io.TextIOBase):
            flush(stream)


def _count(stream: Any) -> int | None:
    """How much was written to a compressed stream; None: it is something else, or not for that."""
    for module, kind, counter in _COMPRESSED:
        if type(stream) is getattr(sys.modules.get(module), kind, None):
            can = not stream.closed and stream.writable()
            return getattr(stream, counter, None) if can else None
    return None
