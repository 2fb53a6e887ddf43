"""Files from the loop: `static = /PREFIX=DIR`, without a thread of the application."""

from __future__ import annotations

import email
import fcntl
import gzip
import http.client
import json
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from control_client import OPTIONS
from control_client import ask as ask_control
from harness import Response, Server, run, wait_for, whole_lines
from test_privileges import for_nobody
from test_threads import inside
from wire import Wire, ask, let, request

Start = Callable[..., Server]

CSS = b"body { color: red }\n" * 200
LARGE = bytes(range(256)) * 4096 * 24  # 24 MiB: more than the buffers of a socket take
TIME = 1_600_000_000
LOG = {"access_logfile": "access.log", "access_logformat": "json"}


def write(path: Path, data: bytes, mtime: int = TIME) -> None:
    """A file with a known time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))


def fill(directory: Path) -> None:
    """What the tests ask for, and beside the directory what nobody may get."""
    static = directory / "static"
    write(static / "css" / "a.css", CSS)
    write(static / "zip.css", CSS)
    write(static / "zip.css.gz", gzip.compress(CSS), TIME + 1)
    write(static / "zip.css.br", b"as if brotli", TIME + 2)
    write(static / "zip.css.zst", b"as if zstd", TIME + 3)
    write(static / "app.0123456789ab.js", b"let x;\n")
    write(static / "empty.txt", b"")
    write(static / "digits", b"0123456789")
    write(static / "a b\xe4.txt", b"named\n")
    write(static / "100%41.txt", b"percent\n")
    (static / "in").symlink_to("css/a.css")
    (static / "out").symlink_to("../secret")
    (static / "absolute").symlink_to("/etc/passwd")
    (static / "up").symlink_to("..")
    os.mkfifo(static / "pipe")
    write(directory / "secret", b"secret\n")


@pytest.fixture
def files(server: Start) -> Start:
    """Start a server with these files: files("module:application", ...)."""

    def make(app: str = "hello:application", **options: Any) -> Server:
        s = server(app, start=False, **({"static": "/static=static"} | options))
        fill(s.dir)
        return s.start()

    return make


def access(s: Server) -> list[dict[str, Any]]:
    """The lines of the access log."""
    path = s.dir / "access.log"
    return [json.loads(line) for line in whole_lines(path.read_text())] if path.exists() else []


# ---- which file


def test_a_file(files):
    """All that the head says, and the body; the application is not asked."""
    s = files()
    got = s.get("/static/css/a.css")
    assert (got.status, got.body) == (200, CSS)
    assert got.headers["Content-Type"] == "text/css; charset=utf-8"
    assert got.headers["Content-Length"] == str(len(CSS))
    assert got.headers["Last-Modified"] == formatdate(TIME, usegmt=True)
    assert got.headers["Accept-Ranges"] == "bytes"
    assert got.headers["Cache-Control"] == "public, max-age=60"
    assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', got.headers["ETag"])
    assert got.headers["Vary"] is None and got.headers["Content-Encoding"] is None
    assert s.get("/elsewhere").body == b"Hello, world!\n"


def test_head_is_get_without_body(files):
    """The same head, of files of all sizes, and for what is not there."""
    s = files()
    for path in ("/static/css/a.css", "/static/empty.txt", "/static/zip.css", "/static/missing"):
        get, head = s.get(path), s.request("HEAD", path)
        assert (head.status, head.body) == (get.status, b"")
        heads = [[h for h in r.headers.items() if h[0] != "Date"] for r in (get, head)]
        assert heads[0] == heads[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/static/empty.txt", b""),
        ("/static/in", CSS),
        ("/static/a%20b%c3%a4.txt", b"named\n"),
        ("/static/100%2541.txt", b"percent\n"),
        ("/static/%63ss/a.css", CSS),
        ("/%73tatic/css/a.css", CSS),
        ("/static/css%2fa.css", CSS),
        ("/static/css/a.css?v=/../../secret", CSS),
        ("http://localhost/static/css/a.css", CSS),
    ],
)
def test_names(files, path, body):
    """A path is decoded once."""
    answer = ask(files(), path)
    assert (answer.status, answer.body) == (200, body)


HIDDEN = [
    "/static",
    "/static/",
    "/static/css",
    "/static/css/",
    "/static/css/a.css/",
    "/static/missing",
    "/static/pipe",
    "/static/out",
    "/static/absolute",
    "/static/up/secret",
    "/static/up/static/css/a.css",
    "/static/../secret",
    "/static/%2e%2e/secret",
    "/static/%2E./secret",
    "/static/..%2fsecret",
    "/static/%2e%2e%2fsecret",
    "/static/css/../../secret",
    "/static/css/..%2f..%2fsecret",
    "/static/%252e%252e/secret",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static//css/a.css",
    "/static/./css/a.css",
    "/static/css//a.css",
    "/static/css/../css/a.css",
    "/static/css/a.css%00",
    "/static/css/a.css%00.txt",
    "/static/css/a.css%0a",
    "/static/%ff",
    "/static/" + "x" * 300,
    "/static/" + "x/" * 2500 + "x",
]


def test_what_is_hidden(files):
    """No way out, no directory, no special file, no second spelling: always 404, connection kept."""
    s = files()
    with Wire(s) as wire:
        for path in HIDDEN:
            answer = wire.ask(path)
            assert answer.status == 404, path
            assert b"secret" not in answer.body and b"root:" not in answer.body
        assert wire.ask("/static/css/a.css").body == CSS


def test_prefix_ends_at_a_slash(files):
    """A path that only begins with the same letters is the application's."""
    s = files()
    for path in ("/staticx/css/a.css", "/stati", "/", "/x/static/css/a.css", "//static/css/a.css"):
        assert s.get(path).body == b"Hello, world!\n"


