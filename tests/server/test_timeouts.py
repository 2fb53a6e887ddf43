"""Requests that take too long, wait too long, or have nobody left to be answered."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from control_client import OPTIONS, ask
from harness import (
    FLAVOUR,
    SLOWNESS,
    Response,
    Server,
    descriptors,
    read_all,
    wait_for,
    whole_lines,
)
from wire import Wire, let

Start = Callable[..., Server]

LIMIT = 0.5 * SLOWNESS
IN_TIME = LIMIT + 15 * SLOWNESS  # all else that would end a request comes later
STUCK = ("lock", "sleep", "regex", "swallow")
INTERRUPTED = ("recv", "recv_timeout", "loop")
pytestmark = pytest.mark.timeout(120 * SLOWNESS)


def stuck(server: Start, **options: object) -> Server:
    """A server of the application `stuck` whose requests may run for LIMIT."""
    settings: dict[str, object] = {
        "timeout": f"{LIMIT}s",
        "graceful_timeout": f"{20 * SLOWNESS}s",
        "access_logfile": "access.log",
        "prewarm_rounds": 0,
    }
    return server("stuck", **(settings | options))


def accesses(s: Server) -> list[str]:
    """The access log: "PATH STATUS" a line."""
    found = re.findall(r'"[A-Z]+ (\S+) [^"]*" (\d+)', (s.dir / "access.log").read_text())
    return [" ".join(line) for line in found]


class Clients:
    """Requests in threads of their own."""

    def __init__(self, s: Server) -> None:
        self.s = s
        self.executor = ThreadPoolExecutor(16)

    def begin(self, path: str) -> Future[Response]:
        """Start a request and wait until it runs."""
        before = self.s.log.count(f"running {path.partition('?')[0]}\n")
        future = self.executor.submit(self.s.request, "GET", path, timeout=60)
        self.await_runs(path, before + 1)
        return future

    def send(self, path: str) -> Future[Response]:
        """Start a request."""
        return self.executor.submit(self.s.request, "GET", path, timeout=60)

    def await_runs(self, path: str, count: int) -> None:
        """Wait until so many requests of the path have begun to run."""
        line = f"running {path.partition('?')[0]}\n"
        wait_for(lambda: self.s.log.count(line) >= count, what=f"{path} to run")


def timed_get(s: Server, path: str) -> tuple[Response, float]:
    """A request and how long it took."""
    start = time.monotonic()
    response = s.request("GET", path, timeout=30)
    return response, time.monotonic() - start


def check_report(s: Server, path: str) -> str:
    """The one report about a request, whose stack must be there; returns it. It is whole when something
    else is behind it."""
    pattern = rf"^\S+ \S+ \[critical\] worker .*request timeout: .* {path},.*\n(?:  .*\n)+(?=\S)"
    assert s.log_contains(pattern), s.log
    found = re.findall(pattern, s.log, re.MULTILINE)
    assert len(found) == 1
    return found[0]


# ---- a request that runs for too long


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("way", INTERRUPTED)
def test_interrupted(server: Start, way: str, threads: int) -> None:
    """The client gets 504 in time, the request is named, its thread is free again."""
    s = stuck(server, threads=threads)
    pid = s.get("/").text
    response, took = timed_get(s, f"/{way}")
    assert response.status == 504
    assert LIMIT <= took < IN_TIME
    report = check_report(s, f"/{way}")
    assert "answered 504" in report and re.search(rf"stuck\.py\", line \d+ in {way}\n", report)
    assert s.log_contains(r"myserver\.RequestTimeout: the request has passed its timeout")
    assert s.log_contains(r"thread \d came back")
    assert s.get("/").text == pid
    assert "does not come back" not in s.log
    wait_for(lambda: accesses(s) == ["/ 200", f"/{way} 504", "/ 200"], what="the access log")


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("way", STUCK)
def test_given_up(server: Start, way: str, threads: int) -> None:
    """The client gets 504 in time; the worker, which cannot free its thread, is replaced."""
    if FLAVOUR == "tsan" and way == "swallow":
        pytest.skip("a thread that calls no instrumented function holds TERM back")
    s = stuck(server, threads=threads)
    pid = int(s.get("/").text)
    response, took = timed_get(s, f"/{way}")
    assert response.status == 504
    assert LIMIT <= took < IN_TIME
    report = check_report(s, f"/{way}")
    assert re.search(rf"stuck\.py\", line \d+ in {way}\n", report)
    assert s.log_contains(r"does not come back from its request")
    wait_for(lambda: pid not in s.workers(), what="the stuck worker to go")
    assert s.log_contains(r"leaving with 1 stuck request")
    assert int(s.get("/").text) != pid
    wait_for(lambda: accesses(s) == ["/ 200", f"/{way} 504", "/ 200"], what="the access log")


def test_given_up_while_the_server_stops(server: Start) -> None:
    """Nobody takes the worker's place, and nobody says so."""
    s = stuck(server, timeout="60s", graceful_timeout="60s")
    late = Clients(s).begin(f"/{STUCK[0]}?let=go")
    assert s.log_contains(f"running /{STUCK[0]}")
    s.signal(signal.SIGTERM)
    assert s.log_contains(r"draining: told to stop")
    let(s, "go")
    assert late.result().status == 504
    assert s.log_contains(r"does not come back from its request: this worker leaves without it")
    assert s.wait() == 0
    assert "to be replaced" not in s.log


