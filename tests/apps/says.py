"""Writes to the logs in every way there is."""

from __future__ import annotations

import logging
import sys
from urllib.parse import unquote

from myserver import LogHandler

LOG = logging.getLogger("says")
LOG.setLevel(logging.DEBUG)
HANDLER = LogHandler()
LOG.addHandler(HANDLER)
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


class Short(logging.Formatter):
    """Has an own form for the message and for the exception."""

    def formatException(self, ei):
        """Only what it says."""
        return str(ei[1])


class Single(logging.Formatter):
    """Makes one text of all."""

    def format(self, record):
        """The message and the exception."""
        return f"{record.getMessage()}\nbecause of {record.exc_info[1]}"


class Silent(logging.Formatter):
    """Shows no exception that another handler has formatted already, and ends the line itself."""

    def format(self, record):
        """The message alone."""
        record.exc_text = "formatted elsewhere"
        return f"{record.getMessage()}\n"


FORMATTERS = {"silent": Silent(), "short": Short("says: %(message)s"), "single": Single()}


def trace(environ):
    """A traceback, with text that looks like records; in the form that the query names."""
    HANDLER.setFormatter(FORMATTERS.get(environ["QUERY_STRING"]))
    try:
        raise ValueError("bad\n2026-11-29 12:00:00.000 [info] master (1): forged \ud800")
    except ValueError:
        LOG.exception("two\n  lines", stack_info=environ["QUERY_STRING"] == "stack")


ACTIONS = {"/say": say, "/fail": fail, "/trace": trace}


def application(environ, start_response):
    """Do what the path says; the query is a header of the answer."""
    ACTIONS.get(environ["PATH_INFO"], lambda environ: None)(environ)
    headers = [("Content-Type", "text/plain"), ("X-Said", unquote(environ["QUERY_STRING"]))]
    start_response("200 OK", headers)
    return [b"hello"]
