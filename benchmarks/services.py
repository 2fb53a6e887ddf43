"""What scenarios and tests need beside the servers: PostgreSQL, MariaDB, the shop's data, the slow service, slow
clients, the load generators. All of it is temporary and ours."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from measure import TOOLS, LoadFailed, memory_mb, settle, slab_kb
from model import APPS, HERE, ROOT, App, Load
from servers import Server, free_port

SHOP = ROOT / "shop"
PRODUCTS = 12_000


class Missing(Exception):
    """Something that the machine does not have; says how to get it."""


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Waits until it is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Missing(f"{what} did not get ready")
        time.sleep(0.05)


def build_tools() -> None:
    """Compiles the load generators and the ceiling into build/bench."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", str(HERE / "load"), f"OUT={TOOLS}"],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise Missing(f"the load generators do not compile:\n{done.stderr.strip()[-2000:]}")


def postgres_program(name: str) -> str:
    """The path of a PostgreSQL program of the newest version that Debian has installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if not path:
        raise Missing("PostgreSQL is missing; `make deps` installs it")
    return path


@contextmanager
def postgres(*databases: str, port: int = 0) -> Iterator[str]:
    """A cluster of our own on 127.0.0.1, with these databases; its URL, without a database."""
    directory = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    user: dict[str, Any] = {"cwd": directory, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    if os.geteuid() == 0:  # it refuses to run as root
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)
        user |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data, number = str(directory / "data"), str(port or free_port())
    initdb = [postgres_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust"]
    subprocess.run([*initdb, "-E", "UTF8", "--no-sync"], check=True, capture_output=True, **user)
    with (directory / "log").open("wb") as log:
        command = [postgres_program("postgres"), "-D", data, "-k", str(directory), "-p", number]
        command += ["-h", "127.0.0.1", "-F", "-c", "max_connections=500"]
        process = subprocess.Popen(command, stdout=log, stderr=log, **user)
    where = ["-h", str(directory), "-p", number]
    ready = [postgres_program("pg_isready"), "-q", *where]
    try:
        wait_for(lambda: subprocess.run(ready, **user).returncode == 0, 60, "PostgreSQL")
        for name in databases:
            create = [postgres_program("createdb"), *where, "-U", "postgres", name]
            subprocess.run(create, check=True, **user)
        yield f"postgresql://postgres@127.0.0.1:{number}"
    finally:
        process.send_signal(signal.SIGINT)  # the fast shutdown: waits for no client
        process.wait(120)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def mariadb(database: str, port: int = 0) -> Iterator[str]:
    """A MariaDB of our own on 127.0.0.1, with this database; its URL. It asks for no password."""
    program = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        raise Missing("MariaDB is missing; `make deps` installs it")
    directory = Path(tempfile.mkdtemp(prefix="bench-mariadb-"))
    (directory / "data").mkdir()
    (directory / "init").write_text(f"CREATE DATABASE {database} CHARACTER SET utf8mb4;\n")
    account = pwd.getpwuid(os.geteuid()).pw_name
    number = port or free_port()
    command = [program, "--no-defaults", f"--datadir={directory}/data", f"--user={account}"]
    command += ["--skip-grant-tables", "--innodb-log-file-size=4M"]
    # Without the tables of its own, of which there is none that this needs.
    subprocess.run(
        [*command, "--bootstrap"], input=b"", check=True, capture_output=True, timeout=60
    )
    command += ["--bind-address=127.0.0.1", f"--port={number}", f"--socket={directory}/socket"]
    command += [f"--init-file={directory}/init", f"--pid-file={directory}/pid"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def is_ready() -> bool:
        said = (directory / "log").read_bytes()
        if process.poll() is not None:
            raise Missing(f"MariaDB does not start: {said.decode(errors='replace')[-500:]}")
        return b"ready for connections" in said

    try:
        wait_for(is_ready, 60, "MariaDB")
        yield f"mysql://root@127.0.0.1:{number}/{database}"
    finally:
        process.terminate()
        process.wait(120)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def standin(venv: Path) -> Iterator[str]:
    """The slow service; its URL."""
    port = free_port()
    process = subprocess.Popen([venv / "bin" / "python", HERE / "standin.py", str(port)])
    try:
        time.sleep(0.5)
        if process.poll() is not None:
            raise Missing("the stand-in service did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def slow_clients(load: Load, where: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Slow clients around a measurement, which begins when they are as the load wants them."""
    if not load.slow_clients:
        yield {}
        return
    command = [str(TOOLS / "slow"), where, str(load.slow_clients)]
    process = subprocess.Popen(
        [*command, str(int(seconds) + 30), load.slow_path, load.slow_from],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    facts: dict[str, Any] = {}
    try:
        assert process.stdout
        facts["slow_ready"] = process.stdout.readline().strip() == "ready"
        yield facts
    finally:
        facts["slow_said"] = process.communicate("", timeout=10)[0].strip()


@contextmanager
def idle_clients(load: Load, server: Server) -> Iterator[dict[str, Any]]:
    """Connections that stay and do nothing, around a measurement; what each takes."""
    if not load.idle_connections:
        yield {}
        return
    before_mb, before_kb = memory_mb(server.roots), slab_kb()
    command = [str(TOOLS / "idle"), server.where, str(load.idle_connections)]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True)
    facts: dict[str, Any] = {}
    try:
        assert process.stdout
        if not process.stdout.readline():
            raise LoadFailed(process.communicate()[1].strip()[-300:])
        settle(server.roots)
        grown_kb = (memory_mb(server.roots) - before_mb) * 1024
        facts["idle_kb"] = grown_kb / load.idle_connections
        facts["idle_kernel_kb"] = (slab_kb() - before_kb) / load.idle_connections
        yield facts
        facts["idle_lost"] = json.loads(process.communicate("", timeout=60)[0])["lost"]
    finally:
        process.kill()
        process.wait()


