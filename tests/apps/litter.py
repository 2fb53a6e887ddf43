"""Leaves cycles behind; says how many of earlier requests are still there. $COLLECTOR=off: no collector."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterable

import myserver

CYCLES = 300


class Litter:
    """Holds itself."""

    def __init__(self) -> None:
        self.myself = self


alive: weakref.WeakSet[Litter] = weakref.WeakSet()

if os.environ.get("COLLECTOR") == "off":
    myserver.postfork(gc.disable)


def application(
    environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """What it found; then it leaves more."""
    found = len(alive)
    for _ in range(CYCLES):
        alive.add(Litter())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(found).encode()]
