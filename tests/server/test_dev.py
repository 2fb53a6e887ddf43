"""`myserver dev`: real projects in a temporary folder, a real browser, a pseudo terminal."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from harness import (
    BINARY,
    PATIENCE_S,
    ROOT,
    SLOWNESS,
    VENV,
    Server,
    environment,
    free_port,
    wait_for,
)
from myserver.commands import dev
from myserver.develop.find import NotFound, find_project

Start = Callable[..., Server]

ROUTES = """\
from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [path("admin/", admin.site.urls), path("", views.home), path("<str:name>/", views.named)]
"""
VIEWS = """\
from django.http import HttpResponse
from django.shortcuts import render


def home(request):
    return render(request, "home.html", {"word": "word"})


def named(request, name):
    return HttpResponse(f"<p>{name}")
"""
BARE = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<p>{text}"]
"""


def python() -> str:
    """The interpreter of the virtualenv of the tests."""
    return str(VENV / "bin" / "python")


def write(path: Path, text: str) -> None:
    """Write a file as editors do: beside it, and then in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(text)
    beside.replace(path)


@functools.cache
def started_project() -> Path:
    """What `django-admin startproject` makes; kept as long as the tests run."""
    directory = Path(tempfile.mkdtemp(prefix="myserver-project-"))
    atexit.register(shutil.rmtree, directory)
    command = [python(), "-m", "django", "startproject", "mysite", "."]
    subprocess.run(command, cwd=directory, check=True)
    return directory


def make_django(directory: Path) -> None:
    """A project as `django-admin startproject` makes it, with one app."""
    shutil.copytree(started_project(), directory, dirs_exist_ok=True)
    settings = directory / "mysite" / "settings.py"
    text = settings.read_text().replace(
        "INSTALLED_APPS = [", "INSTALLED_APPS = [\n    'shop',\n    'myserver',"
    )
    settings.write_text(text)
    write(directory / "shop" / "__init__.py", "")
    write(directory / "shop" / "views.py", VIEWS)
    write(directory / "shop" / "templates" / "home.html", "<h1>The first {{ word }}</h1>")
    write(directory / "mysite" / "urls.py", ROUTES)


class Dev:
    """Starts `myserver dev` by the fixture of all tests, which looks at its log and its end."""

    def __init__(self, server: Start) -> None:
        self.server = server

    def prepare(self, *args: str, **env: str) -> Server:
        """Not started yet: the project is to be written into `dir`."""
        s = self.server(None, start=False, env={"VIRTUAL_ENV": str(VENV), **env})
        s.command = [
            str(BINARY),
            "dev",
            *args,
            *(() if any(":" in arg or arg.isdigit() for arg in args) else (str(free_port()),)),
            "--log-level=info",
            "--graceful-timeout=30s",
        ]
        return s


@pytest.fixture
def developed(server: Start) -> Dev:
    return Dev(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def shows(browser: webdriver.Chrome, *words: str) -> None:
    """Wait until the page has all of these words; it is not asked for again."""

    def does() -> bool:
        with contextlib.suppress(Exception):  # while it is loaded again
            text = browser.find_element(By.TAG_NAME, "body").text
            return all(word in text for word in words)
        return False

    try:
        wait_for(does, what=f"{words} in the page")
    except AssertionError:
        print(browser.page_source)
        raise


# ---- in the browser


def test_django_in_the_browser(developed: Dev, browser: webdriver.Chrome) -> None:
    """Everything that changes is seen without a key pressed in the browser."""
    s = developed.prepare()
    make_django(s.dir)
    s.start()
    browser.get(s.url)
    shows(browser, "The first word")
    write(s.dir / "shop" / "templates" / "home.html", "<h1>The second {{ word }}</h1>")
    shows(browser, "The second word")

    broken = VIEWS.replace("def home(request):", "def home(request:")
    write(s.dir / "shop" / "views.py", broken)
    shows(browser, "SyntaxError", "shop/views.py, line 5", "goes away by itself")
    assert browser.find_element(By.CSS_SELECTOR, ".culprit li.here").text == "def home(request:"
    write(s.dir / "shop" / "views.py", VIEWS)
    shows(browser, "The second word")

    # Django's own page, for what a view does wrong.
    write(s.dir / "shop" / "views.py", VIEWS.replace("return render", "1 / 0; return render"))
    shows(browser, "ZeroDivisionError", "Request Method")
    write(s.dir / "shop" / "views.py", VIEWS)
    shows(browser, "The second word")

    browser.get(f"{s.url}/admin/login/")
    colour = browser.execute_script(
        "return getComputedStyle(document.querySelector('#header')).backgroundColor"
    )
    assert colour not in ("rgba(0, 0, 0, 0)", "transparent"), "the admin has no style"


FLASK = """\
from flask import Flask, request

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def home():
    {line}
    return "<body><p>Flask says hello"