@for_nobody
def test_unreadable(server):
    """403 for a file that the worker's user may not read."""
    s = server(start=False, static="/static=static", user="nobody")
    fill(s.dir)
    s.dir.chmod(0o755)
    (s.dir / "static" / "digits").chmod(0)
    s.start()
    assert s.get("/static/css/a.css").status == 200
    assert s.get("/static/digits").status == 403


def test_several_directories(server):
    """The longest prefix wins; one may be all paths."""
    s = server(
        start=False,
        static=["/=root", "/static/=a", "/static/admin=b"],
        static_fallthrough=True,
    )
    for name in ("root/robots.txt", "a/x", "b/x", "a/admin/y"):
        write(s.dir / name, name.encode())
    s.start()
    assert s.get("/robots.txt").body == b"root/robots.txt"
    assert s.get("/static/x").body == b"a/x"
    assert s.get("/static/admin/x").body == b"b/x"
    assert s.get("/static/admin/y").body == b"Hello, world!\n"
    assert s.get("/").body == b"Hello, world!\n"


def test_script_name_is_another_matter(files):
    """The prefix is a path of the address, wherever the application is mounted."""
    s = files(script_name="/shop")
    assert s.get("/static/css/a.css").body == CSS
    assert s.get("/shop/").body == b"Hello, world!\n"
    assert s.get("/shop/static/css/a.css").body == b"Hello, world!\n"
    assert s.get("/other").status == 404


# ---- methods


def test_other_methods(files):
    """405 with Allow; the body that came with it does not hurt the next request."""
    s = files()
    with Wire(s) as wire:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"):
            answer = wire.ask("/static/css/a.css", method=method, body=b"x" * 100_000)
            assert (answer.status, answer.get("Allow")) == (405, "GET, HEAD")
        assert wire.ask("/static/css/a.css").body == CSS


def test_fallthrough(files):
    """With it the application answers what is no file, and all methods but two."""
    s = files("echo:application", static_fallthrough=True)
    assert s.get("/static/css/a.css").body == CSS
    assert s.request("HEAD", "/static/css/a.css").headers["ETag"]
    for path in ("/static/missing", "/static/css", "/static/out", "/static/../secret", "/static"):
        answer = ask(s, path)
        assert answer.get("ETag") is None and b"secret\n" != answer.body, path
        assert b"PATH_INFO" in answer.body or answer.json(), path
    posted = s.request("POST", "/static/css/a.css", b"form")
    assert posted.status == 200 and posted.body != CSS


# ---- conditions, ranges, codings


