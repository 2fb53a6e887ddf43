"""The tool behind docs/compatibility.md: it sees what is wrong, and writes down what it has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import cases
import table
from life import APPS, EVENTS, SERVERS, THREADS, WITHOUT_PRELOAD, Answer, Life


@pytest.fixture
def shared() -> Iterator[cases.Shared]:
    """What lives share; these need nothing of it."""
    things = cases.Shared()
    with things.stack:
        yield things


def test_nothing_is_wrong(shared: cases.Shared) -> None:
    """An application that each worker helps itself to a process: all is right to the end."""
    life = Life(cases.HelperRequest(shared), WITHOUT_PRELOAD, 1, "TERM")
    assert life.run() == []
    assert len(life.users) == life.asked >= 80


class Looks(cases.HelperRequest):
    """Takes every answer for wrong."""

    def wrong(self, life: Life, user: str, answer: Answer) -> str:
        """As it says."""
        return "looked at"


def test_answers_are_looked_at(shared: cases.Shared) -> None:
    """Each of them."""
    life = Life(Looks(shared), WITHOUT_PRELOAD, 1, "TERM")
    problems = life.run()
    assert problems == [f"{life.asked} of {life.asked} answers: looked at"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"user": "user1", "pid": 1, "echo": "user1"}', ""),
        (b'{"user": "user2", "pid": 1, "echo": "user1"}', "the answer to another user"),
        (b'{"user": "user1", "pid": 1, "echo": "user2"}', "the data of another user"),
        (b'{"user": "user1", "pid": 1, "echo": null}', "other data"),
    ],
)
def test_answers(shared: cases.Shared, body: bytes, said: str) -> None:
    """Whose data is in it."""
    case = cases.Case(shared)
    assert case.wrong(None, "user1", Answer(200, {}, body)) == said  # type: ignore[arg-type]


def test_shared_connections(shared: cases.Shared) -> None:
    """Two processes that name the same one."""
    case = cases.Case(shared)
    for pid in (1, 2):
        body = b'{"user": "user1", "pid": %d, "backend": 7}' % pid
        assert case.wrong(None, "user1", Answer(200, {}, body)) == ""  # type: ignore[arg-type]
    assert case.after(None) == ["workers share a connection to the database"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ({"a": 1, "b": 1}, []),
        ({"a": 1}, ["1 of 2 lines are missing"]),
        ({"a": 1, "b": 2}, ["1 of 2 lines came more than once"]),
        ({"a": 1, "b": 1, "prewarm": 1}, ["lines of nobody's request: prewarm"]),
    ],
)
def test_what_arrives(heard: dict[str, int], said: list[str]) -> None:
    """Everything once, and nothing else."""
    assert cases.compare("lines", {"a", "b"}, Counter(heard)) == said


def verdict(server: str, threads: int, event: str, *problems: str) -> dict[str, Any]:
    """Of one life of the first application."""
    return {
        "case": cases.CASES[0].name,
        "server": server,
        "threads": threads,
        "event": event,
        "problems": list(problems),
        "warnings": [],
        "seconds": 1,
    }


def test_table() -> None:
    """A cell for each number of threads, and a footnote that says where and what."""
    verdicts = [
        verdict(server, threads, event)
        for server in SERVERS
        for threads in THREADS
        for event in EVENTS
        if (server, threads, event) != (SERVERS[0], 4, "reload")
    ]
    problems = ["2 of 9 answers: the data of another user", "KeyError: 1 (3 in the log)"]
    verdicts.append(verdict(SERVERS[0], 4, "reload", *problems))
    text = table.render({"versions": {"CPython": "3"}, "verdicts": verdicts})
    assert f"| {cases.CASES[0].title} | right | **wrong** [1] | right" in text
    assert "(reload with 4 threads): some answers: the data of another user. Without" in text
    assert "KeyError" not in text
    assert f"| {cases.CASES[1].title} | not run | not run" in text


def test_every_case_is_whole() -> None:
    """Names are unique, and the applications are there."""
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names)
    assert all((APPS / f"{case.module}.py").exists() for case in cases.CASES)
