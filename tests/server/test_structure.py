"""What the server does for Django without a request, and that its care never refuses a start."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from harness import Server, wait_for

Start = Callable[..., Server]
READY = {"languages": ["de", "en"], "reverse": ["de", "en"], "relations": True, "loaders": True}


@pytest.mark.parametrize("options", [{}, {"preload": False}, {"prewarm_rounds": 0}])
def test_django_is_warm_without_a_request(server: Start, options: dict[str, object]) -> None:
    """Views, nested patterns, languages, models, templates; no middleware has run."""
    s = server("lazysite.wsgi", **options)
    assert re.findall(r"event: urls imported in (\d)", s.log) == ["0"]
    assert s.log_contains(r"\[info\] .*warmed up without a request: views, models, templates, ")
    assert "middleware runs" not in s.log
    answer = s.get("/inner/state")
    assert (answer.status, json.loads(answer.text)) == (200, READY)
    assert s.get("/en/translated/state").status == 200
    assert s.log.count("middleware runs") == 2
    assert "imported modules after the fork" not in s.log


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("import", r"views of Django cannot be warmed up: ValueError: as asked"),
        ("exit", r"views of Django cannot be warmed up: SystemExit: as asked"),
        ("templates", r"templates of Django cannot be warmed up: .*lazysite.nothing"),
        ("no urls", None),
    ],
)
def test_what_fails_is_a_warning(server: Start, broken: str, sentence: str | None) -> None:
    """Said once; the other steps are made."""
    s = server("lazysite.wsgi", workers=2, env={"BROKEN": broken})
    said = re.findall(r"\[warning\] mold .*", s.log)
    assert len(said) == (1 if sentence else 0)
    assert sentence is None or re.search(sentence, said[0])
    assert s.log_contains(r"warmed up without a request: .*models")
    assert s.get("/inner/state").status == (200 if broken == "templates" else 500)


# ---- care


@pytest.mark.parametrize("prewarm", [None, "/"])
@pytest.mark.parametrize("case", ["unconfigured", "old", "raises", "thread", "url"])
def test_care_never_refuses_a_start(server: Start, case: str, prewarm: str | None) -> None:
    """Libraries that are only imported, old ones, ones that fail, and threads that work on."""
    s = server("careful", workers=2, prewarm=prewarm, env={"CASE": case})
    assert s.get("/").text == "well"
    s.signal(1)
    assert s.log_contains(r"reloaded: all workers are of generation 2", 20)
    assert s.get("/").text == "well"
    named = re.findall(r"\[warning\] .*Client cannot be made ready for workers: ValueError", s.log)
    assert len(named) == (2 if case == "raises" else 0), "once for each generation"


# ---- pages that want a login


def test_redirects_are_followed(server: Start) -> None:
    """To the same host, and not for ever."""
    s = server("redirected", prewarm=["/a"], prewarm_rounds=1)
    asked = re.findall(r"event: 0 (.*)", s.log)
    assert asked == ["http /a", "https /b", "https /c"]
    assert not re.search(r"\[warning\] .*prewarm", s.log)
    s = server("redirected", prewarm=["/round", "/away"], prewarm_rounds=1)
    asked = re.findall(r"event: 0 (.*)", s.log)
    assert asked == ["http /round"] * 6 + ["http /away"]
    assert s.log_contains(r'prewarm "/round" answers 302, so it warms little')
    assert s.log_contains(r'prewarm "/away" answers 302, so it warms little')


@pytest.mark.parametrize("path", ["/account", "/401", "/403", "/sso"])
def test_login_is_told_what_helps(server: Start, path: str) -> None:
    """Not another scheme or host."""
    s = server("redirected", prewarm=[path], prewarm_rounds=1)
    said = s.log_contains(
        rf'\[warning\] .*prewarm "{path}" wants a login, so it warms little: (.*)'
    )
    assert (
        said
        and "Cookie" in said[1]
        and "import the modules that the page needs in wsgi.py" in said[1]
    )


@pytest.mark.parametrize("header", ["Cookie", "Authorization"])
def test_imports_of_those_who_have_logged_in(server: Start, header: str) -> None:
    """Prewarm cannot make such a request."""
    s = server("lazysite.wsgi")
    assert s.get("/inner/private").status == 302
    assert s.get("/inner/private", {"Cookie": "session=1", header: "session=1"}).status == 200
    assert s.log_contains(
        r"GET /inner/private imported modules after the fork, import them in wsgi.py"
    )
    wait_for(lambda: "colorsys" in s.log)
    assert "add it to prewarm" not in s.log
