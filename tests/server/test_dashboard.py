"""The dashboard for Grafana, its queries asked of a real Prometheus that scrapes a running server."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from harness import PATIENCE_S, ROOT, Server, free_port, wait_for

Start = Callable[..., Server]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "myserver.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
CONFIG = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: shop
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
PATHS = ("/equal/", "/slow/", "/waits/", "/fails/", "/nothing/")


class Prometheus:
    """One that scrapes the server at a port."""

    def __init__(self, directory: Path, scraped: int) -> None:
        program = shutil.which("prometheus")
        assert program, "Prometheus is missing; make deps installs it"
        (directory / "prometheus.yml").write_text(CONFIG.format(port=scraped))
        self.port = free_port()
        self.log = directory / "prometheus.log"
        command = [program, f"--config.file={directory}/prometheus.yml"]
        command += [f"--storage.tsdb.path={directory}/data", "--enable-feature=exemplar-storage"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; 0: nobody answers."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            client.request("GET", path)
            response = client.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError:
            return 0, b""
        finally:
            client.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """What the API says; AssertionError when it refuses."""
        status, body = self.get(f"/api/v1/{path}?{urlencode(parameters)}")
        assert status == 200, (path, parameters, status, body)
        return json.loads(body)["data"]

    def has(self, query: str) -> bool:
        """Whether there is a number for it."""
        found = self.ask("query", query=query)["result"]
        return any(series["value"][1] != "NaN" for series in found)


def filled(query: str) -> str:
    """With what Grafana puts in place of its variables, when all are chosen."""
    return re.sub(r"\$(job|instance|view)\b", ".*", query).replace("$__rate_interval", "1m")


def visit(s: Server) -> None:
    """Requests of all kinds: also some that no thread has run when their client leaves."""
    for path in PATHS:
        s.get(path, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    with ExitStack() as clients:
        for _ in range(8):
            client = clients.enter_context(socket.create_connection(s.address))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"GET /sleeps/ HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.fixture
def scraped(server: Start, tmp_path: Path) -> Iterator[tuple[Server, Prometheus]]:
    """A server with requests of all kinds, and a Prometheus beside it."""
    port = free_port()
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3")}
    s = server("seen", workers=2, threads=2, control=f"127.0.0.1:{port}", env=env)
    prometheus = Prometheus(tmp_path, port)
    try:
        wait_for(lambda: prometheus.get("/-/ready")[0] == 200, what="Prometheus")
        yield s, prometheus
    finally:
        prometheus.process.terminate()
        prometheus.process.wait(60)


def check_exemplars(prometheus: Prometheus) -> None:
    """The panel with percentiles has dots that know their trace."""
    (panel,) = (p for p in PANELS if p["title"] == "Time of requests")
    for target in panel["targets"]:
        query = {"query": filled(target["expr"]), "start": "0", "end": "4e9"}
        found = prometheus.ask("query_exemplars", **query)
        traces = {x["labels"]["trace_id"] for series in found for x in series["exemplars"]}
        assert target["exemplar"] and TRACE in traces
    assert "exemplar" not in prometheus.log.read_text(), "none comes after a newer one"


def test_all_queries_find_something(scraped: tuple[Server, Prometheus]) -> None:
    """Each of each panel has numbers, each variable has values, and percentiles have exemplars."""
    s, prometheus = scraped
    queries = {filled(target["expr"]) for panel in PANELS for target in panel["targets"]}
    assert len(queries) > 30
    wait_for(lambda: prometheus.has("myserver_info"))
    s.signal(signal.SIGHUP)

    def missing() -> set[str]:
        visit(s)
        return {query for query in queries if not prometheus.has(query)}

    try:
        wait_for(lambda: not missing(), 60)
    except AssertionError:
        raise AssertionError(f"these find nothing: {missing()}") from None
    check_exemplars(prometheus)
    for annotation in DASHBOARD["annotations"]["list"]:
        prometheus.ask("query", query=filled(annotation["expr"]))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
            assert match, variable
            assert prometheus.ask(f"label/{match[2]}/values", **{"match[]": filled(match[1])})


def test_panels_are_laid_out() -> None:
    """None lies on another, each has a title, and a data source that is chosen in one place."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert panel["title"] and at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    sources = {t["datasource"]["uid"] for panel in PANELS for t in [panel, *panel["targets"]]}
    assert sources == {"${datasource}"}
