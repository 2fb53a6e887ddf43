"""`myserver convert`: configurations of other servers, each converted, started and asked a page.

The configurations in tests/convert/ use the options that public projects use. @DIR@ in them is the
directory of the project, @PORT@ and @SECOND@ are free ports, @USER@ and @GROUP@ who runs the test.
"""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import (
    BINARY,
    PATIENCE_S,
    ROOT,
    SLOWNESS,
    VENV,
    Server,
    environment,
    free_port,
    run,
    wait_for,
)

DATA = ROOT / "tests" / "convert"
Start = Callable[..., Server]


@dataclass
class Case:
    """A configuration, and what must come of it."""

    settings: dict[str, str | list[str]]
    status: int = 0
    dropped: tuple[str, ...] = ()  # names of options that are not kept
    page: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)  # of the conversion, and of the start
    nginx: str = ""  # a line for nginx
    start: tuple[str, ...] = ()  # further arguments for the start


CASES = {
    "uwsgi-django.ini": Case(
        {
            "app": "shop.wsgi:application",
            "bind": "uwsgi:unix:@DIR@/shop.sock",
            "socket-mode": "0660",
            "workers": "2",
            "threads": "2",
            "timeout": "60s",
            "max-requests": "5000",
            "limit-request-field-size": "32k",
            "limit-request-line": "32k",
            "chdir": "@DIR@",
            "access-logfile": "-",
        },
        page={"threads": True, "env": {"SHOP_SETTINGS": "shop.settings.production"}},
        nginx="uwsgi_pass",
    ),
    "uwsgi-http.ini": Case(
        {
            "app": "app.py:app",
            "bind": "127.0.0.1:@PORT@",
            "workers": "1",
            "threads": "4",
            "keep-alive": "75s",
            "stats": "127.0.0.1:@SECOND@",
            "timeout": "0s",
        },
    ),
    "uwsgi-strict.ini": Case(
        {
            "workers": "3",
            "max-requests": "1000",
            "max-worker-lifetime": "3600s",
            "max-worker-memory": "2g",
            "graceful-timeout": "60s",
            "access-logfile": "-",
            "access-log-exclude": "1xx,2xx,3xx",
            "workers-min": "1",
        },
        status=1,
        dropped=("cheaper-algo", "cheaper-busyness-max"),
    ),
    "uwsgi-variables.ini": Case(
        {
            "app": "shop.wsgi",
            "chdir": "@DIR@/",
            "workers": "2",
            "threads": "2",
            "bind": "127.0.0.1:@PORT@",
            "pid": "@DIR@/shop.pid",
        },
        page={
            "env": {
                "SHOP_NAME": "uwsgi-variables",
                "SHOP_PROJECT": "shop-12",
                "SHOP_SECRET": "s3cret$1",
                "SHOP_ELSE": "yes",
                "SHOP_PORT": "@PORT@",
            }
        },
        env={"SHOP_PORT": "@PORT@"},
    ),
    "uwsgi-include.ini": Case(
        {"workers": "2", "timeout": "20s", "pythonpath": ["@DIR@/shop", "@DIR@/shop2"]},
        page={"env": {"SHOP_FOR_a": "a", "SHOP_FOR_b": "b"}},
    ),
    "uwsgi-static.ini": Case(
        {"static": "/static=@DIR@/static", "static-fallthrough": "true"},
        status=1,
        dropped=("static-map", "static-expires", "mimefile"),
        nginx="location = /favicon.ico { alias @DIR@/static/app.css; }",
    ),
    "uwsgi-mount.ini": Case(
        {"script-name": "/shop", "app": "shop.wsgi:application", "bind": "127.0.0.1:@PORT@"},
        status=1,
        dropped=("route", "route-run", "add-header"),
        page={"script_name": "/shop", "path_info": "/page"},
        nginx='add_header X-Content-Type-Options "nosniff" always;',
    ),
    "uwsgi-hooks.ini": Case(
        {"workers": "1"},
        status=1,
        dropped=(
            "hook-post-fork",
            "exec-as-user",
            "import",
            "attach-daemon",
            "cron",
            "spooler",
            "mule",
            "cache2",
        ),
    ),
    "uwsgi-logs.ini": Case(
        {
            "error-logfile": "@DIR@/server.log",
            "access-logfile": "@DIR@/access.log",
            "access-logformat": '%(h)s - %(u)s [%(t)s] "%(r)s" %(s)s %(B)s "%(f)s" "%(a)s" %(M)sms -',
            "log-format": "json",
            "log-slow": "1500ms",
            "static": [],
        },
        status=1,
        dropped=("log-format", "logger", "log-route", "static-map"),
    ),
    "uwsgi-docker.ini": Case(
        {
            "bind": "127.0.0.1:@PORT@",
            "virtualenv": "@VENV@",
            "chdir": "@DIR@/shop2",
            "user": "@USER@",
            "group": "@GROUP@",
            "umask": "0022",
            "pid": "@DIR@/shop.pid",
            "preload": "false",
            "env": ["SHOP_A=2", "LANG=en_US.UTF-8"],
        },
        page={"env": {"SHOP_A": "2", "SHOP_PORT": "@PORT@"}},
        env={"SHOP_PORT": "@PORT@"},
    ),
    "uwsgi-gevent.ini": Case(
        {"threads": "20", "workers": "2"}, status=1, dropped=("gevent", "gevent-monkey-patch")
    ),
    "uwsgi-tls.ini": Case(
        {"bind": "uwsgi:unix:@DIR@/shop.sock"},
        status=1,
        dropped=("https", "http-to-https"),
        nginx="ssl_certificate @DIR@/shop.crt;",
    ),
    "uwsgi-limits.ini": Case(
        {
            "backlog": "512",
            "socket-mode": "0666",
            "body-buffer": "8k",
            "limit-request-body": "10m",
            "body-timeout": "30s",
            "limit-request-fields": "128",
            "max-requests": "100",
            "max-requests-jitter": "20",
            "graceful-timeout": "8s",
            "touch-reload": "@DIR@/reload.txt",
        },
    ),
    "uwsgi-proxy.ini": Case(
        {
            "proxy-protocol": "v1",
            "app": "@DIR@/shop/wsgi.py",
            "reload": "false",
            "stats": "unix:@DIR@/stats.sock",
        },
        status=1,
        dropped=("master-fifo", "http-websockets"),
        start=("--proxy-protocol=off",),
    ),
    "uwsgi-compose.yaml": Case(
        {
            "bind": "127.0.0.1:@PORT@",
            "workers": "2",
            "threads": "3",
            "pythonpath": "@DIR@",
        },
        status=1,
        dropped=("pythonpath",),
        page={"env": {"SHOP_A": "one", "SHOP_B": "it's"}},
    ),
    "uwsgi-service.json": Case(
        {"app": "shop.wsgi:create_app()", "workers": "2", "preload": "true"},
        page={"env": {"SHOP_A": "1", "SHOP_B": "2"}},
    ),
    "gunicorn-simple.conf.py": Case(
        {
            "app": "shop.wsgi:application",
            "bind": "127.0.0.1:@PORT@",
            "workers": "2",
            "timeout": "120s",
            "keep-alive": "5s",
            "log-level": "info",
            "access-logfile": "-",
            "preload": "false",
        },
        page={"threads": False},
    ),
    "gunicorn-computed.conf.py": Case(
        {
            "bind": "127.0.0.1:@PORT@",
            "workers": "3",
            "threads": "2",
            "max-requests": "1000",
            "max-requests-jitter": "50",
            "graceful-timeout": "20s",
            "timeout": "30s",
        },
        env={"SHOP_PORT": "@PORT@", "SHOP_THREADED": "1"},
    ),
    "gunicorn-gthread.conf.py": Case(
        {
            "app": "shop.wsgi:create_app()",
            "bind": ["127.0.0.1:@PORT@", "127.0.0.1:@SECOND@"],
            "threads": "3",
            "worker-connections": "500",
            "preload": "true",
            "forwarded-allow-ips": "*",
            "backlog": "64",
        },
    ),
    "gunicorn-gevent.conf.py": Case(
        {"threads": "40", "preload": "false"}, status=1, dropped=("worker_class",)
    ),
    "gunicorn-hooks.conf.py": Case(
        {"workers": "1", "hooks": "gunicorn-hooks.conf.py"}, status=1, dropped=("pre_request",)
    ),
    "gunicorn-logging.conf.py": Case(
        {
            "access-logfile": "@DIR@/access.log",
            "access-logformat": '{"remote": "%(h)s", "line": "%(r)s", "status": "%(s)s", '
            '"us": %(D)s, "id": "%({x-request-id}i)s", "env": "-"}',
            "pid": "@DIR@/shop.pid",
            "statsd": "localhost:8125",
            "statsd-prefix": "shop",
        },
        status=1,
        dropped=("access_log_format", "logconfig_dict"),
    ),
    "gunicorn-limits.conf.py": Case(
        {
            "bind": "unix:@DIR@/shop.sock",
            "socket-mode": "0660",
            "limit-request-line": "64k",
            "limit-request-fields": "256",
            "limit-request-field-size": "64k",
            "timeout": "0s",
            "umask": "0007",
            "chdir": "@DIR@",
            "tmp-dir": "/var/tmp",
        },
    ),
    "gunicorn-environment.conf.py": Case(
        {"script-name": "/shop", "user": "@USER@", "group": "@GROUP@", "app": "app:app"},
        page={"script_name": "/shop", "env": {"SHOP_A": "one two", "SHOP_B": "$x"}},
    ),
    "line-gunicorn.txt": Case(
        {
            "bind": "127.0.0.1:@PORT@",
            "workers": "2",
            "threads": "2",
            "error-logfile": "-",
            "access-logfile": "-",
        },
        page={"threads": True},
    ),
    "line-gunicorn-file.txt": Case(
        {
            "bind": "unix:@DIR@/shop.sock",
            "socket-mode": "0666",
            "workers": "3",
            "threads": "2",
            "max-requests": "1200",
            "max-requests-jitter": "100",
        },
        page={"env": {"SHOP_A": "1", "SHOP_B": "2"}},
    ),
    "line-uwsgi.txt": Case(
        {
            "app": "shop.wsgi:app",
            "workers": "2",
            "virtualenv": "@VENV@",
            "static": "/static=@DIR@/static",
            "access-logfile": [],
        },
    ),
    "line-granian.txt": Case(
        {
            "app": "shop.wsgi:create_app()",
            "bind": "127.0.0.1:@PORT@",
            "workers": "2",
            "threads": "3",
            "max-worker-lifetime": "5400s",
            "static": "/static=@DIR@/static",
            "access-logfile": "-",
        },
        page={"env": {"SHOP_A": "1"}},
    ),
    "line-waitress.txt": Case(
        {
            "app": "shop.wsgi:create_app()",
            "bind": "127.0.0.1:@PORT@",
            "workers": "1",
            "threads": "6",
            "script-name": "/shop",
            "forwarded-allow-ips": "127.0.0.1",
            "keep-alive": "30s",
        },
        page={"script_name": "/shop"},
    ),
    "line-mod_wsgi.txt": Case(
        {
            "app": "app.py:app",
            "bind": "127.0.0.1:@PORT@",
            "workers": "2",
            "threads": "3",
            "timeout": "90s",
            "limit-request-body": "10m",
            "script-name": "/shop",
            "static": "/static=@DIR@/static",
        },
        page={"script_name": "/shop", "env": {"SHOP_A": "1"}},
    ),
    "line-wrapped.txt": Case({"bind": "127.0.0.1:@PORT@", "workers": "1"}),
}


