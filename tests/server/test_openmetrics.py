"""/metrics in the OpenMetrics format: asked for by Accept, read by Prometheus's own parser, with exemplars."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from control_client import OPTIONS, ask
from harness import Server, wait_for
from test_views import view

Start = Callable[..., Server]
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
WANTED = "application/openmetrics-text; version=1.0.0"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
IDS = {"/0.2": "0af7651916cd43dd8448eb211c80319c", "/0": "1af7651916cd43dd8448eb211c80319c"}
SLOW = "GET /0.2"


def metrics(s: Server, accept: str = WANTED) -> Any:
    """The families, by their name."""
    response = ask(s, "/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"] == OPEN
    assert response.text.endswith("\n# EOF\n")
    families = list(parse_open(response.text))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


@pytest.fixture
def slow(server: Start) -> Server:
    """After a slow and a quick request, each with a trace."""
    s = server("slow", workers=2, threads=2, **OPTIONS)
    for path, trace in IDS.items():
        s.get(path, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        view(s, f"GET {path}")
    return s


@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        (None, PLAIN),
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/plain", PLAIN),
        (WANTED, OPEN),
        ("application/openmetrics-text", OPEN),
        ("APPLICATION/OpenMetrics-Text ; Version=1.0.0", OPEN),
        (PROMETHEUS_2, OPEN),
        (PROMETHEUS_3, OPEN),
        ("application/openmetrics-text;version=0.0.1", PLAIN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.21", PLAIN),
        ("text/plain;q=0.20, application/openmetrics-text;q=0.205", OPEN),
        ("application/openmetrics-texts, ;;q=,", PLAIN),
    ],
)
def test_the_scraper_says_which_format(slow: Server, accept: str | None, type_: str) -> None:
    """The plain one is what everybody else gets."""
    headers = {} if accept is None else {"Accept": accept}
    assert ask(slow, "/metrics", headers=headers).headers["Content-Type"] == type_


def test_both_formats_say_the_same(slow: Server) -> None:
    """Names, labels, types and texts; in the plain one nothing has changed."""
    plain_text = ask(slow, "/metrics").text
    assert "# EOF" not in plain_text and "trace_id" not in plain_text

    def shown(families: Any) -> Any:
        return {
            (f.name, f.type, f.documentation, x.name, tuple(sorted(x.labels.items())))
            for f in families
            for x in f.samples
        }

    found = metrics(slow)
    assert shown(found.values()) == {
        (name, type_, help_, sample, tuple((k, canonical(k, v)) for k, v in labels))
        for name, type_, help_, sample, labels in shown(parse_plain(plain_text))
    }
    assert found["myserver_requests"].type == "counter"


def canonical(label: str, value: str) -> str:
    """Bounds as OpenMetrics has them."""
    return f"{value}.0" if label == "le" and value.isdigit() else value


def test_exemplars_name_slow_requests(slow: Server) -> None:
    """In the bucket that the request is in, of its view, with its time."""
    before = time.time()
    family = metrics(slow)["myserver_view_duration_seconds"]
    found = {x.labels["view"]: [] for x in family.samples}
    for x in family.samples:
        if x.exemplar:
            found[x.labels["view"]].append((float(x.labels["le"]), x.exemplar))
    for path, trace in IDS.items():
        ((bound, exemplar),) = found[f"GET {path}"]
        wall = view(slow, f"GET {path}")["wall"]
        assert exemplar.labels == {"trace_id": trace}
        assert exemplar.value == pytest.approx(wall, abs=1e-8)
        assert bound / 2 * 0.999 <= wall <= bound or bound < 0.002
        assert before - 60 < float(exemplar.timestamp) <= before
    again = metrics(slow)["myserver_view_duration_seconds"]
    assert [x.exemplar for x in again.samples] == [x.exemplar for x in family.samples]


def test_the_newest_request_of_a_bucket_is_named(slow: Server) -> None:
    """An exemplar that a scraper has seen is no news."""
    trace = "2af7651916cd43dd8448eb211c80319c"
    slow.get("/0.2", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    wait_for(lambda: view(slow, SLOW, 2))
    named = {
        x.exemplar.labels["trace_id"]
        for x in metrics(slow)["myserver_view_duration_seconds"].samples
        if x.exemplar and x.labels["view"] == SLOW
    }
    assert trace in named


def test_names_of_views_do_not_break_the_format(server: Start) -> None:
    """Quotes, backslashes, and what looks like a bound."""
    s = server("seen_plain", **OPTIONS)
    paths = ['/found-a"b', "/found-\\", "/found-,le=", '/found-{le="1']
    for path in paths:
        assert s.raw(f"GET {path} HTTP/1.0\r\n\r\n".encode()).startswith(b"HTTP/1.1 200")
    wait_for(lambda: len(ask(s, "/views").json()["views"]) == len(paths))
    family = metrics(s)["myserver_view_duration_seconds"]
    assert {x.labels["view"] for x in family.samples} == {f"GET {path}" for path in paths}
    assert all(float(x.labels["le"]) for x in family.samples if x.name.endswith("_bucket"))