"""


def test_flask_in_the_browser(developed: Dev, browser: webdriver.Chrome) -> None:
    """Its debugger, also with code for this frame, which another machine does not get."""
    s = developed.prepare()
    write(s.dir / "app.py", FLASK.format(line="number = 1"))
    s.start()
    browser.get(s.url)
    shows(browser, "Flask says hello")
    write(s.dir / "app.py", FLASK.format(line="number = 1 / 0"))
    shows(browser, "ZeroDivisionError", "The debugger caught an exception")
    assert "EVALEX = true" in browser.page_source
    write(s.dir / "app.py", FLASK.format(line="number = 2"))
    shows(browser, "Flask says hello")


def test_a_bare_application_in_the_browser(developed: Dev, browser: webdriver.Chrome) -> None:
    """What it raises in a request, and how the page looks: nothing wider than a phone."""
    s = developed.prepare()
    text = BARE.format(text="hello")
    write(s.dir / "wsgi.py", text)
    s.start()
    browser.get(s.url)
    shows(browser, "hello")
    wide = text.replace("    start", f"    {{}}['<b>{'wide ' * 40}</b>']\n    start")
    write(s.dir / "wsgi.py", wide)
    shows(browser, "KeyError", "wsgi.py, line 2, in application", "<b>wide wide")
    browser.set_window_size(500, 800)
    sizes = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scroll, client = browser.execute_script(sizes)
    assert scroll <= client
    colours = []
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        colours.append(
            browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        )
    assert colours[0] != colours[1]
    write(s.dir / "wsgi.py", text)
    shows(browser, "hello")
    browser.set_window_size(1200, 900)


# ---- what others get


def test_pages_are_live_for_browsers_only(developed: Dev) -> None:
    s = developed.prepare()
    write(s.dir / "wsgi.py", BARE.format(text="hello"))
    s.start()
    assert s.get("/").body == b"<p>hello"
    navigation = {"Sec-Fetch-Dest": "document", "Accept": "text/html"}
    page = s.get("/", navigation).text
    assert page.startswith("<p>hello") and "/__myserver__/live.js" in page
    assert s.get("/", {"Sec-Fetch-Dest": "empty"}).body == b"<p>hello"
    assert s.request("POST", "/", b"", navigation).body == b"<p>hello"
    script = s.get("/__myserver__/live.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    first = s.get("/__myserver__/generation").text
    assert s.get("/__myserver__/generation").text == first
    write(s.dir / "wsgi.py", BARE.format(text="again"))
    wait_for(lambda: s.get("/__myserver__/generation").text != first)
    assert s.get("/__myserver__/else").status == 404


def test_no_live(developed: Dev) -> None:
    s = developed.prepare("--no-live")
    write(s.dir / "wsgi.py", BARE.format(text="hello"))
    s.start()
    assert s.get("/", {"Sec-Fetch-Dest": "document"}).body == b"<p>hello"


def test_the_page_of_a_fault(developed: Dev) -> None:
    """Escaped, without what the environment hides; as text for who asks for no page."""
    s = developed.prepare(DATABASE_URL="postgres://me:hunter22@db/shop", API_KEY="k-1234567")
    source = (
        "import os\n"
        "def application(environ, start_response):\n"
        "    raise ValueError('<script>alert(1)</script> ' + os.environ['DATABASE_URL'])\n"
    )
    write(s.dir / "wsgi.py", source)
    s.start()
    page = s.get("/", {"Accept": "text/html,*/*;q=0.8"})
    assert page.status == 500 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [value of DATABASE_URL]" in page.text
    assert "<script>alert" not in page.text and "hunter22" not in page.text
    assert "data-generation" in page.text and "k-1234567" not in page.text
    sent = s.request("POST", "/", b"", {"Accept": "text/html"})
    assert sent.status == 500 and "<script" not in sent.text and "Send the form again" in sent.text
    plain = s.get("/")
    assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert plain.text.startswith("Traceback (most recent call last):\n")
    assert 'wsgi.py", line 3, in application' in plain.text and "hunter22" not in plain.text
    # A name that somebody else lets point here.
    foreign = s.get("/", {"Host": "rebound.example", "Accept": "text/html"})
    assert foreign.status == 500 and "ValueError" not in foreign.text
    for host in ("localhost:8000", "[::1]:8000", "shop.localhost", "192.0.2.1"):
        assert "ValueError" in s.get("/", {"Host": host}).text
    assert "hunter22" not in s.log


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_of_this_name", ["ModuleNotFoundError", "nothing_of_this_name"]),
        ("import sys\nsys.exit('set SHOP_KEY')", ["SystemExit", "set SHOP_KEY"]),
        (
            "try:\n    {}['a']\nexcept KeyError as e:\n    raise OSError('b') from e",
            ["KeyError", "OSError"],
        ),
        ("def f(n):\n    return f(n + 1)\nf(0)", ["RecursionError", "more"]),
        (
            "raise ExceptionGroup('several', [ValueError('v'), TypeError('t')])",
            ["ValueError", "TypeError"],
        ),
        ("x = 'é'; y = [1 +]", ["SyntaxError", "y = [1"]),
        ("\tx = 1\n  y = 2", ["IndentationError"]),
        ("class Odd(Exception):\n    def __str__(self): 1 / 0\nraise Odd", ["Odd"]),
        ("raise ValueError('x' * 100000)", ["ValueError"]),
        ("raise ValueError('\\udcff \\x1b[31mred')", ["ValueError"]),
        ("application = 3", ["LoadError", "cannot be called"]),
        ("async def application(scope, receive, send): pass", ["LoadError", "ASGI"]),
        ("x = 1", ["LoadError", "has no"]),
        ("x = '\\0'\nexec('1 +')", ["SyntaxError"]),
    ],
)
def test_whatever_breaks_an_import_is_shown(developed: Dev, source: str, words: list[str]) -> None:
    s = developed.prepare("wsgi.py")
    (s.dir / "wsgi.py").write_text(source)
    s.start()
    page = s.get("/any/path", {"Accept": "text/html"})
    assert page.status == 500
    assert all(word in page.text for word in words), page.text
    assert "\x1b" not in s.log
    write(s.dir / "wsgi.py", BARE.format(text="mended"))
    wait_for(lambda: s.get("/").body == b"<p>mended")


def test_a_stream_that_breaks(developed: Dev) -> None:
    """Before its first piece it is a page; later the connection is cut, as without us."""
    s = developed.prepare()
    write(
        s.dir / "wsgi.py",
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/html')])\n"
        "    if environ['PATH_INFO'] == '/late':\n"
        "        yield b'x'\n"
        "    yield b''\n"
        "    raise ValueError('told')\n",
    )
    s.start()
    page = s.get("/")
    assert page.status == 500 and "ValueError: told" in page.text
    assert s.raw(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert s.log_contains(r" 500 GET / \d+ ms$")


# ---- reloads


def test_who_asks_after_a_change_gets_the_new_code(developed: Dev) -> None:
    """Also when that takes long to load."""
    s = developed.prepare()
    write(s.dir / "wsgi.py", BARE.format(text="0"))
    s.start()
    assert s.get("/").body == b"<p>0"
    for number in range(1, 4):
        begin = len(s.log)
        write(s.dir / "wsgi.py", f"import time; time.sleep(0.5)\n{BARE.format(text=number)}")
        assert s.log_contains(r"the code has changed: wsgi\.py$", begin=begin)
        assert s.get("/").body == f"<p>{number}".encode()


def changes(s: Server) -> int:
    """How often the server has seen a change."""
    return s.log.count("the code has changed")


def test_what_is_watched(developed: Dev) -> None:
    s = developed.prepare("wsgi.py", "-c", "dev.ini")
    (s.dir / "dev.ini").write_text("[myserver]\nenv = NAME=one\n")
    write(s.dir / "wsgi.py", BARE.format(text="x"))
    write(s.dir / "venv" / "pyvenv.cfg", "")
    for number in range(300):
        write(s.dir / f"package{number % 20}" / "deep" / f"m{number}.py", "")
    s.start()

    def is_seen(path: str, act: Callable[[Path], object]) -> None:
        before = changes(s)
        act(s.dir / path)
        wait_for(lambda: changes(s) > before, what=path)
        wait_for(lambda: s.log.count("reloaded: ") == changes(s), what="the reload")

    def fill(path: Path) -> None:
        path.write_text(f"# {time.time_ns()}\n")

    for path in ("package3/deep/m3.py", ".env", ".env.local", "dev.ini", "shop/templates/mail.txt"):
        (s.dir / path).parent.mkdir(parents=True, exist_ok=True)
        is_seen(path, fill)
    for path in ("pages/a.jinja2", "locale/de/LC_MESSAGES/django.mo"):
        (s.dir / path).parent.mkdir(parents=True)  # new directories, seen or not yet seen
        is_seen(path, fill)
    is_seen("package4/deep/m4.py", lambda path: write(path, "x = 2\n"))
    is_seen("package5/deep/m5.py", lambda path: path.rename(path.with_name("moved.py")))
    is_seen("package6/deep/m6.py", lambda path: path.unlink())
    is_seen("package7", lambda path: path.rename(s.dir / "elsewhere"))
    is_seen("elsewhere/deep/m7.py", fill)
    (s.dir / "linked").symlink_to(s.dir / "package8")
    seen = changes(s)
    for path in (
        "venv/lib/a.py",
        "data.sqlite3",
        "notes.txt",
        ".git/x.py",
        "node_modules/x/a.html",
        "__pycache__/a.py",
        "shop/templates/.mail.txt.swp",
        "shop/templates/mail.txt~",
    ):
        (s.dir / path).parent.mkdir(parents=True, exist_ok=True)
        (s.dir / path).write_text("x")
    (s.dir / "package9" / "deep" / "m9.py").chmod(0o600)  # its text is as it was
    write(s.dir / "wsgi.py", BARE.format(text="the last"))
    wait_for(lambda: s.get("/").body == b"<p>the last")
    assert changes(s) <= seen + 2  # the link, and the last


def test_packages_that_are_worked_on_are_watched(developed: Dev, tmp_path: Path) -> None:
    """Those of `pip install -e`, which lie elsewhere."""
    package, venv = tmp_path / "my lib" / "src" / "it.py", tmp_path / "venv"
    write(package, "")
    (venv / "lib").mkdir(parents=True)
    for path in VENV.iterdir():
        if path.name != "lib":
            (venv / path.name).symlink_to(path)
    place = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    write(
        place / "it-1.dist-info" / "direct_url.json",
        f'{{"dir_info": {{"editable": true}}, "url": "file://{quote(str(tmp_path / "my lib"))}"}}',
    )
    write(place / "no-1.dist-info" / "direct_url.json", '{"url": "file:///usr", "dir_info": {}}')
    write(place / "odd-1.dist-info" / "direct_url.json", "[]")
    s = developed.prepare(VIRTUAL_ENV=str(venv))
    write(s.dir / "wsgi.py", BARE.format(text="x"))
    s.start()
    write(package, "x = 1")
    wait_for(lambda: changes(s) == 1)


NO_INOTIFY = 'echo 0 >/proc/sys/user/max_inotify_{what} && exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user namespace of its own")
@pytest.mark.parametrize("what", ["instances", "watches"])
def test_without_inotify_it_looks_by_the_clock(developed: Dev, what: str) -> None:
    s = developed.prepare()
    s.command = ["unshare", "-Ur", "sh", "-c", NO_INOTIFY.format(what=what), "sh", *s.command]
    write(s.dir / "wsgi.py", BARE.format(text="one"))
    s.start()
    assert s.log_contains(
        rf"once a second, not at once: this user .*sysctl fs\.inotify\.max_user_{what}="
    )
    write(s.dir / "wsgi.py", BARE.format(text="two"))
    wait_for(lambda: s.get("/").body == b"<p>two")


def test_env_is_read_again(developed: Dev, tmp_path: Path) -> None:
    """As Flask's own command reads it, where python-dotenv is installed."""
    write(
        tmp_path / "dotenv.py",
        "import os\n"
        "def load_dotenv(name):\n"
        "    for line in open(name) if os.path.exists(name) else ():\n"
        "        key, _, value = line.strip().partition('=')\n"
        "        os.environ.setdefault(key, value)\n",
    )
    s = developed.prepare(f"--pythonpath={tmp_path}")
    write(
        s.dir / "app.py",
        "import os\nword = os.environ['WORD']\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [word.encode()]\n",
    )
    (s.dir / ".env").write_text("WORD=one\n")
    s.start()
    assert s.get("/").body == b"one"
    (s.dir / ".env").write_text("WORD=two\n")
    wait_for(lambda: s.get("/").body == b"two")


