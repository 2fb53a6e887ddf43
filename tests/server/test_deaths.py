"""Processes that die: the others go on, the log names what was running, starts back off."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime
from http.client import HTTPException

import pytest

from control_client import OPTIONS, ask
from harness import Server, processes, wait_for
from test_master import begin_slow, load, versioned, wait_for_workers, write_app

Start = Callable[..., Server]


def death_times(s: Server) -> list[float]:
    """When workers died, by the log."""
    stamps = re.findall(r"^(\S+ \S+) \[error\].* worker \d+ \(pid \d+\) died", s.log, re.M)
    return [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f%z").timestamp() for stamp in stamps]


def test_killed_worker_is_replaced_under_requests(server: Start) -> None:
    s = server("slow", workers=2, expect_deaths=True)
    before = wait_for_workers(s, 2)
    with load(s) as requests:
        time.sleep(1.2)  # served for a while: replaced without any delay
        os.kill(before[0], signal.SIGKILL)
        assert s.log_contains(rf"worker \d+ \(pid {before[0]}\) died: signal 9 \(SIGKILL\)")
        after = wait_for_workers(s, 2, without=before[0])
        assert before[1] in after
        asked = len(requests.bodies)
        wait_for(lambda: len(requests.bodies) > asked + 20)
    # At most what the killed worker had in hand, one for each client.
    assert len(requests.errors) <= 2


@pytest.mark.parametrize(
    "path, death",
    [
        ("/exit", "exit status 7"),
        ("/abort", r"signal 6 \(SIGABRT\)"),
        ("/segv", r"signal 11 \(SIGSEGV\)(, core dumped)?; it was running\n  thread 1: GET /segv,"),
    ],
)
def test_crash_in_a_request(server: Start, path: str, death: str) -> None:
    s = server("crash", expect_deaths=True, expect_signals={signal.SIGABRT, signal.SIGSEGV})
    (before,) = s.workers()
    with pytest.raises((OSError, HTTPException)):
        s.get(path)
    assert s.log_contains(rf"\[error\] master \(\d+\): worker 1 \(pid {before}\) died: {death}")
    wait_for_workers(s, 1, without=before)
    assert s.get("/").status == 200


def test_worker_that_dies_at_start_is_retried_ever_later(server: Start) -> None:
    s = server("crash", expect_deaths=True)
    (s.dir / "crash").touch()
    os.kill(s.workers()[0], signal.SIGKILL)
    wait_for(lambda: len(death_times(s)) >= 6, 60, "six deaths")
    times = death_times(s)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    # At least what it waits: 0.1 s, 0.2, 0.4, 0.8. A busy machine makes them longer, and not evenly.
    assert all(gap >= 0.09 * 2**i for i, gap in enumerate(gaps[:4])), gaps
    assert s.status is None
    (s.dir / "crash").unlink()
    assert s.log_contains(r"worker \d+ \(pid \d+\) serves(?s:.*)died(?s:.*)serves")
    assert s.get("/").status == 200


def test_fork_bomb_of_crashing_workers(server: Start) -> None:
    """Many that die soon after they serve: ever slower, and all is well when they stop dying."""
    bomb = "import myserver, os, threading\n@myserver.postfork\ndef explode():\n"
    bomb += "    if os.path.exists('bomb'):\n"
    bomb += "        threading.Timer(0.05, os._exit, [9]).start()\n"
    s = versioned(server, "one", bomb, workers=8, expect_deaths=True)
    (s.dir / "bomb").touch()
    for pid in wait_for_workers(s, 8):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(death_times(s)) > 8, what="deaths of those in their places")
    time.sleep(3)
    times = death_times(s)
    for number, stamp in enumerate(times[8:], 8):
        # As many rounds of 8 as there may be with 0.1, 0.2, 0.4 s ... between them.
        rounds = 1 + int(math.log2((stamp - times[7]) / 0.1 + 1))
        assert number < 8 + 8 * rounds, times
    assert s.status is None
    wait_for(lambda: len(s.molds()) == 1, what="no worker that is not yet called one")
    (s.dir / "bomb").unlink()

    def is_over() -> bool:
        return len(s.workers()) == 8 and time.time() - death_times(s)[-1] > 1

    wait_for(is_over, 30, "8 workers that live")
    assert s.get("/").text == "one"


def test_killed_mold_is_replaced_and_workers_go_on(server: Start) -> None:
    s = server("crash", workers=2, expect_deaths=True)
    workers, (mold,) = wait_for_workers(s, 2), s.molds()
    os.kill(mold, signal.SIGKILL)
    assert s.log_contains(rf"\[error\].* the mold \(pid {mold}\) died: signal 9 \(SIGKILL\)")
    wait_for(lambda: s.molds() not in ([], [mold]), what="another mold")
    assert s.workers() == workers
    os.kill(workers[0], signal.SIGKILL)
    assert workers[1] in wait_for_workers(s, 2, without=workers[0])
    assert s.get("/").status == 200


@pytest.mark.parametrize("meanwhile", ["worker", "reload", "pause"])
def test_reload_after_the_mold_was_replaced(server: Start, meanwhile: str) -> None:
    """It is on trial itself, whatever becomes of the mold in the place of the one that died."""
    s = versioned(server, "one", workers=2, prewarm="/", expect_deaths=True)
    (mold,) = s.molds()
    os.kill(mold, signal.SIGKILL)
    wait_for(lambda: s.log.count("warmed up") == 2, what="another mold")
    write_app(s, "two", "print('loading two', flush=True); time.sleep(1)")
    s.signal(signal.SIGHUP)
    wait_for(lambda: "loading two" in s.log, what="it to load")
    if meanwhile == "worker":
        os.kill(s.workers()[0], signal.SIGKILL)
        assert s.log_contains("died: signal 9")
    else:
        if meanwhile == "pause":
            s.signal(signal.SIGWINCH)
            wait_for(lambda: not s.workers())
        s.signal(signal.SIGHUP)
    wait_for(lambda: "reloaded: all workers" in s.log, 20, "the reload")
    assert {s.get("/").text for _ in range(20)} == {"two"}


def test_worker_and_mold_killed_together(server: Start) -> None:
    s = server("crash", workers=2, expect_deaths=True)
    workers = wait_for_workers(s, 2)
    for pid in [*s.molds(), *workers]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(set(s.workers()) - set(workers)) == 2, what="new workers")
    assert s.get("/").status == 200


def test_broken_code_after_the_mold_died(server: Start) -> None:
    s = versioned(server, "one", expect_deaths=True)
    (worker,) = s.workers()
    write_app(s, "two", "1 / 0")
    os.kill(s.molds()[0], signal.SIGKILL)
    assert s.log_contains(r"no new mold: the application could not be loaded; the workers go on")
    assert s.get("/").text == "one"
    write_app(s, "three")
    wait_for(s.molds, what="a mold")
    assert s.workers() == [worker]


def test_killed_master_takes_all_with_it(server: Start) -> None:
    s = server("slow", workers=2, expect_deaths=True)
    wait_for_workers(s, 2)
    s.signal(signal.SIGKILL)
    wait_for(lambda: not s.relatives(), what="the others to leave")
    assert s.wait() == -signal.SIGKILL


def test_killed_master_while_the_mold_loads(server: Start) -> None:
    s = versioned(server, "one", expect_deaths=True)
    write_app(s, "two", "time.sleep(60)")
    s.signal(signal.SIGHUP)
    wait_for(lambda: len(s.molds()) == 2)
    s.signal(signal.SIGKILL)
    wait_for(lambda: not s.relatives(), what="the others to leave")


def test_orphans_of_the_application_are_reaped(server: Start) -> None:
    s = server("crash")
    assert s.get("/orphan").status == 200
    (orphan,) = wait_for(
        lambda: [p.pid for p in processes() if p.parent == s.pid and "sleep" in p.title]
    )
    os.kill(orphan, signal.SIGKILL)
    ours = {*s.molds(), *s.workers()}
    wait_for(lambda: {p.pid for p in processes() if p.parent == s.pid} == ours)


def test_log_names_what_a_dead_worker_was_running(server: Start) -> None:
    s = server("slow", threads=2, expect_deaths=True)
    clients = [begin_slow(s, "/30"), begin_slow(s, "/31")]
    wait_for(lambda: s.log.count("sleeping") == 2)
    os.kill(s.workers()[0], signal.SIGKILL)
    assert s.log_contains(r"died: signal 9 \(SIGKILL\), which the kernel .*; it was running$")
    for path in ("/30", "/31"):
        assert s.log_contains(rf"^  thread [12]: GET {path}, running \d\.\d s, client 127")
    for client in clients:
        client.join()
        assert client.error is not None


def test_draining_worker_that_is_killed_has_not_left(server: Start) -> None:
    """Memory may run out just then: what it was running is lost, and said."""
    s = server("slow", expect_deaths=True, **OPTIONS)
    (before,) = s.workers()
    client = begin_slow(s, "/30")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"worker 1 .*: draining: ")
    os.kill(before, signal.SIGKILL)
    assert s.log_contains(
        rf"\[error\].* worker 1 \(pid {before}\) died: signal 9 \(SIGKILL\), which the kernel "
        r".*; it was running\n  thread 1: GET /30,"
    )
    metrics = ask(s, "/metrics").text
    assert 'myserver_worker_ends_total{reason="crash"} 1\n' in metrics
    assert 'myserver_worker_ends_total{reason="reload"} 0\n' in metrics
    client.join()
    assert client.error is not None
