"""Metrics for Prometheus, statistics for uWSGI's tools and our own."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_client import OPTIONS, ask, connect, stats, uwsgi_stats
from harness import SLOWNESS, Server, read_all, wait_for
from wire import let

Start = Callable[..., Server]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

# What uwsgitop 0.12 dies without, what it shows, and what the exporter for Prometheus reads.
TOP_KEYS = {"version", "listen_queue", "listen_queue_errors", "signal_queue", "load"}
TOP_KEYS |= {"pid", "uid", "gid", "cwd", "locks", "sockets", "workers"}
WORKER_KEYS = {"id", "pid", "accepting", "requests", "delta_requests", "exceptions", "signals"}
WORKER_KEYS |= {"harakiri_count", "signal_queue", "status", "rss", "vsz", "uss", "pss", "apps"}
WORKER_KEYS |= {"running_time", "last_spawn", "respawn_count", "tx", "avg_rt", "cores"}
CORE_KEYS = {"id", "requests", "static_requests", "routed_requests", "offloaded_requests"}
CORE_KEYS |= {"write_errors", "read_errors", "in_request", "vars", "req_info"}
APP_KEYS = {"id", "modifier1", "mountpoint", "startup_time", "requests", "exceptions", "chdir"}
SOCKET_KEYS = {"name", "proto", "queue", "max_queue", "shared", "can_offload"}


def samples(s: Server) -> Samples:
    """The metrics, as Prometheus's own parser reads them."""
    response = ask(s, "/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: Samples = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation and family.type != "unknown", family
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "given twice"
            found[key] = sample.value
    return found


def value(metrics: Samples, name: str, **labels: str) -> float:
    """One sample by its name without our prefix."""
    return metrics[f"myserver_{name}", frozenset(labels.items())]


# ---- metrics


def test_metrics_count(server: Start) -> None:
    """Requests, classes, exceptions, bytes, the histogram, each as often as it happened."""
    s = server("cases:application", threads=2, **OPTIONS)
    for _ in range(5):
        s.get("/")
    s.raw(b"nonsense\r\n\r\n")
    received = sum(len(s.raw(b"GET / HTTP/1.0\r\n\r\n")) for _ in range(2))
    metrics = wait_for(lambda: m if value(m := samples(s), "requests_total") == 8 else None)
    assert value(metrics, "responses_total", **{"class": "2xx"}) == 7
    assert value(metrics, "responses_total", **{"class": "4xx"}) == 1
    assert value(metrics, "sent_bytes_total") > received
    assert value(metrics, "request_duration_seconds_count") == 7
    assert 0 < value(metrics, "request_duration_seconds_sum") < 60 * SLOWNESS


def test_metrics_of_exceptions(server: Start) -> None:
    """An uncaught exception is one, and an answer of class 5xx."""
    s = server("says:application", **OPTIONS)
    assert [s.get("/fail").status for _ in range(2)] == [500, 500]
    metrics = wait_for(lambda: m if value(m := samples(s), "requests_total") == 2 else None)
    assert value(metrics, "exceptions_total") == value(
        metrics, "responses_total", **{"class": "5xx"}
    )
    assert value(metrics, "exceptions_total") == 2


def test_histogram(server: Start) -> None:
    """Buckets are cumulative, ordered, and hold what took so long."""
    s = server("slow", **OPTIONS)
    for path in "/0", "/0.3", "/0.3":
        s.get(path)
    metrics = wait_for(
        lambda: m if value(m := samples(s), "request_duration_seconds_count") == 3 else None
    )
    buckets = sorted(
        (float(dict(labels)["le"]), count)
        for (name, labels), count in metrics.items()
        if name == "myserver_request_duration_seconds_bucket"
    )
    counts = [count for _, count in buckets]
    assert counts == sorted(counts) and buckets[-1] == (float("inf"), 3)
    total = value(metrics, "request_duration_seconds_sum")
    assert total > 0.6
    # None took less than was asked for, nor more than the others have left of all.
    for bound, count in buckets:
        assert count <= 1 + 2 * (bound >= 0.3), bound
        assert count >= (bound >= total - 0.6) + 2 * (bound >= total - 0.3), bound


def test_gauges(server: Start) -> None:
    """Threads, connections, workers, memory, queues, the program."""
    s = server(workers=2, threads=3, binds=["127.0.0.1:0", "unix:http.sock"], **OPTIONS)
    wait_for(lambda: len(stats(s)["workers"]) == 2 and len(s.workers()) == 2)
    wait_for(lambda: value(samples(s), "workers", state="serving") == 2)

    def is_quiet(metrics: Samples) -> bool:
        queues = [value(metrics, "listen_queue_length", listener=name) for name in s.names]
        return value(metrics, "connections") == 2 and not any(queues)

    with s.connect(), s.connect():
        metrics = wait_for(lambda: m if is_quiet(m := samples(s)) else None)
    assert value(metrics, "threads", state="idle") == 6
    assert value(metrics, "threads", state="busy") == 0
    assert value(metrics, "ready") == 1
    assert 0 <= value(metrics, "uptime_seconds") < 60 * SLOWNESS
    assert abs(value(metrics, "start_time_seconds") - time.time()) < 60 * SLOWNESS
    for name in s.names:
        assert value(metrics, "listen_queue_length", listener=name) == 0
        assert value(metrics, "listen_queue_max", listener=name) > 0
    for number in "12":
        kinds = ("private", "proportional", "resident")
        sizes = [value(metrics, "worker_memory_bytes", worker=number, kind=k) for k in kinds]
        assert 0 < sizes[0] <= sizes[1] <= sizes[2]
        of_mold = value(metrics, "worker_memory_bytes", worker=number, kind="of_mold")
        assert 0 < of_mold < sizes[2]
    info = [dict(labels) for name, labels in metrics if name == "myserver_info"]
    assert len(info) == 1 and info[0]["app"] == "hello:application"
    assert re.fullmatch(r"\d+\.\d+\.\d+", info[0]["version"])


def test_listen_queue(server: Start) -> None:
    """Connections that nobody accepts are counted, on every kind of listener.

    The kernel queues TCP connections when their first bytes are there.
    """
    s = server(binds=["127.0.0.1:0", "[::1]:0", "unix:http.sock"], backlog=7, **OPTIONS)
    for pid in s.workers():
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(p.state == "T" for p in s.relatives() if p.pid in s.workers()))
    waiting = [s.connect(name=name) for name in s.names for _ in range(3)]
    for c in waiting:
        c.sendall(b"GET ")
    try:

        def all_wait(metrics: Samples) -> bool:
            lengths = [value(metrics, "listen_queue_length", listener=n) for n in s.names]
            return min(lengths) >= 3

        metrics = wait_for(lambda: m if all_wait(m := samples(s)) else None)
        for name in s.names:
            assert value(metrics, "listen_queue_max", listener=name) == 7
        assert uwsgi_stats(s)["listen_queue"] >= 9
        assert {q["name"]: q["max_queue"] for q in uwsgi_stats(s)["sockets"]} == dict.fromkeys(
            s.names, 7
        )
    finally:
        for c in waiting:
            c.close()
        for pid in s.workers():
            os.kill(pid, signal.SIGCONT)