def test_conditions(files):
    """304 has what a cache must renew; 412; a date of the file decides without a tag."""
    s = files()
    whole = s.get("/static/css/a.css")
    tag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
    for headers in (
        {"If-None-Match": tag},
        {"If-None-Match": f'"x", W/{tag}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": date},
        {"If-Modified-Since": formatdate(TIME + 60, usegmt=True)},
    ):
        same = s.get("/static/css/a.css", headers)
        assert (same.status, same.body) == (304, b""), headers
        for name in ("ETag", "Last-Modified", "Cache-Control"):
            assert same.headers[name] == whole.headers[name]
        assert same.headers["Content-Type"] is None
    for headers in (
        {"If-None-Match": '"x"', "If-Modified-Since": date},
        {"If-Modified-Since": formatdate(TIME - 1, usegmt=True)},
        {"If-Modified-Since": "never"},
        {"If-Match": tag},
    ):
        assert s.get("/static/css/a.css", headers).body == CSS
    for headers in (
        {"If-Match": '"x"'},
        {"If-Unmodified-Since": formatdate(TIME - 1, usegmt=True)},
    ):
        assert s.get("/static/css/a.css", headers).status == 412


def test_a_changed_file(files):
    """It is served at once, with another tag; so is one in a directory that was replaced."""
    s = files()
    tag = s.get("/static/digits").headers["ETag"]
    write(s.dir / "static" / "digits", b"abcdefghij", TIME + 1)
    changed = s.get("/static/digits", {"If-None-Match": tag})
    assert (changed.status, changed.body) == (200, b"abcdefghij")
    write(s.dir / "other" / "digits", b"other")
    (s.dir / "static").rename(s.dir / "before")
    assert s.get("/static/digits").status == 404
    (s.dir / "other").rename(s.dir / "static")
    assert s.get("/static/digits").body == b"other"


def test_a_file_of_the_future(files):
    """Last-Modified is never later than Date (RFC 9110 8.8.2.1)."""
    s = files()
    write(s.dir / "static" / "future", b"x", int(time.time()) + 86_400)
    got = s.get("/static/future")
    dates = [parsedate_to_datetime(got.headers[name]) for name in ("Last-Modified", "Date")]
    assert dates[0] <= dates[1]


@pytest.mark.parametrize(
    ("sent", "body", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99999999999999", b"56789", "bytes 5-9/10"),
        ("bytes=0-1,2-3", b"0123", "bytes 0-3/10"),
        ("bytes=8-,99-", b"89", "bytes 8-9/10"),
    ],
)
def test_one_range(files, sent, body, content_range):
    """206 with the place of the bytes."""
    got = files().get("/static/digits", {"Range": sent})
    assert (got.status, got.body) == (206, body)
    assert got.headers["Content-Range"] == content_range
    assert got.headers["Content-Length"] == str(len(body))


def test_ranges_that_do_not_count(files):
    """The whole file for what is no range, for HEAD, and when If-Range says so; 416 behind the end."""
    s = files()
    tag = s.get("/static/digits").headers["ETag"]
    for headers in (
        {"Range": "lines=1-2"},
        {"Range": "bytes=4-2"},
        {"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 10, 2)) + ",x"},
        {"Range": "bytes=0-1", "If-Range": '"x"'},
        {"Range": "bytes=0-1", "If-Range": f"W/{tag}"},
    ):
        assert (s.get("/static/digits", headers).body) == b"0123456789"
    part = s.get("/static/digits", {"Range": "bytes=0-1", "If-Range": tag})
    assert (part.status, part.body) == (206, b"01")
    assert s.request("HEAD", "/static/digits", headers={"Range": "bytes=0-1"}).status == 200
    for path, size in (("/static/digits", 10), ("/static/empty.txt", 0)):
        behind = s.get(path, {"Range": "bytes=10-"})
        assert behind.status in ((416,) if size else (200, 416))
        if behind.status == 416:
            assert behind.headers["Content-Range"] == f"bytes */{size}"


def parts_of(got: Response) -> dict[str, bytes]:
    """The parts of multipart/byteranges, by where they lie."""
    head = f"Content-Type: {got.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + got.body)
    assert message.get_content_type() == "multipart/byteranges"
    return {p["Content-Range"]: p.get_payload(decode=True) for p in message.get_payload()}


def test_several_ranges(files):
    """One part for each; too much of them is the whole file."""
    s = files()
    got = s.get("/static/digits", {"Range": "bytes=0-1,4-5,-1"})
    assert got.status == 206
    assert got.headers["Content-Length"] == str(len(got.body))
    assert got.headers["Content-Range"] is None
    assert parts_of(got) == {
        "bytes 0-1/10": b"01",
        "bytes 4-5/10": b"45",
        "bytes 9-9/10": b"9",
    }
    write(s.dir / "static" / "large", LARGE)
    far = s.get("/static/large", {"Range": "bytes=0-9,20000000-20000009"})
    assert list(parts_of(far).values()) == [LARGE[:10], LARGE[20_000_000:20_000_010]]
    much = s.get("/static/large", {"Range": "bytes=0-9,1000000-9000000"})
    assert (much.status, len(much.body)) == (200, len(LARGE))


def test_codings(files):
    """What was compressed beforehand, by what the client takes; each form has a tag of its own."""
    s = files()
    bodies = {None: CSS, "br": b"as if brotli", "zstd": b"as if zstd", "gzip": gzip.compress(CSS)}
    tags = {}
    for accepted, coding in {
        "": None,
        "identity": None,
        "deflate": None,
        "gzip": "gzip",
        "zstd, gzip": "zstd",
        "gzip, deflate, br, zstd": "br",
        "br;q=0.5, gzip": "gzip",
        "br;q=0, *": "zstd",
        "gzip;q=0": None,
    }.items():
        got = s.get("/static/zip.css", {"Accept-Encoding": accepted})
        assert got.headers["Content-Encoding"] == coding, accepted
        if coding != "gzip":
            assert got.body == bodies[coding]
        else:
            assert gzip.decompress(got.body) == CSS
        assert got.headers["Vary"] == "Accept-Encoding"
        assert got.headers["Content-Type"] == "text/css; charset=utf-8"
        tags[coding] = got.headers["ETag"]
    assert len(set(tags.values())) == 4
    same = s.get("/static/zip.css", {"Accept-Encoding": "br", "If-None-Match": tags["br"]})
    assert (same.status, same.headers["Vary"]) == (304, "Accept-Encoding")
    other = s.get("/static/zip.css", {"Accept-Encoding": "br", "If-None-Match": tags["gzip"]})
    assert other.status == 200
    itself = s.get("/static/zip.css.gz")
    assert itself.headers["Content-Type"] == "application/gzip"
    assert itself.headers["Content-Encoding"] is None


def test_a_coding_that_leads_out(files):
    """Of the forms beside a file, too, only those in the directory count."""
    s = files()
    (s.dir / "static" / "css" / "a.css.gz").symlink_to("/etc/passwd")
    (s.dir / "static" / "css" / "a.css.br").mkdir()
    got = s.get("/static/css/a.css", {"Accept-Encoding": "gzip, br"})
    assert (got.body, got.headers["Vary"], got.headers["Content-Encoding"]) == (CSS, None, None)


def test_hashed_names_never_change(files):
    """The rule of Django's manifest and of WhiteNoise."""
    s = files()
    got = s.get("/static/app.0123456789ab.js")
    assert got.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    same = s.get("/static/app.0123456789ab.js", {"If-None-Match": got.headers["ETag"]})
    assert same.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_the_same_tag_everywhere(files):
    """Two servers that were given the same files say the same."""
    one, other = files(), files(workers=2)
    for path in ("/static/css/a.css", "/static/zip.css"):
        tags = {s.get(path).headers["ETag"] for s in (one, other) for _ in range(4)}
        assert len(tags) == 1


# ---- connections


def test_kept_and_pipelined(files):
    """Files and answers of the application in turn, on one connection, in order."""
    s = files(**LOG)
    with Wire(s) as wire:
        for _ in range(3):
            for path, _body in (("/static/css/a.css", CSS), ("/", b"Hello, world!\n")):
                wire.request("GET", path)
            wire.request("GET", "/static/missing").request("HEAD", "/static/digits")
        for _ in range(3):
            assert wire.answer().body == CSS
            assert wire.answer().body == b"Hello, world!\n"
            assert wire.answer().status == 404
            assert wire.answer("HEAD").status == 200
    lines = wait_for(lambda: (found := access(s)) and len(found) == 12 and found)
    assert [line["status"] for line in lines] == [200, 200, 404, 200] * 3


def test_many_pipelined(files):
    """A client that sends hundreds at once gets them all, and others their turn."""
    s = files()
    with Wire(s) as wire:
        wire.send(request("GET", "/static/digits") * 500)
        assert s.get("/").status == 200
        for _ in range(500):
            assert wire.answer().body == b"0123456789"


def test_http_1_0(files):
    """Closes, unless asked to keep the connection."""
    s = files()
    got = s.raw(b"GET /static/digits HTTP/1.0\r\n\r\n")
    assert got.endswith(b"\r\n\r\n0123456789") and b"Content-Length: 10\r\n" in got
    asked = b"GET /static/digits HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    got = s.raw(asked + b"GET /static/digits HTTP/1.0\r\n\r\n")
    assert got.count(b"0123456789") == 2 and b"Connection: keep-alive\r\n" in got


def test_a_body_in_pieces(files):
    """A request that comes byte by byte, with a body that nobody needs."""
    s = files()
    with Wire(s) as wire:
        for byte in request("GET", "/static/digits", b"unread"):
            wire.send(bytes([byte]))
        assert wire.answer().body == b"0123456789"
        assert wire.ask("/").body == b"Hello, world!\n"


@pytest.mark.parametrize("binds", [["127.0.0.1:0"], ["unix:app.sock"]], ids=["tcp", "unix"])
def test_slow_clients(files, binds):
    """Many that do not read hold no thread; each gets every byte in the end."""
    s = files(binds=binds)
    write(s.dir / "static" / "large", LARGE)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)) for _ in range(8)]
        for wire in wires:
            wire.request("GET", "/static/large")
        assert s.get("/").status == 200
        for wire in wires:
            wire.request("GET", "/static/digits")
            assert wire.answer().body == LARGE
            assert wire.answer().body == b"0123456789"


