"""`myserver observe`: parts of the observation are switched while the server runs."""

from __future__ import annotations

import http.client
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from control_client import ask
from harness import FLAVOUR, Server, run, wait_for
from test_profile import load, profile_until, times_of
from test_views import view, views

Start = Callable[..., Server]
PARTS = ("views", "queries", "gil", "collector", "sampler")


def observe(s: Server, *args: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return run("observe", "--control", str(s.dir / "control.sock"), *args)


def switch(s: Server, *args: str) -> dict[str, str]:
    """What it says of each part."""
    done = observe(s, *args)
    assert done.returncode == 0, done.stderr
    return dict(line.partition("   (")[0].split(None, 1) for line in done.stdout.splitlines())


def statements(s: Server) -> dict[str, int]:
    """How often each statement was made."""
    return {q["text"]: q["count"] for q in ask(s, "/queries").json()["statements"]}


def requests_of(s: Server) -> int:
    """How many the server has answered, whatever is observed."""
    return int(ask(s, "/stats").json()["total"]["requests"])


def ask_for(s: Server, path: str, count: int = 1) -> None:
    """Requests that have ended, also for the account."""
    before = requests_of(s)
    for _ in range(count):
        assert s.get(path).status == 200
    wait_for(lambda: requests_of(s) == before + count)


def test_all_is_on_at_first(seen: Callable[..., Server]) -> None:
    s = seen()
    assert switch(s) == dict.fromkeys(PARTS, "on")
    assert ask(s, "/views").json()["off"] == []


@pytest.mark.parametrize("threads", [1, 10])
def test_views(seen: Callable[..., Server], threads: int) -> None:
    """Nothing is counted while they are off, and everything afterwards; traces stay."""
    s = seen(threads=threads)
    ask_for(s, "/equal/")
    found = view(s, "/equal/")
    assert switch(s, "views=off")["views"] == "off"
    ask_for(s, "/equal/", 5)
    ask_for(s, "/sleeps/")
    assert views(s) == {"/equal/": found}
    assert sum(statements(s).values()) == 30
    assert "but nothing without views" in switch(s)["queries"]
    assert switch(s, "views=on")["views"] == "on"
    ask_for(s, "/equal/", 2)
    found = view(s, "/equal/", 3)
    assert found["requests"] == 3 and found["queries"] == 90
    assert sum(found["parts"].values()) == pytest.approx(found["wall"], rel=1e-6)


def test_queries(seen: Callable[..., Server]) -> None:
    """Neither statements nor time in the database; the request has a view all the same."""
    s = seen()
    switch(s, "queries=off")
    ask_for(s, "/slow/")
    found = view(s, "/slow/")
    assert found["queries"] == 0 and found["parts"]["database"] == 0 and statements(s) == {}
    switch(s, "queries=on")
    ask_for(s, "/slow/")
    found = view(s, "/slow/", 2)
    assert found["queries"] == 3 and found["parts"]["database"] > 0.01


@pytest.mark.skipif(FLAVOUR == "tsan", reason="the wait for the GIL is not measured there")
def test_gil(seen: Callable[..., Server]) -> None:
    """The wait becomes one for something else."""
    s = seen()
    switch(s, "gil=off")
    ask_for(s, "/waits/")
    parts = view(s, "/waits/")["parts"]
    assert parts["gil"] == 0 and parts["other"] + parts["runqueue"] > 0.005
    switch(s, "gil=on")
    ask_for(s, "/waits/")
    assert view(s, "/waits/", 2)["parts"]["gil"] > 0.005


@pytest.mark.parametrize("threads", [1, 10])
def test_collector(seen: Callable[..., Server], threads: int) -> None:
    """Pauses are those of the view that makes the garbage, and are counted nowhere while it is off."""
    s = seen(threads=threads)
    ask_for(s, "/quick/1/", 5)
    ask_for(s, "/cycles/", 3)
    found = view(s, "/cycles/", 3)
    # A collection for each 700 to 2,000 objects, as the version of Python has it, of 60,000.
    assert found["gc"]["pauses"] >= 10
    assert 0 < found["gc"]["longest"] < found["gc"]["time"] < found["wall"]
    assert view(s, "/quick/<int:number>/")["gc"] == {"pauses": 0, "time": 0, "longest": 0}
    total = ask(s, "/stats").json()["total"]["gc"]["in_requests"]
    assert total["pauses"] == found["gc"]["pauses"]
    assert total["time_s"] == pytest.approx(found["gc"]["time"])
    text = ask(s, "/metrics").text
    assert f'view_gc_pauses_total{{view="/cycles/"}} {total["pauses"]}' in text
    assert f'gc_pauses_total{{when="in_requests"}} {total["pauses"]}' in text
    slowest = ask(s, "/requests").json()["slowest"]
    assert max(r["gc"] for r in slowest if r["view"] == "/cycles/") > 0
    assert "gc: " in run("top", "--once", "--control", str(s.dir / "control.sock")).stdout
    switch(s, "collector=off")
    ask_for(s, "/cycles/", 3)
    assert view(s, "/cycles/", 6)["gc"] == found["gc"]
    switch(s, "collector=on")
    ask_for(s, "/cycles/")
    assert view(s, "/cycles/", 7)["gc"]["pauses"] > found["gc"]["pauses"]


def test_collections_between_requests_are_of_none(seen: Callable[..., Server]) -> None:
    s = seen(env={"GC_THRESHOLD": "700"})  # newer versions of Python have one that takes longer

    def between() -> Any:
        ask_for(s, "/equal/")
        return ask(s, "/stats").json()["total"]["gc"]["between_requests"]["pauses"]

    wait_for(between)
    assert view(s, "/equal/")["gc"]["pauses"] == 0


@pytest.mark.parametrize("how", ["recycling", "no preload", "refork"])
def test_pauses_of_the_next_worker(seen: Callable[..., Server], how: str) -> None:
    options: dict[str, Any] = {
        "recycling": {"max_requests": 1, "max_requests_jitter": 0},
        "no preload": {"preload": False},
        "refork": {"refork_after": "1"},
    }[how]
    s = seen(**options)
    before = s.workers()
    ask_for(s, "/cycles/")
    first = view(s, "/cycles/")["gc"]["pauses"]
    assert first >= 3
    if how != "no preload":
        wait_for(lambda: s.workers() and not set(before) & set(s.workers()))
    ask_for(s, "/cycles/")
    assert first < view(s, "/cycles/", 2)["gc"]["pauses"] < 3 * first


def test_queries_of_one_view(seen: Callable[..., Server]) -> None:
    s = seen()
    ask_for(s, "/equal/")
    ask_for(s, "/same/")
    before = statements(s)
    assert switch(s, "queries=on", "--view=/same/")["queries"] == "on, for /same/ alone"
    ask_for(s, "/equal/")
    ask_for(s, "/same/")
    assert sum(statements(s).values()) == sum(before.values()) + 4
    assert (view(s, "/equal/", 2)["queries"], view(s, "/same/", 2)["queries"]) == (30, 8)
    assert switch(s, "queries=on")["queries"] == "on"
    ask_for(s, "/equal/")
    assert view(s, "/equal/", 3)["queries"] == 60


def taken(s: Server) -> int:
    """Looks of the samplers."""
    return sum(w["taken"] for w in ask(s, "/profile").json()["workers"])


def test_sampler(server: Start) -> None:
    """No looks while it is off, but for a profile that somebody makes."""
    s = server("profiled", control="unix:control.sock")
    wait_for(lambda: taken(s) > 3)
    assert switch(s, "sampler=off")["sampler"] == "off"
    wait_for(lambda: ask(s, "/profile").json()["workers"][0]["hz"] == 0)
    before = taken(s)
    with load(s, ["/burn"]):
        profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0.1, "a profile")
    assert taken(s) > before
    wait_for(lambda: ask(s, "/profile").json()["workers"][0]["hz"] == 0)
    before = taken(s)
    assert switch(s, "sampler=on")["sampler"] == "on"
    wait_for(lambda: taken(s) > before)


