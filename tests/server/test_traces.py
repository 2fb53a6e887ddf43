"""The trace of a request, and its costs, in logs, environ and Server-Timing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from control_client import ask
from harness import Server, wait_for, whole_lines
from test_views import PARTS

Start = Callable[..., Server]
ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{ID}-b7ad6b7169203331-01"
MADE = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-00")


def environ(s: Server, *parents: str) -> Any:
    """What the application sees of a request with these headers."""
    lines = "".join(f"traceparent: {p}\r\n" for p in parents)
    raw = s.raw(f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    return json.loads(raw.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    "parent",
    [PARENT, PARENT[:-2] + "00", "01" + PARENT[2:], "01" + PARENT[2:] + "-more"],
)
def test_a_trace_is_taken_over(server: Start, parent: str) -> None:
    """Also of later versions."""
    s = server("traced")
    found = environ(s, parent)
    assert found["HTTP_TRACEPARENT"] == parent
    assert found["myserver.traceparent"].split("-")[1:4] == parent.split("-")[1:4]


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "x",
        PARENT[:-1],
        PARENT + "0",
        PARENT + "-more",
        PARENT.upper(),
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{ID}-{'0' * 16}-01",
        PARENT.replace("-", "_"),
        PARENT.replace("a", "g"),
    ],
)
def test_what_is_no_trace_is_replaced(server: Start, parent: str) -> None:
    """By a new one, which no agent takes for a parent: HTTP_TRACEPARENT stays what was sent."""
    found = environ(server("traced"), parent)
    made = MADE.fullmatch(found["myserver.traceparent"])
    assert made and made[1] != ID
    assert found["HTTP_TRACEPARENT"] == parent


def test_traces_are_made(server: Start) -> None:
    """Each request has its own, in all workers, also after a reload."""
    s = server("traced", workers=2, threads=2)
    found = {environ(s)["myserver.traceparent"] for _ in range(50)}
    assert len(found) == 50
    assert all(MADE.fullmatch(parent) for parent in found)


def test_a_text_that_is_kept_does_not_change(server: Start) -> None:
    """Though a thread uses its own again."""
    s = server("traced")
    paths = ["/intern", "/", "/keep", "/keep", "/", "/keep", "/forget", "/keep", "/", "/keep"]
    told = [json.loads(s.get(path).body) for path in paths]
    texts = [answer["myserver.traceparent"] for answer in told]
    assert len(set(texts)) == len(texts)
    assert told[5]["kept"] == [texts[2], texts[3], texts[5]]
    assert told[9]["kept"] == [texts[7], texts[9]]


def test_nothing_without_observe(server: Start) -> None:
    """No key at all."""
    assert "myserver.traceparent" not in environ(server("traced", observe=False))


def test_costs_in_the_access_log(server: Start) -> None:
    """Each atom is what control says of the request."""
    atoms = " ".join(f"{name}=%({{{name}}}m)s" for name in PARTS)
    form = f"%(U)s view=%({{view}}m)s trace=%({{trace}}m)s queries=%({{queries}}m)s db=%({{db}}m)s {atoms}"
    s = server(
        "traced", control="unix:control.sock", access_logfile="access.log", access_logformat=form
    )
    s.get("/sleep", headers={"traceparent": PARENT})
    (line,) = wait_for(lambda: whole_lines((s.dir / "access.log").read_text()))
    said = dict(
        pair.split("=", 1)
        for pair in line.split("/sleep ", 1)[1].rsplit(" ", 12)[1:]
        if "=" in pair
    )
    (slow,) = (r for r in ask(s, "/requests").json()["slowest"] if r["path"] == "/sleep")
    assert slow["trace"] == ID
    assert f"trace={ID}" in line and "view=GET /sleep" in line and "queries=0" in line
    for name in PARTS:
        assert float(said[name]) == pytest.approx(slow["parts"][name] * 1000, abs=0.002)
    assert said["db"] == said["database"]
    assert float(said["other"]) >= 9


def test_costs_in_json_lines(server: Start) -> None:
    """The same in the other format; requests that no thread ran have none."""
    s = server("traced", access_logfile="access.log", access_logformat="json")
    s.get("/sleep", headers={"traceparent": PARENT})
    s.raw(b"BAD\r\n\r\n")
    lines = wait_for(
        lambda: len(x := whole_lines((s.dir / "access.log").read_text())) == 2 and x or None
    )
    # each is written when its answer has gone
    bad, good = sorted(map(json.loads, lines), key=lambda line: line["path"] == "/sleep")
    assert good["trace"] == ID and good["view"] == "GET /sleep" and good["queries"] == 0
    assert sum(good["ms"].values()) == pytest.approx(good["duration_ms"], abs=0.01)
    assert "ms" not in bad and "trace" not in bad


def test_unknown_atoms_are_refused(server: Start) -> None:
    """With the names that there are."""
    s = server("traced", start=False, access_logfile="-", access_logformat="%({dbs}m)s")
    with pytest.raises(Exception, match="COST is view, trace, queries"):
        s.start()
    s.expect_status = 2


def test_slow_requests_are_logged_with_their_trace(server: Start) -> None:
    """So that they can be found elsewhere."""
    s = server("traced", log_slow="5ms")
    s.get("/sleep", headers={"traceparent": PARENT})
    assert s.log_contains(f"slow request: GET /sleep ran .* trace {ID}")


def timing(s: Server, **headers: str) -> str | None:
    """The header that a request gets."""
    return s.get("/sleep", headers=headers).headers["Server-Timing"]


def test_server_timing(server: Start) -> None:
    """For those who are trusted themselves, not for whom a trusted proxy speaks."""
    s = server("traced", server_timing=True)
    found = timing(s)
    assert found
    parts = dict(re.findall(r"(\w+);dur=([\d.]+)", found))
    assert list(parts) == ["thread", "gil", "cpu", "db", "other"]
    assert float(parts["other"]) >= 9
    assert timing(s, **{"X-Forwarded-For": "203.0.113.7"}) is None
    assert timing(s, **{"X-Forwarded-For": "127.0.0.1"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"server_timing": True, "forwarded_allow_ips": "*"},
        {"server_timing": True, "forwarded_allow_ips": "10.0.0.1"},
        {"server_timing": True, "observe": False},
    ],
)
def test_no_server_timing(server: Start, options: dict[str, Any]) -> None:
    """Nobody is told by default, nor is everybody."""
    assert timing(server("traced", **options)) is None