def test_send_timeout(files):
    """A client that reads nothing is dropped, and logged."""
    s = files(send_timeout="1s", **LOG)
    write(s.dir / "static" / "large", LARGE)
    with Wire(s) as wire:
        wire.request("GET", "/static/large")
        line = wait_for(lambda: next(iter(access(s)), None))
        assert (line["status"], line["end"]) == (200, "send timeout")
        assert not wire.answer().complete
    [worker] = s.workers()
    wait_for(lambda: not any("large" in name for name in open_files(worker)))


def open_files(pid: int) -> list[str]:
    """The names of what a process has open."""
    names = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(os.readlink(fd))
        except FileNotFoundError:
            continue
    return names


def test_nothing_stays_open(files):
    """Whatever was asked for."""
    s = files()
    [worker] = s.workers()

    def files_of_worker() -> list[str]:
        # The server looks into /proc now and then, at its own threads.
        others = ("socket:", "/proc/")
        return sorted(name for name in open_files(worker) if not name.startswith(others))

    s.get("/static/digits")
    # The client has the last byte before the worker closes the file.
    wait_for(lambda: not any(name.endswith("/digits") for name in files_of_worker()))
    before = files_of_worker()
    for path in HIDDEN[:14] + ["/static/zip.css", "/static/digits", "/static/empty.txt"]:
        for headers in ({}, {"Accept-Encoding": "gzip"}, {"Range": "bytes=0-1,4-5"}):
            ask(s, path, *(f"{name}: {value}" for name, value in headers.items()))
        s.request("HEAD", "/static/digits", headers={"If-None-Match": "*"})
        s.request("POST", "/static/digits")
    wait_for(lambda: files_of_worker() == before)