@dataclass
class Project:
    """A directory with the project and one configuration."""

    server: Server
    known: dict[str, str]

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self.server.dir

    def fill(self, text: str) -> str:
        """The text with the values of @NAME@."""
        return re.sub(r"@([A-Z]+)@", lambda match: self.known[match[1]], text)

    def convert(self, *words: str, env: dict[str, str] | None = None) -> Any:
        """The conversion, run in the project's directory."""
        clean = {
            k: v for k, v in environment().items() if not k.startswith(("UWSGI_", "GUNICORN_"))
        }
        return subprocess.run(
            [str(BINARY), "convert", *words],
            cwd=self.directory,
            env=clean | {name: self.fill(value) for name, value in (env or {}).items()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60 * SLOWNESS,
        )


@pytest.fixture
def project(server: Start) -> Project:
    """The project, and a server that is not started."""
    made = server(start=False)
    directory = made.dir.resolve()
    known = {
        "DIR": str(directory),
        "PORT": str(free_port()),
        "SECOND": str(free_port()),
        "USER": pwd.getpwuid(os.geteuid()).pw_name,
        "GROUP": grp.getgrgid(os.getegid()).gr_name,
        "VENV": str(VENV) if VENV.exists() else sys.prefix,
    }
    found = Project(made, known)
    shutil.copytree(DATA / "project", directory, dirs_exist_ok=True)
    (directory / "shop2").mkdir()
    for path in directory.rglob("*"):
        if path.is_file():
            path.write_text(found.fill(path.read_text()))
    return found


def printed(project: Project, ini: str, env: dict[str, str]) -> dict[str, list[str]]:
    """What --print-config says of an ini."""
    done = subprocess.run(
        [str(BINARY), "--print-config", "-c", ini],
        cwd=project.directory,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
    )
    assert done.returncode == 0, done
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines()[1:]:
        match = re.fullmatch(r"(;?)([a-z-]+) =(?: (.*?))? +; (.+)", line)
        assert match, line
        found.setdefault(match[2], [])
        if not match[1]:
            found[match[2]].append((match[3] or "").replace("$$", "$"))
    return found


def section(ini: str, title: str) -> str:
    """The comments below a title, as one line."""
    match = re.search(rf"(?m)^# {title}:\n((?:#.*\n)*)", ini)
    return " ".join(match[1].replace("\n#", " ").split()) if match else ""


def ask(address: str, path: str) -> tuple[int, bytes]:
    """One GET at an address as `bind` has it."""
    is_uwsgi = address.startswith("uwsgi:")
    address = address.removeprefix("uwsgi:")
    timeout = PATIENCE_S * SLOWNESS
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        connection = socket.create_connection((host or "127.0.0.1", int(port)), timeout)
    if not is_uwsgi:
        client = http.client.HTTPConnection("localhost", timeout=timeout)
        client.sock = connection
        client.request("GET", path)
        answer = client.getresponse()
        body = answer.read()
        client.close()
        return answer.status, body
    variables = {
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": path,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
    }
    data = b"".join(
        struct.pack("<H", len(text)) + text.encode() for pair in variables.items() for text in pair
    )
    with connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack("<BHB", 0, len(data), 0) + data)
        head, _, body = stream.read().partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_is_converted_and_served(name: str, project: Project) -> None:
    case = CASES[name]
    text = project.fill((DATA / name).read_text())
    (project.directory / name).write_text(text)
    words = [text.strip()] if name.endswith(".txt") else [name]
    done = project.convert(*words, env=case.env)
    assert done.returncode == case.status, done.stderr
    for option in case.dropped:
        assert re.search(rf"\b{option}\b", section(done.stdout, "Not kept")), option
        assert option in done.stderr
    assert project.fill(case.nginx) in section(done.stdout, "nginx")
    (project.directory / "myserver.ini").write_text(done.stdout)

    env = {key: project.fill(value) for key, value in case.env.items()}
    settings = printed(project, "myserver.ini", env)
    for option, wanted in case.settings.items():
        texts = wanted if isinstance(wanted, list) else [wanted]
        assert settings[option] == [project.fill(text) for text in texts], option

    s = project.server
    s.command = [str(BINARY), "-c", "myserver.ini", *case.start]
    s.env |= env
    s.start()
    elastic = settings["workers-min"][0]
    assert len(s.workers()) == int(elastic if elastic != "0" else settings["workers"][0])
    path = settings["script-name"][0] + "/page" if settings["script-name"] else "/page"
    for address in settings["bind"]:
        status, body = ask(address, path)
        assert status == 200, body
        page = json.loads(body)
        for key, value in case.page.items():
            expected = json.loads(project.fill(json.dumps(value)))
            assert page[key] == expected, key
    if settings["static"]:
        assert ask(settings["bind"][0], "/static/app.css") == (200, b"body { color: black }\n")


