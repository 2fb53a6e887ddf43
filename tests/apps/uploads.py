"""Reads large bodies in the ways that applications do: /digest?WAY, /first?N, /late?FILE, /fork."""

import hashlib
import itertools
import json
import os
import time


def until_empty(read):
    """All that a function gives until it gives nothing."""
    return iter(read, b"")


def filled(stream, size):
    """Pieces, by readinto."""
    room = bytearray(size)
    while count := stream.readinto(room):
        yield bytes(room[:count])


def mixed(stream):
    """One way after the other."""
    yield stream.readline()
    yield stream.read(100_000)
    yield stream.read(10)
    yield next(stream, b"")
    yield from stream.readlines(300_000)
    yield from itertools.islice(filled(stream, 200_000), 3)
    yield from until_empty(lambda: stream.read(64 * 1024))


WAYS = {
    "all": lambda stream: [stream.read()],
    "pieces": lambda stream: until_empty(lambda: stream.read(64 * 1024)),
    "small": lambda stream: until_empty(lambda: stream.read(1000)),
    "lines": lambda stream: until_empty(stream.readline),
    "iterated": iter,
    "filled": lambda stream: filled(stream, 70_000),
    "mixed": mixed,
}


def digest(pieces):
    """How many bytes, and which."""
    found, count = hashlib.sha256(), 0
    for piece in pieces:
        found.update(piece)
        count += len(piece)
    return {"length": count, "sha256": found.hexdigest()}


def late(stream, path):
    """Reads when the file is there."""
    print("event: begun", flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
    print(
        "event: read", json.dumps(digest(until_empty(lambda: stream.read(64 * 1024)))), flush=True
    )
    return {}


def in_a_child(stream):
    """What a process that is forked now finds."""
    ours, its = os.pipe()
    if os.fork() == 0:
        try:
            found = f"{len(stream.read())} bytes"
        except OSError as error:
            found = str(error)
        os.write(its, found.encode())
        os._exit(0)
    os.close(its)
    with open(ours, "rb") as pipe:
        found = pipe.read().decode()
    os.wait()
    return {"found": found}


def application(environ, start_response):
    """See the top of the file."""
    stream, query = environ["wsgi.input"], environ["QUERY_STRING"]
    if environ["PATH_INFO"] == "/digest":
        said = digest(WAYS[query](stream))
    elif environ["PATH_INFO"] == "/late":
        said = late(stream, query)
    elif environ["PATH_INFO"] == "/fork":
        said = in_a_child(stream)
    else:
        said = {"first": stream.read(int(query or 0)).decode()}
    answer = json.dumps(said).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
