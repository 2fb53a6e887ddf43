"""The panel for Django Debug Toolbar, in a real project, served as `myserver dev` does and as in production."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import BINARY, VENV, Server, free_port, wait_for
from test_dev import make_django, write

Start = Callable[..., Server]
SETTINGS = """
from debug_toolbar.settings import PANELS_DEFAULTS

INSTALLED_APPS += ["debug_toolbar"]
MIDDLEWARE.insert(0, "debug_toolbar.middleware.DebugToolbarMiddleware")
DEBUG_TOOLBAR_PANELS = ["myserver.toolbar.MyserverPanel", *PANELS_DEFAULTS]
INTERNAL_IPS = ["127.0.0.1"]
"""
ROUTES = """\
from debug_toolbar.toolbar import debug_toolbar_urls
from django.urls import path

from shop import views

urlpatterns = [path("", views.home), path("async/", views.later), *debug_toolbar_urls()]
"""
VIEWS = """\
import asyncio
import time

from django.db import connection
from django.http import HttpResponse

kept = []


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def home(request):
    burn(0.06)
    time.sleep(0.05)
    kept.append(bytearray(b"x" * 20_000_000))
    with connection.cursor() as cursor:
        for _ in range(3):
            cursor.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
                " SELECT count(*) FROM n"
            )
            cursor.fetchall()
    return HttpResponse("<html><body>told</body></html>")


async def later(request):
    burn(0.06)
    await asyncio.sleep(0.05)
    return HttpResponse("<html><body>told</body></html>")
"""


def make(directory: Path) -> None:
    """A project with the toolbar."""
    make_django(directory)
    settings = directory / "mysite" / "settings.py"
    settings.write_text(settings.read_text() + SETTINGS)
    write(directory / "mysite" / "urls.py", ROUTES)
    write(directory / "shop" / "views.py", VIEWS)


@pytest.fixture(params=["dev", "normal"])
def project(request: pytest.FixtureRequest, server: Start) -> Server:
    """It, served in one of the two ways."""
    s = server("mysite.wsgi", start=False, threads=4, pythonpath=["."])
    if request.param == "dev":
        s.command = [str(BINARY), "dev", str(free_port()), "--log-level=info"]
        s.env |= {"VIRTUAL_ENV": str(VENV)}
    make(s.dir)
    return s.start()


def panel(s: Server, path: str) -> tuple[str, str]:
    """What the side bar says of the page, and the panel as text."""
    page = s.get(path).text
    assert "told" in page and "MyserverPanel" in page
    (short,) = re.findall(r"<small>(CPU [^<]*GIL[^<]*)</small>", page)
    (number,) = re.findall(r'data-request-id="(\w+)"', page)
    content = s.get(f"/__debug__/render_panel/?request_id={number}&panel_id=MyserverPanel").json()
    return short, re.sub(r"\s+", " ", html.unescape(re.sub("<.*?>", " ", content["content"])))


def amount(text: str, name: str) -> float:
    """Milliseconds of a part."""
    found = re.search(rf"{re.escape(name)} ([\d.-]+) ms", text)
    assert found, (name, text)
    return float(found[1])


PARTS = ["computing", "waiting for the interpreter (GIL)", "in the database"]
PARTS += ["waiting for something else", "waiting for a CPU"]


def panel_that_adds_up(s: Server, path: str) -> tuple[str, str]:
    """One in which the parts are together the time of the page: a machine with other work may stop a
    page between two looks at the clock."""

    def look() -> tuple[str, str] | None:
        short, text = panel(s, path)
        together = pytest.approx(amount(text, "together"), rel=0.1, abs=1)
        return (short, text) if sum(amount(text, name) for name in PARTS) == together else None

    return wait_for(look, what="parts that add up")


def check_times(text: str, least: dict[str, float]) -> None:
    """Each part has at least so much."""
    parts = {name: amount(text, name) for name in PARTS}
    parts["waiting"] = parts["waiting for something else"] + parts["waiting for a CPU"]
    for name, milliseconds in least.items():
        assert parts[name] >= milliseconds, (name, text)


def test_the_panel_says_where_the_time_went(project: Server) -> None:
    """CPU, database, waiting, memory, and the line that did it; also of the thread of an async view."""
    short, text = panel_that_adds_up(project, "/")
    assert re.fullmatch(r"CPU \d+\.\d ms, GIL \d+\.\d ms, DB \d+\.\d ms", short)
    times = {"computing": 57, "in the database": 5, "waiting": 45}
    check_times(text, times)
    assert " 3 statements " in text
    private = re.search(r"grown by \+?[\d,.-]+ kB meanwhile, \+([\d,]+) kB", text)
    assert private and int(private[1].replace(",", "")) > 15_000
    lines = [n for n, line in enumerate(VIEWS.splitlines(), 1) if "thread_time() < end" in line]
    assert f"shop/views.py:{lines[0]} in burn" in text
    assert re.search(r"django/core/handlers/\w+\.py:\d+ in \w+ .*shop/views.py:\d+ in burn", text)
    _, text = panel_that_adds_up(project, "/async/")
    check_times(text, {"computing": 57})


def test_without_the_server(tmp_path: Path) -> None:
    """Under another server the panel has what it can see, and says what it cannot."""
    make(tmp_path)
    asks = (
        "import django; django.setup()\n"
        "from django.test import Client\n"
        "page = Client(SERVER_NAME='localhost').get('/').content.decode()\n"
        "number = page.split('data-request-id=\"')[1].split('\"')[0]\n"
        "at = f'/__debug__/render_panel/?request_id={number}&panel_id=MyserverPanel'\n"
        "print(page, Client(SERVER_NAME='localhost').get(at).json()['content'])"
    )
    done = subprocess.run(
        [VENV / "bin/python", "-c", asks],
        cwd=tmp_path,
        env={
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTHONPATH": str(Path(__file__).parents[2] / "python"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "not served by myserver" in done.stdout and "is known when myserver" in done.stdout
    assert "shop/views.py" in done.stdout
