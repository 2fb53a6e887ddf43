"""Signals that come from the kernel, and what the application has made of them."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable

import pytest

from harness import Server, wait_for
from test_master import wait_for_workers
from wire import Wire

Start = Callable[..., Server]


@pytest.mark.parametrize("limit", [8 * 1024, 512 * 1024])
def test_a_body_above_the_limit_of_file_sizes(server: Start, limit: int) -> None:
    """It is refused, whether it is written or spliced, and the log says what to do."""
    s = server("signalled", body_buffer="4k")
    (pid,) = s.workers()
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limits[1]))
    with Wire(s) as wire:
        assert wire.ask("/", method="POST", body=bytes(1024 * 1024)).status == 500
    assert s.log_contains(r"temporary file: File too large in .*; raise the limit .*LimitFSIZE")
    assert s.get("/").status == 200
    assert s.workers() == [pid]


def test_a_log_at_the_limit_of_file_sizes(server: Start) -> None:
    """Its lines are lost, and the master goes on."""
    s = server()
    limits = resource.prlimit(s.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(s.pid, resource.RLIMIT_FSIZE, (1, limits[1]))
    s.signal(signal.SIGTTIN)
    wait_for_workers(s, 2)
    assert "now 2 workers" not in s.log
    resource.prlimit(s.pid, resource.RLIMIT_FSIZE, limits)
    s.signal(signal.SIGTTIN)
    assert s.log_contains(r"\[warning\] master .* records of this process are missing above")


def test_an_application_that_makes_a_broken_pipe_deadly(server: Start) -> None:
    """A client that leaves while it gets a file does not take the worker with it."""
    s = server("signalled", binds=["unix:app.sock"], access_logfile="access.log", prewarm="/")
    (pid,) = s.workers()
    with Wire(s) as wire:
        assert wire.request("GET", "/file").head().status == 200
    access = s.dir / "access.log"
    wait_for(lambda: "/file" in access.read_text() or s.workers() != [pid])
    assert s.workers() == [pid]
    wait_for(lambda: "SIGPIPE" in s.get("/").text.split())


@pytest.mark.parametrize("preload", [True, False])
def test_signals_that_the_application_ignores(server: Start, preload: bool) -> None:
    """From its import on, in each worker."""
    s = server("signalled", preload=preload, env={"IGNORED_AT_IMPORT": "yes"})
    assert {"SIGCHLD", "SIGHUP", "SIGPIPE", "SIGXFSZ"} <= set(s.get("/").text.split())
