"""The sampler, `myserver profile` and `myserver crash`: who did what, named rightly."""

from __future__ import annotations

import gzip
import html
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from control_client import OPTIONS, ask
from harness import FLAVOUR, SLOWNESS, Server, run, wait_for
from myserver.asking import Control
from myserver.profiles import collect, flame, formats
from myserver.profiles.profile import (
    APPLICATION_THREAD,
    OTHER_VIEW,
    Frame,
    Place,
    Profile,
    Times,
    from_json,
)
from test_master import wait_for_workers

Start = Callable[..., Server]
HZ = 250


def control(s: Server) -> Control:
    """Its control listener."""
    return Control(str(s.dir / "control.sock"))


@contextmanager
def load(s: Server, paths: Sequence[str | Callable[[], str]], clients: int = 1) -> Iterator[None]:
    """So many clients that ask for each of the paths, or what makes them, again and again."""
    done = threading.Event()

    def ask_for(path: str | Callable[[], str]) -> None:
        while not done.is_set():
            with suppress(OSError, AssertionError):
                s.get(path if isinstance(path, str) else path())

    threads = [
        threading.Thread(target=ask_for, args=(path,)) for path in paths for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def profile_until(s: Server, enough: Callable[[Profile], bool], what: str) -> Profile:
    """Profiles until it has seen enough. Shares that a machine with other work has spoilt get better
    with time."""
    found = Profile()

    def look() -> bool:
        for place, times in collect.live(control(s), 1.0, HZ).places.items():
            found.add(place, times)
        return enough(found)

    wait_for(look, 60, what)
    return found


def times_of(profile: Profile, view: str) -> Times:
    """All time of a view."""
    return dict(profile.by_view()).get(view, Times())


def hottest(profile: Profile, view: str, kind: str) -> str:
    """The function of that view in which most of that kind of time went, in itself."""
    return profile.only(view).by_function(kind)[0][0].name


def innermost(profile: Profile, view: str, kind: str) -> str:
    """The function of the application in which it is, below whatever it calls."""
    rows = profile.only(view).by_function(kind)
    return max((row for row in rows if row[0].file.endswith("profiled.py")), key=lambda r: r[1])[
        0
    ].name


def names_in(profile: Profile, view: str) -> set[str]:
    """The functions of that view."""
    return {frame.name for frame, _, _ in profile.only(view).by_function("wall")}


@pytest.mark.parametrize("threads", [1, 10])
def test_views_are_named_by_function_and_kind(server: Start, threads: int) -> None:
    s = server("profiled", threads=threads, **OPTIONS)

    def is_named(p: Profile) -> bool:
        burn, sleep = times_of(p, "GET /burn"), times_of(p, "GET /sleep")
        total = sum(p.stacks("cpu").values())
        named = sum(own for frame, own, _ in p.by_function("cpu") if "burn_cpu" in frame.name)
        return (
            (burn.cpu > 0.5 and sleep.wall > 0.5)
            and sleep.waiting > 0.8 * (sleep.wall - sleep.gil_wait)
            and burn.cpu > 5 * sleep.cpu
            and burn.gil > 5 * sleep.gil
            and named > 0.8 * total
        )

    with load(s, ["/burn", "/sleep"]):
        profile = profile_until(s, is_named, "both views")
    assert "burn_cpu" in hottest(profile, "GET /burn", "cpu")
    assert hottest(profile, "GET /sleep", "wait") == "fall_asleep"


def test_threads_that_wait_are_seen(server: Start) -> None:
    """A lock: who has it, and who waits for it, and where."""
    s = server("profiled", threads=4, **OPTIONS)

    def is_seen(p: Profile) -> bool:
        lock, hold = times_of(p, "GET /lock"), times_of(p, "GET /hold")
        return lock.wall > 0.5 and hold.wall > 0.5 and lock.waiting > 0.8 * lock.wall

    with load(s, ["/hold", "/lock"]):
        profile = profile_until(s, is_seen, "the lock")
    assert hottest(profile, "GET /lock", "wait") == "wait_for_lock"
    text = formats.report(profile, "cpu")
    waiting = text.partition("Views that only wait")[2]
    assert re.search(r"GET /lock: wait_for_lock \(\S*profiled.py:\d+\)", waiting), text


@pytest.mark.skipif(SLOWNESS == 8, reason="the wait for the GIL is not measured under TSan")
def test_a_spinner_and_who_waits_for_the_interpreter(server: Start) -> None:
    s = server("profiled", threads=4, **OPTIONS)

    def are_told_apart(p: Profile) -> bool:
        spin, need = times_of(p, "GET /spin"), times_of(p, "GET /need")
        return (
            (spin.cpu > 1 and need.wall > 0.5)
            and spin.gil > 0.5 * spin.wall
            and need.gil_wait > 0.5 * need.wall
            and need.gil < 0.3 * need.wall
        )

    with load(s, ["/spin", "/need"]):
        profile = profile_until(s, are_told_apart, "spinner and victim")
    assert hottest(profile, "GET /spin", "gil") == "spin"
    assert hottest(profile, "GET /need", "wall") == "need_interpreter"


def test_threads_of_the_application(server: Start) -> None:
    s = server("profiled", env={"BACKGROUND": "1"}, **OPTIONS)
    profile = profile_until(
        s, lambda p: times_of(p, APPLICATION_THREAD).cpu > 0.02, "the thread of the application"
    )
    assert "run_in_background" in innermost(profile, APPLICATION_THREAD, "cpu")
    assert all(place.view == APPLICATION_THREAD for place in profile.places)


def test_always_on(server: Start) -> None:
    """What was there before anybody asked."""
    s = server("profiled", threads=2, **OPTIONS)
    with load(s, ["/burn"]):
        wait_for(lambda: times_of(collect.recent(control(s)), "GET /burn").cpu > 0.5)
    profile = collect.recent(control(s))
    assert "burn_cpu" in hottest(profile, "GET /burn", "cpu")


def test_off_samples_only_for_a_profile(server: Start) -> None:
    s = server("profiled", profile_rate=0, **OPTIONS)
    s.get("/burn")
    (sampler,) = ask(s, "/profile").json()["workers"]
    assert (sampler["hz"], sampler["taken"]) == (0, 0)
    with load(s, ["/burn"]):
        profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0.1, "a profile")

    def rests() -> bool:
        return bool(ask(s, "/profile").json()["workers"][0]["hz"] == 0)

    wait_for(rests)


