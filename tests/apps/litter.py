"""Leaves cycles behind; says how many of earlier requests are still there. $COLLECTOR: what it does to the collector."""

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

COLLECTOR = os.environ.get("COLLECTOR")
if COLLECTOR == "off in postfork":
    myserver.postfork(gc.disable)
elif COLLECTOR == "off at import":
    gc.disable()
    assert not gc.isenabled()
elif COLLECTOR == "off by threshold":
    gc.set_threshold(0)
elif COLLECTOR == "off and on":
    gc.disable()
    gc.enable()
    assert gc.isenabled()
elif COLLECTOR == "on by an old name":
    disable, enable = gc.disable, gc.enable
    disable()

    @myserver.postfork
    def switch_on() -> None:
        """With the function as it was at import."""
        assert not gc.isenabled()
        enable()


def application(
    environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """What it found; then it leaves more."""
    found = len(alive)
    for _ in range(CYCLES):
        alive.add(Litter())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(found).encode()]
