"""Measures what a worker of real applications costs: its private memory, and its first request.

The shop, the project of 300 models, a new Wagtail site, and pretix, each as its own documentation
starts it, on SQLite. Two workers of one thread; their private memory is taken after the same
requests. The first request is that of a worker that has answered none, alone on the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import memory_proc  # noqa: E402
from servers import free_port  # noqa: E402

MB = 1024 * 1024
START_S = 120
WORKERS = 2
REQUESTS = 200  # of each page
SERVERS = ("myserver", "myserver with prewarm", "gunicorn --preload")


@dataclass
class Application:
    """How it is made in an empty directory, and how it is served from there."""

    name: str
    requirements: tuple[str, ...]
    module: str
    pages: tuple[str, ...]
    make: Callable[[Path, Path, dict[str, str]], None]  # directory, python, environment
    env: dict[str, str] = field(default_factory=dict)  # {} stands for the directory
    path: str = "."  # where its modules are, from the directory

    def environ(self, directory: Path) -> dict[str, str]:
        """Of all its processes."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {name: value.replace("{}", str(directory)) for name, value in self.env.items()}
        return kept | {"PYTHONPATH": str(directory / self.path), "PYTHONWARNINGS": "ignore"} | own


def run(directory: Path, env: dict[str, str], *command: str | Path) -> None:
    """A command that must succeed."""
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"[-2000:])


def make_shop(directory: Path, python: Path, env: dict[str, str]) -> None:
    """The shop with 2,000 products."""
    manage = ROOT / "shop" / "manage.py"
    run(directory, env, python, manage, "migrate", "-v0")
    run(directory, env, python, manage, "populate", "--products", "2000")


def make_models(directory: Path, python: Path, env: dict[str, str]) -> None:
    """The generated project."""
    run(directory, env, python, HERE / "memory_project.py", directory / "project")


def make_wagtail(directory: Path, python: Path, env: dict[str, str]) -> None:
    """What `wagtail start` makes, with the settings of production."""
    run(directory, env, python.parent / "wagtail", "start", "site1", directory)
    (directory / "site1" / "settings" / "served.py").write_text(
        "from .base import *\nDEBUG = False\nSECRET_KEY = 'measured'\nALLOWED_HOSTS = ['*']\n"
        "STORAGES['staticfiles'] = "
        "{'BACKEND': 'django.contrib.staticfiles.storage.StaticFilesStorage'}\n"
    )
    run(directory, env, python, "manage.py", "migrate", "-v0")


def make_pretix(directory: Path, python: Path, env: dict[str, str]) -> None:
    """Its configuration file and its tables."""
    (directory / "pretix.cfg").write_text(
        f"[pretix]\ninstance_name=measured\nurl=http://localhost\ndatadir={directory}\n"
        f"[database]\nbackend=sqlite3\n[django]\nsecret={'measured' * 8}\n"
    )
    run(directory, env, python, "-m", "pretix", "migrate", "-v0")


APPLICATIONS = [
    Application(
        "shop",
        ("Django>=5.2,<5.3", "psycopg[binary,pool]>=3.2,<4"),
        "shop.wsgi",
        ("/", "/search/?q=oak"),
        make_shop,
        {
            "SHOP_VAR": "{}",
            "DEBUG": "false",
            "SECRET_KEY": "measured",
            "ALLOWED_HOSTS": "*",
            "PYTHONPATH": str(ROOT / "shop"),
        },
    ),
    Application(
        "300 models",
        ("Django>=5.2,<5.3",),
        "project.wsgi",
        ("/page/", "/admin/login/"),
        make_models,
        path="project",
    ),
    Application(
        "wagtail",
        ("wagtail",),
        "site1.wsgi",
        ("/", "/admin/login/"),
        make_wagtail,
        {"DJANGO_SETTINGS_MODULE": "site1.settings.served"},
    ),
    Application(
        "pretix",
        ("pretix",),
        "pretix.wsgi",
        ("/", "/control/login"),
        make_pretix,
        {
            "PRETIX_CONFIG_FILE": "{}/pretix.cfg",
            "DJANGO_SETTINGS_MODULE": "pretix.settings",
        },
    ),
]


@dataclass
class Place:
    """Where an application is, and with what it is served."""

    application: Application
    directory: Path
    venv: Path
    program: Path

    def make(self) -> None:
        """Unless it is there already."""
        if not (self.directory / "made").exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            env = self.application.environ(self.directory)
            self.application.make(self.directory, self.venv / "bin" / "python", env)
            (self.directory / "made").touch()

    def command(self, server: str, workers: int, port: int) -> list[str]:
        """One of SERVERS."""
        common = [f"--workers={workers}", f"--bind=127.0.0.1:{port}"]
        application = self.application
        if server.startswith("gunicorn"):
            gunicorn = [str(self.venv / "bin" / "gunicorn"), "--preload", *common]
            return [*gunicorn, f"{application.module}:application"]
        warm = [f"--prewarm={page}" for page in application.pages if "prewarm" in server]
        return [str(self.program), f"--virtualenv={self.venv}", *common, *warm, application.module]


