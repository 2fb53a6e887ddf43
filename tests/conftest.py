"""Fixtures: the program under test, and the real nginx, PostgreSQL and MariaDB around it."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
import services
from harness import PATIENCE_S, Server, wait_for
from shop_client import populate

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
            {passing}
            {extra}
        }}
    }}
}}
"""
PROXY = """proxy_pass http://app;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            """
UWSGI = "include /etc/nginx/uwsgi_params; uwsgi_pass app;"
KEEPALIVE = 'proxy_http_version 1.1;\n            proxy_set_header Connection "";'


PASSED = pytest.StashKey[bool]()
# They compile, install, and serve under load.
LONGEST = ("test_deploys", "test_fleet", "test_walk", "test_wheel")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know at teardown whether the test passed."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def finish(server: Server, passed: bool) -> list[str]:
    """Stop a server after a test; the problems, if the test itself has found none."""
    problems = []
    try:
        if server.status is None and server.process:
            server.stop()
    except AssertionError as error:
        problems.append(f"did not end at TERM: {error}")
    problems += server.problems()
    if problems or not passed:
        print(f"---- {' '.join(server.command)}\n{server.log}")
    server.close()
    return problems if passed else []


def pytest_configure() -> None:
    """Who was started in the background of a shell ignores SIGINT, and so would what the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """None of the longest begins when all others are at their end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def pytest_collection_finish() -> None:
    """What is there before the first test is not looked at after each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A thread that fails, or a socket that nobody has closed, is a failure of the test that it is of.

    Otherwise it would be one of the test that runs when it happens.
    """
    before = set(threading.enumerate())
    yield
    if not request.node.stash.get(PASSED, False):
        return  # its traceback holds what it used
    left: list[threading.Thread] = []

    def have_ended() -> bool:
        left[:] = set(threading.enumerate()) - before
        return not left

    try:
        wait_for(have_ended)
    except AssertionError:
        pytest.fail(f"these threads have not ended: {left}", pytrace=False)
    gc.collect()


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
def seen(server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Start the project of tests/apps/seen.py, with control on control.sock."""

    def start(env: dict[str, str] | None = None, **options: Any) -> Server:
        known = {"SEEN_DB": str(tmp_path / "db.sqlite3")} | (env or {})
        return server("seen", control="unix:control.sock", env=known, **options)

    return start


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    return harness.free_port()


def start_nginx(
    directory: Path,
    server: Server,
    port: int,
    keepalive: bool,
    extra: str,
    passing: str = PROXY,
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
            passing=passing + (KEEPALIVE if keepalive else ""),
            extra=extra,
        )
    )
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert nginx, "nginx is missing; make deps installs it"
    process = subprocess.Popen([nginx, "-c", str(conf), "-e", str(directory / "error.log")])
    try:
        wait_for(lambda: harness.can_connect(("127.0.0.1", port)), what="nginx")
    except AssertionError:
        process.kill()
        process.wait(PATIENCE_S)
        raise
    return process


@pytest.fixture
def nginx() -> Iterator[Callable[..., str]]:
    """Put nginx in front: nginx(server, keepalive=True, extra="...", uwsgi=False) returns its URL."""
    processes: list[subprocess.Popen[bytes]] = []
    directories: list[Path] = []

    def make(server: Server, keepalive: bool = True, extra: str = "", uwsgi: bool = False) -> str:
        directories.append(Path(tempfile.mkdtemp(prefix="myserver-nginx-")))
        port = harness.free_port()
        passing = UWSGI if uwsgi else PROXY
        processes.append(start_nginx(directories[-1], server, port, keepalive, extra, passing))
        return f"http://127.0.0.1:{port}"

    yield make
    for process in processes:
        process.terminate()
        process.wait(PATIENCE_S)
    for directory in directories:
        print((directory / "error.log").read_text(errors="replace"))
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL cluster of our own; the DATABASE_URL of its empty database `test`."""
    with services.postgres("test", port=harness.free_port()) as url:
        yield f"{url}/test"


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    """A MariaDB of our own; the URL of its empty database `test`."""
    with services.mariadb("test", port=harness.free_port()) as url:
        yield url


@pytest.fixture(scope="session")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a populated shop, with SQLite, which nobody changes."""
    return populate(tmp_path_factory.mktemp("populated"))


@pytest.fixture(scope="module")
def shop_var(populated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a populated shop, with SQLite."""
    return shutil.copytree(populated, tmp_path_factory.mktemp("shop") / "var")