# ---- serving


def test_two_requests_at_once(developed: Dev) -> None:
    """Each waits for the other."""
    s = developed.prepare()
    write(
        s.dir / "wsgi.py",
        "import threading\nboth = threading.Barrier(2, timeout=20)\n"
        "def application(environ, start_response):\n"
        "    both.wait()\n    start_response('200 OK', [])\n    return [b'both']\n",
    )
    s.start()
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(s.get("/").body)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"both", b"both"]


def test_manage_py_dev(developed: Dev) -> None:
    """By Django's own command, from another directory; its settings and its options."""
    s = developed.prepare()
    make_django(s.dir)
    (s.dir / "mysite" / "other.py").write_text("from .settings import *\nWORD = 'other'\n")
    views = VIEWS.replace("<p>{name}", "<p>{settings.WORD}")
    write(s.dir / "shop" / "views.py", f"from django.conf import settings\n{views}")
    port = free_port()
    s.command = [python(), str(s.dir / "manage.py"), "dev", "--settings=mysite.other", str(port)]
    s.command += ["--no-color", "-v", "1", "--log-level=info", "--graceful-timeout=30s"]
    s.env["PYTHONPATH"] = str(ROOT / "python")
    s.env["MYSERVER_PROGRAM"] = str(BINARY)
    del s.env["VIRTUAL_ENV"]
    s.start()
    assert s.get("/x/").body == b"<p>other"
    assert s.get("/static/admin/css/base.css").status == 200
    assert s.log_contains(r"unapplied migration\(s\)")
    assert s.log_contains(r"^\d\d:\d\d:\d\d  200 GET /x/ \d+ ms$")


