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
from wire import Wire, ask, let

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


def hears(s: Server, number: signal.Signals, worker: int) -> bool:
    """Whether a worker that runs no request runs its handler of the signal."""
    begin = len(s.log)
    os.kill(worker, number)
    return s.log_contains(rf"event: got {number.name} in {worker}\.", 10, begin) is not None


@pytest.mark.parametrize("threads", [1, 4])
def test_handlers_in_python_run_on_an_idle_worker(server: Start, threads: int) -> None:
    """Those of the import, of a hook, of a timer; before the first request and after others."""
    s = server("handlers", threads=threads)
    (worker,) = s.workers()
    assert s.log_contains(rf"got SIGALRM in {worker}\.")
    for path in ("", "/", "/asyncio", "/wakeup", "/child"):
        if path and (threads == 1 or path == "/"):  # only the main thread may set such things
            assert ask(s, path).text in ("hello", "by asyncio", "False") or path == "/child"
        for number in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGUSR1):
            assert hears(s, number, worker), path
    assert s.workers() == [worker]


def test_handlers_run_while_other_threads_serve(server: Start) -> None:
    """The main thread is parked, or leads; others wait or compute."""
    s = server("handlers", threads=4)
    (worker,) = s.workers()
    with Wire(s) as waiting, Wire(s) as computing:
        waiting.request("GET", "/busy")
        assert s.log_contains("event: busy")
        assert hears(s, signal.SIGUSR1, worker)
        computing.request("GET", "/compute")
        assert s.log_contains("event: computes")
        assert hears(s, signal.SIGUSR1, worker)
        for _ in range(3):
            assert ask(s, "/").text == "hello"
            assert hears(s, signal.SIGUSR1, worker)
        let(s, "busy")
        let(s, "compute")
        assert waiting.answer().text == computing.answer().text == "hello"
    assert hears(s, signal.SIGUSR1, worker)


def test_handler_that_fails_or_takes_long(server: Start) -> None:
    """The first is logged; behind the second the worker goes on with what needs no Python."""
    s = server("handlers", threads=2)
    (worker,) = s.workers()
    os.kill(worker, signal.SIGIO)
    assert s.log_contains("a signal handler of the application has failed\n  Traceback")
    assert s.log_contains("ValueError: in the handler")
    os.kill(worker, signal.SIGPROF)
    assert s.log_contains("event: slow handler.")
    for _ in range(3):
        assert ask(s, "/").text == "hello"
    let(s, "handler")
    assert s.log_contains("slow handler is done")
    assert hears(s, signal.SIGUSR1, worker)


def test_signals_of_a_child_are_its_own(server: Start) -> None:
    """It writes nothing into the pipe that the worker reads."""
    s = server("handlers")
    child = ask(s, "/child").text
    assert s.log.count(f"got SIGUSR1 in {child}.") >= 1
    assert f"got SIGUSR1 in {s.workers()[0]}." not in s.log
