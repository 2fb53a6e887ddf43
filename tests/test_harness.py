"""The harness itself, with a program that only pretends to be a server."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stress
from harness import ROOT, Server, StartFailed, arguments, can_connect, free_port, wait_for
from wire import Wire

PRETENDER = f"""#!{sys.executable}
import os, signal, socket, sys
def say(*words):
    print("2026-11-20 14:03:07.123 [info] master (1):", *words, file=sys.stderr, flush=True)
mode = sys.argv[-1]
if mode == "broken":
    say("no such module")
    sys.exit(3)
listener = socket.create_server(("127.0.0.1", 0))
if mode == "untidy":
    socket.socket(socket.AF_UNIX).bind("left.sock")
    say("worker 1 (7) died: SIGSEGV")
if mode == "crashed":
    say("worker 1 (pid 7) died: signal 11 (SIGSEGV), core dumped; it was running")
if mode == "killed":
    say("worker 1 (pid 7) died: signal 9 (SIGKILL)")
signal.signal(signal.SIGTERM, lambda *_: os._exit(4 if mode == "unwell" else 0))
say("listening on 127.0.0.1:%d" % listener.getsockname()[1])
if mode != "slow":
    say("ready: 1 worker")
while True:
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
    client.close()
"""


@pytest.fixture
def pretender(tmp_path: Path) -> Path:
    """The path of the pretending program."""
    path = tmp_path / "pretender"
    path.write_text(PRETENDER)
    path.chmod(0o755)
    return path


def test_starts_talks_and_stops(pretender: Path, server: Callable[..., Server]) -> None:
    s = server("well", binary=pretender)
    assert s.url == f"http://127.0.0.1:{s.port}"
    assert s.get("/").text == "hi"
    assert s.raw(b"GET / HTTP/1.1\r\n\r\n").endswith(b"hi")
    assert s.log_contains(r"ready: 1")
    assert s.log_contains(r"never said", timeout=0.05) is None
    assert s.workers() == [] and [p.pid for p in s.relatives()] == [s.pid]
    assert s.stop() == 0
    assert s.problems() == []


def test_second_start_is_another_run(pretender: Path, server: Callable[..., Server]) -> None:
    s = server("well", binary=pretender)
    first = s.port
    assert s.stop() == 0
    s.start()
    assert re.findall(r"listening on \S+:(\d+)", s.log) == [str(first), str(s.port)]
    assert s.get("/").text == "hi"
    assert s.stop() == 0
    s.command[-1] = "broken"
    with pytest.raises(StartFailed) as failure:
        s.start()
    assert failure.value.status == 3 and "ready" not in failure.value.log


def test_start_failure_has_status_and_log(pretender: Path) -> None:
    with pytest.raises(StartFailed, match="no such module") as failure:
        Server("broken", binary=pretender).start()
    assert failure.value.status == 3


def test_start_has_a_deadline_and_leaves_nothing(pretender: Path) -> None:
    s = Server("slow", binary=pretender)
    with pytest.raises(StartFailed) as failure:
        s.start(timeout=1)
    assert failure.value.status is None
    assert s.status == -signal.SIGKILL and s.relatives() == []
    s.close()
    assert not s.dir.exists()


@pytest.mark.parametrize(
    "mode, expected", [("unwell", ["exit status 4"]), ("untidy", ["died: SIGSEGV", "left.sock"])]
)
def test_problems_are_seen(pretender: Path, mode: str, expected: list[str]) -> None:
    with Server(mode, binary=pretender) as s:
        s.stop()
        problems = s.problems()
    assert len(problems) == len(expected)
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))


@pytest.mark.parametrize(
    "mode, expected, problems",
    [
        ("killed", {}, []),
        ("crashed", {}, ["died: signal 11"]),
        ("crashed", {"expect_signals": {signal.SIGABRT}}, ["died: signal 11"]),
        ("crashed", {"expect_signals": {signal.SIGSEGV}}, []),
        ("unwell", {}, ["exit status 4"]),
        ("unwell", {"expect_status": 4}, []),
        ("well", {"expect_status": 4}, ["exit status 0"]),
    ],
)
def test_who_expects_deaths_expects_no_crash(
    pretender: Path, mode: str, expected: dict[str, Any], problems: list[str]
) -> None:
    with Server(mode, binary=pretender, expect_deaths=True, **expected) as s:
        s.stop()
        found = s.problems()
    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_status_of_a_killed_master_is_none_of_its_own(pretender: Path) -> None:
    with Server("well", binary=pretender) as s:
        s.signal(signal.SIGKILL)
        s.wait()
        assert s.problems() == []
        s.start()
        os.kill(s.pid, signal.SIGUSR2)  # deadly where nobody handles it, and not by `signal`
        s.wait()
        assert s.problems() == [f"exit status {-signal.SIGUSR2}"]


@pytest.mark.parametrize(
    "line",
    [
        "myserver: src/conn.c:12: conn_done: Assertion `c->fd >= 0' failed.",
        "==12==ERROR: AddressSanitizer: heap-use-after-free on address 0x60",
        "==12==ERROR: LeakSanitizer: detected memory leaks",
        "WARNING: ThreadSanitizer: data race (pid=12)",
        "src/http.c:7:3: runtime error: signed integer overflow",
        "2026-11-20 14:03:07.123 [error] worker 1 (4711): leaked 2 connections",
        "Fatal Python error: PyThreadState_Get: the function must be called with the GIL held",
        "free(): invalid pointer",
        "[error] master (1): the mold died while it loaded the application: signal 11 (SIGSEGV)",
        "[warning] master (1): worker 1 (pid 7) did not finish in time: killing it",
    ],
)
def test_reports_of_bugs_are_problems(line: str) -> None:
    s = Server()
    s.log_path.write_text(f"a line before\n{line}\n")
    assert s.problems() == [line]
    s.close()


@pytest.mark.parametrize("name", ["server.log", "errors.log", "error.log.1", "logs/error.log"])
def test_wherever_it_writes_them(name: str) -> None:
    """A test that looks at another log, or moves it away, does not hide what is in it."""
    s = Server()
    s.log_path = s.dir / "another.log"
    path = s.dir / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("worker 1 (pid 7) died: exit status 1\n")
    assert len(s.problems()) == 1
    s.close()


def test_a_status_counts_wherever_it_logs(pretender: Path) -> None:
    with Server("unwell", binary=pretender) as s:
        s.log_path = s.dir / "another.log"
        s.stop()
        assert s.problems() == ["exit status 4"]


def test_free_ports_are_those_of_one_test(tmp_path: Path) -> None:
    """Nobody else gets them between the choice and the use."""
    ours = {free_port() for _ in range(50)}
    code = "import harness; print(*(harness.free_port() for _ in range(50)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=True)
    theirs = set(map(int, done.stdout.split()))
    assert len(ours) == len(theirs) == 50 and not ours & theirs
    _, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert max(ours) < 32_768 <= high


LEAVES = {
    "a thread that fails": """\
