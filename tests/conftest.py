"""Fixtures: the program under test, and the real nginx and PostgreSQL around it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import Server, wait_for

NGINX_CONF = """\
daemon off;
{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    upstream app {{
        server {upstream};
        {upstream_keepalive}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            {keepalive}
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            {extra}
        }}
    }}
}}
"""
KEEPALIVE = 'proxy_http_version 1.1;\n            proxy_set_header Connection "";'


PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let fixtures know at teardown whether the test passed."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def finish(server: Server, passed: bool) -> list[str]:
    """Stop a server after a test; the problems, if the test itself has found none."""
    try:
        if server.status is None and server.process:
            server.stop()
        problems = server.problems()
    except AssertionError as error:
        problems = [f"did not end at TERM: {error}"]
    if problems or not passed:
        print(f"---- {' '.join(server.command)}\n{server.log}")
    server.close()
    return problems if passed else []


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Start servers: server("module:application", workers=2, ...); see harness.Server."""
    servers: list[Server] = []

    def make(*args: Any, start: bool = True, **options: Any) -> Server:
        servers.append(Server(*args, **options))
        return servers[-1].start() if start else servers[-1]

    yield make
    passed = request.node.stash.get(PASSED, False)
    problems = [problem for s in servers for problem in finish(s, passed)]
    if problems:
        pytest.fail("the server has problems:\n" + "\n".join(problems), pytrace=False)


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    return harness.free_port()


def start_nginx(
    directory: Path, server: Server, port: int, keepalive: bool, extra: str
) -> subprocess.Popen[bytes]:
    """Start nginx in front of a server and wait until it accepts."""
    address = server.address
    conf = directory / "nginx.conf"
    conf.write_text(
        NGINX_CONF.format(
            dir=directory,
            port=port,
            # Its workers must be able to open our unix socket and the files in `directory`.
            user="user root;" if os.geteuid() == 0 else "",
            upstream=f"unix:{address}" if isinstance(address, str) else "{}:{}".format(*address),
            upstream_keepalive="keepalive 16;" if keepalive else "",
            keepalive=KEEPALIVE if keepalive else "",
            extra=extra,
        )
    )
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert nginx, "nginx is missing; make deps installs it"
    process = subprocess.Popen([nginx, "-c", str(conf), "-e", str(directory / "error.log")])
    try:
        wait_for(lambda: harness.can_connect(("127.0.0.1", port)), 10, "nginx")
    except AssertionError:
        process.kill()
        process.wait(5)
        raise
    return process


@pytest.fixture
def nginx() -> Iterator[Callable[..., str]]:
    """Put nginx in front: nginx(server, keepalive=True, extra="...") returns its URL."""
    processes: list[subprocess.Popen[bytes]] = []
    directories: list[Path] = []

    def make(server: Server, keepalive: bool = True, extra: str = "") -> str:
        directories.append(Path(tempfile.mkdtemp(prefix="myserver-nginx-")))
        port = harness.free_port()
        processes.append(start_nginx(directories[-1], server, port, keepalive, extra))
        return f"http://127.0.0.1:{port}"

    yield make
    for process in processes:
        process.terminate()
        process.wait(10)
    for directory in directories:
        print((directory / "error.log").read_text(errors="replace"))
        shutil.rmtree(directory, ignore_errors=True)


def postgres_program(name: str) -> str:
    """The path of a PostgreSQL program of the newest version that Debian has installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3])
    )
    path = str(found[-1]) if found else shutil.which(name)
    assert path, "PostgreSQL is missing; make deps installs it"
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL cluster of our own; the DATABASE_URL of its empty database `test`."""
    directory = Path(tempfile.mkdtemp(prefix="myserver-pg-"))
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {"cwd": directory, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)
        user |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data, port = directory / "data", str(harness.free_port())
    initdb = [postgres_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust"]
    subprocess.run([*initdb, "-E", "UTF8", "--no-sync"], check=True, capture_output=True, **user)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [postgres_program("postgres"), "-D", data, "-k", directory, "-h", "127.0.0.1"]
            + ["-p", port, "-F", "-c", "max_connections=200"],
            stdout=log,
            stderr=log,
            **user,
        )
    where = ["-h", directory, "-p", port, "-U", "postgres"]
    ready = [postgres_program("pg_isready"), "-q", *where]
    try:
        wait_for(lambda: subprocess.run(ready, **user).returncode == 0, 30, "PostgreSQL")
        subprocess.run([postgres_program("createdb"), *where, "test"], check=True, **user)
        yield f"postgresql://postgres@127.0.0.1:{port}/test"
    finally:
        # SIGINT is its fast shutdown: it does not wait for clients.
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)
