"""The hooks of the application: when they are called, by which process, and what they cannot break."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import pytest

from harness import FLAVOUR, PATIENCE_S, SLOWNESS, Server, StartFailed, run, wait_for
from test_master import load, wait_for_workers
from test_upgrade import end, upgrade

Start = Callable[..., Server]

GUNICORN = """
import os
bind = "127.0.0.1:1"  # convert moves the settings, and this file its hooks
def said(text):
    os.write(1, f"event: {text}\\n".encode())
def on_starting(server):
    said(f"on_starting {server.pid}")
def on_reload(server):
    said("on_reload")
def when_ready(server):
    server.log.info("Server is ready. Spawning %s", "workers")
    said("when_ready")
def pre_fork(server, worker):
    said("pre_fork")
def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    said(f"post_fork {worker.age} {worker.pid} {os.getpid()} {server.pid}")
def post_worker_init(worker):
    said(f"post_worker_init {worker.pid}")
def worker_exit(server, worker):
    said(f"worker_exit {worker.pid} {os.getpid()}")
def child_exit(server, worker):
    said(f"child_exit {worker.pid} {worker.age}")
def on_exit(server):
    said("on_exit")
"""


def events(s: Server, name: str = "", begin: int = 0) -> list[str]:
    """What the hooks have said, one line each."""
    return re.findall(rf"^event: ({name}.*)$", s.log[begin:], re.MULTILINE)


def hook_processes(s: Server) -> list[int]:
    """The pids of the processes that run hooks."""
    return [p.pid for p in s.relatives() if p.name == "myserver:hooks"]


def write(s: Server, name: str, text: str) -> None:
    """A module that `hooks` may name."""
    (s.dir / name).write_text(text)


def test_each_hook_is_called_in_its_process(server: Start) -> None:
    """One life with a crash, a reload and a stop: every worker is started once, and mourned once."""
    s = server("hooked", workers=2, expect_deaths=True)
    workers = wait_for_workers(s, 2)
    assert s.log_contains("^event: when_ready")
    (hooks,) = hook_processes(s)
    os.kill(workers[0], signal.SIGKILL)
    assert s.log_contains(rf"child_exit \d {workers[0]} crash: signal 9 \(SIGKILL\) in {hooks}$")
    after = wait_for_workers(s, 2, without=workers[:1])
    s.signal(signal.SIGHUP)
    assert s.log_contains("all workers are of generation 2")
    wait_for(lambda: len(events(s, "when_ready")) == 2, what="the second generation")
    wait_for(lambda: len(events(s, "child_exit again")) == 3, what="the ends of the first")
    last = s.workers()
    (second,) = hook_processes(s)
    s.stop()
    said = events(s)
    started = [int(e.split()[2]) for e in events(s, r"worker_start \d")]
    assert len(started) == 5
    assert len(events(s, "prefork")) == 2
    assert events(s, "when_ready") == [f"when_ready {hooks}", f"when_ready {second}"]
    assert hooks not in started and second not in started and second not in s.molds()
    for pid in started:
        assert len([e for e in said if re.match(rf"child_exit \d+ {pid} ", e)]) == 1
    for pid in after:
        assert f"worker_exit reload {pid}" in said
    for pid in last:
        assert f"worker_exit stop {pid}" in said
        assert any(re.match(rf"child_exit \d+ {pid} stop in {second}$", e) for e in said)
    assert f"worker_exit crash {workers[0]}" not in said
    assert not [e for e in said if "alive" in e]


def test_without_such_hooks_there_is_no_process_for_them(server: Start) -> None:
    s = server("forks")
    assert s.log_contains("postfork")
    assert hook_processes(s) == []


def test_reason_is_that_of_the_metrics(server: Start) -> None:
    s = server("hooked", max_requests=3)
    (pid,) = s.workers()
    with load(s) as requests:
        assert s.log_contains(rf"worker_exit requests {pid}$")
        assert s.log_contains(rf"child_exit \d+ {pid} requests in \d+$")
    assert requests.errors == []


def test_what_fails_is_logged_and_loses_nothing(server: Start) -> None:
    s = server("hooked", workers=2, env={"DOES": "fails"})
    assert s.log_contains(r"hooks \(\d+\): the when_ready hook hooked.ready has failed")
    assert s.log_contains("^  ValueError: not ready at all$")
    with load(s) as requests:
        s.signal(signal.SIGHUP)
        assert s.log_contains("all workers are of generation 2")
    assert requests.errors == []
    assert s.log_contains(r"the worker_exit hook hooked.leave has failed")
    assert s.log_contains("^  SystemExit: no exit$")
    assert s.log_contains(r"the child_exit hook hooked.gone has failed")
    wait_for(lambda: len(events(s, "child_exit again")) == 2, what="the hooks after the failed one")
    assert s.stop() == 0
    assert len(events(s, "child_exit again")) == 4


def test_hook_that_hangs_is_cut(server: Start) -> None:
    """Workers are replaced and requests answered meanwhile, and the stop does not wait for ever."""
    s = server("hooked", env={"DOES": "hangs"}, graceful_timeout="1s", expect_deaths=True)
    (pid,) = s.workers()
    os.kill(pid, signal.SIGKILL)
    assert s.log_contains(rf"child_exit \d+ {pid}")
    wait_for_workers(s, 1, without=[pid])
    assert s.get().status == 200
    assert s.stop() == 0
    assert re.search(r"hooks \(\d+\): did not finish in time: leaving in the middle of this", s.log)
    assert 'hooked.py", line' in s.log
    assert "does not end: killing it" not in s.log


def test_ready_hook_may_open_a_port(server: Start, free_port: int) -> None:
    """The process of one generation has ended before that of the next begins."""
    s = server("hooked", env={"DOES": "port", "HOOK_PORT": str(free_port)})
    for generation in (2, 3):
        s.signal(signal.SIGHUP)
        assert s.log_contains(f"all workers are of generation {generation}")
        wait_for(lambda g=generation: len(events(s, "when_ready")) == g, what="when_ready")
    wait_for(lambda: len(hook_processes(s)) == 1, what="one process")
    s.stop()
    assert "has failed" not in s.log


def test_workers_have_nothing_of_the_hooks(server: Start) -> None:
    """What a hook has started goes on, and is not in workers that are forked later."""
    s = server("hooked", env={"DOES": "thread"}, expect_deaths=True)
    (pid,) = s.workers()
    assert s.log_contains("event: tick 5")
    os.kill(pid, signal.SIGKILL)
    wait_for_workers(s, 1, without=[pid])
    assert s.get("/kept").text == "0 1"
    assert s.log_contains("event: tick 20")


def test_hooks_process_is_replaced(server: Start) -> None:
    s = server("hooked", expect_deaths=True)
    (pid,) = s.workers()
    (hooks,) = wait_for(lambda: hook_processes(s))
    os.kill(hooks, signal.SIGKILL)
    wait_for(lambda: not hook_processes(s))
    os.kill(pid, signal.SIGKILL)
    assert s.log_contains("the process for hooks has died, another one is started")
    assert s.log_contains(rf"child_exit \d+ {pid} crash")
    assert s.get().status == 200


@pytest.mark.parametrize("both", [False, True])
def test_dead_mold_is_replaced(server: Start, both: bool) -> None:
    """Nothing of what happens meanwhile is lost."""
    s = server("hooked", workers=2, expect_deaths=True)
    workers = wait_for_workers(s, 2)
    assert s.log_contains("^event: when_ready")
    (mold,) = s.molds()
    if both:
        os.kill(s.pid, signal.SIGSTOP)
    os.kill(mold, signal.SIGKILL)
    os.kill(workers[0], signal.SIGKILL)
    os.kill(s.pid, signal.SIGCONT)
    assert s.log_contains(rf"child_exit \d+ {workers[0]} crash")
    wait_for_workers(s, 2, without=workers[:1])
    wait_for(lambda: len(events(s, r"when_ready")) == 2, what="the hooks of the new mold")
    wait_for(lambda: len(hook_processes(s)) == 1)


def test_what_a_dead_mold_was_told_is_told_again(server: Start) -> None:
    s = server("hooked", workers=2, expect_deaths=True)
    workers = wait_for_workers(s, 2)
    wait_for(lambda: hook_processes(s))
    (mold,) = s.molds()
    os.kill(mold, signal.SIGSTOP)  # it takes no order, and dies with it
    os.kill(workers[0], signal.SIGKILL)
    assert s.log_contains(rf"pid {workers[0]}\) died")
    os.kill(mold, signal.SIGKILL)
    assert s.log_contains(rf"child_exit \d+ {workers[0]} crash")
    wait_for_workers(s, 2, without=workers[:1])
    assert len(events(s, rf"child_exit \d+ {workers[0]}")) == 1


def test_what_a_dead_hooks_process_was_told_is_told_again(server: Start) -> None:
    """Also what it had not read; what it had read it is not told again."""
    s = server("hooked", workers=3, expect_deaths=True)
    first, second, third = wait_for_workers(s, 3)
    (hooks,) = wait_for(lambda: hook_processes(s))
    os.kill(first, signal.SIGKILL)
    assert s.log_contains(rf"child_exit \d+ {first} crash")
    os.kill(hooks, signal.SIGSTOP)
    os.kill(second, signal.SIGKILL)
    assert s.log_contains(rf"pid {second}\) died")
    os.kill(hooks, signal.SIGKILL)
    wait_for_workers(s, 3, without=[first, second])
    os.kill(third, signal.SIGKILL)
    for pid in (second, third):
        assert s.log_contains(rf"child_exit \d+ {pid} crash")
    wait_for_workers(s, 3, without=[first, second, third])
    for pid in (first, second, third):
        assert len(events(s, rf"child_exit \d+ {pid}")) == 1


def test_copy_of_the_hooks_process_ends(server: Start) -> None:
    s = server("hooked", env={"DOES": "fork"})
    assert s.log_contains("a process that the application forked in a hook came back from there")
    assert s.get().status == 200


@pytest.mark.skipif(FLAVOUR == "tsan", reason="no worker may become the mold")
def test_refork(server: Start) -> None:
    """A worker that becomes the mold has ended as a worker; the process goes on."""
    s = server("hooked", refork_after="10")
    with load(s) as requests:
        found = s.log_contains(r"worker \d+ \(pid (\d+)\) is the mold")
        assert found and s.log_contains(r"all workers are of generation 2")
    assert requests.errors == []
    pid = found[1]
    assert s.log_contains(rf"child_exit \d+ {pid} refork in \d+ alive$")
    wait_for(lambda: len(events(s, "when_ready")) == 2, what="its hooks")
    s.stop()
    assert events(s, f"worker_exit .* {pid}") == [f"worker_exit refork {pid}"]
    assert len(events(s, rf"child_exit \d+ {pid}")) == 1


# ---- a module of its own


@pytest.mark.parametrize("preload", [True, False])
def test_hooks_of_a_gunicorn_file(server: Start, preload: bool) -> None:
    """gunicorn's functions, with its arguments, in a file that the application does not know."""
    s = server(start=False, workers=2, hooks="gunicorn.conf.py", preload=preload)
    write(s, "gunicorn.conf.py", GUNICORN)
    s.start()
    workers = wait_for_workers(s, 2)
    assert s.log_contains(r"\[info\] hooks \(\d+\): Server is ready. Spawning workers$")
    assert events(s)[0] == f"on_starting {s.pid}"
    for pid in workers:
        assert s.log_contains(rf"\[info\] worker \d \({pid}\): Worker spawned \(pid: {pid}\)$")
        assert s.log_contains(rf"^event: post_fork [12] {pid} {pid} {s.pid}$")
        assert s.log_contains(rf"^event: post_worker_init {pid}$")
    s.signal(signal.SIGHUP)
    assert s.log_contains("all workers are of generation 2")
    for pid in workers:
        assert s.log_contains(rf"^event: worker_exit {pid} {pid}$")
        assert s.log_contains(rf"^event: child_exit {pid} [12]$")
    s.stop()
    assert len(events(s, "on_starting")) == len(events(s, "on_reload")) == 1
    assert len(events(s, "on_exit")) == 1
    assert events(s)[-1] == "on_exit"
    assert len(events(s, "pre_fork")) == (2 if preload else 0)
    assert len(events(s, "child_exit")) == len(events(s, "worker_exit")) == 4
    assert "has failed" not in s.log