def test_the_hooks_of_gunicorn_are_called(project: Project) -> None:
    """Those that the file has, by the server that the converted ini starts."""
    name = "gunicorn-hooks.conf.py"
    (project.directory / name).write_text(project.fill((DATA / name).read_text()))
    (project.directory / "it.ini").write_text(project.convert(name).stdout)
    s = project.server
    s.command = [str(BINARY), "-c", "it.ini"]
    s.start()
    wait_for(lambda: (project.directory / "initialized").exists(), what="when_ready")
    (worker,) = s.workers()
    assert f"Worker spawned (pid: {worker})" in s.log
    s.stop()
    assert (project.directory / f"{worker}.ended").exists()


def test_the_cases_are_the_files() -> None:
    names = {path.name for path in DATA.iterdir() if path.is_file()}
    assert names == set(CASES)
    assert len(names) >= 30


# ---------------------------------------------------------------- command lines

APP = "shop.wsgi:application"
LINES: list[tuple[str, dict[str, str | list[str]]]] = [
    ("gunicorn shop.wsgi", {"app": "shop.wsgi", "bind": "127.0.0.1:8000", "workers": "1"}),
    ("gunicorn -w4 -b :80 shop.wsgi", {"bind": "0.0.0.0:80", "workers": "4"}),
    ("gunicorn --bind unix:///run/x.sock a:b", {"bind": "unix:/run/x.sock"}),
    ("gunicorn --bind [::]:80 --bind 1.2.3.4 a", {"bind": ["[::]:80", "1.2.3.4:8000"]}),
    ("gunicorn -b tcp://0.0.0.0:8 --threads=2 a", {"bind": "0.0.0.0:8", "threads": "2"}),
    ("gunicorn --gracef 3 --timeout 0 a", {"graceful-timeout": "3s", "timeout": "0s"}),
    ("gunicorn --umask 027 a", {"umask": "0027"}),
    ("gunicorn --preload --reload --reload-extra-file a.txt a", {"touch-reload": "a.txt"}),
    ("gunicorn --log-syslog --log-syslog-to udp://h:5 a", {"error-logfile": "syslog:h:5"}),
    ("gunicorn a --proxy-protocol", {"proxy-protocol": "auto"}),
    ("gunicorn --proxy-protocol v2 a", {"proxy-protocol": "v2"}),
    ("gunicorn --protocol uwsgi -b :9 a", {"bind": "uwsgi:0.0.0.0:9"}),
    ("gunicorn --log-level WARN a", {"log-level": "warning"}),
    ("WEB_CONCURRENCY=3 gunicorn a", {"workers": "3"}),
    ("PORT=77 gunicorn a", {"bind": "0.0.0.0:77"}),
    ("env SHOP_A=1 /usr/bin/gunicorn3 a", {"env": "SHOP_A=1"}),
    ("python -m gunicorn a", {"app": "a"}),
    ("uwsgi --socket :3031 --module a --callable b", {"bind": "uwsgi::3031", "app": "a:b"}),
    ("uwsgi --http=:80 --wsgi-file w.py --processes=2", {"bind": ":80", "app": "w.py"}),
    ("uwsgi -s @name -w a", {"bind": "uwsgi:unix:@name"}),
    ("UWSGI_WORKERS=5 uwsgi -w a", {"workers": "5"}),
    ("uwsgi -w a -t 30 -l 50 -R 9 -z 7", {"timeout": "30s", "backlog": "50", "max-requests": "9"}),
    ("uwsgi -w a --post-buffering-b 9 --catch-e", {"app": "a"}),
    ("uwsgi_python311 -w a", {"app": "a"}),
    ("granian --interface wsgi a", {"bind": "127.0.0.1:8000", "workers": "1", "threads": "64"}),
    ("GRANIAN_PORT=9 granian --interface wsgi a", {"bind": "127.0.0.1:9"}),
    ("granian --interface=wsgi --uds x.sock --uds-permissions 0600 a", {"socket-mode": "0600"}),
    ("granian --interface wsgi --http1-header-read-timeout 500 a", {"header-timeout": "500ms"}),
    ("granian --interface wsgi --no-http1-keep-alive a", {"keep-alive": "0s"}),
    ("granian --interface wsgi --workers-max-rss 300 a", {"max-worker-memory": "300m"}),
    ("granian --interface wsgi --metrics --metrics-port 7 a", {"control": "127.0.0.1:7"}),
    ("waitress-serve a:b", {"bind": "0.0.0.0:8080", "threads": "4", "workers": "1"}),
    ("waitress-serve --port=80 --host=1.2.3.4 a:b", {"bind": "1.2.3.4:80"}),
    ("waitress-serve --unix-socket=x.sock a:b", {"bind": "unix:x.sock", "socket-mode": "0600"}),
    ("waitress-serve --app=a:b --listen=*:1", {"bind": ":1", "app": "a:b"}),
    ("mod_wsgi-express start-server w.py", {"bind": ":8000", "threads": "5", "workers": "1"}),
    # with what stands around it in units, container files, Procfiles and scripts
    ("uv run --no-sync gunicorn a", {"app": "a"}),
    ("sudo -u uwsgi gunicorn -u nobody a", {"app": "a", "user": "nobody"}),
    ("env -u HOME SHOP_A=1 nice -n 10 gunicorn a", {"app": "a"}),
    ("python -u -m gunicorn a", {"env": "PYTHONUNBUFFERED=1"}),
    ("python3 -W ignore -X dev -m gunicorn.app.wsgiapp a", {"app": "a"}),
    (
        "mod_wsgi-express start-server --application-type module a --log-level warn",
        {"app": "a", "log-level": "warning"},
    ),
]


