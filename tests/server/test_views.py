"""Where the time went, per view: each fixture's cause is named, with its amount, and nothing else."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from control_client import ask
from harness import FLAVOUR, Server, wait_for, whole_lines
from test_profile import load

Start = Callable[..., Server]
PARTS = ("receive", "thread", "gil", "cpu", "database", "runqueue", "other", "send")


def views(s: Server) -> dict[str, Any]:
    """What each view has cost, by its name."""
    response = ask(s, "/views")
    assert response.headers["Content-Type"] == "application/json"
    return {view["view"]: view for view in response.json()["views"]}


def view(s: Server, name: str, requests: int = 1) -> Any:
    """One of them, when so many requests of it are counted."""
    return wait_for(
        lambda: next(
            (v for k, v in views(s).items() if k == name and v["requests"] >= requests), None
        )
    )


# Of each fixture: the part that it is, and at least how much of it.
CAUSES = {
    "/burns/": ("cpu", 0.050),
    "/sleeps/": ("other", 0.095),
    "/waits/": ("gil", 0.005),
    "/locked/": ("other", 0.095),
    "/slow/": ("database", 0.010),
    "/streams/": ("other", 0.055),
    "/async-burns/": ("cpu", 0.050),
    "/async-sleeps/": ("other", 0.090),
    "/async-slow/": ("database", 0.010),
}


@pytest.mark.parametrize(
    "options",
    [{}, {"threads": 10}, {"threads": 4, "preload": False}],
    ids=["1", "10", "no preload"],
)
def test_causes_are_named(seen: Callable[..., Server], options: dict[str, Any]) -> None:
    """The parts add up to the time that the client has seen, and the cause is among them."""
    s = seen(**options)
    s.get("/quick/1/")
    for path, (part, least) in CAUSES.items():
        counts = itertools.count(1)
        before = dict.fromkeys(PARTS, 0.0)

        def is_the_most(path: str, part: str, least: float) -> bool:
            nonlocal before
            count = next(counts)  # noqa: B023
            assert s.get(path).status == 200
            found = view(s, path, count)
            assert tuple(found["parts"]) == PARTS
            assert sum(found["parts"].values()) == pytest.approx(found["wall"], rel=1e-6)
            assert found["responses"]["2xx"] == found["requests"] == count
            parts = {name: found["parts"][name] - before[name] for name in PARTS}
            before = found["parts"]
            # Who waits anyway may wait for a CPU at the end of it.
            waited = parts["runqueue"] if part == "other" else 0
            if part != "gil" or FLAVOUR != "tsan":
                # Of a thread that others interrupt, a clock that is read between is a little behind.
                assert parts[part] + waited >= 0.95 * least, (path, parts)
            # The one computes, too; beside the others runs the start of a thread, wherever it waits.
            if part == "gil" or path.startswith("/async"):
                return True
            for name in ("runqueue", "thread", *(["other"] if part == "cpu" else [])):
                parts.pop(name)
            return max(parts, key=lambda name: parts[name]) == part

        # A machine with other work may let any request wait anywhere, but not all of them.
        wait_for(partial(is_the_most, path, part, least), what=f"{part} to be the most of {path}")
    # What a view does not do is not said of it.
    assert view(s, "/sleeps/")["parts"]["database"] == 0
    assert view(s, "/burns/")["parts"]["database"] == 0


def test_a_request_can_ask_for_its_costs(seen: Callable[..., Server]) -> None:
    """The numbers that the account has of it at its end, but for what comes after."""
    s = seen(threads=2)
    answer = s.get("/costs/").json()
    assert answer["elsewhere"] == [None]
    costs, parts = answer["costs"], view(s, "/costs/")["parts"]
    assert costs.pop("queries") == 1
    waited = costs.pop("waited")
    assert waited == pytest.approx(parts["receive"] + parts["thread"], abs=1e-6)
    assert costs["cpu"] >= 0.019 and costs["database"] > 0
    assert costs["database"] == pytest.approx(parts["database"], abs=0.001)
    assert costs["cpu"] <= parts["cpu"] + 1e-4
    assert sum(costs.values()) <= sum(parts.values())


def test_the_parts_are_what_the_client_waits_for(seen: Callable[..., Server]) -> None:
    """The sum is the duration in the access log, which begins and ends with the same bytes."""
    s = seen(access_logfile="access.log", access_logformat="%(U)s %(D)s")
    for path in ("/sleeps/", "/burns/", "/slow/", "/equal/"):
        s.get(path)
        wall = view(s, path)["wall"]
        line = wait_for(
            lambda path=path: next(
                (x for x in whole_lines((s.dir / "access.log").read_text()) if x.startswith(path)),
                None,
            )
        )
        assert int(line.split()[1]) / 1e6 == pytest.approx(wall, abs=2e-6)


def test_routes_are_views_and_paths_are_not(seen: Callable[..., Server]) -> None:
    """Requests with different arguments are one view; what has no view is one, too."""
    s = seen()
    for number in range(20):
        assert s.get(f"/quick/{number}/").status == 200
        assert s.get(f"/old/{number}/").status == 200
        assert s.get(f"/none/{number}").status == 404
    assert s.get("/fails/").status == 500
    wait_for(lambda: sum(v["requests"] for v in views(s).values()) == 61)
    found = views(s)
    assert {name: v["requests"] for name, v in found.items()} == {
        "/quick/<int:number>/": 20,
        "/old/(?P<number>\\d+)/$": 20,
        "(no view)": 20,
        "/fails/": 1,
    }
    assert found["/fails/"]["responses"]["5xx"] == 1
    assert found["(no view)"]["responses"]["4xx"] == 20


def test_percentiles_are_of_the_view(seen: Callable[..., Server]) -> None:
    """A view of two kinds of requests has both in its percentiles."""
    s = seen(threads=4)
    threads = [threading.Thread(target=s.get, args=("/sleeps/",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = view(s, "/sleeps/", 4)
    assert found["requests"] == 4
    for name in ("p50", "p90", "p95", "p99"):
        assert found[name] >= 0.083  # where the bucket begins that 100 ms are in
    assert found["p50"] <= found["p90"] <= found["p95"] <= found["p99"]


def test_waiting_for_a_thread_is_a_part(seen: Callable[..., Server]) -> None:
    """With one thread the second of two requests waits for the first."""
    s = seen()
    s.get("/sleeps/")
    counts = itertools.count(4, 3)

    def has_waited() -> bool:
        before = view(s, "/sleeps/")["parts"]["thread"]
        threads = [threading.Thread(target=s.get, args=("/sleeps/",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return view(s, "/sleeps/", next(counts))["parts"]["thread"] - before > 0.15

    wait_for(has_waited, what="three that come at once")


def test_counts_outlive_workers(seen: Callable[..., Server]) -> None:
    """Recycling, a reload and a crash change no number."""
    s = seen(expect_deaths=True, workers=2)
    s.get("/burns/")
    assert view(s, "/burns/")["requests"] == 1
    before = set(s.workers())
    s.signal(signal.SIGHUP)
    wait_for(lambda: not before & set(s.workers()) and len(s.workers()) == 2)
    s.get("/burns/")
    assert view(s, "/burns/", 2)["parts"]["cpu"] >= 0.95 * 0.1
    victim = s.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in s.workers() and len(s.workers()) == 2)
    s.get("/burns/")
    assert view(s, "/burns/", 3)["requests"] == 3


def test_recycled_workers(seen: Callable[..., Server]) -> None:
    """Each request of its own worker: all are counted."""
    s = seen(max_requests=1, max_requests_jitter=0)
    for _ in range(5):
        assert s.get("/quick/1/").status == 200
    assert view(s, "/quick/<int:number>/", 5)["requests"] == 5


def test_the_slowest_requests_are_kept(seen: Callable[..., Server]) -> None:
    """With their parts, and no more than method and path."""
    s = seen()
    s.get("/sleeps/?secret=1", headers={"Cookie": "secret=2", "X-Secret": "secret3"})
    for _ in range(30):
        s.get("/quick/1/")
    view(s, "/sleeps/")
    text = ask(s, "/requests").text
    assert "secret" not in text
    slowest = json.loads(text)["slowest"]
    assert [r["wall"] for r in slowest] == sorted((r["wall"] for r in slowest), reverse=True)
    found = next(r for r in slowest if r["path"] == "/sleeps/")
    assert found["view"] == "/sleeps/" and found["status"] == 200 and found["method"] == "GET"
    assert sum(found["parts"].values()) == pytest.approx(found["wall"])


def test_running_requests_are_seen_also_of_stopped_workers(seen: Callable[..., Server]) -> None:
    """View, age and what it does, read from the board alone."""
    s = seen(threads=2)
    (worker,) = s.workers()

    def running() -> Any:
        found = {r["view"]: r for r in stopped(s, worker) if "view" in r}
        does = {name: r["doing"] for name, r in found.items()}
        return found if does == {"/slow/": "database", "/sleeps/": "runs"} else None

    with load(s, ["/slow/", "/sleeps/"]):
        found = wait_for(running, what="one in the database and one that sleeps")
    assert all(r["worker"] == 1 and r["pid"] == worker for r in found.values())


def stopped(s: Server, worker: int) -> Any:
    """The requests that run while this worker is stopped."""
    os.kill(worker, signal.SIGSTOP)
    try:
        return ask(s, "/requests").json()["running"]
    finally:
        os.kill(worker, signal.SIGCONT)


def with_a_statement(running: Any) -> Any:
    """The first of them that is in the database."""
    return next((r for r in running if "statement" in r), None)


def test_a_statement_that_runs_is_shown(seen: Callable[..., Server]) -> None:
    """In flight: the text of what the request waits for, without its values."""
    s = seen()
    with load(s, ["/slow/"]):
        found = wait_for(lambda: with_a_statement(ask(s, "/requests").json()["running"]))
    assert found["doing"] == "database" and found["view"] == "/slow/"
    assert "WITH RECURSIVE" in found["statement"] and "200" not in found["statement"]


def test_other_applications_have_bounded_views(server: Start) -> None:
    """Method and first part of the path; what is not found is one view."""
    s = server("seen_plain", control="unix:control.sock")
    for number in range(5):
        s.get(f"/users/{number}")
        s.request("POST", f"/users/{number}", b"x")
        s.get(f"/nothing/{number}")
        s.get(f"/nothing-{number}")
    wait_for(lambda: sum(v["requests"] for v in views(s).values()) == 20)
    assert {name: v["requests"] for name, v in views(s).items()} == {
        "GET /users": 5,
        "POST /users": 5,
        "(no view)": 10,
    }


def test_not_more_views_than_there_is_room_for(server: Start) -> None:
    """The rest is one row; nothing is lost."""
    s = server("seen_plain", control="unix:control.sock")
    for number in range(520):
        assert s.get(f"/found-{number}").status == 200
    wait_for(lambda: sum(v["requests"] for v in views(s).values()) == 520)
    found = views(s)
    assert len(found) == 513 and found["other"]["requests"] == 8


def test_off_means_nothing(seen: Callable[..., Server]) -> None:
    """Without `observe` no hook is in the application, and nothing is counted."""
    s = seen(observe=False)
    assert s.get("/equal/").status == 200
    assert s.get("/hooked/").text == "no"
    assert ask(s, "/views").json() | {"uptime": 0} == {
        "observed": False,
        "uptime": 0,
        "off": [],
        "views": [],
    }


def test_hooks_are_there_otherwise(seen: Callable[..., Server]) -> None:
    """The counterpart of the test above."""
    assert seen().get("/hooked/").text == "yes"


def test_off_means_no_costs(seen: Callable[..., Server]) -> None:
    """A request cannot know them then."""
    assert seen(observe=False).get("/costs/").json() == {"costs": None, "elsewhere": [None]}


def test_metrics_by_view(seen: Callable[..., Server]) -> None:
    """Prometheus gets the same numbers."""
    s = seen()
    s.get("/equal/")
    wall = view(s, "/equal/")["wall"]
    text = ask(s, "/metrics").text
    assert 'myserver_view_queries_total{view="/equal/"} 30' in text
    assert 'myserver_view_responses_total{view="/equal/",class="2xx"} 1' in text
    assert 'myserver_view_duration_seconds_bucket{view="/equal/",le="+Inf"} 1' in text
    assert f'myserver_view_duration_seconds_sum{{view="/equal/"}} {wall:.9f}' in text


def wait_for_504(s: Server) -> int:
    """Ask until the watch answers; how often the application was quicker."""
    for quicker in range(20):
        if s.get("/sleeps/").status == 504:
            return quicker
    raise AssertionError("the watch never answers")


@pytest.mark.parametrize("interrupts", [True, False])
def test_a_request_that_the_watch_has_answered_is_counted(
    seen: Callable[..., Server], interrupts: bool
) -> None:
    """With the status that its client got: by its thread, or by the master where that never comes back."""
    s = seen(timeout="40ms", timeout_interrupt=interrupts)
    # A watch that does not run meanwhile does not see it.
    count = 1 + wait_for_504(s)
    found = view(s, "/sleeps/", count)
    assert found["responses"]["5xx"] == 1 and found["requests"] == count
    assert found["wall"] >= 0.04


def test_a_request_that_kills_its_worker_is_counted(seen: Callable[..., Server]) -> None:
    """By the master, under its view, without an answer."""
    s = seen(expect_deaths=True)
    (worker,) = s.workers()

    def is_killed() -> bool:
        os.kill(worker, signal.SIGSTOP)
        if with_a_statement(ask(s, "/requests").json()["running"]):
            os.kill(worker, signal.SIGKILL)
            return True
        os.kill(worker, signal.SIGCONT)
        return False

    with load(s, ["/slow/"]):
        wait_for(is_killed, what="a statement")
    wait_for(lambda: view(s, "/slow/")["responses"]["none"] == 1, what="the master to count it")
