"""What the server advises: each advice is true where it is provoked, and silent where it is not.

Machines with other work make all wait for CPUs, which the server then says; so each test asks for its
own advice.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import select
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from control_client import ask
from harness import FLAVOUR, SLOWNESS, Server, run, wait_for
from test_growth import begin_trace
from test_seen_by_commands import command

Start = Callable[..., Server]


def drive(s: Server, path: str, clients: int, each: int) -> float:
    """So many clients at once make so many requests, each on one connection; all are counted. How
    many seconds they took."""
    before, begun = counted(s), time.monotonic()

    def client() -> None:
        address = http.client.HTTPConnection(*s.address, timeout=60 * SLOWNESS)
        with closing(address) as connection:
            for _ in range(each):
                connection.request("GET", path)
                answer = connection.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    wait_for(lambda: counted(s) >= before + clients * each)
    return took


def counted(s: Server) -> int:
    """How many requests the views have had."""
    return sum(view["requests"] for view in ask(s, "/views").json()["views"])


def advice(s: Server, name: str) -> list[Any]:
    """All of one kind that there is now."""
    return [one for one in ask(s, "/advice").json()["advice"] if one["advice"] == name]


def the(s: Server, name: str) -> Any:
    """The only one of a kind."""
    (found,) = advice(s, name)
    return found


@pytest.fixture
def plain(server: Start) -> Callable[..., Server]:
    """Start tests/apps/advised.py."""
    return lambda **options: server("advised", control="unix:control.sock", **options)


# ---- processes and threads


@pytest.mark.skipif(FLAVOUR == "tsan", reason="the wait for the interpreter is not measured")
def test_threads_that_compute_want_processes(plain: Callable[..., Server]) -> None:
    """Above a fifth of the time is waiting for the interpreter."""
    s = plain(threads=10)
    drive(s, "/both/10", clients=10, each=15)
    found = the(s, "gil")
    parts = next(v["parts"] for v in ask(s, "/views").json()["views"] if v["view"] == "GET /both")
    inside = sum(parts[p] for p in ("gil", "cpu", "database", "runqueue", "other"))
    assert found["number"] == pytest.approx(parts["gil"] / inside, abs=0.001)
    assert f"{100 * found['number']:.0f} % of their time" in found["text"]
    assert found["setting"] == ("workers" if len(os.sched_getaffinity(0)) > 1 else "")


def test_threads_that_wait_want_no_processes(plain: Callable[..., Server]) -> None:
    """As many requests at once, which sleep: nobody waits for anything that a setting would change."""
    s = plain(threads=10)
    drive(s, "/sleeps/200", clients=10, each=12)
    assert ask(s, "/advice").json()["requests"] == 120
    for name in ("gil", "computing", "waiting", "unused"):
        assert not advice(s, name), advice(s, name)


@pytest.mark.parametrize("threads", [1, 2])
def test_requests_that_wait_want_threads(plain: Callable[..., Server], threads: int) -> None:
    """All threads sleep, and other requests wait for one: as many threads as clients would do."""
    s = plain(threads=threads)
    drive(s, "/sleeps/60", clients=8, each=13)
    found = the(s, "waiting")
    assert found["setting"] == "threads" and found["number"] > 0.5
    assert f"Raise threads, which is {threads}: " in found["text"]
    assert not advice(s, "computing") and not advice(s, "gil")


def test_requests_that_compute_want_processes(plain: Callable[..., Server]) -> None:
    """Requests wait for the only thread, which computes: more threads would not help."""
    s = plain(threads=1)
    drive(s, "/burns/10", clients=6, each=20)
    found = the(s, "computing")
    assert found["setting"] == ("workers" if len(os.sched_getaffinity(0)) > 1 else "")
    assert not advice(s, "waiting")


def test_one_client_waits_for_nobody(plain: Callable[..., Server]) -> None:
    """The same requests one after the other."""
    s = plain(threads=1)
    took = drive(s, "/burns/2", clients=1, each=120)
    for name in ("gil", "computing", "waiting", "unused"):
        # Where other programs have the CPUs, a request may wait, too, until it is read.
        assert not advice(s, name) or took > 1, advice(s, name)


def test_threads_that_nobody_uses(plain: Callable[..., Server]) -> None:
    """One client needs one thread; not before many requests."""
    s = plain(threads=10)
    drive(s, "/", clients=1, each=1500)
    assert not advice(s, "unused")
    drive(s, "/", clients=1, each=700)
    found = the(s, "unused")
    assert found["setting"] == "threads" and found["number"] < 10
    assert f"threads = {found['number']} would do" in found["text"]


def test_threads_that_are_used(plain: Callable[..., Server]) -> None:
    """Once there were as many requests as threads."""
    s = plain(threads=4)
    drive(s, "/meets", clients=4, each=1)
    drive(s, "/", clients=1, each=2200)
    assert not advice(s, "unused")


def test_more_workers_than_cpus(plain: Callable[..., Server]) -> None:
    """They want more CPUs than there are."""
    cpus = len(os.sched_getaffinity(0))
    s = plain(workers=4 * cpus)
    drive(s, "/burns/20", clients=4 * cpus, each=100 // (4 * cpus) + 1)
    found = the(s, "cpus")
    assert found["setting"] == "workers" and 0.2 < found["number"] < 1
    assert f"lower workers to {cpus}" in found["text"]


def test_more_workers_than_cpus_that_sleep(plain: Callable[..., Server]) -> None:
    """As many, which need none."""
    cpus = len(os.sched_getaffinity(0))
    s = plain(workers=4 * cpus)
    drive(s, "/sleeps/10", clients=4 * cpus, each=20)
    told = advice(s, "cpus")
    had_s, waited_s = cpu_times(s.workers())
    # Where other programs have the CPUs, it is true.
    assert not told or (waited_s > 1 and waited_s > 0.2 * (had_s + waited_s)), told


def cpu_times(pids: list[int]) -> tuple[float, float]:
    """How many seconds their threads had a CPU, and how many they waited for one."""
    lines = [
        path.read_text().split()
        for pid in pids
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    ]
    return sum(int(line[0]) for line in lines) / 1e9, sum(int(line[1]) for line in lines) / 1e9


# ---- the kernel


def test_a_backlog_that_the_kernel_cuts(plain: Callable[..., Server]) -> None:
    """net.core.somaxconn is below it."""
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    if most >= 65535:
        pytest.skip("nothing is above net.core.somaxconn")
    s = plain(backlog=most + 1)
    found = the(s, "backlog")
    assert found["number"] == most and found["setting"] == "net.core.somaxconn"
    assert f"net.core.somaxconn={most + 1}" in found["text"]


def test_a_backlog_that_fits(plain: Callable[..., Server]) -> None:
    """It is what the kernel allows."""
    s = plain(backlog=int(Path("/proc/sys/net/core/somaxconn").read_text()))
    assert not advice(s, "backlog")


# ---- Django


@pytest.mark.parametrize("options", [{}, {"threads": 10}, {"preload": False}])
def test_debug(seen: Callable[..., Server], options: dict[str, Any]) -> None:
    """DEBUG is on, or it is off."""
    assert the(seen({"SEEN_DEBUG": "1"}, **options), "debug")["setting"] == "DEBUG"
    assert not advice(seen(**options), "debug")


def test_repeated_statements(seen: Callable[..., Server]) -> None:
    """The view, how often, the line, the statement; not of a view that makes few."""
    s = seen()
    drive(s, "/equal/", clients=1, each=9)
    assert not advice(s, "n+1")
    drive(s, "/equal/", clients=1, each=3)
    drive(s, "/same/", clients=1, each=20)
    found = the(s, "n+1")
    assert found["number"] == 30
    assert "/equal/ makes the same statement 30 times" in found["text"]
    assert "in item_name: SELECT name FROM item WHERE id = %s" in found["text"]


def test_a_reload_begins_anew(seen: Callable[..., Server]) -> None:
    """What was mended is not advised any more."""
    s = seen()
    drive(s, "/equal/", clients=1, each=12)
    assert advice(s, "n+1")
    before = s.workers()
    s.signal(signal.SIGHUP)
    wait_for(lambda: s.workers() and not set(before) & set(s.workers()))
    assert not advice(s, "n+1") and ask(s, "/advice").json()["requests"] == 0
    drive(s, "/equal/", clients=1, each=12)
    assert advice(s, "n+1")


# ---- what is made at import


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_of_the_import(server: Start, tmp_path: Path, threads: int) -> None:
    """One that no worker has, with its line; not one that comes back, nor without preload."""
    (tmp_path / "starts.py").write_text(STARTS)
    options: dict[str, Any] = {
        "control": "unix:control.sock",
        "pythonpath": tmp_path,
        "threads": threads,
    }
    found = the(server("starts", **options), "lost-threads")
    assert found["setting"] == "preload" and found["number"] == 1
    assert f"'poller', started at {tmp_path}/starts.py:8." in found["text"]
    assert not advice(server("starts", env={"AGAIN": "1"}, **options), "lost-threads")
    assert not advice(server("starts", preload=False, **options), "lost-threads")


STARTS = """
import os, threading, time

