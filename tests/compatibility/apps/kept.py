"""Files and finalizers: $KIND says which."""

from __future__ import annotations

import gzip
import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

from common import Environ, is_warm_up, serve

KIND, HERE = os.environ["KIND"], Path(os.environ["DIRECTORY"])
lock = threading.Lock()


class Thing:
    """Something with an end."""


def note(text: str) -> None:
    """Writes a line at once."""
    with (HERE / "ends").open("a") as file:
        file.write(f"{text}\n")


if KIND == "audit":  # a log that is opened at import and written in blocks
    audit = (HERE / "lines").open("a")

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """A line that stays in the buffer for now."""
        if not is_warm_up(environ):
            audit.write(f"{user}\n")
        return {}

elif KIND == "worker":  # what each worker makes for itself with its first request
    mine: dict[str, Any] = {}

    def open_all() -> None:
        """Once in each worker."""
        mine["gzip"] = gzip.open(HERE / f"lines-{os.getpid()}.gz", "at")
        mine["temporary"] = tempfile.NamedTemporaryFile(dir=HERE, prefix="file-")
        mine["thing"] = Thing()
        weakref.finalize(mine["thing"], note, f"finalized by {os.getpid()}")
        note(f"made by {os.getpid()}")

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """A compressed line."""
        if not is_warm_up(environ):
            with lock:
                if not mine:
                    open_all()
                mine["gzip"].write(f"{user}\n")
        return {}

elif KIND == "import":  # what the import has made: it is there for all workers, until the end
    directory = tempfile.TemporaryDirectory(dir=HERE, prefix="directory-")
    (Path(directory.name) / "data").write_text("data")
    thing = Thing()
    weakref.finalize(thing, note, f"finalized by {os.getpid()}")
    note(f"made by {os.getpid()}")

    def work(environ: Environ, user: str) -> dict[str, Any]:
        """Reads what the import has written."""
        return {"data": (Path(directory.name) / "data").read_text()}


application = serve(work)
