"""The supervisor: start, replacement, reload, stop, each with real signals on the real binary."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness import (
    APPS,
    BINARY,
    FLAVOUR,
    SLOWNESS,
    Process,
    Server,
    StartFailed,
    can_connect,
    descriptors,
    read_all,
    run,
    wait_for,
)
from wire import let

Start = Callable[..., Server]

VERSIONED = """\
import time
{before}
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "{length}")])
    return [b"{text}"]
"""


SECONDS = itertools.count(int(time.time()))


def write_app(s: Server, text: str, before: str = "") -> None:
    """Write the module `versioned` into the server's directory; it answers with `text`.

    A mold may read it just now: it is replaced as a whole. Python compares only size and second with
    its cached bytecode: each has a second of its own.
    """
    beside = s.dir / "versioned.new"
    beside.write_text(VERSIONED.format(text=text, length=len(text), before=before))
    second = next(SECONDS)
    os.utime(beside, (second, second))
    beside.replace(s.dir / "versioned.py")


def versioned(server: Start, text: str, before: str = "", **options: object) -> Server:
    """A server of `versioned`, started."""
    s = server("versioned", start=False, **options)
    write_app(s, text, before)
    return s.start()


LONG = f"{60 * SLOWNESS}s"  # than the harness waits for an end


class Client(threading.Thread):
    """One request in a thread of its own."""

    def __init__(self, s: Server, path: str) -> None:
        super().__init__(daemon=True)
        self.s, self.path = s, path
        self.body = b""
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Send the request; keep the answer, or the failure."""
        try:
            self.body = self.s.request("GET", self.path, timeout=60).body
        except Exception as error:
            self.error = error


def begin_slow(s: Server, path: str) -> Client:
    """Start a request of the application `slow` and wait until it runs."""
    client = Client(s, path)
    assert s.log_contains(r"sleeping")
    return client


class Load:
    """Requests one after the other, until told to stop."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.bodies: list[str] = []
        self.errors: list[str] = []

    def run(self, s: Server) -> None:
        """Ask until it is over."""
        while not self.over.is_set():
            try:
                self.bodies.append(s.get("/").text)
            except Exception as error:
                self.errors.append(repr(error))


@contextmanager
def load(s: Server) -> Iterator[Load]:
    """Two clients that ask without a pause."""
    result = Load()
    threads = [threading.Thread(target=result.run, args=(s,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield result
    finally:
        result.over.set()
        for thread in threads:
            thread.join()


def title_of(s: Server, pid: int) -> Process:
    """What /proc says of one of the server's processes."""
    return next(p for p in s.relatives() if p.pid == pid)


def wait_for_workers(s: Server, count: int, without: int | Sequence[int] = ()) -> list[int]:
    """Wait until exactly `count` workers live, none of them `without`; their pids."""
    gone = {without} if isinstance(without, int) else set(without)

    def look() -> list[int] | None:
        pids = s.workers()
        return pids if len(pids) == count and gone.isdisjoint(pids) else None

    return wait_for(look, what=f"{count} workers")


def pipes(pid: int) -> dict[str, int]:
    """The pipes that a process holds, each with its access mode."""
    found: dict[str, int] = {}
    for fd, target in descriptors(pid).items():
        with suppress(FileNotFoundError):  # closed meanwhile
            if target.startswith("pipe:"):
                info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
                flags = int(info.partition("flags:")[2].split()[0], 8)
                found[target] = flags & os.O_ACCMODE
    return found


# ---- start


def test_start_and_titles(server: Start) -> None:
    s = server("hello:application", workers=3, threads=2)
    assert s.log_contains(r"master \(\d+\): listening on 127\.0\.0\.1:\d+$")
    assert s.log_contains(rf"ready: {s.url}/ serves hello:application with 3 workers of 2 threads$")
    workers, (mold,) = wait_for_workers(s, 3), s.molds()
    assert title_of(s, s.pid).title == "myserver: master [hello:application]"
    assert title_of(s, mold).title == "myserver: mold"
    for pid in workers:
        wait_for(
            lambda pid=pid: title_of(s, pid).parent == s.pid, what="the master to be its parent"
        )
        wait_for(
            lambda pid=pid: re.fullmatch(
                r"myserver: worker [123] \[hello:application\] \w+", title_of(s, pid).title
            )
        )
        assert Path(f"/proc/{pid}/comm").read_text() == "myserver:worker\n"
    assert s.get("/").status == 200


