"""Workers that become the mold of the next generation."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import control_client
from control_client import OPTIONS
from harness import FLAVOUR, Server, StartFailed, processes, run, wait_for
from test_master import load, wait_for_workers
from wire import let

Start = Callable[..., Server]
pytestmark = pytest.mark.skipif(
    FLAVOUR == "tsan", reason="the sanitizer has a thread of its own: no worker may become the mold"
)

IS_MOLD = r"refork: worker \d+ \(pid (\d+)\) is the mold"


def refork(server: Start, after: str = "20", **options: object) -> Server:
    """A server of the application `refork` that reforks."""
    return server("refork", prewarm="/warm", refork_after=after, **options)


def ask(s: Server, path: str = "/") -> dict:
    """What the worker that answers knows."""
    return json.loads(s.get(path).text)


def serve_until(s: Server, pattern: str) -> re.Match[str]:
    """Make requests until the log says so."""
    with load(s) as requests:
        found = s.log_contains(pattern, 20)
    assert requests.errors == []
    assert found, s.log
    return found


def reforked(s: Server, generation: int = 2) -> int:
    """Let it refork; the pid of the mold."""
    serve_until(s, rf"reloaded: all workers are of generation {generation}$")
    return int(re.findall(IS_MOLD, s.log)[-1])


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 1), (2, 4)])
def test_new_workers_have_what_requests_made(server: Start, workers: int, threads: int) -> None:
    s = refork(server, workers=workers, threads=threads)
    first = wait_for_workers(s, workers)
    mold = reforked(s)
    assert mold in first
    wait_for(lambda: s.molds() == [mold])
    for _ in range(20):
        known = ask(s)
        assert known["pid"] not in first
        assert known["served_by"][0] == mold
    wait_for_workers(s, workers)


def test_the_servers_own_threads_are_no_warning(server: Start) -> None:
    """Those that ran requests have ended, and are nothing that the application could change."""
    s = refork(server, threads=4)
    reforked(s)
    assert "will not exist in the workers" not in s.log


def test_hooks_run_in_the_mold_and_in_its_workers(server: Start) -> None:
    s = refork(server)
    assert ask(s, "/warm")["calls"] == ["prefork", "postfork"]
    reforked(s)
    assert ask(s)["calls"] == ["prefork", "postfork"] * 2


def test_a_copy_that_comes_back_from_a_hook_is_no_mold(server: Start) -> None:
    s = refork(server, env={"FORK": "yes"})
    mold = reforked(s)
    wait_for(lambda: len(re.findall("forked .* came back", s.log)) == 2, what="two ends")
    wait_for(lambda: s.molds() == [mold])


def test_each_number_counts_for_one_generation(server: Start) -> None:
    s = refork(server, "10,20", workers=2)
    first = reforked(s, 3)
    assert len(re.findall(IS_MOLD, s.log)) == 2
    with load(s) as requests:
        wait_for(lambda: len(requests.bodies) > 300, 60)
    assert len(re.findall(IS_MOLD, s.log)) == 2
    wait_for(lambda: s.molds() == [first])
    s.signal(signal.SIGHUP)
    assert s.log_contains("reloaded: all workers are of generation 4")
    assert first not in ask(s, "/warm")["served_by"]  # loaded anew
    reforked(s, 6)  # and counted anew


def test_the_memory_report_knows_the_mold(server: Start) -> None:
    s = refork(server, workers=2)
    mold = reforked(s)
    done = run("--memory-report", str(s.pid))
    assert done.returncode == 0
    assert re.search(rf"^myserver: mold .* {mold} ", done.stdout, re.M), done.stdout


def test_an_application_with_threads_is_left_alone(server: Start) -> None:
    s = refork(server, workers=2, env={"THREAD": "1"})
    serve_until(s, "refork failed: generation 1 goes on and will not try again")
    assert s.log_contains(
        r"ReforkError: no refork: the application has threads of its own \(ticker\)"
    )
    with load(s) as requests:
        wait_for(lambda: len(requests.bodies) > 100, 60)
    assert requests.errors == []
    assert len(re.findall("drains to become the mold", s.log)) == 1
    assert len(wait_for_workers(s, 2)) == 2


def test_threads_that_end_in_time_are_no_obstacle(server: Start) -> None:
    s = refork(server, env={"THREAD": "ended"})
    mold = reforked(s)
    assert ask(s)["served_by"][0] == mold


def test_a_connection_that_stays_open_is_not_shared(server: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        s = refork(server, env={"CONNECTION": str(port)})
        serve_until(s, "refork failed: generation 1 goes on")
        assert s.log_contains(rf"requests have left open a socket to \('127.0.0.1', {port}\)")
        assert s.get("/").status == 200


@pytest.mark.parametrize("threads", [1, 4])
def test_a_connection_that_only_a_cycle_has_is_closed(server: Start, threads: int) -> None:
    """That of a thread which has ended: only the collector can find it."""
    with socket.create_server(("127.0.0.1", 0)) as peer:
        s = refork(server, threads=threads, env={"CYCLES": str(peer.getsockname()[1])})
        reforked(s)
        assert "refork failed" not in s.log


@contextmanager
def draining(server: Start, **options: object) -> Iterator[tuple[Server, int, socket.socket]]:
    """A server whose first worker drains to become the mold, its pid, and who still waits for it."""
    s = refork(server, "1", threads=2, **options)
    with s.connect() as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.log_contains("event: slow")
        s.get("/")
        found = s.log_contains(r"worker \d+ \(pid (\d+)\) drains to become the mold")
        assert found, s.log
        yield s, int(found[1]), slow


def test_stopping_while_it_drains(server: Start) -> None:
    with draining(server) as (s, _, slow):
        s.signal(signal.SIGTERM)
        assert s.log_contains(r"master .*: stopping$")
        let(s, "slow")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert s.wait() == 0
    assert "is the mold" not in s.log


def test_reload_while_it_drains(server: Start) -> None:
    with draining(server) as (s, _, slow):
        s.signal(signal.SIGHUP)
        let(s, "slow")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert s.log_contains("reloaded: all workers are of generation 3")
    assert ask(s, "/warm")["served_by"] == []


def test_pause_while_it_drains(server: Start) -> None:
    with draining(server) as (s, pid, slow):
        (mold,) = set(s.molds()) - {pid}
        s.signal(signal.SIGWINCH)
        assert s.log_contains("pausing: no workers")
        let(s, "slow")
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 OK")
    wait_for(lambda: s.workers() == [] and s.molds() == [mold], what="the pause")
    s.signal(signal.SIGTTIN)
    assert ask(s)["served_by"][0] != pid
    assert "failed" not in s.log


def test_it_dies_while_it_drains(server: Start) -> None:
    with draining(server, expect_deaths=True) as (s, pid, slow):
        os.kill(pid, signal.SIGKILL)
        assert slow.recv(65536) == b""
    assert s.log_contains("refork failed: generation 1 goes on")
    assert ask(s)["pid"] != pid


def test_no_descriptor_for_a_refork(server: Start) -> None:
    """The log says why there is none, and the worker is not counted as one that became the mold."""
    s = refork(server, **OPTIONS)
    (first,) = s.workers()
    _, hard = resource.prlimit(s.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (3, hard))  # those that it has stay open
    serve_until(
        s,
        rf"\[warning\].* no refork: worker 1 \(pid {first}\) cannot be told: Too many open files; "
        r"it is replaced; raise the limit of open files \(ulimit -n, LimitNOFILE\)$",
    )
    assert s.log_contains(rf"worker 1 \(pid {first}\) left")
    metrics = control_client.ask(s, "/metrics").text
    assert 'worker_ends_total{reason="refork"} 0\n' in metrics
    assert re.search(r'worker_ends_total{reason="requests"} [1-9]', metrics)
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (hard, hard))
    reforked(s)


def test_a_signal_for_workers_does_not_end_the_mold(server: Start) -> None:
    """SIGUSR2 to all processes asks workers for stacks."""
    s = refork(server, expect_deaths=True)
    mold = reforked(s)
    (worker,) = wait_for_workers(s, 1)
    os.kill(mold, signal.SIGUSR2)
    os.kill(worker, signal.SIGKILL)  # the next is forked by the mold, if that is there
    wait_for_workers(s, 1, without=worker)
    wait_for(lambda: s.molds() == [mold])


def test_the_master_dies_after_a_refork(server: Start) -> None:
    s = refork(server, workers=2)
    family = [reforked(s), *s.workers()]
    s.signal(signal.SIGKILL)
    s.wait()
    wait_for(lambda: not {p.pid for p in processes()} & set(family), what="all to leave")


def test_the_mold_that_was_a_worker_dies(server: Start) -> None:
    s = refork(server, workers=2, expect_deaths=True)
    mold = reforked(s)
    before = wait_for_workers(s, 2)
    os.kill(mold, signal.SIGKILL)
    wait_for(lambda: s.molds() and mold not in s.molds(), what="another mold")
    assert s.workers() == before
    os.kill(before[0], signal.SIGKILL)
    wait_for_workers(s, 2, without=before[0])


@pytest.mark.parametrize("counts", ["0", "x", "1,,2", "1,", ",1", "-1", "1000000000", "1 2"])
def test_wrong_numbers(server: Start, counts: str) -> None:
    with pytest.raises(StartFailed) as failed:
        refork(server, counts)
    assert failed.value.status == 2
    assert f'refork-after: "{counts}" is not right; write numbers such as' in failed.value.log


def test_it_needs_preload(server: Start) -> None:
    with pytest.raises(StartFailed) as failed:
        refork(server, preload=False)
    assert failed.value.status == 2
    assert "refork-after: without preload there is nothing" in failed.value.log
