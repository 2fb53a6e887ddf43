"""Many objects of its own, which requests may look at."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable

ROWS = [{"number": i, "name": f"row {i}", "tags": [str(i), str(i + 1)]} for i in range(60_000)]


def application(
    environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """/collect collects; /read looks at every object; each answers with its pid."""
    path = environ["PATH_INFO"]
    if path == "/collect":
        gc.collect()
    elif path == "/read":
        assert sum(len(row["tags"]) for row in ROWS) == 2 * len(ROWS)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