@pytest.mark.parametrize("how", ["reload", "recycling", "kill"])
def test_after_a_new_worker(server: Start, how: str) -> None:
    options: dict[str, Any] = {"max_requests": 5} if how == "recycling" else {}
    s = server("profiled", expect_deaths=how == "kill", **options, **OPTIONS)
    (before,) = wait_for_workers(s, 1)
    if how == "reload":
        s.signal(signal.SIGHUP)
    elif how == "kill":
        os.kill(before, signal.SIGKILL)
    with load(s, ["/burn"]):
        wait_for(lambda: before not in s.workers() and s.serving())
        profile = profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0.2, "the new worker")
    assert "burn_cpu" in hottest(profile, "GET /burn", "cpu")


def test_a_sampler_that_costs_too_much_looks_less_often(server: Start) -> None:
    """More than 1 % of a CPU: sixteen deep stacks, 250 times a second; and as often as before afterwards."""
    s = server("profiled", threads=16, **OPTIONS)

    def slowed() -> int:
        (sampler,) = ask(s, f"/profile?hz={HZ}&ms=3000", "POST").json()["workers"]
        return int(sampler["slowed"])

    with load(s, ["/deep-asleep"], clients=16):
        wait_for(slowed, what="the sampler to keep to its budget")
    wait_for(
        lambda: ask(s, "/profile").json()["workers"][0]["slowed"] == 0, what="nothing to look at"
    )