def test_master_has_no_python_and_no_loop(server: Start) -> None:
    s = server()
    assert len(list(Path(f"/proc/{s.pid}/task").iterdir())) == 1
    assert "anon_inode:[eventpoll]" not in descriptors(s.pid).values()


def test_first_start_that_fails_has_status_3_and_traceback(server: Start) -> None:
    with pytest.raises(StartFailed, match="ZeroDivisionError") as failure:
        versioned(server, "x", "1 / 0", binds=["unix:app.sock"])
    assert failure.value.status == 3
    assert "cannot start: the application could not be loaded" in failure.value.log


# Calls of C code: one waits without the GIL, the other holds it.
HANGS = {
    "waits": "time.sleep(60)",
    "holds": "sum(iter(int, 1))",
}


def skip_where_signals_wait(how: str) -> None:
    """Where no handler would write the stack."""
    if FLAVOUR == "tsan" and how == "holds":
        pytest.skip("a thread that calls no instrumented function holds signals back")


@pytest.mark.parametrize("how", HANGS)
def test_start_that_hangs_says_where(server: Start, how: str) -> None:
    """One record with the stack, and one sentence about the start."""
    skip_where_signals_wait(how)
    hang = f"def get_stuck():\n    {HANGS[how]}\nget_stuck()\n"
    with pytest.raises(StartFailed) as failure:
        versioned(server, "x", hang, startup_timeout=f"{4 * SLOWNESS}s", expect_deaths=True)
    assert failure.value.status == 3
    log = failure.value.log
    stack = (
        r"the mold \(pid \d+\) does not get ready and is killed; its stacks are\n.*thread 0x.*\n"
    )
    assert re.search(stack + r'  .*File ".*versioned\.py", line \d+ in get_stuck\n', log), log
    assert log.count("the application is not loaded and warmed up within the startup-timeout") == 1
    assert "SIGKILL" not in log


def test_start_that_hangs_without_preload_says_where(server: Start) -> None:
    """The worker loads the application, and its time is over when the mold's is."""
    hang = "def get_stuck():\n    time.sleep(60)\nget_stuck()\n"
    options = {"preload": False, "startup_timeout": f"{4 * SLOWNESS}s", "expect_deaths": True}
    with pytest.raises(StartFailed, match="no worker serves within the startup-time") as failure:
        versioned(server, "x", hang, **options)
    log = failure.value.log
    assert log.count("does not get ready and is killed; its stacks are\n") == 1, log
    assert log.count("in get_stuck\n") == 1


@pytest.mark.parametrize("how", HANGS)
def test_worker_that_hangs_says_where(server: Start, how: str) -> None:
    """A function for postfork."""
    skip_where_signals_wait(how)
    hang = f"import myserver\n@myserver.postfork\ndef get_stuck():\n    {HANGS[how]}\n"
    with pytest.raises(StartFailed, match="no worker serves within the startup-time") as failure:
        versioned(server, "x", hang, startup_timeout=f"{4 * SLOWNESS}s", expect_deaths=True)
    assert failure.value.status == 3
    stack = (
        r"worker 1 \(pid \d+\) does not get ready and is killed; its stacks are\n.*thread 0x.*\n"
    )
    stack += r'  .*File ".*versioned\.py", line \d+ in get_stuck\n'
    assert re.search(stack, failure.value.log), failure.value.log