@pytest.mark.parametrize("line, wanted", LINES, ids=[line for line, _ in LINES])
def test_command_lines(line: str, wanted: dict[str, Any], project: Project) -> None:
    done = project.convert(line)
    assert done.returncode == 0, done.stderr
    assert project.convert(*line.split()).stdout == done.stdout
    (project.directory / "it.ini").write_text(done.stdout)
    settings = printed(project, "it.ini", {})
    for option, value in wanted.items():
        assert settings[option] == (value if isinstance(value, list) else [value]), option


TEXTS = [
    ("web: gunicorn a --log-file -", {"app": "a"}),
    ('CMD ["gunicorn", "-b", "127.0.0.1:81", "a"]', {"bind": "127.0.0.1:81"}),
    ('ENTRYPOINT ["sh", "-c", "exec gunicorn -b :${SHOP_PORT:-82} a"]', {"bind": "0.0.0.0:82"}),
    ("ExecStart=-/usr/bin/env gunicorn --access-logformat '%%(h)s' a", {"app": "a"}),
    ("ExecStart=/usr/bin/gunicorn --access-logformat '%%(h)s' a", {"access-logformat": "%(h)s"}),
    ("bash -lc 'gunicorn a -w $SHOP_WORKERS'", {"workers": "7"}),
    ("gunicorn a -b 127.0.0.1:$SHOP_WORKERS -t ${SHOP_TIME-9}", {"bind": "127.0.0.1:7"}),
    ("gunicorn a -b $SHOP_BIND", {"bind": "127.0.0.1:83"}),
    ("gunicorn a -e 'SHOP_A=a$b'", {"env": "SHOP_A=a$b"}),
    ("gunicorn a \\\n  --workers 2", {"app": "a", "workers": "2"}),
    ("waitress-serve --listen=*:${SHOP_PORT:-84} a:b", {"bind": ":84"}),
    ("granian --interface wsgi --port $SHOP_WORKERS a", {"bind": "127.0.0.1:7"}),
    ("python manage.py migrate && gunicorn a -w 5 >>/tmp/a.log 2>&1", {"workers": "5"}),
]