class Running:
    """A server that runs."""

    def __init__(self, place: Place, server: str, workers: int) -> None:
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            place.command(server, workers, self.port),
            cwd=place.directory,
            env=place.application.environ(place.directory),
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.expected = workers

    def __enter__(self) -> Running:
        deadline = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if len(self.workers()) == self.expected and self.rests():
                return self
        said = os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")
        self.__exit__()
        raise RuntimeError(f"does not start:\n{said[-2000:]}")

    def __exit__(self, *error: object) -> None:
        memory_proc.end(self.process, 10)

    def workers(self) -> list[int]:
        """Their pids: gunicorn's are all but its master, ours have a name."""
        pids = [pid for pid in memory_proc.session(self.process.pid) if pid != self.process.pid]
        names = {pid: memory_proc.name(pid) for pid in pids}
        ours = [pid for pid, name in names.items() if name.startswith("myserver:worker")]
        return ours if any(name.startswith("myserver") for name in names.values()) else pids

    def rests(self) -> bool:
        """Whether it used no processor time for a while."""
        before = memory_proc.cpu_ticks(memory_proc.session(self.process.pid))
        time.sleep(0.5)
        return memory_proc.cpu_ticks(memory_proc.session(self.process.pid)) == before

    def get(self, path: str) -> float:
        """One request on a connection of its own; how long it took, in ms."""
        begun = time.perf_counter()
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
            response = client.getresponse()
            response.read()
        finally:
            client.close()
        if response.status != 200:
            raise RuntimeError(f"{path} answers {response.status}")
        return (time.perf_counter() - begun) * 1000


def measure(place: Place, server: str, repeats: int) -> dict[str, float]:
    """Memory with two workers; times with one."""
    pages = place.application.pages
    with Running(place, server, WORKERS) as running, ThreadPoolExecutor(2 * WORKERS) as clients:
        for page in pages:
            list(clients.map(running.get, [page] * REQUESTS))
        time.sleep(1)
        private = [memory_proc.usage(pid).private / MB for pid in running.workers()]
        total = memory_proc.total_pss(memory_proc.session(running.process.pid)) / MB
    first, warm = [], []
    for _ in range(repeats):
        with Running(place, server, 1) as running:
            times = [running.get(pages[0]) for _ in range(21)]
        first.append(times[0])
        warm.append(statistics.median(times[1:]))
    return {
        "private_mb": round(statistics.median(private), 1),
        "total_mb": round(total, 1),
        "first_ms": round(statistics.median(first), 1),
        "warm_ms": round(statistics.median(warm), 1),
    }


def make_venv(python: str, version: str, application: Application) -> Path:
    """A virtualenv of the application, with gunicorn."""
    name = application.name.replace(" ", "-")
    venv = ROOT / f".venv-memory-{name}-{version}"
    if not (venv / "bin" / "gunicorn").exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
        install = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *application.requirements, "gunicorn"], check=True)
    return venv


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("applications", nargs="*", help="default: all")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of all servers")
    parser.add_argument("--program", type=Path, help="our program, if not the one of `make`")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--repeats", type=int, default=3, help="of timings")
    parser.add_argument("--keep", type=Path, help="make the applications here, once")
    parser.add_argument("--output", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is ended, too
    code = "import platform; print(platform.python_version())"
    said = subprocess.run([args.python, "-c", code], check=True, capture_output=True, text=True)
    version = said.stdout.strip()
    program = args.program or ROOT / "build" / f"release-{version}" / "myserver"
    if not args.program:
        make = ["make", "-s", f"PYTHON={args.python}", str(program.relative_to(ROOT))]
        subprocess.run(make, cwd=ROOT, check=True)
    print(f"CPython {version}, {WORKERS} workers, kernel {platform.release()}")
    print(f"{'':36}{'private MB':>12}{'all MB':>9}{'first ms':>10}{'warm ms':>9}")
    results = []
    for application in APPLICATIONS:
        if args.applications and application.name not in args.applications:
            continue
        with ExitStack() as things:
            venv = make_venv(args.python, version, application)
            if args.keep:
                directory = args.keep.absolute() / f"{application.name}-{version}"
            else:
                directory = Path(things.enter_context(tempfile.TemporaryDirectory()))
            place = Place(application, directory, venv, program.absolute())
            place.make()
            for server in args.servers:
                found = measure(place, server, args.repeats)
                results.append({"application": application.name, "server": server} | found)
                print(
                    f"{application.name:12}{server:24}{found['private_mb']:12}"
                    f"{found['total_mb']:9}{found['first_ms']:10}{found['warm_ms']:9}",
                    flush=True,
                )
        if args.output:
            args.output.write_text(json.dumps({"python": version, "results": results}, indent=1))


if __name__ == "__main__":
    main()