@pytest.mark.parametrize("preload", [True, False])
def test_decorated_hooks_of_a_module(server: Start, preload: bool) -> None:
    """Their names may be those of gunicorn: they are called once."""
    s = server(start=False, hooks=["one", "two"], preload=preload)
    write(
        s,
        "one.py",
        "import os, myserver\n"
        "@myserver.when_ready\ndef when_ready(): os.write(1, b'event: one ready\\n')\n"
        "@myserver.child_exit\ndef child_exit(n, pid, why): os.write(1, b'event: one gone\\n')\n",
    )
    write(s, "two.py", "import os\ndef when_ready(server): os.write(1, b'event: two ready\\n')\n")
    s.start()
    assert s.log_contains("event: two ready")
    s.stop()
    assert events(s) == ["one ready", "two ready", "one gone"]


def test_without_preload_the_application_has_no_process_for_hooks(server: Start) -> None:
    s = server("hooked", preload=False, workers=2)
    wait_for_workers(s, 2)
    warning = r"\[warning\] .*: without preload, functions decorated with myserver.when_ready and"
    assert s.log_contains(warning)
    assert hook_processes(s) == []
    s.stop()
    assert len(re.findall(warning, s.log)) == 1
    assert len(events(s, "worker_exit stop")) == 2
    assert not events(s, "child_exit")


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import nothing_there", "ModuleNotFoundError: No module named 'nothing_there'"),
        (
            "def child_exit(reason): pass",
            r"child_exit is called as gunicorn does, with \(server, w",
        ),
        ("def on_starting(server): 1 // 0", "ZeroDivisionError"),
        (None, "there is no file .*/hooks_here.py"),
    ],
)
def test_module_that_is_wrong_fails_the_start(
    server: Start, preload: bool, text: str | None, sentence: str
) -> None:
    s = server(start=False, hooks="hooks_here.py", preload=preload)
    if text:
        write(s, "hooks_here.py", text)
    with pytest.raises(StartFailed) as failed:
        s.start()
    assert failed.value.status == 3
    assert "the hooks cannot be loaded" in failed.value.log
    assert re.search(sentence, failed.value.log), failed.value.log
    wait_for(lambda: not s.relatives(), what="the end of all")


