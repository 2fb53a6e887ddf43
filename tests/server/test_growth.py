"""`myserver memory --trace`: what grows is named by view, line and type, with its amount."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from control_client import ask
from harness import BINARY, SLOWNESS, Server, environment, run, wait_for

Start = Callable[..., Server]
MB = 1024 * 1024
HOARDS = Path(__file__).parent.parent / "apps/hoards.py"
LEAK_LINE = next(
    number for number, line in enumerate(HOARDS.read_text().splitlines(), 1) if "# LEAK" in line
)


@contextmanager
def load(s: Server, paths: Sequence[str], pause: float = 0.02) -> Iterator[list[int]]:
    """A client for each path, which asks for it again and again; gives the statuses."""
    done = threading.Event()
    statuses: list[int] = []

    def ask_for(path: str) -> None:
        while not done.wait(pause):
            with suppress(OSError, http.client.HTTPException):
                statuses.append(s.get(path).status)

    threads = [threading.Thread(target=ask_for, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        done.set()
        for thread in threads:
            thread.join()


def trace(s: Server, *args: str, seconds: int = 4) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return run("memory", "--control", f"unix:{s.dir}/control.sock", f"--trace={seconds}", *args)


def begin_trace(s: Server, seconds: int = 60) -> subprocess.Popen[str]:
    """The command, when the worker traces."""
    command = [str(BINARY), "memory", "--control", f"unix:{s.dir}/control.sock"]
    process = subprocess.Popen(
        [*command, f"--trace={seconds}"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert s.log_contains("memory of this worker is traced")
    return process


def result_of(done: subprocess.CompletedProcess[str]) -> Any:
    """What it found."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"]


@pytest.mark.parametrize(("threads", "preload"), [(1, True), (10, True), (4, False)])
def test_a_leak_is_named(server: Start, threads: int, preload: bool) -> None:
    """View, line and amount, among other views that make as much and let go of it; all are answered."""
    s = server("hoards", threads=threads, preload=preload, control="unix:control.sock")
    with load(s, ["/leak", "/quick", "/quick", "/quick"]) as statuses:
        wait_for(lambda: statuses)
        before = len(statuses)
        result = result_of(trace(s, "--json"))
        answered = statuses[before:]
    assert len(answered) > 5 and set(answered) == {200}
    views = {view["view"]: view for view in result["views"]}
    leak = views["GET /leak"]
    assert result["views"][0] is leak
    assert leak["requests"] > 1
    assert leak["bytes"] == pytest.approx(leak["requests"] * MB, rel=0.2)
    assert 0 < leak["bytes_half"] < leak["bytes"]
    (line,) = leak["lines"][:1]
    assert line["line"].endswith(f"hoards.py:{LEAK_LINE}")
    assert line["bytes"] == pytest.approx(leak["bytes"], rel=0.05)
    assert result["lines"][0]["line"] == line["line"]
    # Those that hold on to nothing have at most what runs at the end.
    quick = views.get("GET /quick", {"bytes": 0, "requests": 9})
    assert quick["requests"] > 1 and quick["bytes"] < 0.1 * MB
    assert s.get("/tracing").text == "False"


def test_django_views_are_named_by_their_route(server: Start, tmp_path: Path) -> None:
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3")}
    s = server("seen", threads=4, control="unix:control.sock", env=env)
    with load(s, ["/leaks/1/", "/leaks/2/", "/quick/1/", "/equal/"]) as statuses:
        result = result_of(trace(s, "--json"))
    assert set(statuses) == {200}
    leak = result["views"][0]
    assert leak["view"] == "/leaks/<int:number>/"
    assert leak["bytes"] == pytest.approx(leak["requests"] * MB, rel=0.2)
    assert re.search(r"seen\.py:\d+$", leak["lines"][0]["line"])


def test_types_that_grow_and_who_owns_them(server: Start) -> None:
    """Also by what was loaded before the fork, which the collector does not list; no value is told."""
    s = server("hoards", control="unix:control.sock")
    with load(s, ["/items"]):
        done = trace(s, "--json", "--referrers=hoards.Item")
    result = result_of(done)
    (grown,) = (row for row in result["types"] if row["type"] == "hoards.Item")
    requests = next(v for v in result["views"] if v["view"] == "GET /items")["requests"]
    assert grown["grown"] == pytest.approx(10 * requests, rel=0.2, abs=20)
    (owner,) = result["suspect"]["owners"]
    assert re.fullmatch(
        r"hoards\.shop > a hoards\.Shop\.shelf > dict of 1 > list of \d+", owner["way"]
    ), owner
    assert owner["count"] == result["suspect"]["looked_at"] > 0
    assert "secret" not in done.stdout


def test_types_that_lie_on_copied_pages(server: Start) -> None:
    """Those that a request writes to, and not those that nobody touches."""
    s = server("writes", control="unix:control.sock")
    with load(s, ["/written"], 0.1):
        result = result_of(trace(s, "--json", "--pages"))
    copied = {row["type"]: (row["copied"], row["all"]) for row in result["copied"]}
    written, total = copied["writes.Written"]
    assert total == 20_000 and written > 0.9 * total
    untouched, total = copied.get("writes.Untouched", (0, 20_000))
    assert total == 20_000 and untouched < 0.2 * total


