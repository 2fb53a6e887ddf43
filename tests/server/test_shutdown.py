"""The end of a worker: what the application wants to do then, and how long it may take."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable

import pytest

from harness import SLOWNESS, Server, StartFailed, wait_for

Start = Callable[..., Server]


def leaving(server: Start, leave: str, graceful: float = 10.0, **options: object) -> Server:
    """A server whose workers leave behind what `leave` names."""
    return server(
        "leave", env={"LEAVE": leave}, graceful_timeout=f"{graceful * SLOWNESS}s", **options
    )


def timed_stop(s: Server) -> float:
    """Stop; how long it took."""
    start = time.monotonic()
    assert s.stop() == 0
    return time.monotonic() - start


def test_at_once_while_workers_start(server: Start) -> None:
    """The first of them has nothing to finish, and it is no death."""
    s = server("sleepy", preload=False, start=False)
    code = 'import time\nprint("importing", flush=True)\ntime.sleep(60)\n'
    (s.dir / "sleepy.py").write_text(code)
    starter = threading.Thread(target=lambda: pytest.raises(StartFailed, s.start), daemon=True)
    starter.start()
    wait_for(lambda: "importing" in s.log)
    s.signal(signal.SIGINT)
    assert s.wait() == 0
    starter.join()
    assert "died" not in s.log


@pytest.mark.parametrize("threads", [1, 4])
def test_hooks_and_threads_finish(server: Start, threads: int) -> None:
    s = leaving(server, "hook thread", workers=2, threads=threads)
    pids = wait_for(lambda: len(s.workers()) == 2 and s.workers())
    timed_stop(s)
    found = re.findall(r"^atexit in (\d+)$", s.log, re.MULTILINE)
    assert sorted(map(int, found)) == pids
    assert s.log.count("the thread has ended") == 2


def test_hooks_run_when_a_worker_is_recycled(server: Start) -> None:
    s = leaving(server, "hook", max_requests=5, max_requests_jitter=0)
    pid = s.get("/").text
    for _ in range(10):
        assert s.get("/").status == 200
    assert s.log_contains(rf"^atexit in {pid}$")


def test_failing_hook_is_logged(server: Start) -> None:
    s = leaving(server, "hook bad_hook")
    timed_stop(s)
    assert "ValueError: bad hook" in s.log
    assert "atexit in" in s.log


def test_daemon_threads_do_not_hold(server: Start) -> None:
    s = leaving(server, "daemon", graceful=60)
    assert s.stop() == 0


@pytest.mark.parametrize("leave", ["stuck_hook", "stuck_thread"])
def test_stuck_end_is_bounded(server: Start, leave: str) -> None:
    """The graceful-timeout bounds hooks and threads, too, and the log says where they hang."""
    s = leaving(server, leave, graceful=1)
    assert timed_stop(s) >= 1 * SLOWNESS
    assert s.log_contains(
        r"\[warning\] worker 1 \(\d+\): did not finish in time: leaving in the middle of this$"
    )
    assert s.log_contains(
        r'File ".*/leave\.py", line \d+ in ' + ("work" if "thread" in leave else leave)
    )


@pytest.mark.parametrize("leave", ["stuck_hook", "stuck_thread"])
def test_stuck_end_without_a_master(server: Start, leave: str) -> None:
    """A worker whose master was killed bounds its end itself."""
    s = leaving(server, leave, graceful=1, expect_deaths=True)
    s.signal(signal.SIGKILL)
    assert s.wait() == -signal.SIGKILL
    assert s.log_contains(r"the master is gone")
    assert s.log_contains(r"did not finish in time: leaving")
    wait_for(lambda: not s.relatives(), what="the worker to leave")


def test_sys_exit_ends_a_request_only(server: Start) -> None:
    s = leaving(server, "")
    pid = s.get("/").text
    assert s.get("/exit").status == 500
    assert s.log_contains(r"GET /exit: uncaught exception")
    assert s.log_contains(r"SystemExit: enough")
    assert s.get("/").text == pid


def test_os_exit_ends_a_worker(server: Start) -> None:
    s = leaving(server, "", workers=1, expect_deaths=True)
    pid = int(s.get("/").text)
    assert s.raw(b"GET /os-exit HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert s.log_contains(rf"\(pid {pid}\) died: exit status 3")
    assert int(wait_for(lambda: s.workers() and s.get("/").text)) != pid


def test_quick_stop_runs_no_hooks(server: Start) -> None:
    """INT and QUIT do not wait for anything."""
    s = leaving(server, "hook stuck_thread", graceful=60)
    assert s.stop(signal.SIGQUIT) == 0
    assert "atexit in" not in s.log


def test_master_killed_with_a_running_request(server: Start) -> None:
    """The request is still answered."""
    s = server("stuck", timeout="30s")
    with s.connect(20) as client:
        client.sendall(b"GET /sleep/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.log_contains(r"running /sleep/1")
        s.signal(signal.SIGKILL)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: not s.relatives(), what="the worker to leave")