def test_many_stacks_and_forks(server: Start) -> None:
    """Deep recursion, code that dies, children of the application: nothing crashes or hangs."""
    s = server("profiled", threads=4, **OPTIONS)
    with load(s, ["/deep", "/fork", "/code"]):
        profile = profile_until(
            s,
            lambda p: (
                all(times_of(p, f"GET {v}").wall > 0.3 for v in ("/deep", "/fork", "/code"))
                and times_of(p, "GET /deep").cpu > 0.1
                and any(re.fullmatch(r"made_\d+", name) for name in names_in(p, "GET /code"))
            ),
            "all three",
        )
    assert "burn_cpu" in innermost(profile, "GET /deep", "cpu")


def test_views_are_bounded(server: Start) -> None:
    """Those that were there first keep their names; the rest has one together."""
    s = server("profiled", threads=10, **OPTIONS)
    numbers = itertools.count()
    with load(s, ["/burn"]):
        profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0, "the first view")
        with load(s, [lambda: f"/nap/{next(numbers)}"], clients=9):
            profile_until(
                s,
                lambda p: times_of(p, OTHER_VIEW).wall > 0 and times_of(p, "GET /burn").cpu > 0.1,
                "views that are too many, and one that was there first",
            )
    views = ask(s, "/samples?worker=1&all=1").json()["views"]
    assert len(views) == 255 and len(set(views)) == 255


def test_promoted_worker(server: Start) -> None:
    """A worker that becomes the mold ends its sampler first; its workers sample."""
    s = server("profiled", refork_after="3", **OPTIONS)
    before = s.molds()
    for _ in range(4):
        s.get("/burn")
    wait_for(lambda: s.molds() and s.molds() != before)
    with load(s, ["/burn"]):
        profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0.1, "the new worker")


# ---- the command


def command(s: Server, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """`myserver profile` of that server."""
    return run("profile", "--control", f"unix:{s.dir}/control.sock", *args)


def test_command_formats(server: Start, tmp_path: Path) -> None:
    s = server("profiled", threads=2, **OPTIONS)
    saved = tmp_path / "saved.json"

    def has_both() -> bool:
        done = command(s, "--seconds=2", "-o", saved)
        assert done.returncode == 0, done.stderr
        found = from_json(saved.read_text())
        return times_of(found, "GET /burn").cpu > 0 and times_of(found, "GET /sleep").waiting > 0

    with load(s, ["/burn", "/sleep"]):
        wait_for(has_both, 60, "a profile of both views")
    assert "burn_cpu" in run("profile", "--from", saved).stdout
    lines = run("profile", "--from", saved, "--lines", "burn_cpu").stdout
    assert re.search(r"\d+ +[\d.]+% +[\d.]+% +sum\(i \* i for i in range\(100\)\)", lines), lines
    collapsed = run("profile", "--from", saved, "--format=collapsed").stdout
    assert re.search(r"^GET /burn;application \(.*\);burn_cpu .* \d+$", collapsed, re.M), collapsed
    waits = run("profile", "--from", saved, "--format=collapsed", "--wait", "--view=sleep").stdout
    assert "fall_asleep" in waits and "burn_cpu" not in waits
    page = tmp_path / "flame.html"
    assert run("profile", "--from", saved, "-o", page).returncode == 0
    assert "burn_cpu" in page.read_text() and "@DATA@" not in page.read_text()
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page.read_text())