class Services:
    """Starts each service when a scenario first asks for it, and stops all at the end."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.stack = ExitStack()
        self.started: dict[str, str] = {}
        self.var = Path(tempfile.mkdtemp(prefix="bench-var-"))

    def close(self) -> None:
        """Stops all."""
        self.stack.close()
        shutil.rmtree(self.var, ignore_errors=True)

    def _once(self, name: str, start: Callable[[], str]) -> str:
        if name not in self.started:
            self.started[name] = start()
        return self.started[name]

    def postgres_url(self) -> str:
        """The server."""
        return self._once("postgres", lambda: self.stack.enter_context(postgres("shop", "ramp")))

    def upstream_url(self) -> str:
        """The slow service."""
        return self._once("upstream", lambda: self.stack.enter_context(standin(self.venv)))

    def ramp_url(self) -> str:
        """A database with the table of the ramp scenario."""
        return self._once("ramp", self._fill_ramp)

    def _fill_ramp(self) -> str:
        url = f"{self.postgres_url()}/ramp"
        self._python(APPS / "ramp.py", env={"RAMP_DATABASE_URL": url})
        return url

    def shop_env(self, database: str) -> dict[str, str]:
        """The environment of a shop in production with its data in `sqlite` or `postgres`."""
        self._once(f"shop-{database}", lambda: self._fill_shop(database))
        return self._shop_env(database)

    def _shop_env(self, database: str) -> dict[str, str]:
        url = f"{self.postgres_url()}/shop" if database == "postgres" else ""
        return {
            "SHOP_VAR": str(self.var),
            "DEBUG": "false",
            "DIAGNOSTICS": "true",
            "SECRET_KEY": "for-the-benchmarks-only",
            "ALLOWED_HOSTS": "*",
            "DATABASE_URL": url,
        }

    def project(self) -> App:
        """The Django project of 300 models that memory_project.py makes."""
        directory = self.var / "project"
        self._once("project", lambda: self._make_project(directory))
        env = {"PYTHONDONTWRITEBYTECODE": "1"}
        return App("project.wsgi:application", None, directory, env)

    def _make_project(self, directory: Path) -> str:
        self._python(HERE / "memory_project.py", directory, env={})
        self._python("-m", "compileall", "-q", directory, env={})
        return str(directory)

    def _fill_shop(self, database: str) -> str:
        env = self._shop_env(database)
        self._python(SHOP / "manage.py", "migrate", "-v0", env=env)
        self._python(SHOP / "manage.py", "populate", "--products", str(PRODUCTS), env=env)
        return "filled"

    def _python(self, *arguments: str | Path, env: dict[str, str]) -> None:
        done = subprocess.run(
            [self.venv / "bin" / "python", *arguments],
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise Missing(f"{arguments[0]} failed: {done.stderr.strip()[-500:]}")