@pytest.mark.parametrize("text, wanted", TEXTS, ids=[text for text, _ in TEXTS])
def test_command_lines_as_they_stand_in_a_file(
    text: str, wanted: dict[str, Any], project: Project
) -> None:
    """Labels, shells, variables and redirections; a variable is read at each start."""
    done = project.convert(text)
    assert done.returncode == 0, done.stderr
    (project.directory / "it.ini").write_text(done.stdout)
    env = {"SHOP_WORKERS": "7", "SHOP_BIND": "127.0.0.1:83"}
    settings = printed(project, "it.ini", env)
    for option, value in wanted.items():
        assert settings[option] == [value], option


def test_what_stands_around_a_command_is_said(project: Project) -> None:
    done = project.convert("./migrate.sh && sudo -u www gunicorn a >>a.log 2>&1")
    assert "# Other commands of that line stay: ./migrate.sh" in done.stdout
    assert ": sudo -u www myserver -c FILE >>a.log 2>&1" in done.stdout
    done = project.convert("python -I -m gunicorn a")
    assert done.returncode == 1
    assert "--python -I: an option of the interpreter that has no variable" in done.stderr


def test_no_value_of_the_environment_is_in_the_ini(project: Project) -> None:
    """A file that goes through the whole environment, as many do, reads no variable by name."""
    (project.directory / "g.py").write_text(
        "import os\nwsgi_app = 'a'\ntoken = os.environ.get('SHOP_TOKEN')\n"
        "for name, value in os.environ.items():\n"
        "    if name.startswith('GUNICORN_'):\n        locals()[name[9:].lower()] = value\n"
    )
    env = {"SHOP_TOKEN": "topsecret", "SHOP_OTHER": "topsecret", "GUNICORN_WORKERS": "4"}
    done = project.convert("g.py", env=env)
    assert done.returncode == 0, done.stderr
    assert "topsecret" not in done.stdout + done.stderr
    assert "SHOP_TOKEN" in done.stdout and "SHOP_OTHER" not in done.stdout
    assert re.search(r"(?m)^workers = 4 ", done.stdout)


