"""Requests that the server makes to the application itself, before it serves."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

import harness
from harness import Server, StartFailed, wait_for

Start = Callable[..., Server]


def asked(server: Server, worker: int) -> list[str]:
    """The requests that the application saw: 0 is the mold."""
    return re.findall(rf"event: asked (.*); {worker}\.", server.log)


def test_nothing_is_asked_without_prewarm(server: Start) -> None:
    """Neither in the mold nor in a worker, nor when the application is loaded in the worker."""
    for preload in (True, False):
        s = server("warmed", preload=preload)
        assert s.log_contains(r"\[info\] .* no prewarm is configured: .*; each prewarm = /PAGE ")
        assert s.get("/a").text == "ab"
        assert len(re.findall("event: asked GET", s.log)) == 1


def test_no_rounds_no_requests(server: Start) -> None:
    """prewarm-rounds = 0."""
    s = server("warmed", prewarm=["/a"], prewarm_rounds=0)
    assert asked(s, 0) == asked(s, 1) == []
    assert s.get("/a").text == "ab"


def test_what_is_written(server: Start) -> None:
    """By write(), the older way."""
    s = server("warmed", prewarm=["/write"], prewarm_rounds=2)
    assert len(asked(s, 0)) == 2
    assert s.get("/write").text == "writtenab"
    s = server("warmed", prewarm=["/write_and_raise"], start=False)
    with pytest.raises(StartFailed):
        s.start()
    assert '"/write_and_raise" answers 500: the path must work' in s.log


def test_requests_as_they_were_written(server: Start) -> None:
    """Method, query, Host and other headers; in their order, in every round."""
    s = server(
        "warmed",
        prewarm=["/a?x=1", "HEAD /b", "/c | Host: shop.example | X-Key: two words ", "POST /d"],
        prewarm_rounds=2,
    )
    wanted = [
        "GET /a localhost x=1, no key",
        "HEAD /b localhost , no key",
        "GET /c shop.example , two words",
        "POST /d localhost , no key",
    ]
    assert asked(s, 0) == wanted * 2
    assert asked(s, 1) == wanted
    assert s.log_contains(r"warmed up: 2 rounds of 4 paths")


def test_requests_say_whose_they_are(server: Start) -> None:
    """So that an application can leave them out of its statistics; unless the setting says more."""
    s = server("warmed", prewarm=["/a", "/b |  user-agent: other"], prewarm_rounds=1)
    s.get("/c", {"User-Agent": "third"})
    by = re.findall(r"event: asked by (.*)\.", s.log)
    assert by == ["myserver prewarm", "other"] * 2 + ["third"]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("/500", r'prewarm "/500" answers 500: the path must work'),
        ("/raise", r'prewarm "/raise" answers 500'),
        ("/502", r'prewarm "/502" answers 502'),
        ("no request", r'prewarm "no request" is no request'),
        ("/ | no header", r'prewarm "/ \| no header" is no request'),
    ],
)
def test_wrong_request_at_start(server: Start, request_: str, sentence: str) -> None:
    """A sentence, and the status of an application that cannot be loaded."""
    with pytest.raises(StartFailed) as failure:
        server("warmed", prewarm=["/a", request_])
    assert failure.value.status == 3
    assert re.search(sentence, failure.value.log)
    if request_ == "/raise":
        assert "ValueError: as asked" in failure.value.log


def test_wrong_request_without_preload(server: Start) -> None:
    """Said once, by the first worker, and not tried again."""
    with pytest.raises(StartFailed) as failure:
        server("warmed", preload=False, workers=1, prewarm=["/502"], expect_deaths=True)
    assert failure.value.status == 3
    assert failure.value.log.count('prewarm "/502" answers 502') == 1
    assert "cannot start: the application could not be loaded" in failure.value.log


def test_answer_below_500_is_only_a_warning(server: Start) -> None:
    """A redirect or a 404 warms little, and says what may be missing."""
    s = server("warmed", prewarm=["/404", "/301", "/204"])
    assert s.log_contains(r'\[warning\].* prewarm "/404" answers 404, so it warms little; write ')
    assert s.log_contains(r'\[warning\].* prewarm "/301" answers 301')
    assert "/204" not in "".join(re.findall(r"\[warning\].*", s.log))


def test_failing_request_at_a_reload_keeps_the_old(server: Start) -> None:
    """The workers that serve go on."""
    s = server("warmed", prewarm=["/broken"], prewarm_rounds=1, expect_deaths=True)
    before = s.workers()
    (s.dir / "broken").touch()
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"\[error\].* prewarm \"/broken\" answers 503: ")
    assert s.log_contains(r"reload failed")
    assert s.workers() == before
    assert s.get("/200").status == 200


def test_check_config_warms_up_too() -> None:
    """What would fail at the start fails there."""
    path = f"--pythonpath={harness.APPS}"
    done = harness.run("--check-config", path, "--prewarm=/500", "warmed")
    assert done.returncode == 3
    assert "the path must work" in done.stderr + done.stdout


def test_imports_after_the_fork_are_reported_once(server: Start) -> None:
    """With the request that caused them; so the user knows what to add."""
    s = server("warmed")
    for _ in range(3):
        s.get("/import?secret=1")
    line = r"\[info\] worker 1 .*GET /import imported modules after the fork.*: colorsys$"
    wait_for(lambda: re.search(line, s.log, re.MULTILINE), what="the report")
    assert len(re.findall(line, s.log, re.MULTILINE)) == 1
    assert "secret" not in "".join(re.findall(r".*imported modules.*", s.log))


def test_imports_are_reported_once_for_all_workers(server: Start) -> None:
    """And again by the next generation, for which it is news."""
    s = server("warmed", workers=2)
    begin = 0

    def is_seen_by_both() -> bool:
        s.get("/import")
        return len(set(re.findall(r"asked GET /import .*; (\d)\.\n", s.log[begin:]))) == 2

    wait_for(is_seen_by_both, 20, "both workers to import")
    begin = len(s.log)
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: ", 20, begin)
    begin = len(s.log)
    wait_for(is_seen_by_both, 20, "both new workers to import")
    assert s.stop() == 0
    assert len(re.findall(r"GET /import imported modules", s.log)) == 2


def test_imports_without_preload(server: Start) -> None:
    """What the worker itself has loaded and warmed up with is no request's."""
    s = server("warmed", preload=False)
    s.get("/")
    s.get("/import")
    assert s.log_contains("imported modules")
    assert re.findall(r"(\S+ \S+) imported modules .*: (.*)", s.log) == [
        ("GET /import", "colorsys")
    ]


def test_imports_in_hooks(server: Start) -> None:
    """Nor is what a postfork function has imported."""
    s = server("forks", env={"HAS": "import in postfork"})
    assert s.get("/threads").status == 200
    assert s.get("/import").status == 200
    assert s.log_contains("GET /import imported modules after the fork.*wave")
    assert "colorsys" not in s.log
    assert s.stop() == 0


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/import"), ("GET", "/import?404"), ("GET", "/import?302")]
)
def test_imports_of_what_cannot_be_prewarmed(server: Start, method: str, path: str) -> None:
    """No advice to make a POST at every start, or a request that is not answered well."""
    s = server("warmed", log_level="debug")
    s.request(method, path)
    line = rf"\[debug\] worker 1 .*{method} /import imported modules after the fork: colorsys$"
    assert s.log_contains(line)
    assert "add it to prewarm" not in s.log


def test_imports_in_the_warm_up_are_no_news(server: Start) -> None:
    """They are shared."""
    s = server("warmed", prewarm=["/import"], prewarm_rounds=1)
    s.get("/import")
    assert "imported modules" not in s.log