def test_checks_of_django_are_shown(developed: Dev) -> None:
    s = developed.prepare()
    make_django(s.dir)
    write(
        s.dir / "shop" / "models.py",
        "from django.db import models\n\n\nclass Thing(models.Model):\n"
        "    name = models.CharField(max_length=-1)\n",
    )
    s.start()
    assert "fields.E121" in s.get("/").text
    (s.dir / "shop" / "models.py").unlink()
    wait_for(lambda: s.get("/").status == 200)


def test_a_factory_and_a_package(developed: Dev) -> None:
    s = developed.prepare()
    text = FLASK.replace("app = Flask", "def create_app():\n  app = Flask")
    text = text.replace("\n\n\n@", "\n\n  @").replace("\ndef home", "\n  def home")
    text = text.replace("    {line}", "    pass").replace('hello"', 'hello"\n  return app')
    write(s.dir / "shop" / "__init__.py", text)
    s.start()
    assert s.get("/").text == "<body><p>Flask says hello"


def test_open(developed: Dev, tmp_path: Path) -> None:
    """The browser is opened when the server serves, and with its address."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >>"{tmp_path}/opened"\n')
    script.chmod(0o755)
    s = developed.prepare("--open", BROWSER=f"{script} %s")
    write(s.dir / "wsgi.py", "import time; time.sleep(0.3)\n" + BARE.format(text="hello"))
    s.start()
    opened = tmp_path / "opened"
    assert wait_for(lambda: opened.exists() and opened.read_text()) == f"{s.url}/\n"


# ---- the terminal


class Terminal:
    """`myserver dev` with a terminal for itself."""

    def __init__(self, directory: Path, *args: str, **env: str) -> None:
        self.port = free_port()
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            command = [str(BINARY), "dev", str(self.port), *args]
            os.execve(
                BINARY, command, environment({"VIRTUAL_ENV": str(VENV), "TERM": "xterm", **env})
            )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: all have closed it
            while piece := os.read(self.fd, 4096):
                self.text += piece.decode(errors="replace")

    def says(self, pattern: str, begin: int = 0) -> re.Match[str]:
        """Wait for what the terminal shows."""
        try:
            return wait_for(lambda: re.search(pattern, self.text[begin:]), what=pattern)
        except AssertionError:
            print(self.text)
            raise

    def types(self, line: str) -> None:
        """As a developer does."""
        os.write(self.fd, line.encode())

    def get(self, path: str = "/") -> threading.Thread:
        """A request in a thread of its own."""
        url = f"http://127.0.0.1:{self.port}{path}"
        code = f"import urllib.request; print(urllib.request.urlopen({url!r}).read())"
        thread = threading.Thread(target=lambda: subprocess.run([sys.executable, "-c", code]))
        thread.start()
        return thread

    def close(self) -> int:
        """^C; the exit status."""
        os.write(self.fd, b"\x03")
        deadline = time.monotonic() + PATIENCE_S * SLOWNESS
        pid, status = 0, 0
        while not pid and time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0.02)
        if not pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            status = -1
        self.reader.join(PATIENCE_S)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status) if pid else -1


DEBUGGED = """\
def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    secret = name + " is seen"
    breakpoint()
    start_response("200 OK", [])
    return [name.encode()]