def test_garbage_in_cycles_is_no_growth(server: Start) -> None:
    s = server("hoards", control="unix:control.sock")
    with load(s, ["/cycles"]):
        result = result_of(trace(s, "--json"))
    assert result["requests"] > 3
    grown = [v["bytes"] for v in result["views"] if v["view"] == "GET /cycles"]
    # At most one request may be between its begin and the collection.
    assert sum(grown) < 0.4 * result["requests"] * 5000 * 48
    left = [row["grown"] for row in result["types"] if row["type"] == "hoards.Item"]
    assert sum(left) <= 5000


def test_text(server: Start) -> None:
    s = server("hoards", workers=2, control="unix:control.sock")
    with load(s, ["/leak", "/items"]):
        done = trace(s, "--worker=2", "--referrers=Item")
    assert done.returncode == 0, done.stderr
    assert re.match(r"worker 2 \(pid \d+\), traced for 4 s: \d+ requests, ", done.stdout)
    assert re.search(rf"^ +\+[\d.]+ +\+[\d.]+ +\d+ .*hoards\.py:{LEAK_LINE}$", done.stdout, re.M)
    assert re.search(r"^ +\+\d+ +\d+   hoards\.Item$", done.stdout, re.M)
    assert "what keeps Item alive" in done.stdout


# ---- what may happen meanwhile


@pytest.mark.parametrize("how", ["killed", "reloaded", "recycled"])
def test_the_worker_goes_meanwhile(server: Start, how: str) -> None:
    """A sentence says so; the next worker is traced."""
    options: dict[str, Any] = {"max_requests": 1, "max_requests_jitter": 0}
    s = server(
        "hoards",
        control="unix:control.sock",
        expect_deaths=how == "killed",
        **(options if how == "recycled" else {}),
    )
    (before,) = s.workers()
    process = begin_trace(s)
    if how == "killed":
        os.kill(before, signal.SIGKILL)
    elif how == "reloaded":
        s.signal(signal.SIGHUP)
    else:
        assert s.get("/quick").status == 200
    _, said = process.communicate(timeout=20 * SLOWNESS)
    why = "it has ended meanwhile" if how == "killed" else "it was told to stop"
    assert process.returncode == 2
    assert re.match(rf"myserver memory: worker 1 \(pid {before}\) gives no result: {why}", said), (
        said
    )
    wait_for(lambda: before not in s.workers() and s.serving())
    if how == "recycled":
        result_of(trace(s, "--json", seconds=1))
        return
    with load(s, ["/leak"]):
        assert result_of(trace(s, "--json"))["views"][0]["view"] == "GET /leak"


def test_the_command_goes_meanwhile(server: Start) -> None:
    """The worker ends the trace by itself, long before its time."""
    s = server("hoards", threads=2, control="unix:control.sock")
    process = begin_trace(s, 600)
    assert s.get("/tracing").text == "True"
    process.kill()
    process.communicate(timeout=20 * SLOWNESS)
    wait_for(lambda: s.get("/tracing").text == "False")
    result_of(trace(s, "--json", seconds=1))


def test_one_at_a_time(server: Start) -> None:
    s = server("hoards", control="unix:control.sock")
    process = begin_trace(s)
    again = trace(s)
    assert again.returncode == 2 and "The memory of worker 1 is being traced" in again.stderr
    process.terminate()
    process.communicate(timeout=20 * SLOWNESS)


def test_a_worker_that_is_stopped_does_not_begin(server: Start) -> None:
    s = server("hoards", control="unix:control.sock")
    (worker,) = s.workers()
    asked = ask(s, "/memory?seconds=5", "POST").json()
    assert asked["state"] in ("asked", "tracing")
    os.kill(worker, signal.SIGSTOP)
    try:
        assert ask(s, f"/memory?trace={asked['trace']}").json()["worker"] == 1
    finally:
        os.kill(worker, signal.SIGCONT)


def test_promoted_worker(server: Start) -> None:
    """A worker that becomes the mold traces no more; its workers can."""
    s = server("hoards", refork_after="3", control="unix:control.sock")
    before = s.molds()
    process = begin_trace(s)
    for _ in range(4):
        s.get("/quick")
    wait_for(lambda: s.molds() and s.molds() != before)
    _, said = process.communicate(timeout=20 * SLOWNESS)
    assert "gives no result" in said
    wait_for(s.serving)
    with load(s, ["/leak"]):
        assert result_of(trace(s, "--json"))["views"][0]["view"] == "GET /leak"


def test_wrong_questions(server: Start) -> None:
    s = server("hoards", control="unix:control.sock")
    for wrong in ("seconds=0", "seconds=3601", "", "seconds=x", "seconds=5&type=a%20b"):
        assert ask(s, f"/memory?{wrong}", "POST").status == 400, wrong
    assert ask(s, "/memory?seconds=5&worker=9", "POST").status == 404
    assert ask(s, "/memory?trace=0").status == 404
    assert ask(s, "/memory?trace=77").status == 404
    for arguments in (["--trace=0"], ["--referrers=X"], ["--trace=3", "--referrers=a b"]):
        assert run("memory", "--control", f"unix:{s.dir}/control.sock", *arguments).returncode == 2
    done = trace(s, "--worker=9")
    assert done.returncode == 2 and "No such worker" in done.stderr


def test_not_over_tcp(server: Start) -> None:
    """Anybody on this machine could slow the server down."""
    s = server("hoards", control="127.0.0.1:0")
    found = s.log_contains(r"control on (127\.0\.0\.1):(\d+)$")
    assert found
    client = http.client.HTTPConnection(found[1], int(found[2]))
    client.request("POST", "/memory?seconds=5")
    assert client.getresponse().status == 403
    client.close()
    assert s.get("/tracing").text == "False"