@pytest.mark.parametrize("preload", [True, False])
def test_who_is_late_before_it_has_stacks(server: Start, preload: bool, tmp_path: Path) -> None:
    """The question for them is not what ends a process in which Python itself begins."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif '_myserver' in sys.builtin_module_names:\n    time.sleep(60)\n"
    )
    options = {"preload": preload, "startup_timeout": f"{2 * SLOWNESS}s", "expect_deaths": True}
    with pytest.raises(StartFailed) as failure:
        server("hello", env={"PYTHONPATH": str(tmp_path)}, **options)
    assert failure.value.status == 3
    assert re.search(r"\(pid \d+\) does not get ready and is killed$", failure.value.log, re.M)
    assert "signal" not in failure.value.log


@pytest.mark.parametrize("end", ["os._exit(0)", "os.abort()"])
def test_application_that_ends_the_mold(server: Start, end: str) -> None:
    with pytest.raises(StartFailed, match="died while it loaded the application") as failure:
        versioned(
            server, "x", f"import os; {end}", expect_deaths=True, expect_signals={signal.SIGABRT}
        )
    assert failure.value.status == 3


def test_application_that_takes_too_long(server: Start) -> None:
    with pytest.raises(StartFailed, match="within the startup-timeout") as failure:
        versioned(
            server, "x", "time.sleep(60)", startup_timeout=f"{500 * SLOWNESS}ms", expect_deaths=True
        )
    assert failure.value.status == 3


def test_an_asgi_application(server: Start) -> None:
    """Both ways of writing one."""
    call = "async def __call__(self, scope, receive, send): pass"
    for text in (
        "async def application(scope, receive, send): pass",
        f"class A:\n    {call}\napplication = A()",
    ):
        with pytest.raises(StartFailed, match="is an ASGI application: name the WSGI") as failure:
            s = server("asgi", start=False)
            (s.dir / "asgi.py").write_text(text)
            s.start()
        assert failure.value.status == 3


@pytest.mark.parametrize("bind", ["127.0.0.1:PORT", "unix:app.sock"], ids=["tcp", "unix"])
def test_an_address_that_is_in_use(server: Start, bind: str, tmp_path: Path) -> None:
    """No wrong setting: a service manager may try again."""
    path = str(tmp_path / "other.sock")
    is_unix = bind.startswith("unix:")
    with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as other:
        other.bind(path if is_unix else ("127.0.0.1", 0))
        other.listen()
        name = f"unix:{path}" if is_unix else bind.replace("PORT", str(other.getsockname()[1]))
        with pytest.raises(StartFailed, match="in use") as failure:
            server("slow", binds=[name])
    assert failure.value.status == 1


def test_first_workers_that_die(server: Start) -> None:
    s = server("crash", workers=2, start=False, expect_deaths=True, binds=["unix:app.sock"])
    (s.dir / "crash").touch()
    with pytest.raises(StartFailed, match="no worker lives long enough") as failure:
        s.start()
    assert failure.value.status == 3
    assert len(re.findall(r"worker \d+ \(pid \d+\) died", s.log)) == 3
    assert not (s.dir / "app.sock").exists()


def test_check_config_loads_the_application(tmp_path: Path) -> None:
    good = run("--check-config", f"--pythonpath={APPS}", "hello")
    assert good.returncode == 0, good
    assert "[error]" not in good.stderr
    assert "the application hello loads" in good.stdout
    (tmp_path / "broken.py").write_text("1 / 0\n")
    bad = run("--check-config", "broken", cwd=tmp_path)
    assert bad.returncode == 3
    assert "ZeroDivisionError" in bad.stderr


STRANGE_ENDS = [
    ("import os; os._exit(0)", "the mold died while it loaded the application: exit status 0"),
    ("import os; os._exit(4)", "the mold died while it loaded the application: exit status 4"),
    (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        r"the mold died while it loaded the application: signal 9 \(SIGKILL\)",
    ),
    (
        "import time; time.sleep(60)",
        "the application is not loaded and warmed up within the startup-timeout",
    ),
    (
        "import myserver\n@myserver.postfork\ndef fail():\n    1 / 0",
        "its first worker died at start",
    ),
    (
        "import os, myserver\n@myserver.postfork\ndef leave():\n    os._exit(0)",
        "its first worker died at start",
    ),
    (
        "import time, myserver\n@myserver.postfork\ndef hang():\n    time.sleep(60)",
        "no worker serves within the startup-timeout",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), STRANGE_ENDS)
def test_check_config_is_a_rehearsal(tmp_path: Path, text: str, sentence: str) -> None:
    """What ends a start ends the check, with the sentence and the status of a start."""
    application = "def application(environ, start_response):\n    return []\n"
    (tmp_path / "odd.py").write_text(f"{text}\n{application}")
    done = run(
        "--check-config",
        "--startup-timeout",
        f"{4 * SLOWNESS}s",
        "--prewarm-rounds=0",
        "odd",
        cwd=tmp_path,
    )
    assert done.returncode == 3, done
    assert re.search(rf"\[critical\].*: cannot start: {sentence}\n\Z", done.stderr), done
    assert done.stdout == ""
    assert ("ZeroDivisionError" in done.stderr) == ("1 / 0" in text)
    assert ('odd.py", line' in done.stderr) == ("sleep" in text or "1 / 0" in text)


def test_check_config_without_preload(tmp_path: Path) -> None:
    """The worker loads the application."""
    (tmp_path / "broken.py").write_text("1 / 0\n")
    bad = run("--check-config", "--no-preload", "broken", cwd=tmp_path)
    assert bad.returncode == 3
    assert "ZeroDivisionError" in bad.stderr
    assert "cannot start: the application could not be loaded\n" in bad.stderr
    good = run("--check-config", "--no-preload", f"--pythonpath={APPS}", "hello")
    assert good.returncode == 0, good


# ---- stop


@pytest.mark.parametrize("threads", [1, 2])
def test_term_finishes_what_runs(server: Start, threads: int) -> None:
    s = server("mix:application", workers=2, threads=threads)
    client = Client(s, "/held")
    assert s.log_contains("event: held")
    s.signal(signal.SIGTERM)
    assert s.log_contains(r"stopping$")
    if threads > 1:  # a free thread owns the loop and closes the socket at once
        wait_for(lambda: not can_connect(s.address), what="the socket to close")
        assert client.is_alive()
    let(s, "go")
    assert s.wait() == 0
    client.join()
    assert client.error is None and client.body == b"\n"
    assert "stopped" in s.log.splitlines()[-1]
    assert not can_connect(s.address)


def test_term_kills_after_the_graceful_timeout(server: Start) -> None:
    s = server("slow", graceful_timeout="500ms", expect_deaths=True)
    client = begin_slow(s, f"/{60 * SLOWNESS}")
    assert s.stop() == 0
    assert re.search(r"\[warning\].* worker 1 \(pid \d+\) did not finish in time", s.log)
    client.join()
    assert client.error is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_are_quick(server: Start, number: int) -> None:
    s = server("slow", workers=2, graceful_timeout=LONG)
    begin_slow(s, f"/{60 * SLOWNESS}")
    assert s.stop(number) == 0


def test_second_term_is_quick(server: Start) -> None:
    s = server("slow", workers=2, graceful_timeout=LONG)
    begin_slow(s, f"/{60 * SLOWNESS}")
    s.signal(signal.SIGTERM)
    assert s.log_contains(r"stopping$")
    assert s.status is None
    assert s.stop() == 0


def test_control_c_reaches_the_whole_group(server: Start) -> None:
    s = server("slow", workers=2)
    wait_for_workers(s, 2)
    os.killpg(s.pid, signal.SIGINT)
    assert s.wait() == 0
    assert "KeyboardInterrupt" not in s.log


def test_stop_while_the_first_mold_loads(server: Start) -> None:
    s = server("versioned", start=False)
    write_app(s, "one", "time.sleep(60)")
    starter = threading.Thread(target=lambda: pytest.raises(StartFailed, s.start))
    starter.start()
    assert s.log_contains(r"listening on")
    wait_for(s.molds)
    s.signal(signal.SIGTERM)
    starter.join(10)
    assert s.wait() == 0


def test_stop_while_a_worker_starts(server: Start) -> None:
    """It has nothing to finish."""
    s = versioned(server, "one", workers=2, graceful_timeout=LONG)
    hangs = "import myserver\n@myserver.postfork\ndef hang():\n"
    hangs += f"    print('hangs', flush=True)\n    time.sleep({60 * SLOWNESS})\n"
    write_app(s, "two", hangs)
    s.signal(signal.SIGHUP)
    assert s.log_contains("hangs")
    assert s.stop() == 0


def test_nothing_stays_on_disk(server: Start) -> None:
    s = server(binds=["unix:app.sock", "127.0.0.1:0"])
    before = {path.name for path in s.dir.iterdir()}
    assert "app.sock" in before
    assert s.stop() == 0
    assert {path.name for path in s.dir.iterdir()} == before - {"app.sock"}


@pytest.mark.parametrize("threads", [1, 2])
def test_term_answers_who_waits_in_the_queue(server: Start, threads: int) -> None:
    s = server("slow", workers=2, threads=threads)
    clients = [s.connect() for _ in range(12)]
    for client in clients:
        client.sendall(b"GET /0.3 HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for(lambda: s.log.count("sleeping") >= 2)
    assert s.stop() == 0
    for client in clients:
        assert read_all(client).startswith(b"HTTP/1.1 200 OK\r\n")
        client.close()


def test_term_answers_who_has_connected_and_is_slow_to_ask(server: Start) -> None:
    """His kernel says that he is connected; ours waits for his request to queue him."""
    s = server("slow", workers=2, graceful_timeout=LONG, start=False)
    wait_for(lambda: were_in_time(s.start()), 60, "clients that are not too slow")


def were_in_time(s: Server) -> bool:
    """Stop it; False: this test had no CPU for so long that the clients were too late."""
    clients = [s.connect() for _ in range(4)]
    log_end, begun = len(s.log), time.monotonic()
    s.signal(signal.SIGTERM)
    wait_for(lambda: s.log[log_end:].count("draining: told to stop") == 2)
    time.sleep(0.3)  # three times the last call
    for client in clients[:2]:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    are_in_time = time.monotonic() - begun < 1.2  # of 1.5 s
    for client in clients[:2]:
        assert read_all(client).startswith(b"HTTP/1.1 200 OK\r\n") or not are_in_time
    assert s.wait() == 0  # the others, who never ask, do not hold it
    for client in clients:
        client.close()
    return are_in_time


def test_other_signals_do_nothing(server: Start) -> None:
    s = server()
    (worker,) = s.workers()
    for number in (signal.SIGUSR1, signal.SIGPIPE):
        s.signal(number)
    assert s.get("/").status == 200
    assert s.status is None and s.workers() == [worker]


# ---- reload


def test_reload_serves_new_code_and_loses_no_request(server: Start) -> None:
    s = versioned(server, "one", workers=3)
    before = wait_for_workers(s, 3)
    with load(s) as requests:
        wait_for(lambda: len(requests.bodies) > 20)
        write_app(s, "second")
        s.signal(signal.SIGHUP)
        most = 0

        def is_reloaded() -> bool:
            nonlocal most
            most = max(most, len(s.workers()))
            return "reloaded: all workers are of generation 2" in s.log

        wait_for(is_reloaded, what="the reload")
        asked = len(requests.bodies)
        wait_for(lambda: len(requests.bodies) > asked + 20)
    assert requests.errors == []
    assert set(requests.bodies) == {"one", "second"}
    assert {s.get("/").text for _ in range(10)} == {"second"}
    assert not set(before) & set(wait_for_workers(s, 3))
    assert most <= 4
    wait_for(lambda: len(s.molds()) == 1, what="the end of the mold before")


def test_reload_waits_for_slow_requests(server: Start) -> None:
    s = server("slow")
    client = begin_slow(s, "/1.5")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reload: generation 2 serves")
    assert s.get("/").text.isdigit()
    client.join()
    assert client.error is None
    assert s.log_contains(r"reloaded: ")


def test_reload_of_broken_code_keeps_the_old(server: Start) -> None:
    s = versioned(server, "one", workers=2)
    workers, molds = wait_for_workers(s, 2), s.molds()
    write_app(s, "two", "1 / 0")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"\[error\].* reload failed: the application could not be loaded")
    assert "ZeroDivisionError" in s.log
    assert s.get("/").text == "one"
    wait_for(lambda: (s.workers(), s.molds()) == (workers, molds), what="the old ones alone")
    write_app(s, "three")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 2")
    assert s.get("/").text == "three"


def test_reload_whose_worker_dies_keeps_the_old(server: Start) -> None:
    s = server("crash", workers=2, prewarm_rounds=0, expect_deaths=True)
    workers, molds = wait_for_workers(s, 2), s.molds()
    (s.dir / "crash").touch()
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reload failed: its first worker died at start; generation 1 goes on")
    wait_for(lambda: s.molds() == molds)
    assert s.workers() == workers
    (s.dir / "crash").unlink()
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 2")


def test_reload_that_takes_too_long_keeps_the_old(server: Start) -> None:
    s = versioned(server, "one", startup_timeout=f"{4 * SLOWNESS}s", expect_deaths=True)
    (mold,) = s.molds()
    write_app(s, "two", "time.sleep(60)")
    s.signal(signal.SIGHUP)
    assert s.log_contains(
        r"reload failed: the application is not loaded and warmed up within the startup-timeout; "
        r"generation 1 goes on$"
    )
    assert s.get("/").text == "one"
    wait_for(lambda: s.molds() == [mold], what="the old one alone")


def test_reload_whose_warm_up_fails_keeps_the_old(server: Start) -> None:
    s = versioned(server, "one", prewarm=["/"])
    workers, molds = s.workers(), s.molds()
    broken = "def application(environ, start_response):\n    1 / 0\n"
    (s.dir / "versioned.py").write_text(broken)
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reload failed: the application could not be loaded; generation 1")
    assert "ZeroDivisionError" in s.log and 'prewarm "/" answers 500' in s.log
    wait_for(lambda: (s.workers(), s.molds()) == (workers, molds), what="the old ones alone")
    assert s.get("/").text == "one"


def test_reload_whose_worker_hangs_keeps_the_old(server: Start) -> None:
    s = versioned(server, "one", startup_timeout=f"{4 * SLOWNESS}s", expect_deaths=True)
    workers, molds = s.workers(), s.molds()
    hangs = "import myserver\n@myserver.postfork\ndef hang():\n    time.sleep(60)\n"
    write_app(s, "two", hangs)
    s.signal(signal.SIGHUP)
    assert s.log_contains(
        r"reload failed: no worker serves within the startup-timeout; generation 1 goes on"
    )
    wait_for(lambda: (s.workers(), s.molds()) == (workers, molds), what="the old ones alone")
    assert s.get("/").text == "one"


def test_reload_during_a_reload_takes_the_last_code(server: Start) -> None:
    s = versioned(server, "one", workers=2)
    write_app(s, "two", "time.sleep(60)")
    s.signal(signal.SIGHUP)
    wait_for(lambda: len(s.molds()) == 2)
    write_app(s, "three")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: all workers are of generation 2")
    assert s.get("/").text == "three"
    wait_for(lambda: len(s.molds()) == 1)


def test_many_reloads(server: Start) -> None:
    s = server("crash", workers=2)
    with load(s) as requests:
        for generation in range(2, 7):
            s.signal(signal.SIGHUP)
            assert s.log_contains(rf"reloaded: all workers are of generation {generation}$")
    assert requests.errors == []


def test_signals_that_were_ignored_at_start_work(server: Start, tmp_path: Path) -> None:
    wrapper = tmp_path / "nohup"
    wrapper.write_text(f'#!/bin/sh\ntrap "" HUP CHLD TERM\nexec {BINARY} "$@"\n')
    wrapper.chmod(0o755)
    s = server("crash", binary=wrapper)
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: ")
    assert s.get("/").status == 200


# ---- other


def test_ttin_and_ttou(server: Start) -> None:
    s = server("slow", workers=2)
    before = wait_for_workers(s, 2)
    s.signal(signal.SIGTTIN)
    assert s.log_contains(r"now 3 workers")
    assert set(before) < set(wait_for_workers(s, 3))
    for count in (2, 1):
        s.signal(signal.SIGTTOU)
        wait_for_workers(s, count)
    s.signal(signal.SIGTTOU)
    assert s.log_contains(r"still 1 worker: ")
    assert s.get("/").status == 200


@pytest.mark.parametrize("back", [signal.SIGHUP, signal.SIGTTIN])
def test_winch_stops_the_workers_and_keeps_the_sockets(server: Start, back: int) -> None:
    s = server("slow", workers=2)
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    s.signal(signal.SIGWINCH)
    s.signal(signal.SIGTTOU)
    assert s.log_contains(r"paused: there is no worker to do without; TTIN or HUP resumes with 2$")
    waiting = Client(s, "/")
    time.sleep(0.3)
    assert waiting.is_alive() and s.workers() == []
    s.signal(back)
    waiting.join()
    assert waiting.error is None
    wait_for_workers(s, 2)


def test_hup_after_winch_serves_the_new_application_only(server: Start) -> None:
    """The old one does not fill the gap while the new one loads; it does when that fails."""
    s = versioned(server, "one", workers=2)
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    write_app(s, "two", "time.sleep(1)")
    s.signal(signal.SIGHUP)
    assert s.get("/").text == "two"
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    write_app(s, "three", "1 / 0")
    s.signal(signal.SIGHUP)
    assert s.get("/").text == "two"
    assert s.log_contains("ZeroDivisionError")


def test_a_pause_is_no_failure_of_a_reload(server: Start) -> None:
    """Nobody was wanted: the new application has its time when somebody is."""
    limit = 4.0 * SLOWNESS
    s = versioned(server, "one", startup_timeout=f"{limit}s", prewarm="/")
    write_app(s, "two")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"master .*: reloading$")
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    wait_for(lambda: s.log.count("warmed up") == 2, what="the new mold")
    time.sleep(1.5 * limit)
    s.signal(signal.SIGTTIN)
    assert s.get("/").text == "two"
    assert s.log_contains("reloaded: all workers")


def test_pause_and_its_end_together(server: Start) -> None:
    """Signals that wait come by number: the pause is not what remains."""
    s = server(workers=2)
    s.signal(signal.SIGSTOP)
    s.signal(signal.SIGWINCH)
    s.signal(signal.SIGHUP)
    s.signal(signal.SIGCONT)
    assert s.log_contains(r"resuming with 2 workers")
    assert s.get("/").status == 200


def test_hup_ends_a_pause_in_which_code_was_loaded(server: Start) -> None:
    """What waits for its first worker gets it, and is replaced then: nobody waits for a deadline."""
    s = server("versioned", touch_reload="touched", prewarm="/", start=False)
    (s.dir / "touched").touch()
    write_app(s, "one")
    s.start()
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    write_app(s, "two")
    (s.dir / "touched").touch()
    wait_for(lambda: s.log.count("warmed up") == 2, what="the new mold")
    write_app(s, "three")
    s.signal(signal.SIGHUP)
    assert s.get("/").text in ("two", "three")
    wait_for(lambda: s.get("/").text == "three")
    assert "failed" not in s.log


def test_ttin_ends_somewhere(server: Start) -> None:
    s = server(workers=1)
    for count in range(2, 10):
        s.signal(signal.SIGTTIN)
        wait_for_workers(s, count)
    s.signal(signal.SIGTTIN)
    assert s.log_contains(r"still 9 workers: ")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: ")
    wait_for_workers(s, 9)


def test_stopped_master_kills_nobody_for_being_late(server: Start) -> None:
    s = server("slow", workers=1, graceful_timeout="6s")
    client = begin_slow(s, "/10")
    s.signal(signal.SIGHUP)  # drains the busy worker: its deadline runs
    assert s.log_contains(r"reload: generation 2 serves")
    s.signal(signal.SIGSTOP)
    time.sleep(7.8)
    s.signal(signal.SIGCONT)
    client.join()
    assert client.error is None
    assert s.log_contains(r"all deadlines are put off")
    assert "did not finish" not in s.log


def test_the_master_keeps_no_descriptor_of_what_has_ended(server: Start) -> None:
    s = versioned(server, "one", workers=2, expect_deaths=True, control="unix:control.sock")

    def held() -> list[str]:
        return sorted(re.sub(r"\[\d+\]", "", target) for target in descriptors(s.pid).values())

    def settled() -> bool:
        return len(wait_for_workers(s, 2)) == 2 and len(s.molds()) == 1 and held() == before

    before = wait_for(lambda: found if (found := held()) == held() else None)
    for generation in (2, 3):
        s.signal(signal.SIGHUP)
        assert s.log_contains(rf"reloaded: all workers are of generation {generation}$")
    write_app(s, "two", "1 / 0")
    s.signal(signal.SIGHUP)
    assert s.log_contains("reload failed")
    s.signal(signal.SIGUSR2)
    assert s.log_contains("upgrade failed")
    write_app(s, "one")
    os.kill(s.workers()[0], signal.SIGKILL)
    os.kill(s.molds()[0], signal.SIGKILL)
    s.signal(signal.SIGTTIN)
    wait_for_workers(s, 3)
    s.signal(signal.SIGTTOU)
    s.signal(signal.SIGUSR1)
    wait_for(settled, what=f"no more than {before}, but {held()}")


def test_no_descriptor_is_inherited_that_should_not_be(server: Start) -> None:
    s = server("crash")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: ")
    (worker,) = wait_for_workers(s, 1)
    (mold,) = wait_for(lambda: found if len(found := s.molds()) == 1 else None)

    def held_to_write() -> list[str]:
        return [pipe for pipe, mode in pipes(s.pid).items() if mode == os.O_WRONLY]

    # The lifeline, and the orders of the one mold, when those of the one before are closed.
    writers = wait_for(lambda: found if len(found := held_to_write()) == 2 else None)
    for pid in (worker, mold):
        held = pipes(pid)
        assert not [pipe for pipe in writers if held.get(pipe) == os.O_WRONLY]
    assert len(pipes(worker).keys() & set(writers)) == 1  # the lifeline