def test_saturation(server: Start) -> None:
    """By which an autoscaler judges: what runs and what waits, for each thread that serves."""
    s = server("busy", workers=1, threads=2, **OPTIONS)
    assert value(samples(s), "saturation_ratio") == 0
    assert stats(s)["saturation"] == 0
    with ExitStack() as stack:
        for expected in (0.5, 1.0, 1.5, 2.0, 2.5):
            client = stack.enter_context(s.connect())
            client.sendall(b"GET /wait?wait HTTP/1.1\r\nHost: a\r\n\r\n")
            # Running, or waiting wherever it is: in the worker or in the kernel.
            wait_for(lambda e=expected: value(samples(s), "saturation_ratio") == e)
        assert stats(s)["saturation"] == 2.5
        let(s, "wait")
    wait_for(lambda: value(samples(s), "saturation_ratio") == 0)


def test_label_values_are_escaped(server: Start) -> None:
    """A listener may have any name."""
    name = 'unix:we"ird\\ n\u00e4me.sock'
    s = server(binds=[name], **OPTIONS)
    assert value(samples(s), "listen_queue_length", listener=name) == 0
    assert stats(s)["listeners"][0]["name"] == name
    assert uwsgi_stats(s)["sockets"][0]["name"] == name


# ---- counters outlive workers


