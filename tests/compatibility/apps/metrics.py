"""prometheus_client: a counter in multiprocess mode, or a port of its own ($METRICS_PORT)."""

from __future__ import annotations

import os
from typing import Any

import prometheus_client

from common import Environ, is_warm_up, serve

REQUESTS = prometheus_client.Counter("requests", "Requests that users have made.")

if os.environ.get("METRICS_PORT"):
    prometheus_client.start_http_server(int(os.environ["METRICS_PORT"]), addr="127.0.0.1")


def work(environ: Environ, user: str) -> dict[str, Any]:
    """Counts."""
    if not is_warm_up(environ):
        REQUESTS.inc()
    return {}


application = serve(work)
