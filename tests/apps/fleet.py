"""One of several hosts: says which, and which version; what it begins stands in its log."""

import os
import time

from told import event, wait_until_let

WHO = f"{os.environ['HOST']} {os.environ['VERSION']}"


def stream():
    """The host's name, and the end when it is let."""
    yield WHO.encode()
    wait_until_let("stream")
    yield b" end"


def application(environ, start_response):
    """/ at once, /slow after 50 ms, /stream in two parts; the query is the request's number."""
    event(f"begun {environ['QUERY_STRING']}.")
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/stream":
        return stream()
    return [f"{WHO} {environ['QUERY_STRING']} {len(body)}".encode()]
