"""Looks for attributes whose names each request makes anew, as Django does for each vendor of a
database; the first request puts each of its names on a page that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable

LOOKUPS = 4000
TO_A_PAGE = 64

requests = 0
neighbours: list[list[str]] = []


class Thing:
    """Has none of them."""


THING = Thing()


def look(number: int) -> bool:
    """A name that nobody has but the interpreter's cache of methods, afterwards."""
    return hasattr(THING, f"name_{requests:06}_{number:020}")


def application(
    environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """How many it has found. What it makes between takes the place of names that were freed."""
    global requests
    found = 0
    made = []
    for number in range(LOOKUPS):
        found += look(number)
        made.append([f"made_{number:06}_{n:020}" for n in range(1 if requests else TO_A_PAGE)])
    if requests == 0:
        neighbours.extend(made)
    requests += 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(found).encode()]
