"""Where the time went of Flask and SQLAlchemy: endpoints, database, repeats with their line."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import APPS, Server, run, wait_for
from test_queries import queries, statement
from test_views import view

Start = Callable[..., Server]
AUTHOR = "SELECT author.id"


@pytest.fixture
def seen(server: Start, tmp_path: Path) -> Server:
    """Tests/apps/seen_flask.py with SQLite."""
    env = {"SEEN_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    return server("seen_flask", threads=2, control="unix:control.sock", env=env)


def line_of(text: str) -> int:
    """Where the fixture has that text."""
    lines = (APPS / "seen_flask.py").read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


def test_endpoints_are_views(seen: Server) -> None:
    """Also of a blueprint; what is not found is none."""
    for number in range(3):
        assert seen.get(f"/shelves/{number}").status == 200
        assert seen.get(f"/books/{number}").status == 200
        assert seen.get(f"/none/{number}").status == 404
    assert view(seen, "shelves.shelf", 3)["queries"] == 0
    assert view(seen, "books", 3)["queries"] == 3 + 0 + 1 + 2
    assert view(seen, "(no view)", 3)["responses"]["4xx"] == 3


def test_lazy_relationships_are_repeats(seen: Server) -> None:
    """The line is that of the application which touches the relationship."""
    assert seen.get("/books/10").status == 200
    assert view(seen, "books")["queries"] == 11
    (repeat,) = queries(seen)["repeated"]
    assert (repeat["view"], repeat["queries"], repeat["most"]) == ("books", 10, 10)
    assert repeat["text"].startswith(AUTHOR)
    line = line_of("book.author.name for book")
    assert repeat["origin"].startswith(f"{APPS}/seen_flask.py:{line} in ")
    assert statement(seen, AUTHOR)["vendor"] == "sqlite"


def test_slow_statements_are_time_in_the_database(seen: Server) -> None:
    """Fetching rows is, too: SQLite computes them when they are asked for."""
    counts, before = itertools.count(1), {"database": 0.0, "wall": 0.0}

    def is_mostly_there() -> bool:
        assert seen.get("/slow").text == "300"
        found = view(seen, "slow", next(counts))
        now = {"database": found["parts"]["database"], "wall": found["wall"]}
        spent = {name: now[name] - before[name] for name in now}
        before.update(now)
        return spent["database"] > 0.7 * spent["wall"]

    wait_for(is_mostly_there, what="a request that the machine does not stop elsewhere")
    time = statement(seen, "WITH RECURSIVE")["time"]
    assert time == pytest.approx(before["database"], rel=0.3)


def test_many_rows_are_one_statement(seen: Server) -> None:
    """Of executemany; the commit is time in the database."""
    assert seen.request("POST", "/authors").status == 200
    found = view(seen, "add_authors")
    assert found["queries"] == 1 and found["parts"]["database"] > 0
    assert statement(seen, "INSERT INTO author")["count"] == 1
    assert queries(seen)["repeated"] == []


def explained(s: Server, begin: str, *arguments: str) -> str:
    """The plan of the statement that begins so."""
    control = str(s.dir / "control.sock")
    done = run("queries", "--control", control, "--explain", statement(s, begin)["id"], *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_explain(seen: Server) -> None:
    """By the engine of the application that has the tables."""
    assert seen.get("/books/1").status == 200
    view(seen, "books")
    assert "SEARCH author USING INTEGER PRIMARY KEY" in explained(seen, AUTHOR)
    assert "SCAN book" in explained(seen, "SELECT book.id")


def test_explain_with_postgresql(server: Start, postgres: str) -> None:
    """The general plan, and the one for a value; also where each statement is a transaction."""
    url = postgres.replace("postgresql://", "postgresql+psycopg://")
    s = server("seen_flask", control="unix:control.sock", env={"SEEN_URL": url})
    assert s.get("/books/1").status == 200
    view(s, "books")
    assert "(id = $1)" in explained(s, AUTHOR)
    plan = explained(s, AUTHOR, "--analyze", "--param=7")
    assert "(id = 7)" in plan and "actual time" in plan, plan
