"""Context variables belong to one request: its call, its body and its close()."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness import Server, wait_for
from wire import Wire, ask, let

Start = Callable[..., Server]

FRESH = {
    "imported": "by the import",
    "forked": "by the hook",
    "mine": "unset",
    "precision": 9,
    "third": "0.333333333",
}


def see(wire: Wire, path: str = "/") -> dict[str, Any]:
    """What a request has seen, without its thread."""
    seen = wire.ask(path).json()
    seen.pop("thread", None)
    return seen


@pytest.mark.parametrize(
    "options",
    [{}, {"threads": 4}, {"preload": False}, {"prewarm": ["/spoil?warm-up"]}],
    ids=["one-thread", "threads", "no-preload", "prewarm"],
)
def test_what_a_request_sets_ends_with_it(server: Start, options: dict[str, Any]) -> None:
    """The next one sees what the import and the hooks have set, whatever the last one did."""
    s = server("contexts", **options)
    with Wire(s) as wire:
        assert see(wire) == FRESH
        for action in ("spoil", "body", "restored", "spoil"):
            see(wire, f"/{action}?first")
            assert see(wire) == FRESH, action
    assert ask(s, "/raise?first").status == 500
    with Wire(s) as wire:
        assert see(wire) == FRESH


def test_a_request_has_one_context(server: Start) -> None:
    """The body and close() see what the call has set."""
    s = server("contexts")
    assert ask(s, "/body?first").json() == {"before": "first"}
    assert s.log_contains("event: first closed: first at the end.")


def test_threads_are_alike(server: Start) -> None:
    """All see the same, and none calculates with the precision of another."""
    s = server("contexts", threads=4)
    waiting = [Wire(s) for _ in range(3)]
    for number, wire in enumerate(waiting):
        wire.request("GET", f"/wait?{number}")
    with Wire(s) as wire:
        wait_for(lambda: s.log.count("event: waits.") == 3, what="all of them")
        assert see(wire) == FRESH
    threads = set()
    for number, wire in enumerate(waiting):
        let(s, str(number))
        seen = json.loads(wire.answer().body)
        threads.add(seen.pop("thread"))
        assert seen == FRESH | {"precision": 4, "third": "0.3333"}
        wire.close()
    assert len(threads) == 3


def test_after_a_refork(server: Start) -> None:
    """A worker that becomes the mold passes on what the import has set, and no request."""
    s = server("contexts", refork_after=3)
    for _ in range(4):
        assert ask(s, "/spoil?early").status == 200
    assert s.log_contains("reloaded: all workers are of generation 2$", 20), s.log
    with Wire(s) as wire:
        assert see(wire) == FRESH
