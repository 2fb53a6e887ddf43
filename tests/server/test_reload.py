"""What a reload reads, and what starts one: settings, files to touch, changed code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness import APPS, SLOWNESS, VENV, Server, wait_for, whole_lines
from test_master import begin_slow, load, versioned, wait_for_workers, write_app
from wire import Wire

Start = Callable[..., Server]

INI = """\
[myserver]
app = {app}
pythonpath = {apps}
virtualenv = {venv}
{more}
"""


def write_ini(s: Server, more: str, app: str = "slow") -> None:
    """The settings of a server that was made with `from_ini`."""
    text = INI.format(app=app, apps=APPS, venv=VENV, more=more)
    (s.dir / "it.ini").write_text(text)


def from_ini(server: Start, more: str, app: str = "slow", args: tuple[str, ...] = ()) -> Server:
    """A server whose settings stand in it.ini, but for its address."""
    s = server(None, start=False)
    s.command = [s.command[0], "-c", "it.ini", "--bind=127.0.0.1:0", *args]
    write_ini(s, more, app)
    return s.start()


def reload(s: Server, generation: int) -> None:
    """HUP, and wait until only new workers are there."""
    s.signal(signal.SIGHUP)
    assert s.log_contains(rf"reloaded: all workers are of generation {generation}$"), s.log


# ---- settings


WHO = """\
import os
def application(environ, start_response):
    start_response("200 OK", [])
    return [os.environ.get("WHO", "nobody").encode()]
