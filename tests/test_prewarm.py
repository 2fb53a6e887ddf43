"""Requests that the server makes to the application itself, before it serves."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import harness
import pytest
from harness import Server, StartFailed, wait_for

Start = Callable[..., Server]


def asked(server: Server, worker: int) -> list[str]:
    """The requests that the application saw: 0 is the mold."""
    return re.findall(rf"event: asked (.*); {worker}\.", server.log)


def test_default_is_the_root(server: Start) -> None:
    """Tried, asked in the mold, and once more in the worker before it is ready; the log says so."""
    s = server("warmed", prewarm_rounds=4)
    assert asked(s, 0) == ["GET / localhost , no key"] * 5
    assert asked(s, 1) == ["GET / localhost , no key"]
    assert s.log_contains(r'no prewarm is configured: "/" is used to warm up')
    assert s.log_contains(r"warmed up: 4 rounds of 1 path in \d+ ms")
    assert s.log.count("event: closed / in 0.") == 5
    assert s.log.count("event: closed / in 1.") == 1


def test_default_that_is_sent_on(server: Start) -> None:
    """To https, as Django does with SECURE_SSL_REDIRECT: then it comes as from a proxy."""
    s = server("warmed", prewarm_rounds=4, env={"ROOT_STATUS": "secure"})
    secure = "GET / localhost , no key https"
    assert asked(s, 0) == ["GET / localhost , no key"] + [secure] * 5
    assert asked(s, 1) == [secure]
    assert s.log_contains(r'"/ \| X-Forwarded-Proto: https" is used to warm up')


def test_default_that_is_sent_elsewhere(server: Start) -> None:
    s = server("warmed", prewarm_rounds=4, env={"ROOT_STATUS": "302"})
    assert len(asked(s, 0)) == 1 + 1 + 4
    assert s.log_contains(r'"/" is used to warm up')


@pytest.mark.parametrize("status", ["500", "503"])
def test_default_that_fails_is_not_used(server: Start, status: str) -> None:
    """Nobody asked for it: it must make nothing worse."""
    s = server("warmed", env={"ROOT_STATUS": status})
    assert len(asked(s, 0)) == 1
    assert asked(s, 1) == []
    assert s.log_contains(r'"/" answers with an error, so it is not used')
    assert s.get("/404").status == 404


def test_default_that_ends_the_process_is_not_used(server: Start) -> None:
    """The trial dies, not the mold."""
    s = server("warmed", env={"ROOT_STATUS": "exit"})
    assert s.log_contains(r'"/" ends the process, so it is not used')
    assert s.get("/404").status == 404


def test_default_that_hangs_ends_with_the_mold(server: Start) -> None:
    """The trial is a copy of the whole application: none may be left behind."""
    s = server("warmed", env={"ROOT_STATUS": "hangs"}, start=False, startup_timeout="1s")
    with pytest.raises(StartFailed) as failure:
        s.start()
    assert failure.value.status == 3
    assert "event: asked GET /" in s.log
    wait_for(lambda: not s.relatives(), 5)


def test_no_rounds_no_requests(server: Start) -> None:
    """prewarm-rounds = 0."""
    s = server("warmed", prewarm=["/a"], prewarm_rounds=0)
    assert asked(s, 0) == asked(s, 1) == []
    assert s.get("/a").text == "ab"


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


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("/500", r'prewarm "/500" answers with an error of the server: the path must work'),
        ("/raise", r'prewarm "/raise" answers with an error of the server'),
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
    assert s.log_contains(r"\[error\].* prewarm \"/broken\" answers with an error")
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
