"""Keeps, or leaves behind, something known with every request."""

import tracemalloc
from typing import Any

KEPT: list[bytearray] = []


class Item:
    """A thing of which many are kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.other: Item | None = None


class Shop:
    """Has items."""

    def __init__(self) -> None:
        self.shelf: dict[str, list[Item]] = {"secret": []}


shop = Shop()


def leak() -> str:
    """Keeps another 1 MB."""
    KEPT.append(bytearray(1024 * 1024))  # LEAK
    return str(len(KEPT))


def items() -> str:
    """Keeps another ten items."""
    kept = shop.shelf["secret"]
    kept += [Item(f"{len(kept)}") for _ in range(10)]
    return str(len(kept))


def cycles() -> str:
    """Leaves 5,000 items behind, each two of which are a cycle."""
    for _ in range(2500):
        one, two = Item("one"), Item("two")
        one.other, two.other = two, one
    return "cycles"


def quick() -> str:
    """Makes 1 MB and lets go of it."""
    return str(len(bytearray(1024 * 1024)))


def tracing() -> str:
    """Whether memory is traced."""
    return str(tracemalloc.is_tracing())


VIEWS = {f"/{view.__name__}": view for view in (leak, items, cycles, quick, tracing)}


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Calls the view that is named by the path."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [VIEWS[environ["PATH_INFO"]]().encode()]