def test_command_finds_the_server(server: Start, tmp_path: Path) -> None:
    s = server("profiled", **OPTIONS)
    ini = tmp_path / "server.ini"
    ini.write_text(f"[myserver]\napp = profiled\ncontrol = unix:{s.dir}/control.sock\n")
    with load(s, ["/burn"]):
        wait_for(lambda: "burn_cpu" in run("profile", "-c", ini, "--seconds=1").stdout)
    (tmp_path / "none.ini").write_text("[myserver]\napp = profiled\n")
    failed = run("profile", "-c", tmp_path / "none.ini")
    assert failed.returncode == 2 and "does not set control" in failed.stderr
    failed = run("profile", "--control", "unix:/nowhere/there.sock", "--seconds=1")
    assert failed.returncode == 2 and "does not answer" in failed.stderr
    for wrong in ("--hz=0", "--hz=1000", "--seconds=-1", "--format=svg"):
        assert command(s, wrong).returncode == 2
    failed = command(s, "--seconds=1", "--view=/nothing")
    assert failed.returncode == 2 and "no view with /nothing" in failed.stderr


def test_control_bounds(server: Start) -> None:
    s = server("profiled", **OPTIONS)
    for wrong in ("hz=0&ms=100", "hz=251&ms=100", "hz=100&ms=60001", "hz=x&ms=1", "", "hz=100"):
        assert ask(s, f"/profile?{wrong}", "POST").status == 400, wrong
    for wrong in ("/samples", "/samples?worker=0", "/samples?worker=999", "/crash?number=1"):
        assert ask(s, wrong).status == 404, wrong
    assert ask(s, "/samples?worker=1", "POST").status == 405


def test_reading_does_not_need_the_workers(server: Start) -> None:
    s = server("profiled", threads=2, **OPTIONS)
    with load(s, ["/burn"]):
        wait_for(lambda: times_of(collect.recent(control(s)), "GET /burn").wall > 0.5)
    (pid,) = s.workers()
    os.kill(pid, signal.SIGSTOP)
    try:
        profile = collect.recent(control(s))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert times_of(profile, "GET /burn").wall > 0


# ---- forms


def sample() -> Profile:
    """A profile that was made by hand."""
    outer, inner = Frame("outer", "/a/b.py", 1, 3), Frame("sch<ö>n;er", "/a/c.py", 10, 12)
    profile = Profile(seconds=2.0, title="t")
    profile.add(Place("GET /", "worker 1 thread 1", (outer, inner)), Times(1.0, 0.75, 0.5, 0.125))
    profile.add(Place("GET /x", "worker 1", (outer,)), Times(3.0, 0.0, 0.0, 0.0))
    return profile


def test_json_and_back() -> None:
    profile = sample()
    assert from_json(profile.to_json()) == profile
    for wrong in ("", "[]", "{}", '{"myserver_profile": 2}'):
        with pytest.raises(ValueError):
            from_json(wrong)


def read_message(data: bytes) -> list[tuple[int, Any]]:
    """The fields of a protobuf message."""
    fields = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            fields.append((key >> 3, varint()))
        else:
            assert key & 7 == 2
            size = varint()
            fields.append((key >> 3, data[at : at + size]))
            at += size
    return fields


def varints(data: bytes) -> list[int]:
    """Packed numbers."""
    return [n for byte in [data] for n in _split(byte)]


