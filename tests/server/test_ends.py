"""How processes end: a worker ends what it has made, the mold what was made before the fork."""

from __future__ import annotations

import dbm.dumb
import gzip
import os
import re
import shelve
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import (
    APPS,
    SLOWNESS,
    Server,
    StartFailed,
    can_connect,
    free_port,
    processes,
    run,
    wait_for,
    whole_lines,
)
from test_master import wait_for_workers

Start = Callable[..., Server]

ALL = "files objects threads"


def ends(server: Start, what: str, env: dict[str, str] | None = None, **options: object) -> Server:
    """A server of the application `ends`, without warm-up; it makes what is to end."""
    options = {"prewarm_rounds": 0, "graceful_timeout": f"{30 * SLOWNESS}s"} | options
    return server("ends", env={"ENDS": what} | (env or {}), **options)


def go(s: Server) -> None:
    """Whoever waits may end."""
    (s.dir / "go").touch()


def said(s: Server) -> list[str]:
    """What the application has said until now, with the pids of those who have."""
    path = s.dir / "said"
    return whole_lines(path.read_text()) if path.exists() else []


def who(s: Server, text: str) -> list[int]:
    """The pids of those who have said this, in order."""
    return [int(line.rpartition(" ")[2]) for line in said(s) if line.rpartition(" ")[0] == text]


def leave_by_term(s: Server) -> None:
    """The server stops."""
    assert s.stop() == 0


def leave_by_reload(s: Server) -> None:
    """Another generation takes over."""
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 2", 20)


def leave_by_recycling(s: Server) -> None:
    """max-requests, which is 2: one has been made."""
    s.get("/")


def gone(s: Server, pid: int) -> None:
    """Wait until the worker has ended."""
    wait_for(lambda: pid not in {p.pid for p in processes()}, 20, "the end of the worker")


LEAVE = {"term": leave_by_term, "reload": leave_by_reload, "recycling": leave_by_recycling}


# --- a worker ------------------------------------------------------------------------------------


def check_ended(s: Server, when: str, pid: int) -> None:
    """All that `pid` has made is ended, once."""
    assert (s.dir / f"text-{when}-{pid}").read_text() == "line\n"
    assert gzip.open(s.dir / f"gzip-{when}-{pid}").read() == b"line\n"
    assert gzip.open(s.dir / f"journal-{when}-{pid}").read() == f"end of outer {when}\n".encode()
    with shelve.Shelf(dbm.dumb.open(str(s.dir / f"shelf-{when}-{pid}"))) as shelf:
        assert shelf["key"] == ["line"]
    for kind in ("finalize", "del global", "del local", "del cycle", "del outer", "finally"):
        assert who(s, f"{kind} {when}").count(pid) == 1, kind


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("leave", LEAVE)
def test_a_worker_ends_what_it_has_made(server: Start, leave: str, threads: int) -> None:
    s = ends(
        server,
        f"{ALL} stdout@request",
        threads=threads,
        max_requests=2 if leave == "recycling" else 0,
        max_requests_jitter=0,
    )
    pid = int(s.get("/").text)
    go(s)
    LEAVE[leave](s)
    gone(s, pid)
    check_ended(s, "request", pid)
    assert who(s, "atexit request") == [pid]
    assert who(s, "thread request") == [pid]
    assert not list(s.dir.glob("named-request-*"))
    assert not list(s.dir.glob("directory-request-*"))
    assert s.log.count("wrapped request\n") == 1
    # What was made at import is the mold's; but what is only registered runs here, too.
    assert pid in who(s, "atexit import")
    for kind in (
        "finalize",
        "del global",
        "del local",
        "del cycle",
        "del outer",
        "finally",
        "thread",
    ):
        assert pid not in who(s, f"{kind} import"), kind
    assert "Exception ignored" not in s.log
    assert "Traceback" not in s.log


@pytest.mark.parametrize("leave", LEAVE)
def test_databases_are_closed(server: Start, leave: str) -> None:
    """Those of a worker with it, that of the import with the mold: everything is in their files."""
    s = ends(
        server,
        "databases",
        max_requests=2 if leave == "recycling" else 0,
        max_requests_jitter=0,
    )
    pid = int(s.get("/").text)
    wait_for(lambda: who(s, "sqlite request") == [pid], what="the database")
    assert (s.dir / f"sqlite-request-{pid}-wal").exists()
    LEAVE[leave](s)
    gone(s, pid)
    assert not (s.dir / f"sqlite-request-{pid}-wal").exists()
    if "dbm.ndbm" in str(dbm.whichdb(str(s.dir / f"ndbm-request-{pid}"))):
        with dbm.open(str(s.dir / f"ndbm-request-{pid}")) as database:
            assert database["key"] == b"line"
    assert s.stop() == 0
    assert not list(s.dir.glob("*-wal"))
    assert "Exception ignored" not in s.log and "Traceback" not in s.log