def test_an_option_that_another_one_replaces_is_said(project: Project) -> None:
    (project.directory / "a.ini").write_text(
        "[uwsgi]\nmodule = a\nlogto = a.log\nlogto2 = b.log\n"
        "evil-reload-on-rss = 600\nreload-on-rss = 500\n"
    )
    done = project.convert("a.ini")
    assert done.returncode == 1
    assert "logto = a.log: there is one error-logfile, which is that of logto2" in done.stderr
    assert re.search(r"(?m)^max-worker-memory = 524288000 ", done.stdout)


def test_gunicorn_cmd_args_of_the_environment_are_read(project: Project) -> None:
    env = {"GUNICORN_CMD_ARGS": "--threads 3 -w 9"}
    done = project.convert("gunicorn -w 2 shop.wsgi", env=env)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^threads = 3 +; threads, GUNICORN_CMD_ARGS$", done.stdout)
    assert re.search(r"(?m)^workers = 2 +; workers, command line$", done.stdout)


def test_what_stands_in_front_of_the_program_is_said(project: Project) -> None:
    done = project.convert("newrelic-admin run-program gunicorn shop.wsgi")
    assert "newrelic-admin run-program myserver -c FILE" in done.stdout


# ---------------------------------------------------------------- what is wrong

WRONG = [
    ("gunicorn --wokers 3 a", "gunicorn has no option --wokers; did you mean --workers?"),
    ("gunicorn -X a", "gunicorn has no option -X; gunicorn --help lists them"),
    ("gunicorn --workers", "--workers needs a value"),
    ("gunicorn a b", "two applications are given, a and b"),
    ("gunicorn -k uvicorn.workers.UvicornWorker a", "serves an asyncio application"),
    ("gunicorn --paste x.ini", "paste.deploy.loadapp"),
    ("gunicorn -c missing.py a", "missing.py: there is no such file"),
    ("uwsgi --procceses 2 -w a", "uWSGI has no option --procceses; did you mean --processes?"),
    ("uwsgi --emperor /etc/vassals", "it serves one application"),
    ("uwsgi --plugin php --ini x.ini", "x.ini: cannot be read"),
    ("uwsgi --plugin php -w a", "plugin php: it serves WSGI applications only"),
    ("uwsgi -x app.xml", "app.xml: XML is not read"),
    ("granian a", "granian serves rsgi applications unless"),
    ("granian --interface wsgi --worker 2 a", "granian has no option --worker; did you mean"),
    (
        "waitress-serve --treads=2 a:b",
        "waitress-serve has no option --treads; did you mean --threads?",
    ),
    ("mod_wsgi-express start-server --processs 1 w.py", "did you mean --processes?"),
    ("mod_wsgi-express module-config", "only mod_wsgi-express start-server"),
    ("uvicorn a:b", "uvicorn is none that is known here"),
    ("gunicorn 'a", "gunicorn 'a: no closing quotation"),
    ("gunicorn -w $(nproc) a", "a shell computes $(nproc): write its value, or a variable"),
    ("ExecStart=/bin/gunicorn -b unix:/run/%i.sock a", "systemd computes %i: write its value"),
    ("nonsense", "nonsense is no file, and no command line of"),
    ("no-such-file.ini", "no-such-file.ini: cannot be read"),
]


@pytest.mark.parametrize("line, sentence", WRONG)
def test_what_cannot_be_converted_is_said(line: str, sentence: str, project: Project) -> None:
    done = project.convert(line)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert re.fullmatch(r"myserver convert: [^\n]+\n", done.stderr), done.stderr
    assert sentence in done.stderr