@pytest.mark.parametrize("preload", [True, False])
def test_module_that_is_wrong_fails_a_reload(server: Start, preload: bool) -> None:
    s = server(start=False, hooks="hooks_here.py", preload=preload)
    write(s, "hooks_here.py", GUNICORN)
    s.start()
    write(s, "hooks_here.py", "x = (")
    with load(s) as requests:
        s.signal(signal.SIGHUP)
        assert s.log_contains(r"reload failed: .*; generation 1 goes on")
    assert requests.errors == []
    write(s, "hooks_here.py", GUNICORN)
    s.signal(signal.SIGHUP)
    assert s.log_contains("all workers are of generation \\d+")


def test_check_config_imports_the_module(tmp_path: Path) -> None:
    """And calls nothing of it."""
    (tmp_path / "right.py").write_text(GUNICORN)
    (tmp_path / "wrong.py").write_text("import nothing_there")
    (tmp_path / "app.py").write_text("def application(environ, start): return []")
    for name, status in (("right", 0), ("wrong", 3)):
        done = run("--check-config", "--workers=1", f"--hooks={name}.py", "app", cwd=tmp_path)
        assert done.returncode == status, done.stderr
        assert "event: on_starting" not in done.stdout + done.stderr


def test_hooks_that_are_not_called_are_named(server: Start) -> None:
    s = server(start=False, hooks="other.py", expect_deaths=True)
    write(
        s,
        "other.py",
        "def pre_request(worker, req): pass\ndef worker_abort(worker): pass\n"
        "def post_fork(server, worker): worker.log.info('tmp is %s', worker.tmp)\n",
    )
    with pytest.raises(StartFailed) as failed:
        s.start()
    log = failed.value.log
    assert (
        "other.py: the hook pre_request is not called by this server: wrap the application in"
        in log
    )
    assert "other.py: the hook worker_abort is not called by this server: a request that" in log
    assert "AttributeError: 'tmp': here gunicorn's worker has only age, pid, ppid, log" in log


