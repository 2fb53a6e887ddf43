"""Tells in JSON what the server has made of its configuration."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]


def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """One page for every path."""
    page = {
        "script_name": environ["SCRIPT_NAME"],
        "path_info": environ["PATH_INFO"],
        "threads": environ["wsgi.multithread"],
        "directory": os.getcwd(),
        "path": sys.path,
        "env": {name: value for name, value in os.environ.items() if name.startswith("SHOP_")},
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(page).encode()]


app = application


def create_app() -> Callable[..., Iterable[bytes]]:
    """A factory."""
    return application