def test_a_file_becomes_shorter(files):
    """The client sees that the answer is not whole; the log says why."""
    s = files()
    large = s.dir / "static" / "large"
    write(large, LARGE)
    with Wire(s) as wire:
        wire.request("GET", "/static/large")
        assert wire.head().status == 200
        os.truncate(large, 1000)
        rest = wire.stream.read()
        assert len(rest) < len(LARGE)
    assert s.log_contains(r"/static/large: the file that was being sent became shorter$")
    assert s.get("/static/digits").status == 200


def test_descriptors(files):
    """Files on their way to slow clients leave descriptors for the application: 503 before."""
    s = files()
    write(s.dir / "static" / "large", LARGE)
    [worker] = s.workers()
    used = len(open_files(worker))
    limit = used + 120
    s.stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        s.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)) for _ in range(60)]
        for wire in wires:
            assert wire.ask("/static/digits").status == 200
        for wire in wires:
            wire.request("GET", "/static/large")
        statuses = [wire.head().status for wire in wires]
        assert statuses.count(503) > 1 and statuses.count(200) > 5, statuses
        assert s.log_contains(r"503 too many files are on their way to slow clients")
    wait_for(lambda: s.get("/static/digits").status == 200)


# ---- without a thread


MANY = 400  # requests that a socket's buffers take, as they take the answers