@pytest.mark.parametrize("way", STUCK[:2])
def test_whole_behind_stuck_threads(server: Start, way: str) -> None:
    """A request that came whole when all threads were stuck is answered, and has its line."""
    s = stuck(server)
    pid = int(s.get("/").text)
    with Wire(s, 30) as late:
        late.request("POST", "/late", None, "Content-Length: 4", "Expect: 100-continue")
        assert late.head().status == 100
        first = Clients(s).begin(f"/{way}")
        late.send(b"body")
        answer = late.answer()
        assert (answer.status, answer.complete) == (503, True)
    assert first.result().status == 504
    wait_for(lambda: pid not in s.workers(), what="the stuck worker to go")
    assert s.log_contains(r"leaving with 1 stuck request")
    wait_for(lambda: accesses(s) == ["/ 200", f"/{way} 504", "/late 503"], what="the access log")


def test_report_says_what_the_kernel_knows(server: Start) -> None:
    s = stuck(server, threads=2)
    clients = Clients(s)
    other = clients.begin(f"/sleep/{8 * LIMIT}?timeout=60")
    assert s.get("/recv_timeout").status == 504
    report = check_report(s, "/recv_timeout")
    assert re.search(r"thread \d: GET /recv_timeout, running \d\.\d s, client 127\.0\.0\.1", report)
    assert re.search(r"\n  state S \(sleeping\).*, syscall p?poll\n", report)
    assert re.search(rf"\n  thread \d: GET /sleep/{8 * LIMIT}, running .*clock_nanosleep\n", report)
    assert len(re.findall(r"thread \d, most recent call first:", report)) == 2
    assert other.result().status == 200


@pytest.mark.parametrize("way", STUCK[:2])
def test_siblings_finish(server: Start, way: str) -> None:
    """Requests beside the stuck one are answered, though their worker is being replaced."""
    s = stuck(server, threads=4, timeout=f"{LIMIT}s")
    clients = Clients(s)
    pid = s.get("/").text
    siblings = [clients.begin(f"/sleep/{3 * SLOWNESS + i / 10}?timeout=60") for i in range(2)]
    assert s.get(f"/{way}").status == 504
    assert s.log_contains(r"replacing worker 1 .*: a request is stuck")
    wait_for(lambda: s.get("/").text != pid, what="the replacement")
    assert [sibling.result().status for sibling in siblings] == [200, 200]
    assert [sibling.result().text for sibling in siblings] == [pid, pid]