def _split(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def test_pprof_is_what_was_put_in() -> None:
    fields = read_message(gzip.decompress(formats.pprof(sample())))
    texts = [value.decode() for number, value in fields if number == 6]
    assert texts[0] == ""
    types = [dict(read_message(value)) for number, value in fields if number == 1]
    assert [texts[t[1]] for t in types] == ["cpu", "wall", "gil", "wait"]
    functions = {f[1]: f for f in (dict(read_message(v)) for n, v in fields if n == 5)}
    locations = {x[1]: x for x in (dict(read_message(v)) for n, v in fields if n == 4)}
    found = {}
    for value in (v for n, v in fields if n == 2):
        parts = read_message(value)
        lines = [
            dict(read_message(locations[i][4])) for n, v in parts if n == 1 for i in varints(v)
        ]
        names = tuple(texts[functions[line[1]][2]] for line in lines)
        found[names] = [v for n, v in parts if n == 2 for v in varints(v)]
        labels = [dict(read_message(v)) for n, v in parts if n == 3]
        assert {texts[label[1]] for label in labels} == {"view", "thread"}
    assert found == {
        ("sch<ö>n;er", "outer"): [750_000_000, 1_000_000_000, 500_000_000, 125_000_000],
        ("outer",): [0, 3_000_000_000, 0, 3_000_000_000],
    }


def pprof() -> str | None:
    """The program that reads profiles, where it is installed: Go has brought it up to 1.24; a newer one
    would compile it now, which takes most of a minute of two CPUs."""
    if not (go := shutil.which("go")):
        return shutil.which("pprof")
    tools = subprocess.run([go, "env", "GOTOOLDIR"], capture_output=True, text=True, check=True)
    return shutil.which("pprof") or shutil.which("pprof", path=tools.stdout.strip())


def test_pprof_reads_it(tmp_path: Path) -> None:
    program = pprof()
    if not program:
        pytest.skip("needs pprof")
    path = tmp_path / "p.pb.gz"
    path.write_bytes(formats.pprof(sample()))
    command = [program, "-top", "-sample_index=wall", str(path)]
    top = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    assert re.search(r"3s +75.00% .* outer", top), top


def test_speedscope_form() -> None:
    data = json.loads(formats.speedscope(sample()))
    assert data["$schema"].endswith("file-format-schema.json")
    for profile in data["profiles"]:
        assert profile["type"] == "sampled" and profile["unit"] == "seconds"
        assert len(profile["samples"]) == len(profile["weights"])
        frames = data["shared"]["frames"]
        assert all(0 <= i < len(frames) for stack in profile["samples"] for i in stack)
        assert profile["endValue"] == pytest.approx(sum(profile["weights"]))
    wall = next(p for p in data["profiles"] if p["name"] == "wall time")
    assert sorted(wall["weights"]) == [1.0, 3.0]


def test_collapsed_form() -> None:
    lines = formats.collapsed(sample(), "wall").splitlines()
    assert lines == [
        "GET /;outer (/a/b.py:1);sch<ö>n:er (/a/c.py:10) 1000000",
        "GET /x;outer (/a/b.py:1) 3000000",
    ]


def test_difference(tmp_path: Path) -> None:
    before, after = sample(), sample()
    added = Frame("added", "/a/d.py", 1, 1)
    after.add(Place("GET /", "worker 1 thread 1", (added,)), Times(1.0, 0.75, 0.75, 0.0))
    text = flame.difference_text(before, after, "cpu")
    assert re.search(r"0.0% +50.0% +\+50.0%  added", text), text
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    for path, profile in zip(paths, (before, after), strict=True):
        path.write_text(profile.to_json())
    done = run("profile", "--diff", *paths)
    assert done.stdout == text
    page = run("profile", "--diff", *paths, "--format=html").stdout
    assert '"compares":true' in page and "added" in page


# What a user does: searches, zooms in by mouse and keyboard, goes back, looks at another time.
TRY_PAGE = """<script>
const said = [], at = name => [...graph.children].find(box => box.node.name === name);
const press = key => graph.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
search.value = "outer"; search.dispatchEvent(new Event("input"));
said.push(found.textContent, document.querySelectorAll("#graph .hit").length);
at("outer").click();
said.push(Math.round(at("outer").offsetWidth / graph.clientWidth * 100), reset.disabled);
press("ArrowDown"); said.push(document.activeElement.node.name, detail.textContent);
press("Enter"); said.push(focus.name);
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
said.push(focus.name, reset.disabled, document.querySelectorAll("#graph .hit").length);
which.value = 1; which.dispatchEvent(new Event("change"));
said.push(Math.round(at("GET /x").offsetWidth / graph.clientWidth * 100));
document.body.innerHTML = ""; document.title = JSON.stringify(said);
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_flame_graph_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "flame.html"
    page.write_text(flame.flame(sample(), "cpu").replace("</body>", TRY_PAGE + "</body>"))
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    shown = subprocess.run(
        [*chromium, f"--user-data-dir={tmp_path}/data", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120 * SLOWNESS,
        check=True,
    ).stdout
    title = re.search(r"<title>(.*)</title>", shown)
    assert title, shown
    assert json.loads(html.unescape(title[1])) == [
        "1 found, 100.0 % of all",
        1,
        100,
        False,
        "sch<ö>n;er",
        "sch<ö>n;er /a/c.py:10: 750 ms, 100.0 % of all; in itself 750 ms",
        "sch<ö>n;er",
        "all",
        True,
        0,
        75,
    ]


# ---- the minute before the crash


def crash_report(s: Server, *args: str) -> str:
    """What `myserver crash` prints."""
    done = run("crash", "--control", f"unix:{s.dir}/control.sock", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(FLAVOUR == "asan", reason="the sanitizer makes an exit of a crash")
def test_crash(server: Start) -> None:
    s = server(
        "profiled", threads=2, expect_deaths=True, expect_signals=[signal.SIGSEGV], **OPTIONS
    )
    (before,) = wait_for_workers(s, 1)
    none = run("crash", "--control", f"unix:{s.dir}/control.sock")
    assert none.returncode == 2 and "no worker has died" in none.stderr
    s.get("/sleep")
    with load(s, ["/long"]):
        wait_for(lambda: times_of(collect.recent(control(s)), "GET /long").wall > 0)
        with suppress(OSError, AssertionError), s.connect() as client:
            client.sendall(b"GET /crash?secret=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            client.recv(1)
        assert s.log_contains(r"what worker 1 did before it died: myserver crash 1")
        wait_for_workers(s, 1, without=before)
    text = crash_report(s)
    assert re.search(rf"worker 1 \(pid {before}\): signal 11 \(SIGSEGV\)", text), text
    assert re.search(r"thread \d: GET /crash, running", text), text
    assert re.search(r"thread \d, GET /long, \d+ ms before", text), text
    assert re.search(r"    sleep_long \(\S+profiled.py:\d+\)\n    application ", text), text
    assert re.search(r"s before +[\d.]+ ms  200  GET /sleep", text), text
    assert "secret" not in text
    assert text.partition("the minute before")[2].count("GET /long")


def test_killed_worker_and_its_log(server: Start) -> None:
    """Killed from outside while it runs; the next death is another one."""
    s = server("profiled", expect_deaths=True, log_level="debug", **OPTIONS)
    for number in (1, 2):
        (pid,) = wait_for_workers(s, 1)
        s.get("/burn")
        wait_for(lambda: ask(s, "/stats").json()["total"]["requests"] == number)  # noqa: B023
        os.kill(pid, signal.SIGKILL)
        assert s.log_contains(rf"myserver crash {number}$")
        wait_for_workers(s, 1, without=pid)
        text = crash_report(s, str(number))
        assert re.search(rf"\(pid {pid}\): signal 9 \(SIGKILL\)", text), text
        assert "GET /burn" in text.partition("Requests that it had ended")[2]
    listed = crash_report(s, "--list")
    assert len(listed.splitlines()) == 2, listed
    assert run("crash", "3", "--control", f"unix:{s.dir}/control.sock").returncode == 2


def test_only_the_last_deaths_are_kept(server: Start) -> None:
    s = server("profiled", expect_deaths=True, **OPTIONS)
    for number in range(1, 7):
        (pid,) = wait_for_workers(s, 1)
        s.get("/")
        os.kill(pid, signal.SIGKILL)
        assert s.log_contains(rf"myserver crash {number}$")
        wait_for_workers(s, 1, without=pid)
    kept = [d["number"] for d in ask(s, "/crashes").json()["deaths"]]
    assert kept == [3, 4, 5, 6]
    with load(s, ["/burn"]):
        profile_until(s, lambda p: times_of(p, "GET /burn").cpu > 0.1, "the worker of today")