def test_sampler_of_one_view(seen: Callable[..., Server]) -> None:
    """The others leave no record in the always-on ring."""
    s = seen(threads=4)
    ask_for(s, "/sleeps/")
    ask_for(s, "/locked/")
    switch(s, "sampler=on", "--view=/sleeps/")
    begin = ask(s, "/samples?worker=1&all=1").json()["next"]
    with load(s, ["/sleeps/"]):
        begin = wait_for(lambda: records_since(s, begin))["next"]  # behind a look from before
    with load(s, ["/sleeps/", "/locked/"]):
        requests = requests_of(s)
        wait_for(lambda: requests_of(s) >= requests + 20)
        answer = wait_for(lambda: records_since(s, begin))
    names = {answer["views"][record[3]] for record in answer["samples"]}
    assert names == {"GET /sleeps/"}


def records_since(s: Server, begin: int) -> Any:
    """The answer of /samples, if it has any record from that number on."""
    answer = ask(s, "/samples?worker=1&all=1").json()
    answer["samples"] = answer["samples"][-max(0, answer["next"] - begin) :]
    return answer if answer["next"] > begin else None


@pytest.mark.parametrize("how", ["reload", "recycling", "refork"])
def test_it_outlives_workers(seen: Callable[..., Server], how: str) -> None:
    options: dict[str, Any] = {"max_requests": 1, "max_requests_jitter": 0}
    options = {"recycling": options, "refork": {"refork_after": "1"}}.get(how, {})
    s = seen(**options)
    switch(s, "queries=off")
    before = s.workers()
    if how == "reload":
        s.signal(signal.SIGHUP)
    else:
        ask_for(s, "/quick/1/")
    wait_for(lambda: s.workers() and not set(before) & set(s.workers()))
    ask_for(s, "/equal/")
    assert view(s, "/equal/")["queries"] == 0
    assert switch(s)["queries"] == "off"


