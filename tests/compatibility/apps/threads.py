"""Threads that help: $KIND says which. They start at import."""

from __future__ import annotations

import asyncio
import atexit
import logging
import logging.handlers
import os
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common import Environ, is_warm_up, serve, user_of

KIND = os.environ["KIND"]

if KIND == "loguru":
    from loguru import logger as loguru

    loguru.remove()
    loguru.add(os.environ["LINES"], format="{message}", enqueue=True)

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """One line."""
        if not is_warm_up(environ):
            loguru.info(user)
        return {}

elif KIND == "listener":
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, logging.FileHandler(os.environ["LINES"]))
    listener.start()
    atexit.register(listener.stop)
    log = logging.getLogger("app")
    log.setLevel(logging.INFO)
    log.addHandler(logging.handlers.QueueHandler(records))

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """One record."""
        if not is_warm_up(environ):
            log.info(user)
        return {}

elif KIND == "executor":
    executor = ThreadPoolExecutor(2)
    executor.submit(str, "import").result()

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """Work in a thread."""
        return {"echo": executor.submit(str, user).result(timeout=5)}

elif KIND == "asyncio":
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def say(user: str) -> str:
        """Waits a little."""
        await asyncio.sleep(0.002)
        return user

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """Work in the loop."""
        return {"echo": asyncio.run_coroutine_threadsafe(say(user), loop).result(timeout=5)}


if KIND == "a2wsgi":
    import json

    from a2wsgi import ASGIMiddleware

    async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
        """An ASGI application."""
        user = user_of({"QUERY_STRING": scope["query_string"].decode()})
        facts = {"user": user, "pid": os.getpid()}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(facts).encode()})

    application = ASGIMiddleware(asgi)
elif "work" in globals():
    application = serve(work)
else:
    sys.exit(f"KIND={KIND}?")