def test_a_file_that_comes_too_late(server: Start) -> None:
    """It is closed: nobody gets it."""
    s = stuck(server)
    (pid,) = s.workers()
    before = len(descriptors(pid))
    for _ in range(3):
        assert s.get("/late-file").status == 504
    assert s.log_contains(r"(?s)(?:came back from the request.*){3}")
    wait_for(lambda: len(descriptors(pid)) <= before, what="the files to be closed")


def test_timeouts_after_a_worker_died(server: Start) -> None:
    """What its requests left on the board, also of threads that its successor does not use yet,
    does not blind the watch of that one."""
    s = stuck(server, threads=6, expect_deaths=True)
    pid = int(s.get("/").text)
    clients = Clients(s)
    late = [clients.begin(f"/sleep/{number}") for number in range(60, 66)]
    os.kill(pid, signal.SIGKILL)
    assert all(request.exception() for request in late)
    wait_for(lambda: s.workers() and s.workers() != [pid], what="the replacement")
    for _ in range(6):  # meanwhile the old deadlines become long past
        assert s.request("GET", f"/sleep/{8 * LIMIT}", timeout=30).status == 504


@pytest.mark.parametrize("way", ["handler", "ignore"])
def test_an_application_that_takes_our_signal(server: Start, way: str) -> None:
    """Its worker is told to stop by it, and hears it."""
    s = stuck(server, graceful_timeout="60s", timeout="60s")
    assert s.get(f"/signal/{way}").status == 200
    assert s.log_contains("the application has handled SIGTERM, by which the master stops")
    assert s.stop() == 0


def test_no_request_is_lost_while_a_worker_is_replaced(server: Start) -> None:
    s = stuck(server, workers=2, threads=2)
    clients = Clients(s)
    late = [clients.begin("/lock") for _ in range(2)]
    end = time.monotonic() + LIMIT + 3
    while time.monotonic() < end:
        assert s.get("/").status == 200
    assert [request.result().status for request in late] == [504, 504]
    wait_for(lambda: len(s.workers()) == 2, what="the replacement")


def test_stuck_in_the_database(server: Start, postgres: str) -> None:
    """The connection to the database is shut, so that the thread comes back."""
    s = stuck(server, threads=2, env={"DATABASE_URL": postgres}, timeout=f"{1.5 * SLOWNESS}s")
    pid = s.get("/").text
    assert s.get("/database").status == 504
    assert "in database" in check_report(s, "/database")
    assert s.log_contains(r"thread \d came back")
    assert s.get("/").text == pid


@pytest.mark.parametrize("way", ["recv", "dup", "poll", "select", "epoll"])
def test_a_connection_that_another_thread_uses_is_not_shut(server: Start, way: str) -> None:
    """It reads for other requests, too, which have done nothing wrong."""
    s = server("shares", threads=2, timeout=f"{LIMIT}s", expect_deaths=True)
    assert s.get(f"/open/{way}").text == "opened"
    assert s.get("/opened").status == 504
    assert s.log_contains(r"thread \d does not come back")
    assert "the connection is shut" not in s.log


def test_a_connection_that_another_request_waits_for_is_not_shut(server: Start) -> None:
    """It waits for the lock around the connection, and uses it next."""
    s = server("shares", threads=2, timeout="60s", expect_deaths=True)
    clients = Clients(s)
    late = [clients.send(f"/client/{4 * LIMIT}") for _ in range(2)]
    assert [each.result().status for each in late] == [504, 504]
    assert s.log_contains(r"(?s)(thread \d does not come back.*){2}")
    assert s.log.count("\nasks") == 1
    assert "the connection is shut" not in s.log


def test_a_connection_of_the_import_is_not_shut(server: Start) -> None:
    """All workers have it."""
    s = server("shares", threads=2, timeout=f"{LIMIT}s", expect_deaths=True)
    assert s.get("/imported").status == 504
    assert s.log_contains(r"thread \d does not come back")
    assert "the connection is shut" not in s.log


def test_a_connection_of_the_request_is_shut(server: Start) -> None:
    """So that its thread comes back."""
    s = server("shares", threads=2, timeout=f"{LIMIT}s")
    assert s.get("/own").status == 504
    assert s.log_contains(r"thread \d came back")
    assert s.log_contains("the connection is shut")


