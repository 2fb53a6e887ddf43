"""Without a framework: requests that compute, or wait."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

kept: list[bytes] = []
four = threading.Barrier(4, timeout=60)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """/burns/MS computes for so many milliseconds of CPU time, /sleeps/MS waits, /both/MS waits twice
    as long and then computes, /loads makes 8 MB of objects that stay, the first time; /meets waits for
    three others; / does nothing.
    """
    _, name, *milliseconds = environ["PATH_INFO"].split("/")
    duration = int(milliseconds[0]) / 1000 if milliseconds else 0
    if name in ("sleeps", "both"):
        time.sleep(duration * (1 + (name == "both")))
    if name in ("burns", "both"):
        end = time.thread_time() + duration
        while time.thread_time() < end:
            pass
    if name == "meets":
        four.wait()
    if name == "loads" and not kept:
        kept.extend(bytes(95) for _ in range(62_500))
    start_response("200 OK", [("Content-Length", "1")])
    return [b"x"]
