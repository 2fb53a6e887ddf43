"""The error log and the access log: what stands in them, and what no client can put there."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_client import OPTIONS
from control_client import ask as control
from harness import APPS, SLOWNESS, Server, run, wait_for, whole_lines
from wire import Wire, ask, is_read, let, request

Start = Callable[..., Server]

RECORD = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z \[(debug|info|warning|error|critical)\] "
    r"(myserver|master|mold|worker \d+) \(\d+\): \S.*"
)
FIELD = r'"((?:[^"\\]|\\.)*)"'
COMBINED = re.compile(
    r"(?P<client>\S+) - (?P<user>\S+) \[(?P<time>\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    rf"(?P<request>{FIELD}) (?P<status>\d{{3}}) (?P<bytes>\d+|-) "
    rf"(?P<referer>{FIELD}) (?P<agent>{FIELD})"
)


def access_log(s: Server, count: int) -> list[str]:
    """Wait until the access log has so many lines; those."""
    path = s.dir / "access.log"

    def lines() -> list[str]:
        return path.read_bytes().decode(errors="surrogateescape").split("\n")[:-1]

    wait_for(lambda: len(lines()) >= count, what=f"{count} lines: {lines()}")
    return lines()


# ---- the error log


def start_on(s: Server, port: int) -> Server:
    """Start a server that does not say that it is ready."""
    s._is_ready = lambda: can_ask(s)  # type: ignore[method-assign]
    s.names = [f"127.0.0.1:{port}"]
    names = s.names
    s.start()
    s.names = names
    return s


def can_ask(s: Server) -> bool:
    """Whether it answers."""
    try:
        return ask(s, "/").status == 200
    except OSError:
        return False


LEVELS = ["debug", "info", "warning", "error", "critical"]


@pytest.mark.parametrize("level", LEVELS)
def test_levels(server: Start, free_port: int, level: str) -> None:
    """Records below the level are dropped, whoever writes them."""
    binds = [f"127.0.0.1:{free_port}"]
    s = start_on(server("says", log_level=level, binds=binds, start=False), free_port)
    ask(s, "/say")
    assert s.stop() == 0
    seen = set(re.findall(r" \[(\w+)\] ", s.log))
    assert seen <= set(LEVELS[LEVELS.index(level) :])
    for other in LEVELS:
        said = f"said as {other}." in s.log
        assert said == (LEVELS.index(other) >= LEVELS.index(level)), other
    assert ("ready: " in s.log) == (level in ("debug", "info"))
    assert "\nprinted\n" in f"\n{s.log}" and "\ncomplained\n" in f"\n{s.log}"


def test_records(server: Start) -> None:
    """One line each with time, level and process; what belongs to one is indented."""
    s = server("says")
    ask(s, "/say")
    ask(s, "/fail?x", method="POST", body=b"")
    assert s.log_contains(r"\[error\] worker 1 \(\d+\): POST /fail: uncaught exception")
    assert s.log_contains(r"^  ValueError: uncaught$")
    assert s.stop() == 0
    for line in s.log.splitlines():
        if line not in ("printed", "complained") and not line.startswith("  "):
            assert RECORD.fullmatch(line), line
    assert "\x1b" not in s.log
    assert "logged with its traceback" in s.log


TRACE = r"  Traceback \(most recent call last\):\n(?:    .*\n)+"
BAD = r"bad\n  2026-11-29 12:00:00.000 \[info\] master \(1\): forged \\ud800\n"


@pytest.mark.parametrize(
    ("how", "record"),
    [
        ("", rf"two\\n  lines\n{TRACE}  ValueError: {BAD}"),
        ("stack", rf"two\\n  lines\n{TRACE}  ValueError: {BAD}  Stack \(most .*\n(?:    .*\n)+"),
        ("short", rf"says: two\\n  lines\n  {BAD}"),
        ("silent", r"two\\n  lines\\n\n"),
        ("single", r"two\\n  lines\\nbecause of bad\\n2026-11-29 .* forged \S+\n"),
    ],
    ids=["traceback", "stack", "short", "silent", "single"],
)
def test_traceback_of_the_application(server: Start, how: str, record: str) -> None:
    """In the form of the server's own, as far as the application's formatter lets it."""
    s = server("says")
    ask(s, f"/trace?{how}")
    ask(s, "/fail")
    assert s.log_contains(r"^  ValueError: uncaught$")
    pattern = rf"^\S+ \S+ \[error\] worker 1 \(\d+\): {record}\S+ \S+ \[\w+\] worker 1 "
    assert re.search(pattern, s.log, re.MULTILINE), s.log


def test_traceback_of_the_application_as_json(server: Start) -> None:
    """In a member of its own."""
    s = server("says", error_logfile="error.log", log_format="json", start=False)
    s.log_path = s.dir / "error.log"
    s.start()
    s.names = [name.rstrip('"}') for name in s.names]
    ask(s, "/trace")
    assert s.stop() == 0
    (record,) = (r for r in map(json.loads, s.log.splitlines()) if "detail" in r)
    assert record["message"] == "two\n  lines"
    assert record["detail"].startswith("Traceback (most recent call last):\n  File ")
    assert record["detail"].endswith(" [info] master (1): forged \\ud800")


def test_error_log_file(server: Start, free_port: int) -> None:
    """It takes the records and all that the application prints; a restart appends."""
    binds = [f"127.0.0.1:{free_port}"]
    s = start_on(server("says", error_logfile="errors.log", binds=binds, start=False), free_port)
    ask(s, "/say")
    log = s.dir / "errors.log"
    wait_for(lambda: "ready: " in log.read_text())
    assert s.stop() == 0
    for text in ("ready: ", "said as error.", "printed", "complained", "stopped"):
        assert text in log.read_text()
    assert s.log == ""
    assert log.stat().st_mode & 0o777 == 0o640
    start_on(s, free_port)
    wait_for(lambda: log.read_text().count("ready: ") == 2)
    assert s.stop() == 0


@pytest.mark.parametrize("option", ["--error-logfile", "--access-logfile"])
@pytest.mark.parametrize("check", [["--check-config"], []], ids=["check", "serve"])
def test_log_that_cannot_be_written(tmp_path: Path, option: str, check: list[str]) -> None:
    """A sentence and exit status 2, before anything is served; --check-config makes no file."""
    common = [*check, "--pythonpath", APPS, "--bind=127.0.0.1:0", "hello"]
    for path in (tmp_path / "none" / "x.log", tmp_path):
        done = run(option, path, *common)
        assert done.returncode == 2
        assert f"{option.strip('-')}: cannot open {path}: " in done.stderr
        way_out = "its directory does not exist; make it, or let the service manager do that (Logs"
        assert (way_out in done.stderr) == (path != tmp_path)
        assert "ready" not in done.stderr
    if check:
        assert run(option, tmp_path / "new.log", *common).returncode == 0
        assert not list(tmp_path.iterdir())


# ---- the access log


def test_off_by_default(server: Start) -> None:
    """Nothing is said of requests."""
    s = server("hello")
    ask(s, "/secret")
    assert s.stop() == 0
    assert "/secret" not in s.log


def test_combined(server: Start) -> None:
    """What every tool reads."""
    s = server("says", access_logfile="access.log")
    user = base64.b64encode(b"me:pass").decode()
    lines = ("Referer: http://r/", "User-Agent: a (b)", f"Authorization: Basic {user}")
    ask(s, "/x?y=%20z", *lines)
    ask(s, "/", method="HEAD")
    first, second = (COMBINED.fullmatch(line) for line in access_log(s, 2))
    assert first and second
    assert first["client"] == "127.0.0.1" and first["user"] == "me"
    assert first["request"] == '"GET /x?y=%20z HTTP/1.1"'
    assert (first["status"], first["bytes"]) == ("200", "5")
    assert (first["referer"], first["agent"]) == ('"http://r/"', '"a (b)"')
    assert second["request"] == '"HEAD / HTTP/1.1"'
    assert (second["user"], second["bytes"], second["agent"]) == ("-", "-", '"-"')
    assert (s.dir / "access.log").stat().st_mode & 0o777 == 0o640


def test_json(server: Start) -> None:
    """One object a line, with its own types."""
    s = server("says", access_logfile="access.log", access_logformat="json", workers=2)
    ask(s, "/x?y", "User-Agent: caf\xe9", method="POST", body=b"1")
    (entry,) = (json.loads(line) for line in access_log(s, 1))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert 0 < entry.pop("duration_ms") < 60_000
    assert entry.pop("worker") in (1, 2)
    assert re.fullmatch(r"[0-9a-f]{32}", entry.pop("trace"))
    assert sum(entry.pop("ms").values()) > 0
    assert entry == {
        "view": "POST /x",
        "queries": 0,
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/x",
        "query": "y",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 5,
        "referer": None,
        "user_agent": "caf\ufffd",
        "end": None,
    }


def test_own_format(server: Start) -> None:
    """Every atom."""
    form = (
        "%(h)s|%(l)s|%(u)s|%(r)s|%(s)s|%(m)s|%(U)s|%(q)s|%(H)s|%(b)s|%(B)s|%(f)s|%(a)s|"
        "%(T)s|%(D)s|%(M)s|%(L)s|%(p)s|%({X-In}i)s|%({x-said}o)s|%({X-No}i)s|100%%|%(t)s"
    )
    s = server("says", access_logfile="access.log", access_logformat=form)
    ask(s, "/x?out", "X-In: in")
    (line,) = access_log(s, 1)
    seconds = r"\d+\|\d+\|\d+\|\d+\.\d{6}"
    assert re.fullmatch(
        r"127\.0\.0\.1\|-\|-\|GET /x\?out HTTP/1\.1\|200\|GET\|/x\|out\|HTTP/1\.1\|5\|5\|-\|-\|"
        + seconds
        + rf"\|<{s.workers()[0]}>\|in\|out\|-\|100%"
        + r"\|\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]",
        line,
    ), line


FORMATS = {
    "combined": "combined",
    "json": "json",
    "own": '"%(r)s" "%(u)s" "%(f)s" "%(a)s" "%({X-In}i)s" "%({X-Said}o)s" "%(U)s" "%(q)s"',
}
EVIL = [
    '" 200 5 "-" "-"',
    '\\" forged \\',
    "\\",
    "a\tb",
    "\x80\x85\x9b31m caf\xe9 \xff\xfe",
    "\xe2\x80\xa8 next line \xc2\x85 \xed\xa0\x80",
    "%(h)s %s %n",
    '"}\\u000a{"',
]


@pytest.mark.parametrize("name", FORMATS)
def test_nobody_forges_a_line(server: Start, name: str) -> None:
    """Whatever clients send, a request is a line, a field a field, and text is plain."""
    s = server("says", access_logfile="access.log", access_logformat=FORMATS[name])
    users = [b"a\r\nb:x", b'"\x1b[31m\0:x', b"caf\xe9\\:x"]
    count = 0
    for text in EVIL:
        target = "/" + text.replace(" ", "+").replace("\t", "")
        ask(s, "/", f"User-Agent: {text}", f"Referer: {text}", f"X-In: {text}")
        ask(s, "/%0d%0a%22?%0A" + text.encode("latin-1").hex())
        with Wire(s) as wire:
            wire.send(request("GET", target)).answer()
        count += 3
    for user in users:
        ask(s, "/", f"Authorization: Basic {base64.b64encode(user).decode()}")
        count += 1
    for line in (b"GET /\r HTTP/1.1\r\n", b'"\x00\x1b]0;x\x07\r\n', b"\xff" * 100 + b"\r\n\r\n"):
        with Wire(s) as wire:
            wire.send(line + b"Host: a\r\n\r\n").answer()
        count += 1
    ask(s, "/")
    count += 1
    lines = access_log(s, count)
    assert len(lines) == count
    for line in lines:
        assert line.isprintable(), line
        line.encode("utf-8")
        if name == "json":
            assert set(json.loads(line)) > {"time", "status", "end"}
        elif name == "combined":
            assert COMBINED.fullmatch(line), line
        else:
            assert re.fullmatch(" ".join([FIELD] * 8), line), line


def ends(s: Server) -> list[tuple[Any, ...]]:
    """Status, method and end of every line."""
    entries = [json.loads(line) for line in whole_lines((s.dir / "access.log").read_text())]
    return [(e["status"], e["method"], e["end"]) for e in entries]


HALF_POST = b"POST /app/echo HTTP/1.1\r\nContent-Length: 9\r\nHost: a\r\n"


@pytest.mark.parametrize("threads", [1, 4])
def test_one_line_however_it_ended(server: Start, threads: int) -> None:
    """Answered, refused, timed out, torn: one line, with the status that was sent."""
    s = server(
        "cases",
        threads=threads,
        access_logfile="access.log",
        access_logformat="json",
        header_timeout="200ms",
        body_timeout="200ms",
        limit_request_line=200,
        limit_request_body="1k",
        script_name="/app",
    )
    host = b"Host: a\r\n"
    half = HALF_POST
    sent: list[tuple[bytes, tuple[Any, ...]]] = [
        (request("GET", "/app/"), (200, "GET", None)),
        (request("HEAD", "/app/"), (200, "HEAD", None)),
        (request("GET", "/elsewhere"), (404, "GET", None)),
        (request("GET", "/app/raises?ValueError"), (500, "GET", None)),
        (b"GET  /two HTTP/1.1\r\n" + host + b"\r\n", (400, None)),
        (b"GET /" + b"x" * 300 + b" HTTP/1.1\r\n" + host + b"\r\n", (414, None)),
        (b"GET /app/ HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", (431, "GET")),
        (b"CONNECT /app/ HTTP/1.1\r\n" + host + b"\r\n", (501, "CONNECT")),
        (b"GET /app/ HTTP/2.0\r\n" + host + b"\r\n", (505, "GET")),
        (half.replace(b"9", b"9999") + b"\r\n", (413, "POST")),
        (b"GET /app/ HTTP/1.1\r\n", (408, "GET", "header timeout")),
        (half + b"\r\nhalf", (408, "POST", "body timeout")),
        (request("GET", "/app/closing/short?x"), (200, "GET", None)),
        (request("GET", "/app/closing/fails-late?x"), (200, "GET", "application failed")),
    ]
    for done, (data, (status, method, *end)) in enumerate(sent, 1):
        with Wire(s) as wire:
            wire.send(data)
            wire.answer("HEAD" if data.startswith(b"HEAD") else "GET")
            wait_for(lambda done=done: len(ends(s)) >= done, what=f"the line of {data!r}")
        seen = ends(s)
        assert len(seen) == done, (data, seen)
        assert seen[-1][0] == status, (data, seen[-1])
        if method:
            assert seen[-1][1] == method
        if end:
            assert seen[-1][2] == end[0], (data, seen[-1])
    assert s.stop() == 0
    assert len(ends(s)) == len(sent), ends(s)


@pytest.mark.parametrize("threads", [1, 4])
def test_one_line_of_who_leaves(server: Start, threads: int) -> None:
    """In the middle of a request, or of its answer; and none of who has asked for nothing."""
    options = {"access_logfile": "access.log", "access_logformat": "json", "script_name": "/app"}
    s = server("cases", threads=threads, **options)
    halves = (b"GET /app", HALF_POST, HALF_POST + b"\r\nhalf")
    for done, data in enumerate(halves, 1):
        with Wire(s) as wire:
            wire.send(data)
            assert wire.is_silent()
        wait_for(lambda done=done: len(ends(s)) >= done, what="the line of a client that left")
        assert ends(s)[-1][::2] == (499, "client closed")
    with Wire(s) as wire:
        wire.send(request("GET", "/app/") * 5)
        for _ in range(5):
            assert wire.answer().complete
    with Wire(s):
        pass
    with Wire(s) as wire:
        wire.request("GET", "/app/steps?go")
        wire.head()
    let(s, "go")
    wait_for(lambda: len(ends(s)) >= 3 + 6, what="five pipelined ones, and one that left")
    assert s.stop() == 0
    assert len(ends(s)) == 3 + 6, ends(s)


@pytest.mark.parametrize("path, status", [("/lock", 0), ("/drip", 200)])
@pytest.mark.parametrize("way", ["killed", "INT", "TERM", "timeout"])
def test_one_line_when_the_worker_ends(server: Start, way: str, path: str, status: int) -> None:
    """The master writes the line of a request that ends with its worker, and counts it, once."""
    s = server(
        "stuck",
        threads=2,
        access_logfile="access.log",
        access_logformat="json",
        graceful_timeout="200ms" if way == "TERM" else "30s",
        timeout=f"{0.5 * SLOWNESS}s" if way == "timeout" else "0",
        expect_deaths=way in ("killed", "TERM"),
        prewarm_rounds=0,
        **OPTIONS,
    )
    (pid,) = s.workers()
    with Wire(s) as wire:
        wire.send(request("GET", f"{path}?secret"))
        assert wire.head().status == 200 if status else s.log_contains(f"running {path}")
        if way == "killed":
            os.kill(pid, signal.SIGKILL)
        elif way != "timeout":
            assert s.stop(signal.SIGINT if way == "INT" else signal.SIGTERM) == 0
        ended = s.log_contains(rf"worker 1 \(pid {pid}\) (left|died).*", 20)
        assert ended and (way == "TERM" or ended[0].endswith("; it was running"))
    assert s.log_contains(rf"it was running\n  thread \d: GET {path}, running")
    (entry,) = (json.loads(line) for line in access_log(s, 1))
    if way == "timeout" and path == "/lock":
        expected = {"status": 504, "query": "secret", "end": "timeout"}
    else:
        expected = {"status": status, "query": "", "end": "worker ended", "bytes": 0}
    expected |= {"client": "127.0.0.1", "method": "GET", "path": path, "protocol": "HTTP/1.1"}
    assert entry.items() >= expected.items()
    if way in ("killed", "timeout"):
        name = {0: "none", 2: "2xx", 5: "5xx"}[entry["status"] // 100]
        for line in "requests_total", f'responses_total{{class="{name}"}}':
            wait_for(lambda line=line: f"\nmyserver_{line} 1\n" in control(s, "/metrics").text)


def test_one_line_of_what_the_loop_has_at_a_quick_stop(server: Start) -> None:
    """Half a request, and an answer that its client does not take."""
    options = {"access_logfile": "access.log", "access_logformat": "json"}
    s = server("cases", **options)
    with Wire(s) as half, Wire(s) as whole:
        half.send(b"GET /half HTTP/1.1\r\n")
        whole.request("GET", f"/big?{16 << 20}").head()
        assert ask(s, "/").complete  # by the one thread, which has left the others to the loop
        assert s.stop(signal.SIGINT) == 0
    seen = [(e["status"], e["path"], e["end"]) for e in map(json.loads, access_log(s, 3))]
    assert (499, "/half", "stopped at once") in seen and (200, "/big", "stopped at once") in seen


def test_one_line_of_a_whole_request_that_waits_at_a_quick_stop(server: Start) -> None:
    """No thread has begun it, and the loop has no more to do for it."""
    options = {"access_logfile": "access.log", "access_logformat": "json"}
    s = server("stuck", binds=["unix:app.sock"], **options)
    with Wire(s) as busy, Wire(s) as waits:
        waits.send(b"POST /waits HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        wait_for(lambda: is_read(waits.socket))
        busy.request("GET", "/lock")
        assert s.log_contains("running /lock")
        waits.send(b"b")
        wait_for(lambda: is_read(waits.socket))
        assert s.stop(signal.SIGINT) == 0
    seen = {(e["status"], e["path"], e["end"]) for e in map(json.loads, access_log(s, 2))}
    assert seen == {(499, "/waits", "stopped at once"), (0, "/lock", "worker ended")}


def test_format_of_the_lines_follows_a_reload(server: Start) -> None:
    """Also that of the lines which the master writes."""
    s = server(
        "stuck", args=["-c", "it.ini"], start=False, expect_deaths=True, access_logfile="access.log"
    )
    (s.dir / "it.ini").write_text("[myserver]\nprewarm-rounds = 0\n")
    s.start()
    with (s.dir / "it.ini").open("a") as ini:
        ini.write("access-logformat = %(m)s %(U)s %(s)s <%(h)s> %(p)s\n")
    s.signal(signal.SIGHUP)
    assert s.log_contains("reloaded: all workers")
    (pid,) = s.workers()
    with Wire(s) as wire:
        wire.send(request("GET", "/lock"))
        assert s.log_contains("running /lock")
        os.kill(pid, signal.SIGKILL)
        assert access_log(s, 1) == [f"GET /lock 000 <127.0.0.1> <{pid}>"]


LONG = "x" * 300


@pytest.mark.parametrize(
    "sent, status, shown, record",
    [
        (f"GET /a?b HTTP/1.1\r\nCookie: {LONG * 30}", 431, "GET /a?b HTTP/1.1", "GET /a"),
        ('GET /"\\ HTTP/1.1\r\nbad', 400, 'GET /\\"\\\\ HTTP/1.1', 'GET /"\\'),
        ("GET /a?b HTTP/3.0", 505, "GET /a?b HTTP/3.0", "GET /a"),
        ("CONNECT a:443 HTTP/1.1", 501, "CONNECT a:443 HTTP/1.1", "CONNECT a:443"),
        ("BREW /a HTTP/2.0", 505, "BREW /a HTTP/2.0", "BREW /a"),
        (f"{LONG} /{LONG} HTTP/2.0", 505, f"{LONG} /{LONG} HTTP/2.0", f"{LONG[:16]} /{LONG[:255]}"),
        (f"GET /{LONG * 30} HTTP/1.1", 414, "-", None),
        ("GET /a\x1b HTTP/1.1", 400, "-", None),
        ("GET /a HTTP/x.y", 400, "-", None),
        ("\x16\x03\x01", 400, "-", None),
    ],
)
def test_request_line_of_the_refused(
    server: Start, sent: str, status: int, shown: str, record: str | None
) -> None:
    """It is shown where it was read whole, so that the one whose cookie is too large is found."""
    form = '"%(r)s" %(s)s "%(H)s" "%(m)s"'
    s = server("hello", access_logfile="access.log", access_logformat=form)
    with Wire(s) as wire:
        assert wire.send(f"{sent}\r\nHost: a\r\n\r\n".encode()).answer().status == status
    (line,) = access_log(s, 1)
    method, version = (shown.split()[0], shown.split()[-1]) if record else ("-", "-")
    assert line == f'"{shown}" {status} "{version}" "{method}"'
    match = s.log_contains(rf"refused a request from 127\.0\.0\.1: {status} [\w -]+?(, .*)?$")
    assert match and match[1] == (f", {record}" if record else None)


def test_lines_stay_whole(server: Start) -> None:
    """Two workers of four threads write long lines into one file at the same time."""
    s = server("hello", workers=2, threads=4, access_logfile="access.log")

    def chat(letter: str) -> None:
        with Wire(s) as wire:
            for i in range(40):
                wire.ask(f"/{letter}{i}", f"User-Agent: {letter * 6000}")

    clients = [threading.Thread(target=chat, args=(letter,)) for letter in "abcdefgh"]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    lines = access_log(s, 320)
    seen = set()
    for line in lines:
        match = COMBINED.fullmatch(line)
        assert match
        assert match["agent"] == '"' + match["request"][6] * 6000 + '"'
        seen.add(match["request"])
    assert len(seen) == len(lines) == 320


def test_full_disk_loses_lines_only(server: Start) -> None:
    """A log that cannot be written costs its lines, not the requests."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    s = server("hello", access_logfile="/dev/full")
    with Wire(s) as wire:
        for _ in range(3):
            assert wire.ask("/").complete