"""


def test_new_settings_take_effect(server: Start) -> None:
    s = from_ini(server, "workers = 2\nkeep-alive = 50s")
    (s.dir / "who.py").write_text(WHO)
    write_ini(s, "workers = 2\nkeep-alive = 300ms\nscript-name = /shop\nenv = WHO=me", app="who")
    reload(s, 2)
    assert s.get("/").status == 404
    with Wire(s) as wire:
        answer = wire.ask("/shop/")
        assert answer.text == "me" and answer.get("Connection") is None
        assert wire.is_closed()
    write_ini(s, "workers = 2", app="hello")
    reload(s, 3)
    assert s.get("/").text == "Hello, world!\n"
    assert "takes effect only after" not in s.log


def test_number_of_workers(server: Start) -> None:
    """More and fewer; beyond the room that the first number made it says so."""
    s = from_ini(server, "workers = 2")
    for generation, workers in enumerate((5, 1), start=2):
        write_ini(s, f"workers = {workers}")
        reload(s, generation)
        wait_for_workers(s, workers)
        assert s.log_contains(rf"now {workers} workers?$")
    write_ini(s, "workers = 12")
    reload(s, 4)
    wait_for_workers(s, 10)
    assert s.log_contains(
        r"workers = 12: until a restart or an upgrade \(USR2\) there is room for 10$"
    )
    assert "takes effect only after" not in s.log


def test_number_by_signals_outlives_a_reload(server: Start) -> None:
    """That of the settings counts when it has changed."""
    s = from_ini(server, "workers = 1")
    s.signal(signal.SIGTTIN)
    wait_for_workers(s, 2)
    reload(s, 2)
    wait_for_workers(s, 2)
    write_ini(s, "workers = 3")
    reload(s, 3)
    wait_for_workers(s, 3)


def test_number_that_was_refused(server: Start) -> None:
    """A reload that fails leaves the number too."""
    s = from_ini(server, "workers = 1")
    write_ini(s, "workers = 3", app="nothing_of_this_name")
    s.signal(signal.SIGHUP)
    assert s.log_contains("reload failed: .*; generation 1 goes on")
    assert len(s.workers()) == 1
    write_ini(s, "workers = 1")
    reload(s, 2)
    wait_for_workers(s, 1)
    assert "workers\n" not in s.log


def test_number_in_a_pause(server: Start) -> None:
    """HUP ends the pause: as many as are configured now."""
    s = from_ini(server, "workers = 1")
    s.signal(signal.SIGWINCH)
    wait_for(lambda: not s.workers())
    write_ini(s, "workers = 2")
    reload(s, 2)
    wait_for_workers(s, 2)


def test_what_needs_a_restart_is_named_and_stays(server: Start) -> None:
    s = from_ini(server, "workers = 1\nthreads = 2")
    write_ini(s, "workers = 1\nthreads = 4\nbacklog = 100\nscript-name = /x")
    reload(s, 2)
    assert s.log_contains(
        r"\[warning\] mold \(\d+\): changed, but takes effect only after a restart or an upgrade"
        r" \(USR2\): backlog, threads$"
    )
    wait_for_workers(s, 1)
    assert s.get("/x/").status == 200


def test_broken_settings_keep_the_old_generation(server: Start) -> None:
    s = from_ini(server, "workers = 2")
    workers = wait_for_workers(s, 2)
    cases = (
        ("wokers = 2", r"it\.ini:5: there is no option wokers; did you mean workers\?"),
        ("keep-alive = soon", r'it\.ini:5: keep-alive: "soon" is not a duration'),
        (
            "forwarded-allow-ips = nonsense",
            r'it\.ini:5: forwarded-allow-ips: "nonsense" is no address',
        ),
        ("chdir = /nonexistent", r"it\.ini:5: chdir: cannot change to /nonexistent"),
        (
            "max-requests-jitter = 5",
            r"it\.ini:5: max-requests-jitter: without max-requests it does",
        ),
    )
    for count, (text, sentence) in enumerate(cases, 1):
        write_ini(s, text)
        s.signal(signal.SIGHUP)
        assert s.log_contains(rf"\[error\] mold \(\d+\): {sentence}"), s.log
        wait_for(lambda: s.log.count("reload failed") == count and len(s.molds()) == 1)  # noqa: B023
    (s.dir / "it.ini").unlink()
    s.signal(signal.SIGHUP)
    wait_for(lambda: s.log.count("reload failed: the settings or the virtual") == 6)
    assert s.workers() == workers
    assert s.get("/").status == 200
    write_ini(s, "workers = 2")
    reload(s, 2)


def test_the_reason_of_a_failed_reload_is_a_record(server: Start) -> None:
    """Also where the log is JSON, or a syslog: it does not go past the log."""
    s = from_ini(server, "log-format = json")
    write_ini(s, "log-format = json\nkeep-alive = soon")
    s.signal(signal.SIGHUP)
    assert s.log_contains("reload failed")
    records = [json.loads(line) for line in whole_lines(s.log)]
    (reason,) = [r for r in records if "keep-alive" in r["message"]]
    assert reason["level"] == "error" and reason["process"] == "mold"
    assert reason["message"].startswith('it.ini:6: keep-alive: "soon" is not a duration')


def test_directory_that_is_a_link_is_followed_anew(server: Start, tmp_path: Path) -> None:
    s = server("versioned", start=False)
    for name in ("one", "second"):
        release = tmp_path / name
        release.mkdir()
        write_app(s, name)
        (s.dir / "versioned.py").rename(release / "versioned.py")
    current = tmp_path / "current"
    current.symlink_to("one")
    s.command[1:1] = [f"--chdir={current}"]
    s.start()
    assert s.get("/").text == "one"
    current.unlink()
    current.symlink_to("second")
    reload(s, 2)
    assert s.get("/").text == "second"


# ---- files to touch


def test_touch_reload(server: Start) -> None:
    s = server("slow", start=False, touch_reload=["a", "sub/b"])
    (s.dir / "a").touch()
    s.start()
    assert "touch-reload: the directory of sub/b does not exist yet" in s.log
    assert "directory of a" not in s.log
    time.sleep(1.2)
    assert "reloading" not in s.log
    (s.dir / "a").touch()
    assert s.log_contains(r"a was touched(?s:.*)reloaded: all workers are of generation 2$")
    (s.dir / "sub").mkdir()
    (s.dir / "sub/b").touch()
    assert s.log_contains(r"sub/b was touched(?s:.*)reloaded: .* generation 3$")
    (s.dir / "a").unlink()
    time.sleep(1.5)
    assert "generation 4" not in s.log


# ---- code


def change(path: Path, text: str) -> None:
    """Give a file that is watched another text, all at once. Python compares only its second and its
    size with what is cached: the second is one that it has never had."""
    new = path.with_suffix(".new")
    new.write_text(text)
    second = path.stat().st_mtime_ns // 10**9 + 10
    os.utime(new, (second, second))
    new.replace(path)


def test_reload_on_change(server: Start, tmp_path: Path) -> None:
    s = versioned(server, "one", reload=True)
    with load(s) as requests:
        write_app(s, "second")
        assert s.log_contains(r"the code has changed(?s:.*)reloaded: .* generation 2$")
        wait_for(lambda: s.get("/").text == "second")
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "new.py").write_text("x = 1\n")
        shutil.move(tmp_path / "package", s.dir)
        assert s.log_contains(r"reloaded: all workers are of generation 3$")
        (s.dir / "page.css").write_text("not code")
        (s.dir / ".hidden").mkdir()
        (s.dir / ".hidden" / "x.py").write_text("x = 1\n")
        time.sleep(1.5)
    assert "generation 4" not in s.log
    assert requests.errors == []


def test_reload_on_change_of_a_directory_of_pythonpath(server: Start, tmp_path: Path) -> None:
    """Also of what lies deep in it."""
    text = "text = '{}'\n"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "told_here.py").write_text(text.format("one"))
    before = "from deep.told_here import text"
    s = server("versioned", start=False, reload=True, pythonpath=[tmp_path])
    (s.dir / "versioned.py").write_text(
        f"{before}\ndef application(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [text.encode()]\n"
    )
    s.start()
    assert s.get("/").text == "one"
    change(tmp_path / "deep" / "told_here.py", text.format("another"))
    assert s.log_contains(r"the code has changed(?s:.*)reloaded: .* generation 2$")
    assert s.get("/").text == "another"


def test_reload_goes_on_watching_after_an_error(server: Start) -> None:
    s = versioned(server, "one", reload=True)
    write_app(s, "two", "def broken(:")
    assert s.log_contains(r"reload failed: the application could not be loaded")
    assert "SyntaxError" in s.log
    assert s.get("/").text == "one"
    write_app(s, "three")
    wait_for(lambda: s.get("/").text == "three")


def test_first_start_that_fails_waits_for_a_change(server: Start) -> None:
    s = server("versioned", start=False, reload=True, binds=["unix:app.sock"])
    write_app(s, "one", "1 / 0")
    starter = threading.Thread(target=s.start)
    starter.start()
    assert s.log_contains(r"cannot start: the application could not be loaded; waiting")
    write_app(s, "one", "import os; os._exit(5)")
    wait_for(lambda: s.log.count("; waiting for a change") == 2, what="the second failure")
    write_app(s, "second")
    starter.join(20)
    assert s.log_contains(r"ready: ")
    assert s.get("/").text == "second"


# ---- all at once


def test_a_slow_request_survives_two_reloads(server: Start) -> None:
    s = server("slow")
    client = begin_slow(s, f"/{2 * SLOWNESS}")
    for generation in (2, 3):
        s.signal(signal.SIGHUP)
        assert s.log_contains(rf"reload: generation {generation} serves")
    client.join()
    assert client.error is None
    assert s.log_contains(r"reloaded: all workers are of generation 3$")
