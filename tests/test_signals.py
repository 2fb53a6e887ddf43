"""Signals that come from the kernel, and what the application has made of them."""

from __future__ import annotations

import os
import pty
import resource
import signal
import sys
from collections.abc import Callable

import pytest

from harness import Server, processes, wait_for
from test_master import wait_for_workers
from wire import Wire, let

Start = Callable[..., Server]

# Runs a server in the background of a terminal, and, when let, a process of the same job that reads
# from it. Its parent is of the session but of another group, as a shell is: otherwise the kernel
# would refuse the reading instead of stopping the job.
IN_BACKGROUND = """\
import os, signal, sys, time
terminal = os.open(sys.argv[1], os.O_RDWR)
server = os.getpid()
if os.fork() == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(terminal, os.getpid())
    while not os.path.exists("let-read"):
        time.sleep(0.01)
    reader = os.fork()
    if reader == 0:
        os.setpgid(0, server)
        os.read(terminal, 1)
        os._exit(0)
    os.waitpid(reader, 0)
    os._exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_job_in_the_background(server: Start) -> None:
    """Its processes are stopped when one reads the terminal; that is no wish for more workers."""
    s = server(start=False)
    ours, terminal = pty.openpty()
    s.command = [sys.executable, "-c", IN_BACKGROUND, os.ttyname(terminal), *s.command]
    try:
        s.start()
        (worker,) = s.workers()
        let(s, "read")
        wait_for(lambda: any(p.pid == worker and p.state == "T" for p in processes()))
        # Of signals that have come together, USR1 is taken before TTIN, but not a second USR1.
        s.signal(signal.SIGUSR1)
        wait_for(lambda: s.log.count("logs reopened") == 1)
        s.signal(signal.SIGUSR1)
        wait_for(lambda: s.log.count("logs reopened") == 2)
        assert "now 2 workers" not in s.log
    finally:
        s.kill()
        os.close(terminal)
        os.close(ours)


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