def test_time_that_goes_by_in_waiting_for_the_interpreter(server: Start) -> None:
    """The client is answered in time, and the application is not called for nobody."""
    for _ in range(10):
        s = stuck(server, threads=2)
        clients = Clients(s)
        os.mkfifo(s.dir / "held")
        holder = clients.begin("/hold-until-opened?timeout=60")
        began = time.monotonic()
        status = s.get("/sleep/0").status
        (s.dir / "held").open("wb").close()
        took = time.monotonic() - began
        assert status == 504
        assert holder.result().status == 200
        assert "running /sleep/0\n" not in s.log
        if took < LIMIT + 1:  # a second behind its limit, it would be given up
            break
        s.stop()
    assert s.log_contains(r"thread \d came back")
    assert "does not come back" not in s.log


def test_without_interruption(server: Start) -> None:
    """timeout-interrupt=false: the worker is replaced at once."""
    s = stuck(server, threads=2, timeout_interrupt=False)
    pid = int(s.get("/").text)
    assert s.get("/loop").status == 504
    wait_for(lambda: pid not in s.workers(), what="the stuck worker to go")
    assert "RequestTimeout" not in s.log
    assert int(s.get("/").text) != pid


def test_begun_answer_is_torn(server: Start) -> None:
    """Nothing can be said to a client whose answer has begun, but that it is not whole."""
    s = stuck(server, threads=2)
    answer = s.raw(b"GET /drip HTTP/1.1\r\nHost: x\r\n\r\n", timeout=10)
    assert answer.startswith(b"HTTP/1.1 200 ") and b"begun" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert "its answer had begun" in check_report(s, "/drip")


