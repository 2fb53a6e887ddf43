"""Command lines of gunicorn, as they stand in container files, unit files and manuals, with the name of the
program replaced: what is the same or harmless works and is logged, what is not is refused.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import APPS, BINARY, Server, environment, free_port, run

Start = Callable[..., Server]

FACTORY = """\
from hello import application
def create_app(name="default", *, debug=True):
    assert name in ("default", "production") and debug is (name == "default")
    return application
"""


@dataclass
class Line:
    """A command line, and what the log says of it."""

    text: str
    said: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


SYNC = "--worker-class sync changes nothing: there is one kind of worker"
GTHREAD = "--worker-class gthread changes nothing: there is one kind of worker"
SHM = "--worker-tmp-dir /dev/shm changes nothing: workers share memory"

LINES = [
    Line("-b 127.0.0.1:{port} hello"),
    Line("-w 2 -b 127.0.0.1:{port} 'hello:application'"),
    Line("--bind :{port} --workers 1 --threads 8 --timeout 0 hello:application"),
    Line("hello:application --bind 127.0.0.1:{port} --chdir={apps}"),
    Line(
        "--worker-tmp-dir /dev/shm --workers=2 --threads=4 --worker-class=gthread --log-file=- "
        "--bind 127.0.0.1:{port} hello",
        [SHM, GTHREAD, "--log-file is called --error-logfile here"],
    ),
    Line(
        '--bind "127.0.0.1:{port}" --access-logfile - --error-logfile - --workers 1 '
        "--worker-class gthread --threads 20 --timeout 60 --keep-alive 2 --max-requests 0 "
        "--max-requests-jitter 0 --limit-request-line 0 --limit-request-field_size 0 "
        '"factory:create_app()"',
        [
            GTHREAD,
            'command line: --limit-request-line: "0" is 64k here',
            'command line: --limit-request-field-size: "0" is 64k here',
        ],
    ),
    Line(
        "--access-logfile - --workers 3 --bind unix:gunicorn.sock hello:application",
    ),
    Line("--bind unix://gunicorn.sock -m 007 hello", ['"unix://gunicorn.sock" is unix:gunicorn']),
    Line("-b tcp://127.0.0.1:{port} hello", ['"tcp://127.0.0.1:{port}" is 127.0.0.1:{port} here']),
    Line(
        "--name shop --log-level INFO --access-logfile - -b 127.0.0.1:{port} -k sync hello",
        ["--name shop changes nothing", '--log-level: "INFO" is info here', f"-k: {SYNC}"],
    ),
    Line(
        "hello:application -n shop -w 2 -u {uid} -g {gid} --bind=unix:run.sock "
        "--log-level=Debug --log-file=-",
        ["-n: --name shop changes nothing", '--log-level: "Debug" is debug here'],
    ),
    Line(
        "--preload --workers=2 --max-requests 1200 --max-requests-jitter 50 --keep-alive 5 "
        "--graceful-timeout 20 -t 90 --backlog 64 -b 127.0.0.1:{port} hello"
    ),
    Line(
        "-b 127.0.0.1:{port} -e DJANGO_SETTINGS_MODULE=shop.settings --env TZ=UTC "
        "--pid gunicorn.pid --pythonpath '{apps},.' hello"
    ),
    Line(
        "-b 127.0.0.1:{port} --worker-connections 1000 --worker-class=gthread --threads 4 "
        "--no-control-socket --forwarded-allow-ips='*' hello",
        [GTHREAD, "--no-control-socket changes nothing: there is none unless control is set"],
    ),
    Line(
        "--limit-request-fields 32768 --limit-request-field_size 0 --reuse-port --no-sendfile "
        "-b 127.0.0.1:{port} hello",
        [
            '--limit-request-fields: "32768" is 256 here',
            "--reuse-port changes nothing: all workers accept from one socket",
            "--no-sendfile changes nothing",
        ],
    ),
    Line(
        "--reload --reload-engine=poll --reload-extra-file .env -b 127.0.0.1:{port} hello",
        [
            "--reload-engine poll changes nothing",
            "--reload-extra-file is called --touch-reload here",
        ],
    ),
    Line(
        "--capture-output --enable-stdio-inheritance --disable-redirect-access-to-syslog "
        '--access-logformat \'%(h)s %(t)s "%(r)s" %(s)s %(b)s %(D)s "%({{x-request-id}}i)s"\' '
        "--access-logfile access.log --error-logfile - --bind=127.0.0.1:{port} hello",
        ["--capture-output changes nothing", "--enable-stdio-inheritance changes nothing"],
    ),
    Line(
        "hello",
        [
            "GUNICORN_CMD_ARGS is read: bind, workers, error-logfile",
            f"environment variable GUNICORN_CMD_ARGS: {GTHREAD}",
        ],
        {
            "GUNICORN_CMD_ARGS": "--bind=127.0.0.1:{port} --workers=2 --worker-class gthread "
            "--log-file '-'"
        },
    ),
    Line(
        "hello --http-parser fast --http-protocols h1 --protocol http --control-socket-mode 0600 "
        "--enable-backlog-metric --asgi-loop auto --header-map drop --dirty-workers 0 "
        "-b 127.0.0.1:{port}",
        ["--http-parser fast changes", "--http-protocols h1 changes", "--header-map drop changes"],
    ),
    Line(
        "-w 1 --log-level=info -R --initgroups --logger-class gunicorn.glogging.Logger "
        "-b 127.0.0.1:{port} \"factory:create_app('production', debug=False)\"",
        ["-R: --enable-stdio-inheritance changes", "--logger-class gunicorn.glogging.Logger"],
    ),
    Line("hello", [], {"PORT": "{port}", "WEB_CONCURRENCY": "2", "SCRIPT_NAME": ""}),
    Line(
        "--proxy-protocol --forwarded-allow-ips=10.0.0.1 -b 127.0.0.1:{port} hello",
        ["--proxy-protocol without a version is --proxy-protocol auto here"],
    ),
    Line(
        "--statsd-host=127.0.0.1:9 --statsd-prefix=service.shop -b 127.0.0.1:{port} hello",
        ["--statsd-host is called --statsd here; the numbers have other names"],
    ),
    # what uWSGI has
    Line(
        "-b 127.0.0.1:{port} --master --vacuum --die-on-term --need-app --enable-threads "
        "--single-interpreter --plugin python3 -M -T hello",
        ["--vacuum changes nothing: it always removes", "-M: --master changes nothing"],
    ),
]


def start_line(server: Start, line: Line) -> tuple[Server, dict[str, str]]:
    """The server as that command line starts it, and what was put in for its names."""
    names = {
        "port": str(free_port()),
        "apps": str(APPS),
        "uid": str(os.geteuid()),
        "gid": str(os.getegid()),
    }
    s = server(None, start=False)
    (s.dir / "factory.py").write_text(FACTORY)
    s.command = [str(BINARY), *shlex.split(line.text.format(**names))]
    env = {name: value.format(**names) for name, value in line.env.items()}
    s.env = environment({"PYTHONPATH": str(APPS)} | env)
    return s.start(), names


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.text[:60])
def test_command_lines_of_gunicorn(server: Start, line: Line) -> None:
    s, names = start_line(server, line)
    response = s.get("/")
    assert (response.status, response.body) == (200, b"Hello, world!\n")
    for said in line.said:
        assert said.format(**names) in s.log
    notes = re.findall(r"changes nothing|is called --| is \S+ here|is read|auto here", s.log)
    assert len(notes) >= len(line.said)
    assert line.said or not notes, s.log


def refusal(*args: str, env: dict[str, str] | None = None) -> str:
    """The one sentence with which the program refuses to start."""
    done = run(*args, env=env)
    assert done.returncode == 2, done
    assert done.stdout == "" and done.stderr.count("\n") == 1, done
    return done.stderr.rstrip("\n")


ONE_KIND = "there is no --worker-class here: there is one kind of worker; write threads"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["-k", "gevent"], f"command line: -k: {ONE_KIND}"),
        (["--worker-class=eventlet"], f"command line: {ONE_KIND}"),
        (["-k", "uvicorn.workers.UvicornWorker"], f"command line: -k: {ONE_KIND}"),
        (["-n", "--preload"], "command line: --name needs a value; write --name VALUE"),
        (["--name", "--preload"], "command line: --name needs a value; write --name VALUE"),
        (["--master=false"], "command line: there is no --master here: there always is a master"),
        (["--no-sendfile=x"], "there is no --no-sendfile here: files always are sent with"),
        (["-D"], "-D: there is no --daemon here: it stays in the foreground, for systemd (conf/"),
        (["--keyfile", "x"], "there is no --keyfile here: TLS is the work of nginx"),
        (["--http-protocols", "h2,h1"], "there is no --http-protocols here: HTTP/2 is the work of"),
        (
            ["--protocol", "uwsgi"],
            "--protocol is called --bind here; the protocol stands in front of the",
        ),
        (["--logger-class", "my.Logger"], "there is no --logger-class here: write log-format and"),
        (["--log-config", "x"], "there is no --log-config here: the application sets its logging"),
        (["--header-map", "dangerous"], "there is no --header-map here: headers with _ in their"),
        (["--control-socket", "x"], "there is no --control-socket here: write control, which"),
        (["--strip-header-spaces"], "there is no --strip-header-spaces here: requests that no"),
        (["--dirty-workers", "2"], "there is no --dirty-workers here: it only serves requests"),
        (["--log-level", "LOUD"], '--log-level: "LOUD" is not a level'),
        (["--limit-request-line", "1"], '--limit-request-line: "1" is out of range'),
        (["--worker-clas", "sync"], "there is no option --worker-clas; "),
        (["-b", "tcp://x"], "--bind: x is none of HOST:PORT"),
        (["--proxy-protocol", "v3"], '--proxy-protocol: "v3" is not a version'),
        (["--log-file", "-", "--error-logfile", "-"], "--error-logfile is given twice"),
    ],
)
def test_what_would_be_different_is_refused(args: list[str], sentence: str) -> None:
    assert sentence in refusal(*args, "hello")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("--worker-class gevent", f": {ONE_KIND}"),
        ("--workers many", ': --workers: "many" is not a whole number'),
        ("--threads", ": --threads needs a value; write --threads N"),
        ("--version", ": --version works on the command line only"),
        ("--bind 'x", ": a quote has no end"),
        ("-c gunicorn.conf.py", ": --config gunicorn.conf.py: that is a Python file"),
        ("-Z", ": there is no option -Z"),
    ],
)
def test_gunicorn_cmd_args_that_are_wrong(text: str, sentence: str) -> None:
    shown = refusal("hello", env={"GUNICORN_CMD_ARGS": text})
    assert shown.startswith(f"myserver: environment variable GUNICORN_CMD_ARGS{sentence}"), shown


def test_gunicorn_cmd_args_stand_between_ini_file_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text("[myserver]\nthreads = 2\nbacklog = 3\nworkers = 4\n")
    env = {
        "GUNICORN_CMD_ARGS": "--threads 5 --workers 6 -b a:1 -b b:1 other:app -c it.ini -e K=secret",
        "MYSERVER_BACKLOG": "9",
    }
    done = run("hello", "--workers=7", "--print-config", env=env, cwd=tmp_path)
    shown = {line.partition(" ;")[0].strip() for line in done.stdout.splitlines()}
    assert done.stderr == ""
    assert {"app = hello", "threads = 5", "backlog = 9", "workers = 7"} <= shown
    assert {"bind = a:1", "bind = b:1"} <= shown
    env = {"GUNICORN_CMD_ARGS": "-e K=secret --pythonpath " + str(APPS)}
    done = run("hello", "--check-config", env=env, cwd=tmp_path)
    assert done.returncode == 0
    assert "GUNICORN_CMD_ARGS is read: env, pythonpath\n" in done.stderr
    assert "secret" not in done.stderr


def test_the_ini_file_takes_them_too(server: Start) -> None:
    s = server("hello", start=False)
    (s.dir / "it.ini").write_text(
        "[myserver]\nworker_class = gthread\nvacuum = true\nlog-file = -\n"
        "name = a shop\nlog_level = INFO\n"
    )
    s.command += ["-c", "it.ini"]
    s.start()
    assert s.get("/").status == 200
    for said in (
        "it.ini:2: worker-class = gthread changes nothing: there is one kind of worker",
        "it.ini:3: vacuum changes nothing: it always removes its unix sockets",
        "it.ini:4: log-file is called error-logfile here",
        "it.ini:5: name = a shop changes nothing: processes always have titles",
        'it.ini:6: log-level: "INFO" is info here',
    ):
        assert said in s.log


def test_order_of_a_list_of_directories(tmp_path: Path) -> None:
    """gunicorn puts each of them in front of the one before; a comma may also be part of a name."""
    for name in ("a", "b", "c,d"):
        (tmp_path / name).mkdir()
    done = run("--pythonpath", "a,b", "--pythonpath=c,d", "--print-config", cwd=tmp_path)
    found = re.findall(r"^pythonpath = (\S+)", done.stdout, re.M)
    assert found == ["b", "a", "c,d"]


def test_a_python_file_that_gunicorn_would_read_is_named(server: Start) -> None:
    s = server("hello", start=False)
    (s.dir / "gunicorn.conf.py").write_text("workers = 3\n")
    s.start()
    assert "[warning]" in s.log and "gunicorn.conf.py is here, and is not read" in s.log


def test_a_version_in_one_letter() -> None:
    shown = subprocess.run([BINARY, "-v"], capture_output=True, text=True, check=True).stdout
    assert shown == subprocess.run([BINARY, "--version"], capture_output=True, text=True).stdout
