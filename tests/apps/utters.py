"""Prints in every way that goes around the server's log."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path

print("printed by the import")


def lines(query):
    """Both streams of Python, and the descriptors below them."""
    print("on stdout", flush=True)
    print("on stderr", file=sys.stderr, flush=True)
    os.write(2, b"bytes \xff\x1b[1m\r\n\n")
    os.write(1, b"half")
    os.write(2, b" a line\n")


def objects(query):
    """Records of the application's own, and what only looks like one."""
    print(json.dumps({"level": "own", "message": "caf\xe9", "of": {"a": [1, None]}}), flush=True)
    print('{"level": "forged"', flush=True)


def traces(query):
    """A traceback, and what Python prints of a thread."""
    try:
        raise ValueError("printed")
    except ValueError:
        traceback.print_exc()
    thread = threading.Thread(target=lambda: {}["missing"])
    thread.start()
    thread.join()


def others(query):
    """A C library, a child, and a line without an end."""
    ctypes.CDLL(None).puts(b"from C")
    ctypes.CDLL(None).fflush(None)
    subprocess.run(["/bin/sh", "-c", "echo from a child; printf 'no end'"], check=True)


def crash(query):
    """Die with the stack that Python prints then."""
    faulthandler.enable()
    ctypes.string_at(1)


def number(query):
    """The line that the query asks for."""
    print(f"number {query}", flush=True)


def until(query):
    """Print long lines until the file of that name is there: more than any buffer takes."""
    count = 0
    while not Path(query).exists():
        print(f"{count} " + "x" * 3000, flush=True)
        count += 1
    print(f"counted {count}", flush=True)


ACTIONS = [lines, objects, traces, others, crash, number, until]


def application(environ, start_response):
    """Do what the path says."""
    for action in ACTIONS:
        if environ["PATH_INFO"] == f"/{action.__name__}":
            action(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