@pytest.fixture
def busy(files) -> Iterator[Callable[..., Server]]:
    """A server all of whose threads wait until the test ends."""
    with ExitStack() as stack:

        def make(
            workers: int = 1, threads: int = 1, greeting: bytes = b"", **options: Any
        ) -> Server:
            s = files("busy:application", workers=workers, threads=threads, **(LOG | options))
            for _ in range(workers * threads):
                wire = stack.enter_context(Wire(s))
                wire.send(greeting + request("GET", "/wait?end"))
            stack.callback(let, s, "end")
            wait_for(lambda: inside(s, "end") == workers * threads)
            return s

        yield make


@pytest.mark.parametrize("binds", [["127.0.0.1:0"], ["unix:app.sock"]], ids=["tcp", "unix"])
@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (1, 3), (2, 1)])
def test_while_all_threads_are_busy(busy, workers, threads, binds):
    """On new connections and on kept ones; the application's own wait for a thread."""
    s = busy(workers, threads, binds=binds)
    with Wire(s) as wire, Wire(s) as late:
        for _ in range(20):
            assert wire.ask("/static/css/a.css").body == CSS
            assert s.get("/static/digits").body == b"0123456789"
        assert late.ask("/static/digits").body == b"0123456789"
        wire.request("GET", "/static/digits").request("GET", "/").request("GET", "/static/in")
        assert wire.answer().body == b"0123456789"
        assert s.get("/static/missing").status == 404
        assert s.request("POST", "/static/digits", b"x").status == 405
        let(s, "end")
        assert wire.answer().status == 200
        assert wire.answer().body == CSS


def test_many_files_of_one_client_let_others_in(files):
    """They all wait when the worker looks; each look of the loop accepts one of the newcomers."""
    s = files(**LOG)
    (worker,) = s.workers()
    with Wire(s) as greedy, ExitStack() as stack:
        assert greedy.ask("/static/digits").status == 200
        os.kill(worker, signal.SIGSTOP)
        try:
            greedy.send(request("GET", "/static/digits") * MANY)
            newcomers = [stack.enter_context(Wire(s)) for _ in range(4)]
            for wire in newcomers:
                wire.request("GET", "/static/in")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert all(greedy.answer().status == 200 for _ in range(MANY))
        assert [wire.answer().status for wire in newcomers] == [200] * len(newcomers)
    wait_for(lambda: len(access(s)) == MANY + 5)
    assert access(s)[-1]["path"] == "/static/digits"


def test_slow_files_while_all_threads_are_busy(busy):
    """The loop goes on with what clients take slowly."""
    s = busy()
    write(s.dir / "static" / "large", LARGE)
    with Wire(s) as one, Wire(s) as other:
        one.request("GET", "/static/large")
        other.request("GET", "/static/large")
        assert s.get("/static/digits").status == 200
        assert one.answer().body == LARGE
        assert other.answer().body == LARGE


def test_a_crowd_waits_while_files_are_served(busy):
    """Requests for the application are not lost, nor run before their time, on new connections."""
    s = busy(2, 1)
    with ExitStack() as stack:
        crowd = [stack.enter_context(Wire(s)) for _ in range(20)]
        for wire in crowd:
            wire.request("GET", "/")
        for _ in range(10):
            assert s.get("/static/digits").body == b"0123456789"
        let(s, "end")
        assert [wire.answer().status for wire in crowd] == [200] * len(crowd)