FILES = [
    ("a.ini", "[uwsgi]\nmodule = a\nprocceses = 3\n", 1, "a.ini:3: uWSGI has no option procceses"),
    (
        "a.ini",
        "[uwsgi]\nstrict = 1\nmodul = a\n",
        2,
        "a.ini:3: uWSGI has no option modul, and strict",
    ),
    ("a.ini", "[uwsgi]\nmodule = a\nprocesses = two\n", 1, 'a.ini:3: processes: "two" is no whole'),
    ("a.ini", "[other]\nmodule = a\n", 2, "a.ini: there is no section [uwsgi]: it has [other]"),
    ("a.ini", "[uwsgi]\nini = a.ini\n", 2, "include each other without an end"),
    ("a.ini", "[uwsgi]\nmodule = a\nplugin = rack\n", 2, "a.ini:3: plugin rack:"),
    ("a.ini", "[uwsgi]\nmodule = a\nenvdir = none\n", 2, "a.ini:3: none: cannot be read"),
    ("a.ini", "[uwsgi]\nmodule = a\nenv = A=b ; c\n", 1, "a.ini:3: not kept: env = A=b ; c"),
    ("a.ini", "[uwsgi]\nmodule = a\nemperor = x\n", 2, "a.ini:3: emperor: it serves one"),
    (
        "a.yaml",
        "uwsgi:\n  module: a\n  procceses: 3\n",
        1,
        "a.yaml:3: uWSGI has no option procceses",
    ),
    ("a.ini", "[uwsgi]\nmodule = %(nothing).wsgi\n", 1, 'a.ini:2: module: "%(nothing).wsgi" has'),
    (
        "Procfile",
        "web: gunicorn shop.wsgi\n",
        2,
        "put the command line that starts the server behind",
    ),
    ("a.ini", "[uwsgi]\nmodule = a\nharakiri = 30 ; s\n", 0, "all is kept"),
    ("a.ini", "[uwsgi]\nif-hostname-match = (\nmodule = a\n", 2, "a.ini:3: (: this is no regular"),
    ("a.yaml", "uwsgi:\n  module\n", 2, "a.yaml:2: this is no NAME: VALUE"),
    ("a.yaml", "other:\n  module: a\n", 2, "a.yaml: there is no mapping uwsgi: at its top"),
    (
        "a.json",
        '{"uwsgi": {"module": "a",\n "treads": 3}}',
        1,
        "a.json:2: uWSGI has no option treads",
    ),
    ("a.json", '{"uwsgi": {\n"module" "a"}}', 2, "a.json:2: this is no JSON"),
    ("a.xml", "<uwsgi/>", 2, "a.xml: XML is not read; write it as an ini"),
    (
        "g.py",
        "wsgi_app = 'a'\nwrkers = 3\n",
        1,
        "g.py:2: gunicorn has no setting wrkers and ignores it; did you mean workers?",
    ),
    ("g.py", "wsgi_app = 'a'\naccess_logfile = '-'\n", 1, "did you mean accesslog?"),
    ("g.py", "wsgi_app = 'a'\nworkers = 'two'\n", 1, 'g.py:2: workers: "two" is no whole number'),
    ("g.py", "wsgi_app = 'a'\nx = 1 / 0\n", 2, "g.py:2: ZeroDivisionError: division by zero"),
    ("g.py", "workers = \n", 2, "g.py:1: SyntaxError: invalid syntax"),
    ("g.py", "import no_such_thing\n", 2, "VIRTUAL_ENV"),
    ("g.py", "raise SystemExit(3)\n", 2, "g.py:1: SystemExit: 3"),
    ("g.py", "import os\nos._exit(7)\n", 2, "g.py: running it ended Python with status 7"),
    ("g.py", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", 2, "with status -9"),
]


@pytest.mark.parametrize("name, text, status, sentence", FILES)
def test_wrong_files_are_said_with_their_line(
    name: str, text: str, status: int, sentence: str, project: Project
) -> None:
    (project.directory / name).write_text(text)
    done = project.convert(name)
    assert done.returncode == status, done
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stdout == "") == (status == 2)


def test_a_configuration_file_cannot_touch_the_conversion(project: Project) -> None:
    """It prints, closes, changes the directory and leaves a process behind."""
    (project.directory / "g.py").write_text(
        "import os, subprocess, sys\n"
        "print('into the ini')\n"
        "sys.stdout.flush()\n"
        "os.chdir('/')\n"
        "subprocess.Popen(['sleep', '600'])\n"
        "os.environ['PATH'] = ''\n"
        "wsgi_app = 'shop.wsgi'\n"
        "workers = 1\n"
    )
    done = project.convert("g.py")
    assert done.returncode == 0, done.stderr
    assert "into the ini" not in done.stdout
    assert "into the ini" in done.stderr
    assert re.search(r"(?m)^app = shop.wsgi +; wsgi_app, g.py:7$", done.stdout)


def test_a_configuration_file_that_does_not_end(project: Project) -> None:
    (project.directory / "g.py").write_text("import time\ntime.sleep(600)\n")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import myserver.commands.convert.gunicorn as g, sys\n"
            "g.TIMEOUT_S = 0.5\n"
            "from myserver.commands import convert\n"
            "sys.exit(convert.main(['g.py']))",
        ],
        cwd=project.directory,
        env=environment({"PYTHONPATH": str(ROOT / "python"), "MYSERVER_PROGRAM": str(BINARY)}),
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "g.py: it has not come to its end within 0.5 s" in done.stderr