def test_requests_that_the_access_log_leaves_out(server: Start) -> None:
    """By path, by status, or both; a reload changes the rules, and counters count all the same."""
    s = server("echo", start=False, control="unix:control.sock", limit_request_line=100)
    rules = "access-log-exclude = /healthz\naccess-log-exclude = /quiet 2xx\n"
    fixed = "[myserver]\naccess-logfile = access.log\naccess-logformat = %(s)s %(U)s\n"
    (s.dir / "it.ini").write_text(fixed + rules)
    s.command += ["-c", "it.ini"]
    s.start()
    for path in ("/healthz", "/healthz/live?x=1", "/quiet", "/healthzz", "/healthz/../a", "/last"):
        assert s.get(path).status == 200
    assert s.get("/quiet/" + "x" * 200).status == 414
    expected = ["200 /healthzz", "200 /healthz/../a", "200 /last", "414 -"]
    assert access_log(s, 4) == expected
    assert "\nmyserver_requests_total 7\n" in control(s, "/metrics").text
    (s.dir / "it.ini").write_text(fixed + "access-log-exclude = 2xx,3xx\n")
    begin = len(s.log)
    s.signal(signal.SIGHUP)
    assert s.log_contains("reloaded: all workers", begin=begin)
    assert s.get("/healthz").status == 200
    assert s.get("/" + "x" * 200).status == 414
    assert access_log(s, 5) == [*expected, "414 -"]