"""


def test_breakpoint(tmp_path: Path) -> None:
    """Two requests come into the debugger one after the other; ^C ends it all."""
    write(tmp_path / "wsgi.py", DEBUGGED)
    terminal = Terminal(tmp_path)
    try:
        terminal.says("loaded wsgi.py")
        clients = [terminal.get("/one"), terminal.get("/two")]
        first = terminal.says(r"wsgi\.py\(\d\)application\(\)(?s:.*)\(Pdb\) ")
        assert terminal.text.count("(Pdb) ") == 1
        terminal.types("p secret\n")
        name = terminal.says(r"'(one|two) is seen'(?s:.*)\(Pdb\) ")[1]
        begin = len(terminal.text)
        terminal.types("c\n")
        terminal.says(rf"200.* GET /{name} ", begin)
        other = {"one": "two", "two": "one"}[name]
        terminal.says(r"\(Pdb\) ", begin)
        terminal.types("p secret\n")
        terminal.says(f"'{other} is seen'", begin)
        terminal.types("c\n")
        terminal.says(rf"200.* GET /{other} ", begin)
        for client in clients:
            client.join()
        assert first
    finally:
        assert terminal.close() == 0


def test_breakpoint_without_a_terminal(developed: Dev) -> None:
    s = developed.prepare()
    write(s.dir / "wsgi.py", DEBUGGED)
    s.start()
    assert s.get("/one").body == b"one"
    assert "breakpoint() is passed over: the server has no terminal" in s.log


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours(tmp_path: Path, env: dict[str, str]) -> None:
    write(tmp_path / "wsgi.py", BARE.format(text="x"))
    terminal = Terminal(tmp_path, **env)
    try:
        terminal.says(r"loaded wsgi\.py in \d+\.\d\d s")
        terminal.get("/a%1b%5bb%0a?q=%1b").join()
        line = terminal.says(r"\n([^\n]*GET /a%1B%5Bb%0A\?q=%1b [^\n]*)\n")[1]
        assert ("\033[32m200\033[0m" in line) == (not env)
        assert ("\033" in terminal.text) == (not env)
    finally:
        assert terminal.close() == 0
    assert f"http://127.0.0.1:{terminal.port}/" in terminal.text


# ---- the command line


def refuse(*args: str, cwd: Path, **env: str) -> str:
    """What it says when it does not start; its own port may be another's here."""
    ran = subprocess.run(
        [str(BINARY), "dev", *args],
        cwd=cwd,
        env=environment({"PORT": str(free_port()), **env}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
    )
    assert ran.returncode == 2, ran
    assert "Traceback" not in ran.stderr
    return ran.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["0.0.0.0:8000"],
        ["[::]:8000"],
        [":8000"],
        ["192.0.2.1:8000"],
        ["no-such-host.invalid:8000"],
        ["--bind=0.0.0.0:8000"],
        ["-b", "0.0.0.0:8000"],
        ["-b0.0.0.0:8000"],
        ["--bind", "127.0.0.1:8000", "--bind", "0.0.0.0:8001"],
        ["--bind=fd://3"],
    ],
)
def test_other_machines_are_refused(args: list[str], tmp_path: Path) -> None:
    write(tmp_path / "wsgi.py", BARE.format(text="x"))
    said = refuse(*args, cwd=tmp_path)
    assert "other machines can connect to" in said and "--public" in said