import threading, time
def test_leaves():
    def fail():
        time.sleep(0.5)
        raise OSError("late")
    threading.Thread(target=fail).start()
def test_innocent():
    time.sleep(1)
""",
    "a socket": """\
import gc, socket
def test_leaves():
    ring = [socket.socket()]
    ring.append(ring)
def test_innocent():
    gc.collect()
""",
}


@pytest.mark.parametrize("name", LEAVES)
def test_what_is_left_is_a_failure_of_who_left_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "test_leaving.py"
    path.write_text(LEAVES[name])
    options = ["-p", "conftest", "-p", "no:cacheprovider", "-W", "error", "-rA", "-c", os.devnull]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={tmp_path}", path],
        cwd=ROOT / "tests",
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'benchmarks'}"},
        capture_output=True,
        text=True,
    )
    said = re.findall(r"^(PASSED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)
    assert ("PASSED", "test_innocent") in said and ("ERROR", "test_leaves") in said, done.stdout


def test_stress_forgives_no_wrong_answer(pretender: Path, server: Callable[..., Server]) -> None:
    run = stress.Stress(server("well", binary=pretender), seed=1, clients=1, forgive=True)
    client = threading.Thread(target=run.client, args=(0,))
    client.start()
    wait_for(lambda: any("another request's answer" in fault for fault in run.accounts.faults))
    run.over.set()
    client.join()


class Deaf:
    """A server that reads nothing of a request, and answers one that was not asked."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))

    def connect(self) -> socket.socket:
        """A client, whose answer is there."""
        client = socket.create_connection(self.listener.getsockname())
        self.accepted = self.listener.accept()[0]
        self.accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        return client


def test_stress_ends_its_sender_first() -> None:
    """Who sends a body while the answer comes has ended when its socket is closed."""
    before = threading.active_count()
    server, rng = Deaf(), random.Random(1)
    client = stress.Client(server, stress.Accounts())  # type: ignore[arg-type]
    wish = stress.Wish(rng)
    wish.body, wish.kind = bytes(64 << 20), "upload"
    with server.listener, pytest.raises(stress.Wrong):
        stress.fulfil(client, [wish], rng=rng)
    assert threading.active_count() == before
    client.close()
    server.accepted.close()


def test_an_end_is_not_silence(pretender: Path, server: Callable[..., Server]) -> None:
    with Wire(server("well", binary=pretender)) as wire:
        assert wire.is_silent()
        assert wire.ask("/").text == "hi"
        assert not wire.is_silent()


def test_arguments_of_options() -> None:
    options = {"keep_alive": "2s", "bind": ["a", "b"], "chdir": None, "yes": True, "no": False}
    expected = ["--keep-alive=2s", "--bind=a", "--bind=b", "--yes", "--no-no"]
    assert arguments(options) == expected


def test_nginx_in_front(
    pretender: Path, server: Callable[..., Server], nginx: Callable[..., str]
) -> None:
    backend = server("well", binary=pretender)
    for keepalive in (True, False):
        url = nginx(backend, keepalive=keepalive)
        host, _, port = url.removeprefix("http://").rpartition(":")
        assert can_connect((host, int(port)))
        backend.names.append(url.removeprefix("http://"))
        with backend.connect(name=backend.names[-1]) as s:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert wait_for(lambda: s.recv(65536)).startswith(b"HTTP/1.1 200")


def test_postgres(postgres: str) -> None:
    import psycopg

    with psycopg.connect(postgres) as connection:
        assert connection.execute("select 1 + 1").fetchone() == (2,)