def test_counters_survive_recycling(server: Start) -> None:
    """No counter falls when workers end, and it is known why they did."""
    s = server(workers=2, expect_deaths=True, **OPTIONS)
    for _ in range(20):
        s.get("/")
    before = wait_for(lambda: m if value(m := samples(s), "requests_total") == 20 else None)
    s.signal(signal.SIGHUP)
    assert s.log_contains("reloaded: all workers")
    os.kill(s.workers()[0], signal.SIGKILL)
    wait_for(lambda: value(samples(s), "worker_ends_total", reason="crash") == 1)
    wait_for(lambda: value(samples(s), "workers", state="serving") == 2)
    for _ in range(5):
        s.get("/")
    after = wait_for(lambda: m if value(m := samples(s), "requests_total") == 25 else None)
    wait_for(lambda: value(samples(s), "worker_ends_total", reason="reload") == 2)
    assert value(after, "worker_starts_total") == 5
    assert value(after, "request_duration_seconds_count") == 25
    for key, count in before.items():
        if key[0].endswith(("_total", "_bucket", "_count")):
            assert after[key] >= count, key


def test_the_start_stays_where_it_is(server: Start) -> None:
    """Over a second: however the fractions of clock and age lie, it does not seem a restart."""
    s = server(**OPTIONS)
    seen = set()
    begun = time.time()
    while time.time() < begun + 1.1:
        seen.add(value(samples(s), "start_time_seconds"))
    (started,) = seen
    assert begun - 20 * SLOWNESS < started <= begun


def test_ends_by_scaling(server: Start) -> None:
    """Fewer workers on request is no crash."""
    s = server(workers=2, **OPTIONS)
    wait_for(lambda: value(samples(s), "workers", state="serving") == 2)
    s.signal(signal.SIGTTOU)
    wait_for(lambda: value(samples(s), "worker_ends_total", reason="stop") == 1)
    assert value(samples(s), "worker_ends_total", reason="crash") == 0


def test_ends_by_recycling(server: Start) -> None:
    """So is a worker that had answered enough."""
    s = server(max_requests=5, max_requests_jitter=0, **OPTIONS)
    for _ in range(12):
        s.get("/")
    wait_for(lambda: value(samples(s), "worker_ends_total", reason="requests") >= 1)
    assert value(samples(s), "worker_ends_total", reason="crash") == 0
    wait_for(lambda: value(samples(s), "requests_total") == 12)


def test_timeouts(server: Start) -> None:
    """A request that ran too long is counted, here and as what uWSGI calls harakiri."""
    s = server("slow", threads=2, timeout="500ms", **OPTIONS)
    # A watch that the machine does not run in time does not see it.
    wait_for(lambda: s.get("/1").status == 504)
    wait_for(lambda: value(samples(s), "timeouts_total") == 1)
    assert sum(w["harakiri_count"] for w in uwsgi_stats(s)["workers"]) == 1
    wait_for(lambda: value(samples(s), "responses_total", **{"class": "5xx"}) == 1)


# ---- uWSGI's JSON


