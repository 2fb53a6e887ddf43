"""Context variables: what a request sees of the import, of the hooks, and of other requests.

The path says what the request does; the answer is what it has seen, as JSON.
"""

from __future__ import annotations

import contextvars
import decimal
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import myserver
from told import event, wait_until_let

IMPORTED = contextvars.ContextVar[str]("imported", default="unset")
FORKED = contextvars.ContextVar[str]("forked", default="unset")
MINE = contextvars.ContextVar[str]("mine", default="unset")
NUMBER = decimal.Decimal(1)

IMPORTED.set("by the import")
decimal.getcontext().prec = 9


@myserver.postfork
def fork() -> None:
    """In each worker."""
    FORKED.set("by the hook")


def seen() -> dict[str, Any]:
    """All that can be seen."""
    return {
        "imported": IMPORTED.get(),
        "forked": FORKED.get(),
        "mine": MINE.get(),
        "precision": decimal.getcontext().prec,
        "third": str(NUMBER / 3),
        "thread": threading.current_thread().name,
    }


class Body:
    """The body, its end and its close() set the variable, and see what was set before."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self) -> Iterator[bytes]:
        """One piece."""
        before = MINE.get()
        token = MINE.set(f"{self.name} in the body")
        yield json.dumps({"before": before}).encode()
        MINE.reset(token)  # fails where the context has changed meanwhile
        MINE.set(f"{self.name} at the end")

    def close(self) -> None:
        """Say what is seen."""
        event(f"{self.name} closed: {MINE.get()}.")
        MINE.set(f"{self.name} closed")


def spoil(name: str) -> None:
    """Set all of them."""
    for variable in (IMPORTED, FORKED, MINE):
        variable.set(f"spoilt by {name}")
    decimal.getcontext().prec = 2
    decimal.getcontext().rounding = decimal.ROUND_UP


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What the path says."""
    action, name = environ["PATH_INFO"][1:], environ["QUERY_STRING"]
    start_response("200 OK", [("Content-Type", "application/json")])
    before = json.dumps(seen()).encode()
    if action == "spoil":
        spoil(name)
    elif action == "body":
        MINE.set(name)
        return Body(name)
    elif action == "raise":
        spoil(name)
        raise ValueError(name)
    elif action == "wait":
        decimal.getcontext().prec = 4
        event("waits.")
        wait_until_let(name)
        return [json.dumps(seen()).encode()]
    elif action == "restored":
        token = MINE.set(name)
        MINE.reset(token)
    return [before]
