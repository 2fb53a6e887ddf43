"""A version of CPython on which the tests have not run: nothing reaches into it, and all works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Server, wait_for
from test_contexts import FRESH, see
from test_growth import load, result_of, trace
from test_privileges import preloaded, preloads
from test_profile import OPTIONS, hottest, profile_until, times_of
from wire import Wire

Start = Callable[..., Server]
pytestmark = preloads


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which Python says that it is 4.0."""
    return {"LD_PRELOAD": str(preloaded(tmp_path_factory.mktemp("newer"), "newer_python"))}


def test_the_heap_is_left_alone(server: Start, newer: dict[str, str]) -> None:
    """The log says so; the workers serve."""
    s = server("heap", workers=2, env=newer)
    assert s.log_contains("the heap is left as it is")
    assert s.get("/").status == 200


def test_contexts_are_not_compared(server: Start, newer: dict[str, str]) -> None:
    """Each request has a new one."""
    s = server("contexts", env=newer)
    with Wire(s) as wire:
        for _ in range(2):
            see(wire, "/spoil?first")
            assert see(wire) == FRESH


def test_lines_of_blocks_are_not_asked_for(server: Start, newer: dict[str, str]) -> None:
    """A function that is not public tells them: what grows is told by view alone."""
    s = server("hoards", control="unix:control.sock", env=newer)
    with load(s, ["/leak"]) as statuses:
        wait_for(lambda: statuses)
        leak = result_of(trace(s, "--json"))["views"][0]
    assert leak["view"] == "GET /leak" and leak["requests"] > 1
    assert [line["line"] for line in leak["lines"]] == ["(not known)"]


def test_the_sampler_waits_its_turn(server: Start, newer: dict[str, str]) -> None:
    """Who has the interpreter is not looked up; it still sees what computes."""
    s = server("profiled", env=newer, **OPTIONS)
    with load(s, ["/burn"]):
        profile = profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0.2, "the view")
    assert "burn_cpu" in hottest(profile, "GET /burn", "cpu")
    assert times_of(profile, "GET /burn").gil == 0