def test_uwsgi_schema(server: Start) -> None:
    """Every key that a reader of uWSGI's statistics may need, with its type."""
    s = server(workers=2, threads=2, script_name="/shop", **OPTIONS)
    s.get("/shop/")

    def settled(workers: Any) -> bool:
        serving = [w for w in workers if w["last_spawn"] and w["accepting"]]
        of_cores = sum(c["requests"] for w in serving for c in w["cores"])
        idle = all(w["status"] == "idle" for w in serving)
        return len(serving) == 2 and sum(w["requests"] for w in workers) == of_cores == 1 and idle

    d = wait_for(lambda: d if settled((d := uwsgi_stats(s))["workers"]) else None)
    assert set(d) == TOP_KEYS
    assert (d["pid"], d["cwd"], d["uid"]) == (s.pid, str(s.dir), os.getuid())
    assert "vassals" not in d
    assert all(set(x) == SOCKET_KEYS for x in d["sockets"])
    assert [w["id"] for w in d["workers"]] == [1, 2]
    for w in d["workers"]:
        assert set(w) == WORKER_KEYS
        assert w["status"] == "idle" and w["accepting"] == 1
        assert w["pid"] in s.workers()
        assert 0 < w["uss"] <= w["pss"] <= w["rss"] <= w["vsz"]
        assert abs(w["last_spawn"] - time.time()) < 60 * SLOWNESS
        assert [set(c) for c in w["cores"]] == [CORE_KEYS, CORE_KEYS]
        assert [set(a) for a in w["apps"]] == [APP_KEYS]
        assert w["apps"][0]["mountpoint"] == "/shop"
        assert sum(c["requests"] for c in w["cores"]) == w["requests"]


def test_uwsgi_average(server: Start) -> None:
    """Times are microseconds, and the average is one."""
    s = server("slow", **OPTIONS)
    begin = time.monotonic()
    for count, path in enumerate(("/0.2", "/0", "/0.4"), 1):
        s.get(path)
        w = wait_for(
            lambda n=count: w if (w := uwsgi_stats(s)["workers"][0])["requests"] == n else None
        )
    took = time.monotonic() - begin
    assert 600_000 <= w["running_time"] <= took * 1_000_000
    assert w["avg_rt"] == w["running_time"] // 3
    assert w["tx"] > 0


def test_nothing_secret(server: Start) -> None:
    """Neither cookies nor queries nor passwords, in no document, while the request runs."""
    s = server("mix:application", **OPTIONS)
    client = http.client.HTTPConnection("localhost", s.port)
    secrets = {"Cookie": "sessionid=SECRET", "Authorization": "Basic SECRET", "X-Key": "SECRET"}
    client.request("POST", "/held?token=SECRET", b"SECRET", secrets)
    core = wait_for(lambda: busy_core(uwsgi_stats(s)))
    documents = [ask(s, path).text for path in ("/stats", "/metrics")]
    with connect(s, "stats.sock") as c:
        documents.append(read_all(c).decode())
    assert core["vars"] == ["REQUEST_METHOD=POST", "REQUEST_URI=/held", "REMOTE_ADDR=127.0.0.1", ""]
    assert abs(core["req_info"]["request_start"] - time.time()) < 60 * SLOWNESS
    assert not any("SECRET" in d for d in documents)
    assert json.loads(documents[0])["workers"][0]["running"][0]["path"] == "/held"
    let(s, "go")
    client.getresponse().read()
    client.close()


def busy_core(document: Any) -> Any:
    """The first core that is in a request, None without."""
    cores = (c for w in document["workers"] for c in w["cores"] if c["in_request"])
    return next(cores, None)


