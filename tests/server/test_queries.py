"""Statements to databases: counted by view, repeats found with their line, no value ever shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_client import ask
from harness import APPS, Server, wait_for
from shop_client import Client, shop_options
from test_views import view

Start = Callable[..., Server]
NAME = "SELECT name FROM item WHERE id = %s"


def queries(s: Server) -> Any:
    """What control says of them."""
    return ask(s, "/queries").json()


def statement(s: Server, begin: str) -> Any:
    """The one whose text begins so."""
    (found,) = (x for x in queries(s)["statements"] if x["text"].startswith(begin))
    return found


def line_of(text: str) -> int:
    """Where the fixture has that text."""
    lines = (APPS / "seen.py").read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("path", ["/equal/", "/async-equal/"])
@pytest.mark.parametrize("threads", [1, 10])
def test_repeats_are_found(seen: Callable[..., Server], path: str, threads: int) -> None:
    """30 equal queries, with the line that makes them."""
    s = seen(threads=threads)
    s.get(path)
    s.get(path)
    assert view(s, path, 2)["queries"] == 60
    (repeat,) = queries(s)["repeated"]
    assert repeat["view"] == path and repeat["text"] == NAME
    assert (repeat["requests"], repeat["queries"], repeat["most"]) == (2, 60, 30)
    line = line_of('cursor.execute("SELECT name')
    assert repeat["origin"].endswith(f"seen.py:{line} in item_name")
    assert repeat["id"] == statement(s, NAME)["id"]
    assert statement(s, NAME)["count"] == 60


@pytest.mark.parametrize("path", ["/async-bare/", "/async-streams/"])
def test_repeats_of_a_coroutine(seen: Callable[..., Server], path: str) -> None:
    """The line is the one at which the coroutine, or its generator, waits for the database."""
    s = seen()
    assert s.get(path).status == 200
    view(s, path)
    (repeat,) = queries(s)["repeated"]
    name = "pieces" if "streams" in path else "async_bare"
    line = line_of(f"# in {name}")
    assert repeat["origin"].endswith(f"seen.py:{line} in {name}")


def test_repeats_before_there_is_a_view(server: Start, tmp_path: Path) -> None:
    """What middleware asks belongs to the view of its request, as its time does."""
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3"), "SEEN_EARLY": "1"}
    s = server("seen", control="unix:control.sock", env=env)
    s.get("/same/?early")
    assert view(s, "/same/")["queries"] == 11
    (repeat,) = queries(s)["repeated"]
    assert (repeat["view"], repeat["queries"]) == ("/same/", 11)
    assert repeat["origin"].endswith("in item_name")


def test_values_that_have_names(seen: Callable[..., Server]) -> None:
    """They are the same if all of them are."""
    s = seen()
    s.get("/named/")
    view(s, "/named/")
    found = statement(s, "SELECT name FROM item WHERE id = %(id)s")
    assert (found["count"], found["duplicates"]) == (4, 2)


def test_rows_that_are_computed_when_asked_for(seen: Callable[..., Server]) -> None:
    """A loop over a cursor is in the database, too."""
    s = seen()
    assert s.get("/rows/").text == "[0, 100000, 200000, 300000]"
    parts = view(s, "/rows/")["parts"]
    assert parts["cpu"] < parts["database"], parts
    found = statement(s, "WITH RECURSIVE")
    assert found["time"] == pytest.approx(parts["database"], rel=0.3)


@pytest.mark.parametrize("database", ["postgres", "mariadb"])
def test_a_driver_that_is_called_directly(
    server: Start, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Statements past the framework."""
    url = request.getfixturevalue(database)
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3"), "SEEN_URL": url}
    s = server("seen", control="unix:control.sock", env=env)
    assert s.get("/driver/").text == "asked"
    assert view(s, "/driver/")["queries"] == 6
    (repeat,) = queries(s)["repeated"]
    assert repeat["text"] == NAME and repeat["origin"].endswith("in driver")
    assert statement(s, NAME)["vendor"] == {"postgres": "postgresql"}.get(database, "mysql")


LIBRARY = """\
import seen


def names(request):
    return seen.HttpResponse("".join(name(number) for number in range(10)))


def name(number):
    with seen.connection.cursor() as cursor:
        cursor.execute("SELECT name FROM item WHERE id = %s", [number])
        return str(cursor.fetchone())
"""
PROJECT = """\
import seen
import shelf.views


def middleware(get_response):
    def call(request):
        return get_response(request)

    return call


seen.settings.MIDDLEWARE.append("project.middleware")
seen.urlpatterns.append(seen.path("shelf/", shelf.views.names))
application = seen.WSGIHandler()
"""


