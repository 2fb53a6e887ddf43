"""Closes standard streams, as daemons do, and writes to them all the same."""

import contextlib
import os


def digits(text):
    """The streams that a query names."""
    return [int(digit) for digit in text]


if "CLOSED_AT_IMPORT" in os.environ:
    for number in digits(os.environ["CLOSED_AT_IMPORT"]):
        os.close(number)


def application(environ, start_response):
    """`/close?12`, `/print?12`; the answer is the pid, and how much of the body is as sent."""
    for number in digits(environ["QUERY_STRING"]):
        if environ["PATH_INFO"] == "/close":
            os.close(number)
        if environ["PATH_INFO"] == "/print":
            with contextlib.suppress(OSError):
                os.write(number, b"printed\n")
    body = environ["wsgi.input"].read()
    answer = f"{os.getpid()} {body.count(b'a')} of {len(body)}".encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
