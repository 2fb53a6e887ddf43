"""Has a timer whose signals interrupt every wait of the main thread, from the first request on."""

from __future__ import annotations

import itertools
import signal

signal.signal(signal.SIGALRM, lambda number, frame: None)


def application(environ, start_response):
    """/endless never ends; anything else says hello."""
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/endless":
        return itertools.repeat(b"x" * 65536)
    return [b"hello"]
