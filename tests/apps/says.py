"""Writes to the logs in every way there is."""

from __future__ import annotations

import logging
import sys
from urllib.parse import unquote

from myserver import LogHandler

LOG = logging.getLogger("says")
LOG.setLevel(logging.DEBUG)
LOG.addHandler(LogHandler())
LOG.propagate = False


def say(environ):
    """One record of each level, one of several lines, and both streams."""
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(LOG, level)("said as %s.", level)
    LOG.error("two\nlines \x1b[1m caf\xe9")
    print("printed", flush=True)
    print("complained", file=sys.stderr, flush=True)
    try:
        raise ValueError("logged with its traceback")
    except ValueError:
        LOG.exception("caught")


def fail(environ):
    """An exception that nobody catches."""
    raise ValueError("uncaught")


ACTIONS = {"/say": say, "/fail": fail}


def application(environ, start_response):
    """Do what the path says; the query is a header of the answer."""
    ACTIONS.get(environ["PATH_INFO"], lambda environ: None)(environ)
    headers = [("Content-Type", "text/plain"), ("X-Said", unquote(environ["QUERY_STRING"]))]
    start_response("200 OK", headers)
    return [b"hello"]