import myserver


def start():
    threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="poller").start()


def application(environ, start_response):
    start_response("200 OK", [])
    return [b""]


start()
if "AGAIN" in os.environ:
    myserver.postfork(start)
"""


# ---- prewarm


def private_mb(pid: int) -> float:
    """What a process shares with no other."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_\w+: +(\d+)", rollup, re.M)) * 1024 / 1e6


@pytest.mark.skipif(FLAVOUR == "tsan", reason="the sanitizer has most of the memory")
@pytest.mark.parametrize("threads", [1, 10])
def test_a_page_that_each_worker_loads(plain: Callable[..., Server], threads: int) -> None:
    """As much as the private memory of the worker grows by; not before the second request."""
    s = plain(threads=threads)
    drive(s, "/", clients=1, each=5)
    before = private_mb(*s.workers())
    s.get("/loads?secret=1")
    grown = private_mb(*s.workers()) - before
    assert not advice(s, "prewarm")
    s.get("/loads?secret=1")
    found = wait_for(lambda: advice(s, "prewarm"))[0]
    assert found["setting"] == "prewarm" and found["number"] > 7
    assert found["number"] == pytest.approx(grown, rel=0.15)
    assert "(measured in 1 of them). With prewarm = /loads it is made" in found["text"]


@pytest.mark.parametrize("options", [{"prewarm": "/loads"}, {"preload": False}])
def test_a_page_that_is_prewarmed(plain: Callable[..., Server], options: dict[str, Any]) -> None:
    """It costs a worker nothing; or there is nothing that workers could share."""
    s = plain(**options)
    drive(s, "/loads", clients=1, each=10)
    assert not advice(s, "prewarm")