def test_a_restart_forgets_it(seen: Callable[..., Server]) -> None:
    s = seen()
    switch(s, "all=off")
    s.stop()
    s.start()
    assert set(switch(s).values()) == {"on"}


def test_settings_that_are_off(seen: Callable[..., Server]) -> None:
    """Nothing is put into an application at run time; the command says so."""
    s = seen(observe=False, profile_rate=0)
    found = switch(s, "all=on")
    assert found["sampler"] == "on, but the setting profile-rate is 0"
    assert found["views"] == "on, but the setting observe is off: set it and reload"
    ask_for(s, "/equal/")
    ask_for(s, "/cycles/")
    assert views(s) == {}
    gc = ask(s, "/stats").json()["total"]["gc"]
    assert gc["in_requests"]["pauses"] == gc["between_requests"]["pauses"] == 0


def test_top_says_what_is_off(seen: Callable[..., Server]) -> None:
    s = seen()
    switch(s, "gil=off", "queries=off")
    shown = run("top", "--once", "--control", str(s.dir / "control.sock")).stdout
    assert "switched off: queries, gil (myserver observe)" in shown


def test_wrong_arguments(seen: Callable[..., Server]) -> None:
    s = seen()
    ask_for(s, "/equal/")
    for wrong in (["gil"], ["x=on"], ["gil=maybe"], ["--view=/equal/"]):
        assert observe(s, *wrong).returncode == 2, wrong
    done = observe(s, "queries=on", "--view=/nothing/")
    assert done.returncode == 2 and "/views lists them" in done.stderr
    for alone in ("gil=on", "all=on", "queries=off"):
        done = observe(s, alone, "--view=/equal/")
        assert done.returncode == 2 and "Only queries and sampler" in done.stderr, alone
    for wrong in ("", "queries=1", "nothing=on"):
        assert ask(s, f"/observe?{wrong}", "POST").status == 400
    assert set(switch(s).values()) == {"on"}


def test_views_that_are_known_at_the_end(server: Start) -> None:
    s = server("seen_plain", control="unix:control.sock")
    ask_for(s, "/users/1")
    done = observe(s, "queries=on", "--view=GET /users")
    assert done.returncode == 2 and "does not name it before" in done.stderr


def test_only_a_unix_socket_may_switch(server: Start) -> None:
    """Over TCP everybody on this machine could: they may read."""
    s = server("hello", control="127.0.0.1:0")
    found = s.log_contains(r"control on (127\.0\.0\.1):(\d+)$")
    assert found
    for method, status in (("POST", 403), ("GET", 200)):
        client = http.client.HTTPConnection(found[1], int(found[2]))
        client.request(method, "/observe?all=off")
        response = client.getresponse()
        assert response.status == status
        assert method == "POST" or b'"views":{"on":true}' in response.read()
        client.close()
