"""`myserver top`, `queries` and `status`, and the status page in a browser: the numbers of control."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from control_client import ask
from harness import BINARY, SLOWNESS, Server, environment, run, wait_for
from test_views import view

Start = Callable[..., Server]


@pytest.fixture
def seen(server: Start, tmp_path: Path) -> Iterator[Server]:
    """The project of tests/apps/seen.py, after some requests."""
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3")}
    s = server("seen", threads=2, control="unix:control.sock", env=env)
    names = ("/quick/<int:number>/", "/equal/", "/slow/", "/sleeps/")
    for path in ("/quick/1/", *names[1:]):
        assert s.get(path).status == 200
    for name in names:
        view(s, name)
    wait_for(lambda: '\nmyserver_threads{state="busy"} 0\n' in ask(s, "/metrics").text)
    yield s


def command(s: Server, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program at this server."""
    return run(*args, "--control", str(s.dir / "control.sock"))


def statement_id(s: Server, begin: str) -> str:
    """The id of the statement that begins so."""
    (found,) = (q for q in ask(s, "/queries").json()["statements"] if q["text"].startswith(begin))
    return str(found["id"])


def test_top_once(seen: Server) -> None:
    """Plain text with all tables."""
    done = command(seen, "top", "--once")
    assert done.returncode == 0, done.stderr
    assert re.match(r"seen: ready, 1 workers, 0 of 2 threads busy", done.stdout)
    assert "n+1: /equal/" in done.stdout
    for name in ("/quick/<int:number>/", "/equal/", "/slow/", "WITH RECURSIVE", "SELECT name"):
        assert name in done.stdout
    line = next(x for x in done.stdout.splitlines() if x.endswith(" /equal/"))
    assert line.split()[-2] == "30.0"


def test_top_answers_while_the_workers_are_stopped(seen: Server) -> None:
    """Everything comes from the board."""
    (worker,) = seen.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        done = command(seen, "top", "--once")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert done.returncode == 0 and "/equal/" in done.stdout


def test_top_in_a_terminal(seen: Server) -> None:
    """It draws, obeys keys, and ends."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [str(BINARY), "top", "--interval=0.1", "--control", str(seen.dir / "control.sock")],
        env=environment({"TERM": "xterm", "LINES": "40", "COLUMNS": "140"}),
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        shown += os.read(parent, 65536).decode(errors="replace")
        return text in shown

    try:
        wait_for(lambda: shows("/slow/"))
        os.write(parent, b"s")
        wait_for(lambda: shows("WITH RECURSIVE"))
        os.write(parent, b"v\r")
        wait_for(lambda: shows("one of views"))
        os.write(parent, b"q")
        assert process.wait(20 * SLOWNESS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def test_a_reader_that_has_seen_enough(seen: Server) -> None:
    """`myserver top --once | head` ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [BINARY, "top", "--once", "--control", str(seen.dir / "control.sock")],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment({}),
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_top_without_a_server(tmp_path: Path) -> None:
    """A sentence that says what to do."""
    done = run("top", "--once", "--control", str(tmp_path / "none.sock"))
    assert done.returncode == 2 and "does not answer" in done.stderr


def test_queries(seen: Server) -> None:
    """Repeats first, with their line; then the list in the order that is asked for."""
    done = command(seen, "queries")
    assert done.returncode == 0, done.stderr
    assert "/equal/: 30 times a request" in done.stdout and "in item_name" in done.stdout
    lines = done.stdout.splitlines()
    assert lines.index(next(x for x in lines if "WITH RECURSIVE" in x)) < len(lines) - 1
    done = command(seen, "queries", "--sort=count", "--limit=1")
    assert "SELECT name" in done.stdout and "WITH RECURSIVE" not in done.stdout
    assert "1 more" in done.stdout


def test_explain_with_sqlite(seen: Server) -> None:
    """The plan, with the application's own settings and its environment."""
    done = command(seen, "queries", "--explain", statement_id(seen, "SELECT name")[:6])
    assert done.returncode == 0, done.stderr
    assert "SEARCH item USING INTEGER PRIMARY KEY" in done.stdout and "hint" not in done.stdout
    done = command(seen, "queries", "--explain", statement_id(seen, "WITH")[:6], "--analyze")
    assert done.returncode == 2 and "no EXPLAIN ANALYZE" in done.stderr
    done = command(seen, "queries", "--explain", "nonsense")
    assert done.returncode == 2 and "no statement has the id" in done.stderr