def test_without_preload_a_worker_has_made_all(server: Start) -> None:
    s = ends(server, f"{ALL} child@import", preload=False)
    pid = int(s.get("/").text)
    child = who(s, f"child import {who_child(s)}")
    assert child == [pid]
    go(s)
    assert s.stop() == 0
    check_ended(s, "request", pid)
    check_ended(s, "import", pid)
    assert who(s, "thread import") == [pid]
    assert not [p for p in processes() if p.pid == who_child(s)]


def who_child(s: Server) -> int:
    """The child of the import."""
    return next(int(line.split()[2]) for line in said(s) if line.startswith("child import"))


def test_files_of_the_import_have_what_a_worker_writes(server: Start) -> None:
    """In no line twice, and none lost."""
    s = ends(server, "files@import", workers=2, max_requests=2, max_requests_jitter=0)
    pids = [s.get("/in/write").text for _ in range(9)]
    mold = next(iter(s.dir.glob("text-import-*")))
    assert s.stop() == 0
    lines = mold.read_text().splitlines()
    assert lines[0] == "line"
    assert sorted(lines[1:]) == sorted(f"request {pid}" for pid in pids)
    assert gzip.open(next(iter(s.dir.glob("gzip-import-*")))).read() == b"line\n"


def test_a_compressed_log_of_the_import(server: Start) -> None:
    """Every worker adds a whole member."""
    s = server("says", start=False, prewarm_rounds=0, max_requests=1, max_requests_jitter=0)
    (s.dir / "audit.py").write_text(
        "import gzip\n"
        "log = gzip.open('audit.gz', 'at')\n"
        "def application(environ, start_response):\n"
        "    log.write('line\\n')\n"
        "    start_response('200 OK', [('Content-Length', '0')])\n"
        "    return [b'']\n"
    )
    s.command[-1] = "audit"
    s.start()
    for _ in range(3):
        assert s.get("/").status == 200
    assert s.stop() == 0
    assert gzip.open(s.dir / "audit.gz").read() == b"line\n" * 3


def test_a_slow_end_keeps_no_slot(server: Start) -> None:
    """A worker is replaced by one of the same number while it ends, and the reload goes on."""
    s = ends(server, "slow", workers=2)
    first = wait_for_workers(s, 2)
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 2")
    assert len(wait_for(lambda: len(who(s, "slow import")) == 2 and who(s, "slow import"))) == 2
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 3")
    wait_for(lambda: set(first) < set(s.ending_workers()))  # still
    assert s.get("/").status == 200
    go(s)
    wait_for(lambda: not s.ending_workers() and len(s.molds()) == 1, what="the ends")
    assert len(s.workers()) == 2
    wait_for(lambda: len(re.findall(r"worker \d+ \(pid \d+\) left$", s.log, re.M)) == 4)


def test_an_end_that_crashes_is_no_death(server: Start) -> None:
    """All is answered by then; the log says it, without alarm."""
    s = ends(server, "exits", max_requests=1, max_requests_jitter=0)
    pid = s.get("/").text
    assert s.log_contains(
        rf"\[warning\].* worker 1 \(pid {pid}\) left, with an error at its end: signal 9 \(SIGKILL\)"
    )
    assert s.get("/").status == 200


def test_a_second_term_during_the_end(server: Start) -> None:
    """From a service manager that signals all processes."""
    s = ends(server, "slow@request", max_requests=1, max_requests_jitter=0)
    pid = int(s.get("/").text)
    wait_for(lambda: who(s, "slow request") == [pid])
    os.kill(pid, signal.SIGTERM)
    go(s)
    assert s.log_contains(rf"worker 1 \({pid}\): stopped")


def test_quick_stop_cuts_ends(server: Start) -> None:
    s = ends(server, "slow@request", max_requests=1, max_requests_jitter=0)
    pid = int(s.get("/").text)
    wait_for(lambda: who(s, "slow request") == [pid])
    assert s.stop(signal.SIGQUIT) == 0
    assert "did not finish" not in s.log


# --- the mold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_leaves_no_children(server: Start, number: int) -> None:
    s = ends(server, "child@import manager@import objects@import", workers=2)
    (mold,) = s.molds()
    made = [p.pid for p in processes() if p.parent == mold]
    assert s.stop(number) == 0
    assert len(made) >= 2
    assert not {p.pid for p in processes()} & set(made)