def test_behind_a_balancer_while_busy(busy):
    """The PROXY header comes before the request, and names the client."""
    s = busy(proxy_protocol="v1", greeting=b"PROXY UNKNOWN\r\n")
    header = b"PROXY TCP4 192.0.2.7 192.0.2.8 5000 80\r\n"
    with Wire(s) as wire:
        wire.send(header + request("GET", "/static/digits"))
        assert wire.answer().body == b"0123456789"
        assert wire.ask("/static/in").body == CSS
    assert wait_for(lambda: access(s))[0]["client"] == "192.0.2.7"


def test_fallthrough_while_busy(busy):
    """What is no file waits for the application, unread."""
    s = busy(static="/=static", static_fallthrough=True)
    with Wire(s) as wire:
        wire.request("GET", "/")
        for _ in range(5):
            assert s.get("/digits").body == b"0123456789"
        let(s, "end")
        assert wire.answer().status == 200


def test_timeout_does_not_apply(files):
    """A client may take longer for a file than an application may run."""
    s = files(timeout="500ms")
    write(s.dir / "static" / "large", LARGE)
    with Wire(s) as wire:
        wire.request("GET", "/static/large")
        assert wire.head().status == 200
        read = 0
        begun = time.monotonic()
        while read < len(LARGE):
            piece = wire.stream.read(min(1 << 20, len(LARGE) - read))
            assert piece
            read += len(piece)
            threading.Event().wait(0.05)  # a slow client
        assert time.monotonic() - begun > 0.5
    assert "timeout" not in s.log


# ---- the life of the server


def test_counted(files):
    """As requests, by class and in bytes, like all others."""
    s = files(**OPTIONS, **LOG)
    s.get("/static/css/a.css")
    s.get("/static/missing")
    s.get("/")
    text = wait_for(lambda: (t := ask_control(s, "/metrics").text) and counts(t) >= 3 and t)
    assert re.search(r'myserver_responses_total\{[^}]*4xx"\} 1', text), text
    lines = wait_for(lambda: (found := access(s)) and len(found) == 3 and found)
    assert [line["path"] for line in lines] == ["/static/css/a.css", "/static/missing", "/"]
    first = lines[0]
    assert (first["status"], first["bytes"], first["client"]) == (200, len(CSS), "127.0.0.1")


def counts(text: str) -> float:
    """The sum of requests in /metrics."""
    return sum(float(n) for n in re.findall(r"^myserver_requests_total\S* (\d+)", text, re.M))


def test_stop_ends_what_was_begun(files):
    """A stop waits for a client that still reads a file."""
    s = files()
    write(s.dir / "static" / "large", LARGE)
    with Wire(s) as wire:
        wire.request("GET", "/static/large")
        assert wire.head().status == 200
        s.signal(signal.SIGTERM)
        assert s.log_contains("draining")
        assert wire.stream.read() == LARGE
    assert s.wait() == 0


def test_reload_takes_another_directory(server):
    """HUP reads the setting again; a mistake in it keeps the old one."""
    s = server(None, start=False, args=["-c", "it.ini"])
    ini = s.dir / "it.ini"
    for name in ("one", "two"):
        write(s.dir / name / "x", name.encode())
    text = "[myserver]\napp = hello:application\nstatic = /s={}\n"
    ini.write_text(text.format("one"))
    s.start()
    assert s.get("/s/x").body == b"one"
    ini.write_text(text.format("missing"))
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"static: missing: No such file")
    assert s.get("/s/x").body == b"one"
    ini.write_text(text.format("two"))
    s.signal(signal.SIGHUP)
    wait_for(lambda: s.get("/s/x").body == b"two")