def test_any_path_is_json(server: Start) -> None:
    """What a client sends as a path cannot break a document, nor is more of it kept than fits."""
    s = server("waits", start=False, prewarm_rounds=0, **OPTIONS)
    app = "import told\ndef application(e, s):\n    told.wait_until_let('go')\n"
    (s.dir / "waits.py").write_text(app + "    s('200 OK', [])\n    return []\n")
    s.start()
    path = "/" + "'\\<%22%0a" * 60
    with s.connect() as c:
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        core = wait_for(lambda: busy_core(uwsgi_stats(s)))
        assert core["vars"][1] == f"REQUEST_URI={path[:255]}"
        assert stats(s)["workers"][0]["running"][0]["path"] == path[:255]
        let(s, "go")


def test_unused_slots_are_not_shown(server: Start) -> None:
    """A worker that left stays, as cheap, because its counters do."""
    s = server(workers=2, **OPTIONS)
    wait_for(lambda: [w["id"] for w in uwsgi_stats(s)["workers"]] == [1, 2])
    s.signal(signal.SIGTTOU)
    statuses = wait_for(lambda: x if "cheap" in (x := worker_statuses(s)) else None)
    assert sorted(statuses) == ["cheap", "idle"]


def worker_statuses(s: Server) -> list[str]:
    """The status of each worker, in uWSGI's words."""
    return [w["status"] for w in uwsgi_stats(s)["workers"]]


def test_stats_over_tcp_and_by_path(server: Start, tmp_path: Path) -> None:
    """An address of each kind; a path alone is a unix socket, as uWSGI has it."""
    s = server(stats="127.0.0.1:0")
    match = s.log_contains(r"stats on 127\.0\.0\.1:(\d+)")
    assert match
    with socket.create_connection(("127.0.0.1", int(match[1])), 20) as c:
        assert json.loads(read_all(c))["pid"] == s.pid
    path = tmp_path / "by-path.sock"
    by_path = server(stats=path)
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(str(path))
        assert json.loads(read_all(c))["pid"] == by_path.pid


def test_a_large_document_is_whole(server: Start) -> None:
    """More than a socket takes at once."""
    s = server(workers=2, threads=1024, **OPTIONS)
    with connect(s, "stats.sock") as c:
        time.sleep(0.2)
        document = json.loads(read_all(c))
    assert [len(w["cores"]) for w in document["workers"]] == [1024, 1024]


# ---- the real uwsgitop


class Terminal:
    """A program on a terminal of 60 lines and 200 columns."""

    def __init__(self, *command: str | Path) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        env = os.environ | {"TERM": "xterm", "LINES": "60", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self.screen = ""

    def read(self) -> str:
        """Everything shown until now, without control sequences."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.screen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                break
        return re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]", " ", self.screen)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def close(self) -> None:
        """End it somehow."""
        self.process.kill()
        self.process.wait(20)
        os.close(self.master)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_uwsgitop(server: Start, kind: str) -> None:
    """uwsgitop as people use it: it shows the workers, and with `a` their threads."""
    s = server("slow", workers=2, threads=2, stats="unix:stats.sock", start=False)
    if kind == "tcp":
        s.command.insert(1, "--stats=127.0.0.1:0")
        s.command.remove("--stats=unix:stats.sock")
    s.start()
    for _ in range(12):
        s.get("/0.01")
    match = s.log_contains(r"stats on (?:unix:)?(\S+)")
    assert match
    address = str(s.dir / match[1]) if kind == "unix" else match[1]
    top = Terminal(Path(sys.executable).parent / "uwsgitop", address)
    try:
        wait_for(lambda: "req: 12" in top.read() or top.process.poll() is not None)
        for pattern in f"masterpid: {s.pid}", r"WID\s+%\s+PID", *map(str, s.workers()):
            wait_for(lambda p=pattern: re.search(p, top.read()), what=pattern)
        shown = top.read()
        top.type("a")
        wait_for(lambda: re.search(r"[12]:[01]\b", top.read()[len(shown) :]))
        top.type("a")
        wait_for(lambda: re.search(r":[01]\s", top.read()))
        top.type("q")
        assert top.process.wait(10 * SLOWNESS) == 0, top.screen
    finally:
        top.close()
