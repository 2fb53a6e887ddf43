"""Says in the log which requests it saw: their method, target and body."""

import hashlib

from told import event


def application(environ, start_response):
    """Read all of the body, then say what came and answer with it."""
    body = environ["wsgi.input"].read()
    digest = hashlib.sha1(body).hexdigest()
    event(f"saw {environ['REQUEST_METHOD']} {environ['RAW_URI']} {len(body)} {digest}")
    answer = f"{environ['REMOTE_ADDR']} {environ['RAW_URI']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]