def test_repeats_of_an_installed_package(server: Start, tmp_path: Path) -> None:
    """The line is the package's, where none of the application is nearer than its middleware."""
    packages = tmp_path / "lib" / "site-packages"
    (packages / "shelf").mkdir(parents=True)
    (packages / "shelf" / "views.py").write_text(LIBRARY)
    (tmp_path / "project.py").write_text(PROJECT)
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3")}
    paths = [tmp_path, packages]
    s = server("project", control="unix:control.sock", env=env, pythonpath=paths)
    assert s.get("/shelf/").status == 200
    view(s, "/shelf/")
    (repeat,) = queries(s)["repeated"]
    line = next(n for n, text in enumerate(LIBRARY.splitlines(), 1) if "execute" in text)
    assert repeat["origin"] == f"shelf/views.py:{line} in name"


@pytest.mark.parametrize(("count", "is_found"), [(4, False), (5, True)])
def test_five_are_a_repeat(seen: Callable[..., Server], count: int, is_found: bool) -> None:
    """Fewer are none."""
    s = seen()
    s.get(f"/equal/{count}/")
    assert view(s, "/equal/<int:count>/")["queries"] == count
    assert bool(queries(s)["repeated"]) is is_found


def test_slow_statements(seen: Callable[..., Server]) -> None:
    """Three slow ones are one statement, as only their values differ; fetching rows is their time."""
    s = seen()
    s.get("/slow/")
    found_view = view(s, "/slow/")
    found = statement(s, "WITH RECURSIVE")
    assert found["count"] == found_view["queries"] == 3
    assert found["view"] == "/slow/" and found["database"] == "default"
    assert found["vendor"] == "sqlite" and not found["cut"]
    assert found["time"] == pytest.approx(found_view["parts"]["database"], rel=0.3)
    assert found["time"] / 3 <= found["slowest"] <= found["time"]


def test_duplicates(seen: Callable[..., Server]) -> None:
    """The same statement with the same values, in one request."""
    s = seen()
    s.get("/same/")
    view(s, "/same/")
    found = statement(s, NAME)
    assert (found["count"], found["duplicates"]) == (4, 3)
    s.get("/equal/4/")
    view(s, "/equal/<int:count>/")
    assert statement(s, NAME)["duplicates"] == 3


def test_databases_are_told_apart(seen: Callable[..., Server]) -> None:
    """The same text in two of them is two statements, and neither is a repeat."""
    s = seen()
    s.get("/both/")
    assert view(s, "/both/")["queries"] == 8
    found = {x["database"]: x for x in queries(s)["statements"]}
    assert {alias: (x["count"], x["text"]) for alias, x in found.items()} == {
        "default": (4, "SELECT id FROM big WHERE name = %s"),
        "other": (4, "SELECT id FROM big WHERE name = %s"),
    }
    assert queries(s)["repeated"] == []


def test_failed_statements(seen: Callable[..., Server]) -> None:
    """They count, and their exception is the application's."""
    s = seen()
    assert s.get("/wrong/").text == "OperationalError"
    view(s, "/wrong/")
    found = statement(s, "SELECT nothing")
    assert (found["count"], found["failed"]) == (1, 1)


def test_no_value_is_shown(seen: Callable[..., Server]) -> None:
    """Not of parameters, of texts in the statement, of comments, of the request."""
    s = seen(threads=2, access_logfile="access.log")
    s.get("/secrets/?token=topsecret", headers={"Cookie": "topsecret=1", "X-Key": "topsecret"})
    assert view(s, "/secrets/")["queries"] == 5
    for path in ("/queries", "/views", "/requests", "/stats", "/metrics"):
        response = ask(s, path)
        assert response.status == 200
        assert "topsecret" not in response.text, path
    texts = {x["text"] for x in queries(s)["statements"]}
    assert texts == {"SELECT name FROM item WHERE name = %s", NAME}


def test_the_shop_repeats_nothing(server: Start, shop_var: Path) -> None:
    """No false alarm on pages that are made well."""
    s = server(threads=4, control="unix:control.sock", **shop_options(shop_var))
    with Client(s.url) as client:
        for path in ("/", "/?page=2", "/search/?q=a", "/about/"):
            client.get(path)
    found = wait_for(lambda: queries(s)["statements"])
    assert found
    assert queries(s)["repeated"] == []