def test_a_start_that_fails_leaves_no_children(server: Start) -> None:
    """The application loads, and its workers do not begin."""
    s = ends(server, "child@import broken", start=False, expect_deaths=True)
    with pytest.raises(StartFailed):
        s.start()
    assert not [p for p in processes() if p.pid == who_child(s)]


@pytest.mark.parametrize("leave", ["term", "reload"])
def test_the_mold_ends_what_was_made_before_the_fork(server: Start, leave: str) -> None:
    s = ends(server, f"{ALL} child@import manager@import pool@import", workers=2)
    (mold,) = s.molds()
    s.get("/")
    made = [p.pid for p in processes() if p.parent == mold]
    assert len(made) >= 3
    go(s)
    LEAVE[leave](s)
    gone(s, mold)
    assert not {p.pid for p in processes()} & set(made)
    check_ended(s, "import", mold)
    assert mold in who(s, "atexit import")
    assert mold in who(s, "thread import")
    assert f"directory-import-{mold}" not in os.listdir(s.dir)
    left = list(s.dir.glob("directory-import-*")) + list(s.dir.glob("named-import-*"))
    assert len(left) == (0 if leave == "term" else 2)  # the new mold's
    assert "Exception ignored" not in s.log
    assert "Traceback" not in s.log


def test_the_mold_outlives_its_workers(server: Start) -> None:
    """A worker of two generations before still uses what the import has made, and ends first."""
    s = ends(server, "files@import child@import slow@request")
    (mold,) = s.molds()
    pid = int(s.get("/").text)
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 2", 20)
    wait_for(lambda: who(s, "slow request") == [pid])
    (second,) = set(s.molds()) - {mold}
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 3", 20)
    gone(s, second)  # had no reason to stay, though it was told later
    assert mold in s.molds()
    assert who_child(s) in {p.pid for p in processes()}
    assert len(list(s.dir.glob("directory-import-*"))) == 2
    go(s)
    gone(s, mold)
    assert len(list(s.dir.glob("directory-import-*"))) == 1


def test_recycled_workers_leave_what_is_shared(server: Start) -> None:
    """The child, the manager and the directory of the import are there for all."""
    s = ends(
        server,
        "files@import child@import manager@import",
        max_requests=1,
        max_requests_jitter=0,
    )
    child = who_child(s)
    for number in range(1, 5):
        assert s.get("/in/directory").text == "True"
        assert s.get("/in/ask").text == str((child, "question"))
        assert s.get("/in/count").text == str(number)
        assert s.get("/in/children").text == "[]"
    assert "AssertionError" not in s.log
    assert "Traceback" not in s.log


def test_workers_share_no_connection_to_a_manager(server: Start) -> None:
    """The one of the import would give each the answers to the others' questions."""
    s = ends(server, "manager@import", workers=3, threads=2)
    wait_for_workers(s, 3)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: s.get("/in/own").text, range(60)))
    assert set(answers) == {"True"}


def test_each_process_has_its_own_server_of_forks(server: Start) -> None:
    """Since 3.14 multiprocessing uses one where nothing else is said. That of the import is the mold's."""
    s = ends(server, "served", workers=2)
    (of_import,) = (int(line.split()[2]) for line in said(s) if line.startswith("served import"))
    wait_for(lambda: len({s.get("/").text for _ in range(4)}) == 2)
    makers = {line.split()[-1] for line in said(s) if line.startswith("served request")}
    assert makers == {str(pid) for pid in s.workers()}
    assert of_import in {p.pid for p in processes()}
    assert s.stop() == 0
    gone(s, of_import)
    assert "Traceback" not in s.log


def test_a_queue_that_the_import_has_used(server: Start) -> None:
    """The thread that feeds it is the mold's; each worker starts its own."""
    s = ends(server, "fed@import", workers=2)
    pids = {s.get("/in/feed").text for _ in range(8)}
    wait_for(lambda: sum(line.startswith("fed ") for line in said(s)) == 1 + 8)
    assert {line.split()[1] for line in said(s) if line.startswith("fed ")} == {
        str(s.molds()[0])
    } | pids


def test_threads_of_the_import_live_in_the_mold(server: Start) -> None:
    """A queue between the workers and a thread of the mold, which takes more than a pipe can hold."""
    s = ends(server, "consumer@import", workers=2)
    (mold,) = s.molds()
    for _ in range(20):
        s.get("/in/enqueue")
    wait_for(lambda: sum(line.startswith("consumed") for line in said(s)) == 20)
    assert s.stop() == 0
    assert who(s, "consumer stopped") == [mold]


