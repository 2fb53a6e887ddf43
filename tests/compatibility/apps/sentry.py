"""Sentry's SDK, started at import; each request reports one message."""

from __future__ import annotations

import os
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

from common import Environ, is_warm_up, serve

sentry_sdk.init(dsn=os.environ["SENTRY"], shutdown_timeout=8)


def work(environ: Environ, user: str) -> dict[str, Any]:
    """One message."""
    if not is_warm_up(environ):
        sentry_sdk.capture_message(user)
    return {}


application = SentryWsgiMiddleware(serve(work))
