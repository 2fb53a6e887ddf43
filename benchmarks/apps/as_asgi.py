"""The WSGI application that $WRAPPED names ("module:callable"), for ASGI servers, by a2wsgi."""

import importlib
import os

from a2wsgi import WSGIMiddleware

_module, _, _attribute = os.environ["WRAPPED"].partition(":")
application = WSGIMiddleware(
    getattr(importlib.import_module(_module), _attribute),
    workers=int(os.environ["WRAPPED_THREADS"]),
)
