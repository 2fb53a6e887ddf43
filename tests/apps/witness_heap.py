"""Says what was done to its heap."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable

DATA = {"rows": [[str(n)] for n in range(10)]}


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Whether objects are frozen, and whether those of the module are immortal."""
    frozen = "many" if gc.get_freeze_count() > 1000 else gc.get_freeze_count()
    is_immortal = sys.getrefcount(DATA["rows"]) > 1_000_000
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"frozen {frozen}\nimmortal {is_immortal}".encode()]