def ask_port(port: int) -> int:
    """Who answers there."""
    code = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/', timeout=20).read().decode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return int(done.stdout)


def test_a_port_of_the_import_answers(server: Start) -> None:
    port = free_port()
    s = ends(server, "port@import", {"ENDS_PORT": str(port)})
    assert ask_port(port) == s.molds()[0]
    s.signal(signal.SIGHUP)
    found = s.log_contains(r"reload failed: .*; generation 1 goes on", 20)
    assert found, s.log
    assert s.log_contains("Address already in use")
    assert s.log_contains(
        r"\[error\].* the generation before has its sockets open as long as it serves"
    )
    assert ask_port(port) == s.molds()[0]
    assert s.get("/").status == 200


def test_an_exporter_of_metrics_at_import(server: Start) -> None:
    """A reload says who has its port; it goes on to answer."""
    port = free_port()
    s = ends(server, "exporter@import", {"ENDS_PORT": str(port)})
    s.signal(signal.SIGHUP)
    assert s.log_contains(
        r"\[error\] mold .* an address is in use, and the generation before has its sockets open as long "
        r"as it serves: if the application opens that address, .*SO_REUSEPORT"
    )
    assert s.log_contains(r"reload failed: .*; generation 1 goes on")
    assert can_connect(("127.0.0.1", port))
    assert s.get("/").status == 200


def test_a_port_that_each_worker_wants(server: Start) -> None:
    """Without preload it is a sibling that has it, and no generation before."""
    env = {"ENDS_PORT": str(free_port())}
    s = ends(server, "exporter@import", env, preload=False, expect_deaths=True)
    s.signal(signal.SIGTTIN)
    assert s.log_contains(
        r"\[error\] worker .* an address is in use, and without preload every worker"
    )
    assert "the generation before has" not in s.log
    assert s.get("/").status == 200


@pytest.mark.parametrize(
    ("preload", "who_has_it"),
    [(True, "the generation before has it as long as it serves"), (False, "every worker wants it")],
)
def test_a_lock_of_the_import(server: Start, preload: bool, who_has_it: str) -> None:
    """Who cannot load because of it says who has it; the others go on."""
    s = ends(server, "lock@import", preload=preload, expect_deaths=not preload)
    s.signal(signal.SIGHUP if preload else signal.SIGTTIN)
    assert s.log_contains(
        rf"\[error\].* if what could not be had at once is a lock, .*{who_has_it}"
    )
    assert s.get("/").status == 200


def test_lines_of_the_import_that_a_handler_keeps(server: Start) -> None:
    """The mold writes them before the fork, so that not each process does it at its end."""
    s = ends(server, "kept_lines@import", workers=3)
    assert s.get("/").status == 200
    assert s.stop() == 0
    assert (s.dir / "kept.log").read_text() == "line of the import\n"