# ---- prometheus_client

METRICS = """
import os
try:
    import myserver_api as myserver  # where the project has the name
except ImportError:
    import myserver
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter("app_requests", "Requests.")
LIVE = Gauge("app_live", "Alive.", multiprocess_mode="livesum")
REQUESTS.inc(0)

@myserver.when_ready
def open_port():
    if "HOOK_PORT" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        start_http_server(int(os.environ["HOOK_PORT"]), "127.0.0.1", registry)

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return [generate_latest(registry)]
    REQUESTS.inc()
    LIVE.set(1)
    return [str(os.getpid()).encode()]
"""


def metric(s: Server, name: str) -> float:
    """What /metrics says."""
    text = s.get("/metrics").text
    found = re.search(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def ask_all(s: Server) -> None:
    """Each worker answers once at least."""
    seen: set[int] = set()
    wait_for(lambda: seen.add(int(s.get().text)) or seen >= set(s.workers()), what="all workers")


def start_metrics(server: Start, stale: bool = False, **options: object) -> Server:
    """The one documented line."""
    s = server("metrics_app", start=False, hooks="myserver.prometheus", workers=2, **options)
    s.env["PROMETHEUS_MULTIPROC_DIR"] = str(s.dir / "metrics")
    write(s, "metrics_app.py", METRICS)
    if stale:
        (s.dir / "metrics").mkdir()
        for name in ("counter_1.db", "gauge_livesum_1.db", "histogram_4711.db"):
            (s.dir / "metrics" / name).write_bytes(b"from another run, and broken")
    return s.start()


@pytest.mark.parametrize("preload", [True, False])
def test_prometheus(server: Start, preload: bool) -> None:
    """Files of another run, of the mold, and of workers that were killed, replaced or reloaded."""
    s = start_metrics(server, stale=True, preload=preload, expect_deaths=True)
    files = lambda: {path.name for path in (s.dir / "metrics").iterdir()}  # noqa: E731
    wait_for_workers(s, 2)
    assert not files() & {"counter_1.db", "gauge_livesum_1.db", "histogram_4711.db"}
    assert f"counter_{s.molds()[0]}.db" not in files()
    ask_all(s)
    counted = metric(s, "app_requests_total")
    assert metric(s, "app_live") == 2
    killed = s.workers()[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: f"gauge_livesum_{killed}.db" not in files(), what="the file of a dead worker")
    assert f"counter_{killed}.db" in files()
    wait_for_workers(s, 2, without=[killed])
    ask_all(s)
    assert metric(s, "app_live") == 2
    assert metric(s, "app_requests_total") > counted
    before = metric(s, "app_requests_total")
    s.signal(signal.SIGHUP)
    assert s.log_contains("all workers are of generation 2")
    pids = set(s.workers())
    ask_all(s)
    wait_for(
        lambda: {int(re.findall(r"\d+", name)[0]) for name in files() if "live" in name} <= pids,
        what="the files of the generation before",
    )
    assert metric(s, "app_live") == 2
    assert metric(s, "app_requests_total") > before  # a reload wipes nothing
    s.stop()
    assert not [name for name in files() if "live" in name]


@pytest.mark.skipif(FLAVOUR == "tsan", reason="no worker may become the mold")
def test_prometheus_counts_what_a_new_mold_has_counted(server: Start) -> None:
    s = start_metrics(server, refork_after="10")
    answered = 0
    while "all workers are of generation 2" not in s.log:
        s.get()
        answered += 1
    assert metric(s, "app_requests_total") == answered


def ask_port(port: int) -> str:
    """What is said there; "" while nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S * SLOWNESS) as answer:
            return answer.read().decode()
    except (OSError, HTTPException):
        return ""


def test_prometheus_has_a_port_in_the_hooks_process(server: Start, free_port: int) -> None:
    """As the documentation says: it answers for all workers, also after a reload, and counts as none."""
    s = start_metrics(server, env={"HOOK_PORT": str(free_port)})
    for generation in (1, 2):
        ask_all(s)
        counted = metric(s, "app_requests_total")
        # Until the process of the generation before has ended, and what it counted as alive.
        text = wait_for(lambda: found if "app_live 2.0" in (found := ask_port(free_port)) else "")
        assert f"app_requests_total {counted}" in text
        s.signal(signal.SIGHUP)
        assert s.log_contains(f"all workers are of generation {generation + 1}")
        wait_for(lambda: not s.ending_workers() and len(s.molds()) == 1, what="the end of the old")


def test_prometheus_loses_nothing_at_an_upgrade(server: Start) -> None:
    s = start_metrics(server, pid="app.pid")
    ask_all(s)
    counted = metric(s, "app_requests_total")
    new = upgrade(s)
    assert metric(s, "app_requests_total") == counted
    end(s, new)


def test_prometheus_needs_a_directory(server: Start) -> None:
    with pytest.raises(StartFailed) as failed:
        server(hooks="myserver.prometheus", env={"PROMETHEUS_MULTIPROC_DIR": ""})
    assert (
        "hooks = myserver.prometheus needs PROMETHEUS_MULTIPROC_DIR: set it in" in failed.value.log
    )


def test_prometheus_without_the_hooks_is_told_of_them(server: Start) -> None:
    s = server("metrics_app", start=False)
    s.env["PROMETHEUS_MULTIPROC_DIR"] = str(s.dir)
    write(s, "metrics_app.py", METRICS)
    s.start()
    assert s.log_contains(r"\[info\] mold .* with hooks = myserver.prometheus, gauges of")


def test_project_called_myserver_has_these_hooks(server: Start) -> None:
    """Its own package takes the name, not the line of the ini."""
    s = start_metrics(server)
    s.stop()
    (s.dir / "myserver").mkdir()
    write(s, "myserver/__init__.py", "from metrics_app import application")
    s.command[-1] = "myserver"
    s.start()
    assert s.get().status == 200
    assert s.log_contains("ready: .* serves myserver ")