def test_a_page_while_memory_is_traced(plain: Callable[..., Server]) -> None:
    """The trace takes memory with each request, which no prewarm would spare."""
    s = plain()
    drive(s, "/", clients=1, each=5)
    process = begin_trace(s)
    drive(s, "/loads", clients=1, each=3)
    process.terminate()
    process.communicate(timeout=20 * SLOWNESS)
    assert s.log_contains("memory of this worker is no longer traced")
    drive(s, "/loads", clients=1, each=3)
    drive(s, "/", clients=1, each=1)
    assert not advice(s, "prewarm")


# ---- databases


@pytest.fixture
def few(postgres: str) -> Iterator[str]:
    """A database of PostgreSQL whose user may have three connections."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 3")
        connection.execute("CREATE DATABASE few OWNER few")
        yield postgres.replace("postgres@", "few@").removesuffix("test") + "few"
        connection.execute("DROP DATABASE few WITH (FORCE)")
        connection.execute("DROP ROLE few")


@pytest.mark.parametrize("kept", [True, False])
def test_more_connections_than_a_database_allows(
    seen: Callable[..., Server], postgres: str, few: str, kept: bool
) -> None:
    """It is said before it has refused one; nothing is said where they fit."""
    env = {"SEEN_URL": few, "SEEN_DATABASE": json.dumps({"CONN_MAX_AGE": 60 * kept})}
    s = seen(env, threads=4)
    assert not advice(s, "connections")
    drive(s, "/same/", clients=1, each=1)
    found = the(s, "connections")
    assert found["number"] == 4 and found["setting"] == "threads"
    assert "(workers = 1, threads = 4), and it allows 3. Those" in found["text"]
    s.stop()
    s = seen(env, threads=3)
    for _ in range(3):
        drive(s, "/same/", clients=1, each=1)
        if not kept:  # PostgreSQL has an end of its own for each
            wait_for(lambda: connections_of("few", postgres) == 0)
    assert not advice(s, "connections")


def connections_of(user: str, postgres: str) -> int:
    """How many PostgreSQL has."""
    import psycopg

    with psycopg.connect(postgres) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
        row = connection.execute(query, [user]).fetchone()
    assert row
    return row[0]


def test_more_connections_than_mariadb_allows(seen: Callable[..., Server], mariadb: str) -> None:
    """The same of another server."""
    pymysql = pytest.importorskip("pymysql")
    at = urlsplit(mariadb)
    with pymysql.connect(host=at.hostname, port=at.port, user=at.username) as connection:
        connection.cursor().execute("SET GLOBAL max_connections = 12")
        for threads, count in (13, 1), (12, 0):
            s = seen({"SEEN_URL": mariadb}, threads=threads)
            drive(s, "/same/", clients=1, each=1)
            assert len(advice(s, "connections")) == count
            s.stop()


def test_a_pool_is_of_the_process(seen: Callable[..., Server], few: str) -> None:
    """However many threads there are, they share its connections."""
    pytest.importorskip("psycopg_pool")
    pool = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 2}}}
    s = seen({"SEEN_URL": few, "SEEN_DATABASE": json.dumps(pool)}, threads=4)
    drive(s, "/same/", clients=2, each=60)
    assert not advice(s, "connections") and not advice(s, "connecting")


def test_connections_that_are_refused(seen: Callable[..., Server], few: str) -> None:
    """They are counted."""
    s = seen({"SEEN_URL": few, "SEEN_DATABASE": '{"CONN_MAX_AGE": 60}'}, threads=6)

    def refused() -> int:
        before = counted(s)
        threads = [threading.Thread(target=s.get, args=("/holds/",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: counted(s) == before + 6)
        return sum(v["responses"]["5xx"] for v in ask(s, "/views").json()["views"])

    count = wait_for(refused, what="more than three at once")
    assert f"It has refused {count} in the last" in the(s, "connections")["text"]


def test_a_pooler_is_not_taken_for_the_server(
    seen: Callable[..., Server], few: str, pooler: Callable[[str], str]
) -> None:
    """What stands in between has a limit of its own."""
    s = seen({"SEEN_URL": pooler(few)}, threads=4)
    drive(s, "/same/", clients=1, each=3)
    assert not advice(s, "connections")


@pytest.fixture
def pooler() -> Iterator[Callable[[str], str]]:
    """What PgBouncer does to be seen: other numbers of the server's processes."""
    with ExitStack() as stack:

        def start(url: str) -> str:
            at = urlsplit(url)
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ends = threading.Thread(target=_serve, args=(listener, (at.hostname, at.port)))
            ends.start()
            stack.callback(ends.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return url.replace(f":{at.port}", f":{listener.getsockname()[1]}")

        yield start


def _serve(listener: socket.socket, server: Any) -> None:
    """Clients one after the other; the two sides of a connection take turns."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, socket.create_connection(server) as upstream:
            sides = {client: upstream, upstream: client}
            while True:
                for side in select.select(list(sides), [], [])[0]:
                    data = side.recv(65536)
                    key = data.find(b"K\0\0\0\x0c") if side is upstream else -1
                    if key >= 0:  # BackendKeyData, with the number of the process
                        data = data[: key + 5] + b"\0\0\0\1" + data[key + 9 :]
                    if not data:
                        break
                    sides[side].sendall(data)
                else:
                    continue
                break


@pytest.mark.parametrize("threads", [1, 10])
def test_a_connection_for_each_request(
    seen: Callable[..., Server], postgres: str, threads: int
) -> None:
    """CONN_MAX_AGE is 0, and the database is a server."""
    pytest.importorskip("psycopg")
    s = seen({"SEEN_URL": postgres}, threads=threads)
    drive(s, "/same/", clients=1, each=99)
    assert not advice(s, "connecting")
    drive(s, "/same/", clients=1, each=31)
    found = the(s, "connecting")
    assert found["setting"] == "CONN_MAX_AGE" and 0.95 < found["number"] <= 1
    assert "(130 of 130 requests of the last " in found["text"]


def test_connections_that_are_kept(seen: Callable[..., Server], postgres: str) -> None:
    """CONN_MAX_AGE is set, or the database is a file."""
    pytest.importorskip("psycopg")
    kept = {"SEEN_URL": postgres, "SEEN_DATABASE": '{"CONN_MAX_AGE": 60}'}
    for env in (kept, {}):
        s = seen(env)
        drive(s, "/same/", clients=1, each=130)
        assert not advice(s, "connecting")


# ---- the access log


def all_said(s: Server) -> Any:
    """The advice on the access log when it is of all 160 lines."""
    return next(
        (x for x in advice(s, "access-log") if "for 160 lines of the last " in x["text"]), None
    )


def test_an_access_log_that_blocks(plain: Callable[..., Server], tmp_path: Path) -> None:
    """Who reads it is slow: requests wait for it."""
    path = tmp_path / "access.log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    room = fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    is_over = threading.Event()

    def unread() -> int:
        return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)

    def read() -> None:
        while not is_over.wait(0.02):
            if room - unread() < 60:  # there is no room for a line any more
                is_over.wait(1.5)
                os.read(reader, room)
        with suppress(BlockingIOError):
            while os.read(reader, 65536):
                pass

    slow = threading.Thread(target=read)
    s = plain(access_logfile=path, access_logformat="%(r)s " + 40 * "x")
    slow.start()
    try:
        drive(s, "/", clients=1, each=160)
        # A request is counted before its line is written.
        found = wait_for(lambda: all_said(s))
    finally:
        is_over.set()
        slow.join()
        s.stop()
        os.close(reader)
    assert found["setting"] == "access-logfile" and found["number"] > 0.5


def test_an_access_log_that_does_not(plain: Callable[..., Server]) -> None:
    """The same requests with a file."""
    s = plain(access_logfile="access.log", access_logformat="%(r)s " + 40 * "x")
    drive(s, "/", clients=1, each=160)
    assert not advice(s, "access-log")


@pytest.mark.skipif(FLAVOUR == "tsan", reason="no worker may become the mold")
def test_a_refork_goes_on(seen: Callable[..., Server]) -> None:
    """It is the same application, which is not loaded anew: nothing is forgotten."""
    s = seen({"SEEN_DEBUG": "1"}, refork_after=20)
    before = s.workers()
    drive(s, "/equal/", clients=1, each=25)
    assert s.log_contains("refork: worker 1 ")
    wait_for(lambda: len(s.workers()) == 1 and s.workers() != before)
    assert s.get("/equal/").status == 200
    wait_for(lambda: counted(s) >= 26)
    assert advice(s, "debug")
    assert "in 26 requests of the last " in the(s, "n+1")["text"]


# ---- who says it


def test_it_is_said_of_stopped_workers(seen: Callable[..., Server]) -> None:
    """By everybody who says it; the exit status tells."""
    s = seen({"SEEN_DEBUG": "1"})
    (worker,) = s.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        done = command(s, "advice")
        assert done.returncode == 1 and "DEBUG: DEBUG is on in Django's settings" in done.stdout
        told = json.loads(command(s, "advice", "--json").stdout)
        assert [one["advice"] for one in told["advice"]] == ["debug"]
        assert "advice: debug (myserver advice)" in command(s, "top", "--once").stdout
    finally:
        os.kill(worker, signal.SIGCONT)


def test_nothing_to_advise(plain: Callable[..., Server]) -> None:
    """A server that does well."""
    s = plain(threads=4)
    drive(s, "/sleeps/20", clients=4, each=3)
    done = command(s, "advice")
    assert done.returncode == 0 and done.stdout.startswith("nothing to advise (12 requests in ")


def test_no_server(tmp_path: Path) -> None:
    """A sentence that says what to do."""
    done = run("advice", "--control", str(tmp_path / "none.sock"))
    assert done.returncode == 2 and "does not answer" in done.stderr