def test_head_gets_no_body(server: Start) -> None:
    s = stuck(server)
    answer = s.raw(b"HEAD /recv HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert b"\r\nConnection: close\r\n" in answer and answer.endswith(b"\r\n\r\n")


def test_off(server: Start) -> None:
    s = stuck(server, timeout=0)
    assert s.get("/sleep/1.5").status == 200
    assert "request timeout" not in s.log


def test_own_limit(server: Start) -> None:
    """environ['myserver.set_timeout'] makes it longer, shorter, or off."""
    s = stuck(server, timeout=f"{2 * LIMIT}s")
    assert s.get(f"/sleep/{3 * LIMIT}?timeout=60").status == 200
    assert s.get(f"/sleep/{3 * LIMIT}?timeout=0").status == 200
    s = stuck(server, timeout="60s")
    assert s.get("/recv?timeout=0.1").status == 504
    assert s.log_contains(r"came back")
    assert s.get("/sleep/0").status == 200  # the limit was that request's own
    assert s.get("/sleep/0?timeout=-1").status == 500
    assert s.log_contains(r"ValueError: the timeout -1\.0 is not between 0 and 86400 seconds")


def test_own_limit_without_a_general_one(server: Start) -> None:
    s = stuck(server, timeout=0)
    assert s.get("/recv?timeout=0.3").status == 504


def test_slow_client_has_limits_of_its_own(server: Start) -> None:
    """The time in which a client does not read is not the application's."""
    s = stuck(server)
    with s.connect(10) as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(3 * LIMIT)
        answer = read_all(client)
    assert len(answer.partition(b"\r\n\r\n")[2]) == 64 * 65536
    assert "request timeout" not in s.log


@pytest.mark.parametrize("threads", [1, 4])
def test_requests_that_end_at_their_limit(server: Start, threads: int) -> None:
    """Whatever comes first: an answer is whole, and no exception gets into another request."""
    s = stuck(server, threads=threads, timeout=f"{50 * SLOWNESS}ms")
    clients = Clients(s)
    statuses = []
    for _ in range(12):
        seconds = [(20 + time.monotonic_ns() % 50) * SLOWNESS / 1000 for _ in range(threads)]
        batch = [clients.send(f"/busy/{each:.3f}") for each in seconds]
        statuses += [request.result().status for request in batch]
        statuses.append(s.get("/?timeout=0").status)
    assert set(statuses) <= {200, 504}


def test_many_at_once(server: Start) -> None:
    """All threads of a worker: every client is answered in time."""
    s = stuck(server, threads=8)
    clients = Clients(s)
    start = time.monotonic()
    requests = [clients.send("/lock") for _ in range(8)]
    assert [request.result().status for request in requests] == [504] * 8
    assert time.monotonic() - start < IN_TIME
    assert s.get("/").status == 200


def test_stop_does_not_wait_for_a_stuck_request(server: Start) -> None:
    s = stuck(server, threads=2, graceful_timeout=f"{60 * SLOWNESS}s")
    clients = Clients(s)
    late = clients.begin("/lock")
    assert s.stop() == 0
    assert late.result().status == 504


# ---- processes that are stopped


def test_stopped_worker_is_replaced(server: Start) -> None:
    """A worker that cannot help itself is found by the master; the request is named."""
    s = stuck(server, threads=2, timeout=f"{3 * SLOWNESS}s", expect_deaths=True)
    clients = Clients(s)
    pid = int(s.get("/").text)
    lost = clients.begin("/sleep/60")
    os.kill(pid, signal.SIGSTOP)
    assert s.log_contains(rf"\(pid {pid}\) is stopped or hangs, .*: killing it")
    assert s.log_contains(r"  state T \(stopped\)")
    assert s.log_contains(r"  thread \d: GET /sleep/60, running .*, client 127\.0\.0\.1, state T")
    wait_for(lambda: s.workers() and pid not in s.workers(), what="another worker")
    assert int(s.get("/").text) != pid
    assert lost.exception() is not None


def test_stopped_idle_worker_is_replaced(server: Start) -> None:
    """Also one without requests: connections may wait in it."""
    s = stuck(server, expect_deaths=True, **OPTIONS)
    (pid,) = s.workers()
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: s.workers() and pid not in s.workers(), what="another worker")
    assert s.get("/").status == 200
    wait_for(lambda: 'myserver_worker_ends_total{reason="stuck"} 1\n' in ask(s, "/metrics").text)


def test_worker_whose_loop_hangs_is_replaced(server: Start) -> None:
    """No request runs, but the loop waits for the interpreter, to drop the body it has sent."""
    s = stuck(server, expect_deaths=True)
    pid = int(s.get("/").text)
    with s.connect(20) as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert s.get("/hold-later").status == 200
        assert s.log_contains("^holds it$")
        assert len(read_all(client)) > 64 * 65536
    assert s.log_contains(rf"\(pid {pid}\) is stopped or hangs, .*: killing it")
    assert int(s.get("/").text) != pid


def test_stopped_master_kills_nobody(server: Start) -> None:
    s = stuck(server, workers=2, threads=2)
    pids = wait_for(lambda: len(s.workers()) == 2 and s.workers())
    s.signal(signal.SIGSTOP)
    time.sleep(5.5)
    assert s.get("/").status == 200
    s.signal(signal.SIGCONT)
    time.sleep(0.5)
    assert s.workers() == pids
    assert "killing" not in s.log


def test_suspended_machine_kills_nobody(server: Start) -> None:
    """Everything stops for longer than the limit: what ran goes on."""
    s = stuck(server, threads=2, timeout=f"{4 * SLOWNESS}s")
    clients = Clients(s)
    (pid,) = s.workers()
    request = clients.begin(f"/busy/{6.5 * SLOWNESS}")
    other = clients.begin("/sleep/0.5")
    os.killpg(s.pid, signal.SIGSTOP)
    time.sleep(5 * SLOWNESS)
    os.killpg(s.pid, signal.SIGCONT)
    assert request.result().status == 200
    assert other.result().status == 200
    assert s.workers() == [pid]
    assert "request timeout" not in s.log and "killing" not in s.log


# ---- what a worker can tell