def test_a_configuration_file_may_be_large(project: Project) -> None:
    (project.directory / "g.py").write_text(
        "wsgi_app = 'shop.wsgi'\nworkers = 1\nlogconfig_dict = {str(n): 'x' * 100 for n in range(9999)}\n"
        "class Odd:\n    def __str__(self):\n        raise ValueError\n"
        "pidfile = Odd()\n"
    )
    done = project.convert("g.py")
    assert done.returncode == 1, done.stderr[:1000]
    assert re.search(r"(?m)^app = shop.wsgi ", done.stdout)


def test_a_variable_that_is_not_set_is_asked_for_at_the_start(project: Project) -> None:
    (project.directory / "a.ini").write_text(
        "[uwsgi]\nmodule = shop.wsgi\nhttp-socket = :$(SHOP_PORT)\nprocesses = $(SHOP_WORKERS)\n"
    )
    done = project.convert("a.ini")
    assert done.returncode == 0, done.stderr
    assert "asked for at the start: SHOP_PORT, SHOP_WORKERS" in done.stderr
    (project.directory / "it.ini").write_text(done.stdout)
    settings = printed(project, "it.ini", {"SHOP_PORT": "81", "SHOP_WORKERS": "3"})
    assert (settings["bind"], settings["workers"]) == ([":81"], ["3"])


def test_help_and_no_arguments(project: Project) -> None:
    done = project.convert("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: myserver convert FILE\n")
    done = project.convert()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")


# ---------------------------------------------------------------- the documents


def blocks(document: str) -> list[tuple[str, str]]:
    """The code of a document: what stands behind the ```, and the text."""
    text = (ROOT / "docs" / document).read_text()
    found = re.findall(r"(?ms)^```(\w[^\n]*)\n(.*?)^```$", text)
    assert len(found) >= 4
    return found


@pytest.mark.parametrize("document", ["from-gunicorn.md", "from-uwsgi.md"])
def test_the_commands_of_a_document(document: str, project: Project) -> None:
    s = project.server
    for title, text in blocks(document):
        kind, _, name = title.partition(" ")
        if kind == "sh" and not name:
            for command in text.splitlines():
                assert command.startswith("myserver ")
                done = subprocess.run(
                    ["sh", "-c", command.replace("myserver", str(BINARY), 1)],
                    cwd=project.directory,
                    env=environment(),
                    capture_output=True,
                    text=True,
                    timeout=60 * SLOWNESS,
                )
                assert done.returncode == 0, (command, done.stderr)
        elif kind == "sh":
            assert name == "serve"
            s.command = [str(BINARY), *text.split()[1:]]
            s.start()
            address = printed(project, "myserver.ini", {})["bind"][0]
            address = address.replace("unix:shop", f"unix:{project.directory}/shop")
            assert ask(address, "/page")[0] == 200
            assert len(s.workers()) == int(printed(project, "myserver.ini", {})["workers"][0])
        else:
            (project.directory / name).write_text(text)
    assert s.served


# ---------------------------------------------------------------- the tables


def rows() -> Iterator[dict[str, Any]]:
    """The tables of all servers."""
    done = subprocess.run([str(BINARY), "--options=foreign"], capture_output=True, check=True)
    yield from json.loads(done.stdout)


def test_every_row_can_be_read() -> None:
    from myserver.commands.convert import values

    for row in rows():
        known = {"own", "hook", "tls", None, *values.READERS}
        assert row["how"] in known, row
        assert row["verdict"] in ("kept", "needless", "dropped", "cannot"), row
        assert row["ours"] or row["note"], row


def test_every_option_of_uwsgi_is_converted(project: Project) -> None:
    """Each alone, with a value that nothing is right for: no name is unknown, and nothing crashes."""
    skipped = {
        "ini",
        "yaml",
        "yml",
        "json",
        "js",
        "config",
        "include",
        "inherit",
        "xml",
        "xmlconfig",
    }
    lines = ["[uwsgi]", "module = shop.wsgi"]
    for row in (r for r in rows() if r["server"] == "uWSGI" and r["verdict"] != "cannot"):
        for word in row["names"].split():
            name = re.sub(r"[=\[].*", "", word)
            if (
                word.startswith("-")
                or name in skipped
                or re.match(
                    r"if|for|set|declare|envdir|early-envdir|plugin|need-plugin|strict", name
                )
            ):
                continue
            lines.append(f"{name} = @x")
    (project.directory / "all.ini").write_text("\n".join(lines) + "\n")
    done = project.convert("all.ini")
    assert len(lines) > 900
    assert "Traceback" not in done.stderr
    assert "has no option" not in done.stderr
    assert done.returncode in (1, 2), done


def test_arguments_of_a_factory() -> None:
    """Literals are kept as they are: a factory may have them here, too."""
    done = run("convert", "gunicorn", "shop.wsgi:create_app('x', debug=False)")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^app = shop\.wsgi:create_app\('x', debug=False\)( |$)", done.stdout, re.M)