def test_a_scan_of_much_gets_a_hint(seen: Server) -> None:
    """And one of little does not."""
    seen.get("/scan/big/")
    seen.get("/scan/item/")
    view(seen, "/scan/<slug:table>/", 2)
    done = command(seen, "queries", "--explain", statement_id(seen, "SELECT id FROM big"))
    assert re.search(r"hint: all of big, some 2000 rows, is read", done.stdout), done
    done = command(seen, "queries", "--explain", statement_id(seen, "SELECT id FROM item"))
    assert "SCAN item" in done.stdout and "hint" not in done.stdout
    seen.get("/likes/")
    view(seen, "/likes/")
    done = command(seen, "queries", "--explain", statement_id(seen, "SELECT count(*) FROM big"))
    assert re.search(r"hint: all of big, .* only a full-text or trigram index", done.stdout), done


def test_explain_asks_the_database_of_the_statement(seen: Server) -> None:
    """Where a project has two, that which ran it: only the other one has an index here."""
    seen.get("/both/")
    view(seen, "/both/")
    plans = {
        statement["database"]: command(seen, "queries", "--explain", statement["id"]).stdout
        for statement in ask(seen, "/queries").json()["statements"]
        if statement["text"].startswith("SELECT id FROM big")
    }
    assert "SCAN big" in plans["default"] and "SEARCH big" in plans["other"], plans


def test_explain_with_postgresql(server: Start, postgres: str, tmp_path: Path) -> None:
    """General plans, plans for values, what runs longer than it may, and no way to write."""
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3"), "SEEN_URL": postgres}
    s = server("seen", control="unix:control.sock", env=env)
    for path in ("/scan/big/", "/equal/4/", "/writes/"):
        assert s.get(path).status == 200
    view(s, "/writes/")
    scan = statement_id(s, "SELECT id FROM big")
    done = command(s, "queries", "--explain", scan)
    assert done.returncode == 0, done.stderr
    assert "Seq Scan on big" in done.stdout and "$1" in done.stdout
    assert re.search(r"hint: \d+ % of the cost is reading all of big", done.stdout)
    done = command(s, "queries", "--explain", scan, "--analyze")
    assert done.returncode == 2 and "--param" in done.stderr
    done = command(s, "queries", "--explain", scan, "--analyze", "--param=name 7")
    assert "actual time" in done.stdout, done
    done = command(s, "queries", "--explain", statement_id(s, "SELECT name"))
    assert " on item " in done.stdout and "hint" not in done.stdout, done  # a small table
    assert s.get("/typed/").status == 200
    view(s, "/typed/")
    done = command(s, "queries", "--explain", statement_id(s, "SELECT id + %s, count(*)"))
    assert done.returncode == 0 and "Seq Scan on big" in done.stdout, done
    writes = statement_id(s, "INSERT INTO big")
    done = command(s, "queries", "--explain", writes, "--analyze", "--param=9999", "--param=x")
    assert done.returncode == 2 and "read-only" in done.stderr


@pytest.fixture
def seen_mariadb(server: Start, mariadb: str, tmp_path: Path) -> Server:
    """The same project with its data in MariaDB."""
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3"), "SEEN_URL": mariadb}
    return server("seen", control="unix:control.sock", env=env)


def test_explain_with_mariadb(seen_mariadb: Server) -> None:
    """Plans, with a hint where all of much is read, and with values where none fits 1."""
    s = seen_mariadb
    for path in ("/scan/big/", "/scan/item/", "/absent/", "/equal/"):
        assert s.get(path).status == 200
    view(s, "/equal/")
    scan = statement_id(s, "SELECT id FROM big")
    done = command(s, "queries", "--explain", scan)
    assert done.returncode == 0, done.stderr
    assert "table=big, type=ALL" in done.stdout
    assert re.search(r"hint: all of big, some \d+ rows, is read", done.stdout)
    done = command(s, "queries", "--explain", statement_id(s, "SELECT id FROM item"))
    assert "table=item, type=ALL" in done.stdout and "hint" not in done.stdout
    name = statement_id(s, "SELECT name FROM item")
    done = command(s, "queries", "--explain", name)
    assert "table=item, type=const, possible_keys=PRIMARY" in done.stdout
    absent = statement_id(s, "SELECT name FROM big")
    done = command(s, "queries", "--explain", absent)
    assert "Impossible WHERE" in done.stdout and "hint: 1 stands for each value" in done.stdout
    done = command(s, "queries", "--explain", absent, "--param=7")
    assert "Impossible WHERE" in done.stdout and "hint" not in done.stdout
    repeats = command(s, "queries").stdout
    assert "/equal/: 30 times a request" in repeats and "in item_name" in repeats