def test_dump(server: Start) -> None:
    """SIGUSR2 to a worker: its requests and stacks; nothing ends."""
    s = stuck(server, threads=3, timeout="60s")
    clients = Clients(s)
    (pid,) = s.workers()
    requests = [clients.begin("/?let=go"), clients.begin("/busy")]
    os.kill(pid, signal.SIGUSR2)
    assert s.log_contains(r"running requests and all stacks, by SIGUSR2:\n(  .*\n)+")
    for path in ("/", "/busy"):
        assert s.log_contains(rf"\n  thread \d: GET {path}, running \d+\.\d s")
    assert s.log_contains(r"line \d+ in busy_until_let")
    let(s, "go")
    assert [request.result().status for request in requests] == [200, 200]
    assert s.workers() == [pid]


def test_dump_while_the_interpreter_is_held(server: Start) -> None:
    s = stuck(server, threads=2, timeout="5s")
    clients = Clients(s)
    (pid,) = s.workers()
    request = clients.begin("/regex")
    os.kill(pid, signal.SIGUSR2)
    assert s.log_contains(
        r"by SIGUSR2:\n  thread \d: GET /regex.*\n(  .*\n)*    File .* in regex\n"
    )
    assert request.result().status == 504


def test_slow_requests_are_logged(server: Start) -> None:
    s = stuck(server, timeout="60s", log_slow="1s")
    assert s.get("/").status == 200
    began = time.monotonic()
    assert s.get("/sleep/1.1").status == 200
    assert s.log_contains("slow request: ")  # written when the answer is with the client already
    took = time.monotonic() - began
    found = re.findall(r"\[warning\] worker 1 .*: slow request: (.*)", s.log)
    assert len(found) == 1
    line = r"GET /sleep/1\.1 ran (\d+) ms, client 127\.0\.0\.1, trace [0-9a-f]{32}"
    ran = re.fullmatch(line, found[0])
    assert ran and 1100 <= int(ran[1]) <= took * 1000


# ---- requests that wait


def test_queue_timeout(server: Start) -> None:
    """Who has waited for too long gets 503, on a new and on a kept connection."""
    s = stuck(server, timeout="30s", queue_timeout="500ms", keep_alive="30s")
    clients = Clients(s)
    with s.connect(20) as kept, ExitStack() as stack:
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in kept.recv(4096)
        first = clients.begin("/?let=go")
        kept.sendall(b"GET /sleep/0 HTTP/1.1\r\nHost: x\r\n\r\n")
        late = stack.enter_context(Wire(s)).request("GET", "/sleep/0")
        time.sleep(0.7)  # what counts is that at least this was waited
        let(s, "go")
        assert first.result().status == 200
        answer = late.answer()
        assert (answer.status, answer.get("Retry-After")) == (503, "1")
        assert kept.recv(4096).startswith(b"HTTP/1.1 503 ")
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in kept.recv(4096)
    assert "running /sleep/0\n" not in s.log
    assert s.get("/").status == 200
    wait_for(lambda: accesses(s).count("/sleep/0 503") == 2, what="the access log")


def begin_waiting(s: Server, running: Wire, body: Wire) -> None:
    """Let a request run until "go", and another wait for its body, which the standby then reads."""
    body.request("POST", "/", None, "Transfer-Encoding: chunked", "Expect: 100-continue")
    assert body.head().status == 100
    running.request("GET", "/wait?go")
    assert s.log_contains(r"event: in go\.")


def durations(s: Server, count: int) -> dict[str, float]:
    """Of each request that has a line in the access log, in ms, by method and status."""
    path = s.dir / "access.log"
    wait_for(lambda: len(whole_lines(path.read_text())) >= count, what=f"{count} lines")
    entries = map(json.loads, whole_lines(path.read_text()))
    return {f"{e['method']} {e['status']}": e["duration_ms"] for e in entries}


QUEUED = {"access_logfile": "access.log", "access_logformat": "json"}


