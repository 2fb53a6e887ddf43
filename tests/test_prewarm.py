"""Requests that the server makes to the application itself, before it serves."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import harness
import pytest
from harness import Server, StartFailed, wait_for
from test_master import versioned

Start = Callable[..., Server]


def asked(server: Server, worker: int) -> list[str]:
    """The requests that the application saw: 0 is the mold."""
    return re.findall(rf"event: asked (.*); {worker}\.", server.log)


def reload(s: Server, status: str, sentence: str) -> None:
    """HUP for code whose "/" answers so; wait for what the log says then, and for no other mold."""
    (s.dir / "root").write_text(status)
    said = len(s.log)
    s.signal(signal.SIGHUP)
    wait_for(lambda: re.search(sentence, s.log[said:]), 20, sentence)
    wait_for(lambda: len(s.molds()) == 1)


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
    """Nobody asked for it: it must make nothing worse; but who starts it should know."""
    s = server("warmed", env={"ROOT_STATUS": status})
    assert len(asked(s, 0)) == 1
    assert asked(s, 1) == []
    assert s.log_contains(r'\[warning\].* "/" answers with an error, so it is not used')
    assert s.get("/404").status == 404


def test_default_that_ends_the_process_is_not_used(server: Start) -> None:
    """The trial dies, not the mold."""
    s = server("warmed", env={"ROOT_STATUS": "exit"})
    assert s.log_contains(r'\[warning\].* "/" ends the process, so it is not used')
    assert s.get("/404").status == 404


def test_default_whose_end_nobody_sees_is_not_used(server: Start) -> None:
    """The application ignores SIGCHLD: whether the trial ended well cannot be known."""
    s = server("warmed", env={"ROOT_STATUS": "unseen"})
    assert s.log_contains(r'\[warning\].* "/" could not be tried, so it is not used')
    assert s.get("/404").status == 404


def test_default_that_fails_behind_the_proxy_only(server: Start) -> None:
    """What is sent on to https never came to the view that is broken."""
    s = server("warmed", env={"ROOT_STATUS": "secure500"})
    assert s.log_contains(r'"/ \| X-Forwarded-Proto: https" answers with an error, so it is not used')
    assert len(asked(s, 0)) == 2


def test_default_that_hangs_is_not_used(server: Start) -> None:
    """Such as one that asks the server itself, where no worker serves yet. It blocks SIGALRM."""
    s = server("warmed", env={"ROOT_STATUS": "hangs"})
    assert s.log_contains(r'\[warning\].* "/" takes longer than 5 s, so it is not used')
    assert (len(asked(s, 0)), asked(s, 1)) == (1, [])
    assert (len(s.molds()), len(s.workers())) == (1, 1)
    assert s.get("/404").status == 404


def test_default_that_is_slow_has_fewer_rounds(server: Start) -> None:
    """The last one is still the last one; who lists a page gets all rounds of it."""
    s = server("warmed", env={"ROOT_STATUS": "slow"}, prewarm_rounds=6)
    found = s.log_contains(r"warmed up: (\d) rounds of 1 path")
    assert found and 2 <= int(found[1]) <= 5
    assert len(asked(s, 0)) == 1 + int(found[1])
    _trial, _others, last, _worker = s.log.split("event: connections are closed.")
    assert len(re.findall("event: asked GET / .*; 0", last)) == 1
    s = server("warmed", env={"ROOT_STATUS": "slow"}, prewarm="/", prewarm_rounds=6)
    assert s.log_contains(r"warmed up: 6 rounds of 1 path")


def test_default_that_hangs_ends_with_the_mold(server: Start) -> None:
    """The trial is a copy of the whole application: none may be left behind."""
    s = server("warmed", env={"ROOT_STATUS": "hangs"}, start=False, startup_timeout="1s")
    with pytest.raises(StartFailed) as failure:
        s.start()
    assert failure.value.status == 3
    assert "event: asked GET /" in s.log
    assert "the application is not loaded and warmed up within the startup-timeout" in s.log
    wait_for(lambda: not s.relatives(), 5)


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
    s = server("warmed", prewarm_rounds=1)
    assert re.findall(r"event: asked by (.*)\.", s.log) == ["myserver prewarm"] * 3


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


# ---- the default at a reload


REFUSED = r"reload failed: the application could not be loaded; generation \d goes on"
SERVES = "reloaded: all workers are of generation {}\n"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("200", "raise", '"/" answered before and now answers with an error'),
        ("404", "503", '"/" answered before and now answers with an error'),
        ("200", "exit", '"/" answered before and now ends the process'),
        (
            "secure",
            "secure500",
            '"/ | X-Forwarded-Proto: https" answered before and now answers with an error',
        ),
    ],
)
def test_reload_that_breaks_the_default(
    server: Start, before: str, after: str, reason: str
) -> None:
    """The code before goes on, again and again, until the new one works."""
    s = server("warmed", prewarm_rounds=2, env={"ROOT_STATUS": before})
    workers = s.workers()
    reload(s, after, REFUSED)
    assert re.search(rf"\[error\] mold .*: {re.escape(reason)}: the code before goes on", s.log)
    assert re.search(r"; set prewarm, or prewarm-rounds = 0 if that is meant$", s.log, re.MULTILINE)
    assert ("ValueError: as asked" in s.log) == (after == "raise")
    reload(s, after, REFUSED)
    assert s.workers() == workers
    assert s.get("/200").status == 200
    reload(s, before, SERVES.format(2))
    reload(s, after, REFUSED)


def test_default_that_never_answered_is_not_missed(server: Start) -> None:
    """A reload takes away only what there was."""
    s = server("warmed", prewarm_rounds=2, env={"ROOT_STATUS": "503"})
    reload(s, "raise", SERVES.format(2))
    reload(s, "200", SERVES.format(3))
    reload(s, "503", REFUSED)


def test_touched_file_that_breaks_the_default(server: Start) -> None:
    s = server("warmed", touch_reload=["touched"])
    (s.dir / "root").write_text("raise")
    (s.dir / "touched").touch()
    assert s.log_contains(REFUSED, 10)


def test_slow_default_is_no_failure_of_a_reload(server: Start) -> None:
    """The machine may be busy. That it answered once is not forgotten."""
    s = server("warmed", prewarm_rounds=2)
    reload(s, "hangs", SERVES.format(2))
    assert s.log_contains(r'"/" takes longer than 5 s, so it is not used')
    reload(s, "raise", REFUSED)


def test_default_that_is_meant_to_fail(server: Start) -> None:
    """What the sentence proposes."""
    s = server(None, start=False)
    ini = f"[myserver]\napp = warmed\npythonpath = {harness.APPS}\nbind = 127.0.0.1:0\n"
    (s.dir / "it.ini").write_text(ini)
    s.command = [s.command[0], "-c", "it.ini"]
    s.start()
    reload(s, "503", REFUSED)
    (s.dir / "it.ini").write_text(f"{ini}prewarm-rounds = 0\n")
    reload(s, "503", SERVES.format(2))
    (s.dir / "it.ini").write_text(ini)
    reload(s, "503", SERVES.format(3))


def test_without_preload_the_first_worker_decides(server: Start) -> None:
    """Those that take the place of one that died serve in any case."""
    s = server("warmed", preload=False, prewarm_rounds=2, expect_deaths=True)
    workers = s.workers()
    reload(s, "raise", "reload failed: the application could not be loaded; generation 1 goes on")
    assert '"/" answered before and now answers with an error' in s.log
    assert s.workers() == workers
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: s.log.count(" serves\n") == 2, 10, "another worker")
    assert s.get("/404").status == 404


def test_mold_in_the_place_of_one_that_died(server: Start) -> None:
    """It is no reload: what fails for a time must not leave the server without a mold."""
    s = server("warmed", prewarm_rounds=2, expect_deaths=True)
    (mold,), (worker,) = s.molds(), s.workers()
    (s.dir / "root").write_text("503")
    os.kill(mold, signal.SIGKILL)
    assert s.log_contains(r'"/" answers with an error, so it is not used')
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: s.log.count(" serves\n") == 2, 10, "a worker of the new mold")
    reload(s, "503", REFUSED)
    reload(s, "200", SERVES.format(3))


def test_default_that_asks_the_server_itself(server: Start) -> None:
    """After a reload others answer it. When all have died, the first one has nobody to ask."""
    s = server("warmed", prewarm_rounds=2, expect_deaths=True)
    reload(s, "asks", SERVES.format(2))
    assert len(asked(s, 2)) == 1
    (worker,) = s.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: s.log.count(" serves\n") == 3, 10, "another worker")
    assert s.get("/404").status == 404


def test_in_development_the_broken_page_is_served(server: Start) -> None:
    """Who writes the code looks at it there."""
    s = versioned(server, "one", reload=True)
    (s.dir / "versioned.py").write_text("def application(environ, start_response):\n    1 / 0\n")
    wait_for(lambda: s.get("/").status == 500, 10)
    assert re.search(r'\[warning\].* "/" answers with an error, so it is not used', s.log)


def test_check_config_tells_of_the_default() -> None:
    """It is not called fine."""
    path = f"--pythonpath={harness.APPS}"
    done = harness.run("--check-config", path, "warmed", env={"ROOT_STATUS": "raise"})
    assert done.returncode == 0
    assert re.search(r'\[warning\].* "/" answers with an error, so it is not used', done.stderr)
    said = done.stdout.splitlines()[-1]
    assert said == "the configuration is right, and the application warmed loads"


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
    assert re.findall(r"(\S+ \S+) imported modules .*: (.*)", s.log) == [("GET /import", "colorsys")]


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