def test_analyze_with_mariadb(seen_mariadb: Server) -> None:
    """It runs what only reads, with its values, and not for longer than it may."""
    s = seen_mariadb
    for path in ("/scan/big/", "/crossed/"):
        assert s.get(path).status == 200
    s.get("/writes/")
    view(s, "/writes/")
    scan = statement_id(s, "SELECT id FROM big")
    done = command(s, "queries", "--explain", scan, "--analyze")
    assert done.returncode == 2 and "--param" in done.stderr
    done = command(s, "queries", "--explain", scan, "--analyze", "--param=name 7")
    assert re.search(r"r_rows=2\d\d\d", done.stdout), done
    writes = statement_id(s, "INSERT INTO big")
    done = command(s, "queries", "--explain", writes, "--analyze", "--param=9999", "--param=x")
    assert done.returncode == 2 and "READ ONLY transaction" in done.stderr, done
    crossed = statement_id(s, "SELECT count(*) FROM big a")
    arguments = ("--explain", crossed, "--analyze", "--param=2000", "--timeout=0.1")
    done = command(s, "queries", *arguments)
    assert done.returncode == 2 and "max_statement_time exceeded" in done.stderr, done


def get(opener: Any, url: str) -> tuple[int, str]:
    """Status and text."""
    try:
        with opener.open(url, timeout=20 * SLOWNESS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_status(seen: Server) -> None:
    """A line, and an address that works for one browser, once."""
    assert command(seen, "status").stdout.startswith("seen: ready")
    process = subprocess.Popen(
        [
            str(BINARY),
            "status",
            "--open",
            "--no-browser",
            "--control",
            str(seen.dir / "control.sock"),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        address = process.stdout.readline().strip()
        root = address.partition("?")[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", root)
        mine = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        others = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        assert get(others, root)[0] == 403
        assert get(others, f"{root}?token=x")[0] == 403
        status, page = get(mine, address)
        assert status == 200 and "<title>myserver</title>" in page
        for path in ("views", "advice"):
            assert get(mine, f"{root}{path}")[0] == 200
        assert get(mine, f"{root}application")[0] == 404
        assert get(others, address)[0] == 403
        assert get(others, f"{root}views")[0] == 403
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20 * SLOWNESS)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_the_page_is_complete_in_itself(seen: Server) -> None:
    """It asks nobody else for anything."""
    answer = ask(seen, "/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = answer.text
    assert "default-src 'none'" in page
    for outside in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page):
        assert outside.startswith(("#", "data:", "'")), outside
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", page)


def views_at(port: int) -> list[dict[str, Any]]:
    """The account, of a control listener of that port."""
    opener = urllib.request.build_opener()
    return list(json.loads(get(opener, f"http://127.0.0.1:{port}/views")[1])["views"])


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_page_in_a_browser(server: Start, tmp_path: Path, free_port: int) -> None:
    """The tables have what control says, escaped, with what a screen reader needs."""
    env = {"SEEN_DB": str(tmp_path / "db.sqlite3"), "SEEN_DEBUG": "1"}
    s = server("seen", threads=2, control=f"127.0.0.1:{free_port}", env=env)
    for path in ("/quick/1/", "/equal/", "/slow/", "/<script>alert(1)</script>"):
        s.get(path)
    for name in ("/quick/<int:number>/", "/equal/", "/slow/", "(no view)"):
        wait_for(lambda name=name: any(v["view"] == name for v in views_at(free_port)))
    done = subprocess.run(
        [
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=6000",
            "--dump-dom",
            f"http://127.0.0.1:{free_port}/",
        ],
        capture_output=True,
        text=True,
        timeout=120 * SLOWNESS,
        check=False,
    )
    dom = done.stdout
    body = dom.partition("<body>")[2].partition("<script>")[0]
    assert '<p id="state" role="status" class="">serves</p>' in body, dom[-2000:] + done.stderr
    views = body.partition('id="views"')[2].partition("</section>")[0]
    for name in ("/quick/&lt;int:number&gt;/", "/equal/", "/slow/", "(no view)"):
        assert f">{name}</td>" in views
    assert 'aria-sort="descending"' in views and 'role="img" aria-label="' in views
    assert "in item_name" in body and "WITH RECURSIVE" in body
    assert "<script>alert" not in body
    advice = body.partition('id="advice"')[2].partition("</section>")[0]
    assert ">DEBUG</td>" in advice and "DEBUG is on in Django" in advice