def test_queue_timeout_while_all_threads_are_busy(server: Start) -> None:
    """Who waits in the worker, unread or whole, gets 503 though no thread is free for that; it is
    counted, and logged with the time that it has waited."""
    s = server("busy", queue_timeout="300ms", **QUEUED, **OPTIONS)
    with Wire(s) as running, Wire(s) as unread, Wire(s) as body:
        assert unread.ask("/").status == 200
        begin_waiting(s, running, body)
        unread.request("HEAD", "/")
        body.send(b"0\r\n\r\n")
        assert unread.answer("HEAD").status == 503
        assert body.answer().status == 503
        wait_for(lambda: b"\nmyserver_queue_timeouts_total 2\n" in ask(s, "/metrics").body)
        assert running.is_silent()
        let(s, "go")
        assert running.answer().status == 200
        assert unread.ask("/").status == 200
    took = durations(s, 5)
    assert took["HEAD 503"] >= 300 and took["POST 503"] >= 300


def test_queue_timeout_of_clients_that_have_left(server: Start) -> None:
    """Neither answered nor counted as refused."""
    s = server("busy", queue_timeout="700ms", **QUEUED, **OPTIONS)
    with Wire(s) as running, Wire(s) as body:
        with Wire(s) as unread:
            assert unread.ask("/").status == 200
            begin_waiting(s, running, body)
            unread.request("HEAD", "/")
        took = durations(s, 2)
        assert took["HEAD 499"] >= 700
        assert b"\nmyserver_queue_timeouts_total 0\n" in ask(s, "/metrics").body
        let(s, "go")
        assert running.answer().status == 200


def test_time_of_a_wait_is_logged(server: Start) -> None:
    """Of a request that has run after all, as of one that was refused."""
    s = server("busy", **QUEUED)
    with Wire(s) as running, Wire(s) as unread, Wire(s) as body:
        assert unread.ask("/").status == 200
        begin_waiting(s, running, body)
        unread.request("HEAD", "/")
        assert body.send(b"no chunk\r\n").answer().status == 400  # so what came before is seen
        time.sleep(0.3)  # what is asserted is that at least this was waited
        let(s, "go")
        assert unread.answer("HEAD").status == 200
    assert durations(s, 4)["HEAD 200"] >= 290


def test_queue_timeout_is_not_about_idle_connections(server: Start) -> None:
    """One that comes from a worker that leaves has waited for nothing yet."""
    limit = 0.5 * SLOWNESS
    options = {"timeout": "60s", "queue_timeout": f"{limit}s", "keep_alive": "60s"}
    s = stuck(server, workers=2, expect_deaths=True, **options)
    wait_for(lambda: s.log.count(" serves\n") == 2, what="both workers")
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)) for _ in range(12)]
        by_pid: dict[str, list[Wire]] = {}
        for wire in wires:
            by_pid.setdefault(wire.ask("/").text, []).append(wire)
        (leaving, idle), *_ = by_pid.items()
        Clients(s).begin(f"/sleep/{limit / 2}")  # whichever: those that come are parked
        os.kill(int(leaving), signal.SIGTERM)
        wait_for(lambda: int(leaving) not in s.workers(), 20, "it to leave")
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > 2 * limit, 20 * limit, "the limit to pass")
        assert [wire.ask("/").status for wire in idle] == [200] * len(idle)


def test_queue_timeout_is_not_about_running(server: Start) -> None:
    s = stuck(server, timeout="30s", queue_timeout="300ms")
    assert s.get("/sleep/0.6").status == 200
    with s.connect() as client:  # nor about a client that is slow to send
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.6)
        client.sendall(b"b")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_queue_timeout_is_not_about_sending_after_a_wait(server: Start) -> None:
    """Neither is the time of a body that has begun to come while all threads were busy."""
    limit = 0.5 * SLOWNESS
    s = stuck(server, timeout="60s", queue_timeout=f"{limit}s", keep_alive="60s")
    with Wire(s) as wire:
        assert wire.ask("/").status == 200
        first = Clients(s).begin(f"/sleep/{limit / 2}")
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert first.result().status == 200
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > 2 * limit, 20 * limit, "the limit to pass")
        assert wire.send(b"b").answer().status == 200