def test_a_port_that_somebody_else_has_at_the_start(server: Start) -> None:
    """There is no generation before."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(StartFailed) as failed:
            ends(server, "port@import", {"ENDS_PORT": str(other.getsockname()[1])})
    assert "Address already in use" in failed.value.log
    assert "the generation before" not in failed.value.log


def test_signals_reach_the_mold(server: Start) -> None:
    """Handlers of the import run while the mold waits."""
    s = ends(server, "handler@import")
    (mold,) = s.molds()
    for _ in range(2):
        before = len(who(s, "handled SIGUSR1"))
        os.kill(mold, signal.SIGUSR1)
        wait_for(lambda before=before: len(who(s, "handled SIGUSR1")) == before + 1)
    os.kill(mold, signal.SIGTERM)  # as a service manager may do
    os.kill(mold, signal.SIGUSR1)
    wait_for(lambda: len(who(s, "handled SIGUSR1")) == 3)
    assert s.molds() == [mold]
    assert who(s, "handled SIGTERM") == []
    assert s.stop() == 0


def test_a_handler_of_sigterm_is_said_to_be_replaced(server: Start) -> None:
    s = ends(server, "handler@import", workers=2)
    wait_for_workers(s, 2)
    pattern = r"\[warning\].* the application has a handler of SIGTERM: it is replaced"
    assert s.log_contains(pattern)
    leave_by_reload(s)
    assert len(re.findall(pattern, s.log)) == 2  # once a generation
    assert s.stop() == 0
    assert who(s, "handled SIGTERM") == []


def test_no_handler_no_warning(server: Start) -> None:
    s = ends(server, "objects")
    assert "has a handler" not in s.log


@pytest.mark.parametrize("what", ["hangs@import"])
def test_a_mold_that_hangs_is_named_and_cut(server: Start, what: str) -> None:
    s = ends(server, what, graceful_timeout=f"{4 * SLOWNESS}s")
    (mold,) = s.molds()
    s.signal(signal.SIGHUP)
    assert s.log_contains(
        rf"\[warning\] mold \({mold}\): did not finish in time: leaving in the middle", 20
    )
    assert s.log_contains(r'File ".*/ends\.py", line \d+ in hang$')
    gone(s, mold)
    assert s.get("/").status == 200
    assert s.stop() == 0


def test_a_failed_import_ends_what_it_has_made(server: Start) -> None:
    s = ends(server, "child@import objects@import files@import fails@import")
    (s.dir / "fail").touch()
    s.signal(signal.SIGHUP)
    assert s.log_contains(
        r"reload failed: the application could not be loaded; generation 1 goes on", 20
    )
    children = [int(line.split()[2]) for line in said(s) if line.startswith("child import")]
    assert len(children) == 2
    assert children[0] in {p.pid for p in processes()}
    gone(s, children[1])
    wait_for(lambda: len(s.molds()) == 1, what="the end of the mold that failed")
    assert len(who(s, "del global import")) == 1
    assert len(list(s.dir.glob("directory-import-*"))) == 1


def test_the_mold_ends_after_its_master(server: Start) -> None:
    """When that was killed, and after the workers."""
    s = ends(server, "child@import files@import objects@import slow@request")
    (mold,) = s.molds()
    pid = int(s.get("/").text)
    s.signal(signal.SIGKILL)
    s.wait()
    wait_for(lambda: who(s, "slow request") == [pid])
    assert list(s.dir.glob("directory-import-*"))
    go(s)
    gone(s, mold)
    assert not [p for p in processes() if p.pid == who_child(s)]
    assert who(s, "del global import") == [mold]
    assert not list(s.dir.glob("directory-import-*"))


def test_check_config_leaves_nothing(tmp_path: Path) -> None:
    env = {"ENDS": "child@import manager@import files@import objects@import", "PYTHONPATH": ""}
    done = run("--check-config", f"--pythonpath={APPS}", "ends", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "said").read_text().splitlines()
    child = next(int(line.split()[2]) for line in lines if line.startswith("child import"))
    assert child not in {p.pid for p in processes()}
    assert len([line for line in lines if line.startswith("del global import")]) == 1
    assert not list(tmp_path.glob("directory-import-*"))


# --- refork --------------------------------------------------------------------------------------


def reforking(server: Start, what: str, **options: object) -> Server:
    return ends(server, what, prewarm="/", refork_after="3", env={"ENDS_LAZY": "0"}, **options)


def test_a_refork_ends_nothing(server: Start) -> None:
    """The new mold has all of it, and ends it when its generation ends."""
    s = reforking(server, "files@import objects@import")
    (first,) = s.molds()
    for _ in range(5):
        s.get("/")
    assert s.log_contains("reloaded: all workers are of generation 2", 20)
    (mold,) = wait_for(lambda: len(s.molds()) == 1 and s.molds())
    assert mold != first
    assert s.get("/in/directory").text == "True"
    assert s.stop() == 0
    for kind in ("finalize", "del global", "del cycle", "finally"):
        assert who(s, f"{kind} import") == [mold], kind
    assert not list(s.dir.glob("directory-import-*"))


@pytest.mark.parametrize("what", ["consumer@import", "child@import"])
def test_what_only_the_mold_has_keeps_it(server: Start, what: str) -> None:
    s = reforking(server, what)
    (mold,) = s.molds()
    for _ in range(5):
        s.get("/")
    assert s.log_contains(r"no refork: the workers may need what the import has started", 20)
    assert s.log_contains("refork failed: generation 1 goes on")
    assert s.molds() == [mold]
    assert s.get("/").status == 200


# --- random numbers ------------------------------------------------------------------------------


def test_random_numbers_differ(server: Start) -> None:
    """A generator that was seeded before the fork would repeat in every worker."""
    s = ends(server, "seeded@import", max_requests=1, max_requests_jitter=0)
    first: dict[str, str] = {}  # by pid; who is to be replaced still answers

    def are_enough() -> bool:
        pid, roll = s.get("/in/rolled").text.split()
        first.setdefault(pid, roll)
        return len(first) == 4

    wait_for(are_enough, what="four workers")
    assert len(set(first.values())) == 4
