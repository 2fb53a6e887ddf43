"""The locale and the time zone of the application change neither the protocol nor the logs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness import Server
from test_logfiles import LOCAL, Syslog
from wire import Wire, request

Start = Callable[..., Server]

LISTS = """\
import locale
locale.setlocale(locale.LC_ALL, "")

def application(environ, start_response):
    names = locale.setlocale(locale.LC_ALL)
    start_response("200 OK", [("Content-Type", names), ("Content-Length", "1")])
    return [b"1" if "HTTP_X_REAL_IP" in environ else b"0"]
"""
DJANGO = """\
import os, time
os.environ["TZ"] = "XYZ-11:30"  # as Django does with TIME_ZONE
time.tzset()

def application(environ, start_response):
    raise ValueError("said by the worker")
"""
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"


@pytest.fixture
def speak(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Make a locale and return the environment in which it is the user's."""

    def make(name: str) -> dict[str, str]:
        localedef = shutil.which("localedef")
        if not localedef or not Path("/usr/share/i18n/locales", name).exists():
            pytest.skip("localedef or the source of the locale is missing; make deps installs it")
        path = tmp_path / f"{name}.UTF-8"
        subprocess.run(
            [localedef, "--no-archive", "-i", name, "-f", "UTF-8", path],
            check=False,  # warnings end it with 1
            capture_output=True,
        )
        assert (path / "LC_CTYPE").exists()
        return {"LOCPATH": str(tmp_path), "LC_ALL": path.name}

    return make


def wsgi(server: Start, code: str, **options: object) -> Server:
    """A server of this code, not yet started."""
    s = server("app", start=False, prewarm_rounds=0, **options)
    (s.dir / "app.py").write_text(code)
    return s


def test_turkish_letters(server: Start, speak: Callable[[str], dict[str, str]]) -> None:
    """There I and i are two letters, but not in the names and words of HTTP."""
    s = wsgi(server, LISTS, env=speak("tr_TR"), forwarded_allow_ips="192.0.2.1").start()
    with Wire(s) as wire:
        answer = wire.ask("/", "X-REAL-IP: 203.0.113.9", "CONNECTION: CLOSE")
        assert "tr_TR.UTF-8" in (answer.get("Content-Type") or "")
        assert answer.body == b"0", "only a trusted proxy may say it"
        assert wire.is_closed()
    with Wire(s) as wire:
        assert wire.ask("HTTP://test.example/").status == 200


def test_months_are_english(
    server: Start, speak: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """Whatever reads a log knows only these. All Finnish ones are others."""
    options = {"access_logfile": f"syslog:unix:{tmp_path / 'log'}", "env": speak("fi_FI")}
    s = wsgi(server, LISTS, **options).start()
    head = LOCAL.format(30)
    with closing(Syslog(tmp_path / "log")) as daemon, Wire(s) as wire:
        assert "fi_FI.UTF-8" in (wire.ask("/").get("Content-Type") or "")
        daemon.find(head + rf"127\.0\.0\.1 - - \[\d\d/(?:{MONTHS})/\d{{4}}:.*")


def test_one_time_zone_in_the_error_log(server: Start) -> None:
    """An application that sets another one changes the times of no process."""
    s = wsgi(server, DJANGO, env={"TZ": "ABC+7"}).start()
    with Wire(s) as wire:
        wire.send(request("GET", "/")).answer()
    assert s.log_contains("ValueError: said by the worker")
    assert s.stop() == 0
    stamps = [
        datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f%z")
        for stamp in re.findall(r"^(\S+ \S+) \[\w+\] (?:master|mold|worker)", s.log, re.M)
    ]
    now = datetime.now(UTC)
    assert len(stamps) > 4
    assert all(abs((now - stamp).total_seconds()) < 600 for stamp in stamps), s.log