def test_public(developed: Dev) -> None:
    """Who wants it gets it; Werkzeug's debugger then runs no code."""
    s = developed.prepare("--public", f"0.0.0.0:{free_port()}")
    write(s.dir / "app.py", FLASK.format(line="1 / 0"))
    s.start()
    page = s.get("/", {"Accept": "text/html", "Host": "shop.example"})
    assert "ZeroDivisionError" in page.text and "EVALEX = false" in page.text


def test_mistakes_of_the_command_line(tmp_path: Path) -> None:
    assert "there is no application in" in refuse(cwd=tmp_path)
    write(tmp_path / "wsgi.py", BARE.format(text="x"))
    assert "wsgi.py and other.py are given; keep one" in refuse("wsgi.py", "other.py", cwd=tmp_path)
    assert "8001 and 8002 are given" in refuse("8001", "8002", cwd=tmp_path)
    assert "abc: a port is a number" in refuse(cwd=tmp_path, PORT="abc")
    assert "8001 and --bind 127.0.0.1:1 are" in refuse("8001", "-b127.0.0.1:1", cwd=tmp_path)
    assert "a port is a number up to 65535" in refuse("70000", cwd=tmp_path)
    assert "there is no option --opne" in refuse("--opne", cwd=tmp_path)
    assert "--threads needs a value" in refuse("--threads", cwd=tmp_path)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "wsgi.py", BARE.format(text="x"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refuse(str(port), cwd=tmp_path)
        assert f"127.0.0.1:{port} is in use" in said and f"`myserver dev {port + 1}`" in said


def test_help() -> None:
    said = subprocess.run(
        [str(BINARY), "dev", "--help"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("Usage: myserver dev [APP]")
    said = subprocess.run([str(BINARY), "--help"], capture_output=True, text=True, check=True)
    assert "\n  dev [APP]" in said.stdout


TYPES = {
    "threads": "UINT",
    "reload": "BOOL",
    "bind": "LIST",
    "-b": "bind",
    "config": "STRING",
    "-c": "config",
}


@pytest.mark.parametrize(
    ("text", "positional", "values"),
    [
        ("app.py 8001", ["app.py", "8001"], {}),
        ("--threads 4 app.py", ["app.py"], {"threads": ["4"]}),
        ("--threads=4 --open app.py", ["app.py"], {"threads": ["4"]}),
        ("--no-reload app.py", ["app.py"], {"reload": [""]}),
        ("--reload app.py", ["app.py"], {"reload": [""]}),
        ("-b :1 -c a.ini x:y", ["x:y"], {"bind": [":1"], "config": ["a.ini"]}),
    ],
)
def test_reading(text: str, positional: list[str], values: dict[str, list[str]]) -> None:
    line = dev.read(text.split(), TYPES)
    assert line.positional == positional
    assert line.values == values
    assert line.options == [word for word in text.split() if word not in (*positional, "--open")]


@pytest.mark.parametrize(
    ("files", "env", "app", "directory"),
    [
        (["manage.py", "app.py", "wsgi.py"], {}, "manage.py", ""),
        (["app.py"], {"DJANGO_SETTINGS_MODULE": "s"}, "django.core.servers", ""),
        (["app.py"], {"FLASK_APP": "hello:create_app"}, "hello:create_app", ""),
        (["wsgi.py", "main.py", "app.py"], {}, "app.py", ""),
        (["wsgi.py", "main.py"], {}, "wsgi.py", ""),
        (["site/manage.py"], {}, "manage.py", "site"),
        (
            ["shop/wsgi.py", "shop/__init__.py", "venv/pyvenv.cfg", "venv/wsgi.py"],
            {},
            "shop.wsgi",
            "",
        ),
        (["shop/__init__.py"], {}, "shop", ""),
        (["src/shop/__init__.py"], {}, "shop", ""),
        (["hello.py", "setup.txt"], {}, "hello.py", ""),
    ],
)
def test_finding(
    files: list[str], env: dict[str, str], app: str, directory: str, tmp_path: Path
) -> None:
    for file in files:
        write(tmp_path / file, "def create_app():\n    pass\n")
    found = find_project(tmp_path, env)
    assert found.app.startswith(app)
    assert found.directory == tmp_path / directory
    assert found.paths == ([str(tmp_path / "src")] if files[0].startswith("src") else [])


def test_finding_too_much(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "manage.py", "")
    with pytest.raises(NotFound, match="several have a manage.py: a, b; name one"):
        find_project(tmp_path, {})


# ---- the page of the documentation

DOCS = (ROOT / "docs" / "development.md").read_text()
COMMANDS = re.findall(
    r"^    ((?:myserver dev|python manage\.py).*?)(?:  +#.*)?$", DOCS, re.MULTILINE
)


def test_the_documentation_has_commands() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documentation(command: str, developed: Dev, tmp_path: Path) -> None:
    """Each as it stands there, in a project; but for the port, which may be taken here."""
    s = developed.prepare()
    make_django(s.dir)
    (s.dir / "mysite").rename(s.dir / "site_of_mysite")
    for file in [*(s.dir / "site_of_mysite").glob("*.py"), s.dir / "manage.py"]:
        file.write_text(file.read_text().replace("mysite.", "shop."))
        if file.parent != s.dir:
            file.rename(s.dir / "shop" / file.name)
    (s.dir / "dev.ini").write_text("[myserver]\nlog-level = info\n")
    (s.dir / "media").mkdir()
    (s.dir / "media" / "x.txt").write_text("medium")
    port = free_port()
    words = [re.sub(r"\b8001\b", str(port), word) for word in command.split()]
    if str(port) not in " ".join(words):
        s.env["PORT"] = str(port)
    program = {"myserver": str(BINARY), "python": python()}[words[0]]
    s.command = [program, *words[1:]]
    s.env |= {
        "PYTHONPATH": str(ROOT / "python"),
        "MYSERVER_PROGRAM": str(BINARY),
        "BROWSER": "true",
    }
    if "info" not in command:  # the harness waits for a line of that level
        s.command.append("--log-level=info")
    s.command.append("--graceful-timeout=30s")
    s.start()
    assert f":{port}" in s.url
    assert "The first word" in s.get("/").text
    assert s.get("/static/admin/css/base.css").status == 200
    if "media" in command:
        assert s.get("/media/x.txt").body == b"medium"