@pytest.mark.parametrize("preload", [True, False])
def test_chdir_of_the_application(files, preload):
    """A relative directory is that of the start, wherever the application goes."""
    s = files("goes_away:application", preload=preload)
    assert s.get("/").body == b"/"
    assert s.get("/static/digits").body == b"0123456789"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["/static=missing"], "static: missing: No such file or directory"),
        (["static=."], 'static: "static=." is not right; write /PREFIX=DIR'),
        (["/static"], 'static: "/static" is not right; write /PREFIX=DIR'),
        (["/static="], 'static: "/static=" is not right; write /PREFIX=DIR'),
        (["=."], "static: "),
        (["/static=/etc/passwd"], "static: /etc/passwd is not a directory"),
        (["/static=.", "/static/=/tmp"], "static: /static is given twice"),
        (["/=.", "/=/tmp"], "static: / is given twice"),
    ],
)
def test_wrong_settings(tmp_path, settings, sentence):
    """One sentence, and no start."""
    done = run(*(f"--static={s}" for s in settings), "hello:application", cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr, done


def test_fallthrough_without_directory(tmp_path):
    """It would have no effect."""
    done = run("--static-fallthrough", "hello:application", cwd=tmp_path)
    assert done.returncode == 2 and "static-fallthrough: without static" in done.stderr


@pytest.mark.parametrize("name", ["static-map", "check-static", "static-path-mount"])
def test_names_of_others(tmp_path, name):
    """What uWSGI and granian call it leads here."""
    done = run(f"--{name}=/static=.", "hello:application", cwd=tmp_path)
    assert done.returncode == 2 and "static" in done.stderr.replace(name, ""), done


def test_behind_nginx(files, nginx):
    """Conditions, ranges, codings and HEAD come through, on kept connections."""
    s = files()
    url = nginx(s, keepalive=True)
    client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)

    def get(path: str, method: str = "GET", **headers: str) -> tuple[Any, bytes]:
        client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = client.getresponse()
        return response, response.read()

    for _ in range(5):
        whole, body = get("/static/css/a.css")
        assert (whole.status, body) == (200, CSS)
        assert get("/static/css/a.css", "HEAD")[1] == b""
        same, _ = get("/static/css/a.css", If_None_Match=whole.headers["ETag"])
        assert same.status == 304
        part, body = get("/static/digits", Range="bytes=2-3")
        assert (part.status, body) == (206, b"23")
        packed, body = get("/static/zip.css", Accept_Encoding="gzip")
        assert gzip.decompress(body) == CSS and packed.headers["Vary"] == "Accept-Encoding"
        assert get("/")[1] == b"Hello, world!\n"
    client.close()


LINES: dict[str, tuple[int, list[str]]] = {
    "matches": (200, ['If-Match: "x"', "If-Match: {tag}"]),
    "matches none": (412, ['If-Match: "x"', 'If-Match: "y"']),
    "is known": (304, ['If-None-Match: "x"', "If-None-Match: {tag}", 'If-None-Match: "y"']),
    "dates": (200, ["If-Modified-Since: {date}", "If-Modified-Since: {date}"]),
    "ranges": (200, ["Range: bytes=0-1", "Range: bytes=3-4"]),
    "range of two": (200, ["Range: bytes=0-1", 'If-Range: "x"', "If-Range: {tag}"]),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_of_one_name_are_one_list(files: Start, name: str) -> None:
    """RFC 9110 5.3; a field that is no list and stands twice counts for nothing."""
    status, lines = LINES[name]
    s = files()
    known = ask(s, "/static/digits")
    facts = {"tag": known.get("ETag"), "date": known.get("Last-Modified")}
    with Wire(s) as wire:
        answer = wire.ask("/static/digits", *(line.format(**facts) for line in lines))
    assert answer.status == status


def test_codings_on_two_lines(files: Start) -> None:
    """What the second one forbids is not sent."""
    lines = ("Accept-Encoding: *", "Accept-Encoding: br;q=0, zstd;q=0, gzip;q=0")
    with Wire(files()) as wire:
        answer = wire.ask("/static/zip.css", *lines)
    assert (answer.status, answer.get("Content-Encoding"), answer.body) == (200, None, CSS)


def test_a_file_with_a_lease(files: Start) -> None:
    """As file servers take them: it cannot be opened now, and nobody else waits for it."""
    s = files()
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for the lease
    try:
        with (s.dir / "static" / "digits").open("r+b") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            assert ask(s, "/static/digits").status == 503
            assert ask(s, "/static/css/a.css").body == CSS
    finally:
        signal.signal(signal.SIGIO, before)
    assert ask(s, "/static/digits").body == b"0123456789"