@pytest.mark.parametrize(("stays", "status"), [(True, 503), (False, 499)])
def test_body_that_ends_while_all_threads_are_busy(server: Start, stays: bool, status: int) -> None:
    """The request is whole then, and waits for a thread."""
    s = stuck(server, timeout="30s", queue_timeout="700ms")
    with s.connect(10) as client:
        client.sendall(b"POST /sleep/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.1)
        first = Clients(s).begin("/?let=go")
        client.sendall(b"b")
        time.sleep(0.1)
        if stays:
            assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
    wait_for(lambda: f"/sleep/0 {status}" in accesses(s), what="its line")
    let(s, "go")
    assert first.result().status == 200
    assert "running /sleep/0\n" not in s.log


def leave_while_waiting(s: Server, name: str | None = None, half: bool = False) -> bytes:
    """A client that is there for 0.2 s of the time it has to wait; what it got if `half` of it stayed."""
    clients = Clients(s)
    first = clients.begin("/?let=go")
    client = s.connect(10, name)
    client.sendall(b"GET /sleep/0.01 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    time.sleep(0.2)
    if half:
        client.shutdown(1)
        let(s, "go")
        answer = read_all(client)
    client.close()
    time.sleep(0.8)  # one of TCP counts as gone when it has waited for at least so long
    let(s, "go")
    assert first.result().status == 200
    wait_for(lambda: any("/sleep/0.01" in line for line in accesses(s)), what="its line")
    return answer if half else b""


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:s.sock"])
def test_requests_of_clients_that_left_are_dropped(server: Start, bind: str) -> None:
    s = stuck(server, binds=[bind], timeout="30s")
    leave_while_waiting(s)
    assert "/sleep/0.01 499" in accesses(s)
    assert "running /sleep/0.01\n" not in s.log


def test_half_closed_client_on_a_unix_socket_is_answered(server: Start) -> None:
    s = stuck(server, binds=["unix:s.sock"], timeout="30s")
    assert leave_while_waiting(s, half=True).startswith(b"HTTP/1.1 200 ")


def test_half_closed_kept_connection_on_a_unix_socket_is_answered(server: Start) -> None:
    """It is known how long this one waited, and that its client is there."""
    s = stuck(server, binds=["unix:s.sock"], timeout="30s")
    with s.connect(10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in client.recv(4096)
        first = Clients(s).begin("/sleep/1")
        client.sendall(b"GET /sleep/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.shutdown(1)
        assert first.result().status == 200
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_half_closed_client_is_answered(server: Start) -> None:
    """As netcat does: it sends, ends its side, and reads."""
    s = stuck(server)
    with s.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.shutdown(1)
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_client_disconnected(server: Start) -> None:
    """The application can ask whether anybody still waits."""
    s = stuck(server, threads=2, timeout="30s")
    with s.connect() as client:
        client.sendall(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n")
        Clients(s).await_runs("/gone", 1)
        time.sleep(0.1)
        assert "the client has gone" not in s.log
    assert s.log_contains(r"the client has gone")
    assert s.get("/").status == 200


def test_environ_functions_belong_to_a_request(server: Start, tmp_path: Path) -> None:
    """Outside of a request they say so."""
    (tmp_path / "later.py").write_text(
        "import threading\n"
        "def application(environ, start_response):\n"
        "    result = []\n"
        "    def ask():\n"
        "        for name in ('set_timeout', 'client_disconnected'):\n"
        "            args = (1,) if name == 'set_timeout' else ()\n"
        "            try:\n"
        "                environ['myserver.' + name](*args)\n"
        "            except RuntimeError as error:\n"
        "                result.append(str(error).encode())\n"
        "    thread = threading.Thread(target=ask)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    start_response('200 OK', [])\n"
        "    return result\n"
    )
    s = server("later", pythonpath=tmp_path)
    assert s.get("/").text == "this thread runs no request" * 2
