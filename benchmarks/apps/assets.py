"""The files of the directory BENCH_STATIC below /static/, served by WhiteNoise; else a short answer."""

import os

from whitenoise import WhiteNoise


def hello(environ, start_response):
    """What is no file."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\n"]


application = WhiteNoise(hello, root=os.environ["BENCH_STATIC"], prefix="static/")
