"""Measures the memory of WSGI servers that serve the same project of 300 models.

Each server gets the same requests: 500 of a page with database rows and 500 of the admin's login
page, spread over all workers; then one full garbage collection in every worker, as every long-lived
worker makes sooner or later. Memory is the sum of PSS over all processes of the server. See
docs/memory.md for the results and what they mean.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import memory_proc  # noqa: E402
from servers import free_port  # noqa: E402

PAGES = ("/page/", "/admin/login/")
PEERS = ("Django>=5.2,<5.3", "psycopg[binary]>=3.2,<4", "gunicorn", "granian", "uwsgi")
SMALL_PAGES = ("/", "/page/")
MB = 1024 * 1024

GUNICORN_FREEZE = '''\
"""Frozen before the fork, as good as a gunicorn can be made by its user."""

import gc


def on_starting(server):
    """After preloading."""
    gc.freeze()
'''


@dataclass
class Bench:
    """What all runs have in common."""

    python: str
    version: str
    venv: Path
    binary: Path
    project: Path
    pages: tuple[str, ...]
    requests: int  # of each page, for the largest number of workers
    most_workers: int
    rest_s: float
    rounds: int = 25
    extra: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    def warm_up(self) -> list[str]:
        """The requests before the fork, for all servers: the pages as they are asked for later, and
        the one that is part of the measuring."""
        return [f"{page}?hold=0" for page in self.pages] + ["/collect/"]

    def environ(self) -> dict[str, str]:
        """The environment of all servers."""
        wanted = {"WARM": ",".join(self.warm_up()), "WARM_ROUNDS": str(self.rounds)}
        paths = {"PYTHONPATH": str(self.project), "PYTHONDONTWRITEBYTECODE": "1"}
        return os.environ | wanted | paths | self.env

    def program(self, name: str) -> str:
        """A program of the virtualenv."""
        return str(self.venv / "bin" / name)


Command = Callable[[Bench, int, int], list[str]]


def uwsgi(module: str, *arguments: str) -> Command:
    """uWSGI, speaking HTTP itself."""

    def command(bench: Bench, workers: int, port: int) -> list[str]:
        return [bench.program("uwsgi"), "--master", f"--processes={workers}", "--need-app"] + [
            f"--http-socket=127.0.0.1:{port}",
            f"--virtualenv={bench.venv}",
            f"--module={module}",
            "--disable-logging",
            *arguments,
        ]

    return command


def gunicorn(module: str, *arguments: str) -> Command:
    """gunicorn with its default worker."""

    def command(bench: Bench, workers: int, port: int) -> list[str]:
        bind = f"--bind=127.0.0.1:{port}"
        return [bench.program("gunicorn"), f"--workers={workers}", bind, *arguments, module]

    return command


def granian(bench: Bench, workers: int, port: int) -> list[str]:
    """granian, which cannot preload."""
    return [bench.program("granian"), "--interface=wsgi", f"--workers={workers}", "--no-ws"] + [
        "--host=127.0.0.1",
        f"--port={port}",
        "--blocking-threads=1",
        "project.wsgi:application",
    ]


def ours(*arguments: str, warm: int = 0) -> Command:
    """The program of this project; it warms up with the first `warm` of the pages."""

    def command(bench: Bench, workers: int, port: int) -> list[str]:
        paths = [f"--prewarm={path}" for path in bench.warm_up()[:warm]]
        rounds = bench.rounds if warm else 0
        return [str(bench.binary), f"--workers={workers}", f"--bind=127.0.0.1:{port}"] + [
            f"--virtualenv={bench.venv}",
            f"--prewarm-rounds={rounds}",
            *paths,
            *arguments,
            *bench.extra,
            "project.wsgi",
        ]

    return command


SERVERS: dict[str, Command] = {
    "uwsgi-lazy": uwsgi("project.wsgi", "--lazy-apps"),
    "uwsgi-prefork": uwsgi("project.wsgi"),
    "uwsgi-prewarm": uwsgi("project.warm"),
    "gunicorn": gunicorn("project.wsgi"),
    "gunicorn-preload": gunicorn("project.wsgi", "--preload"),
    "gunicorn-freeze": gunicorn("project.warm", "--preload", "--config=gunicorn_freeze.py"),
    "granian": granian,
    "no-preload": ours("--no-preload"),
    "preload": ours(),
    "partial": ours(warm=1),
    "partial-refork": ours("--refork-after=100", warm=1),
    "prewarm": ours(warm=9),
    "prewarm-refork": ours("--refork-after=100", warm=9),
}
REFORKED = "all workers are of generation 2"
OURS = ("no-preload", "preload", "partial", "partial-refork", "prewarm", "prewarm-refork")
QUICK = ("uwsgi-prewarm", "gunicorn-freeze", "preload", "prewarm")


# ---- one server


class Running:
    """A server that runs, and answers."""

    def __init__(self, bench: Bench, command: Command, workers: int) -> None:
        self.bench = bench
        self.workers = workers
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        self.started = time.monotonic()
        self.arguments = command(bench, workers, self.port)
        self.process = subprocess.Popen(
            self.arguments,
            cwd=bench.project,
            env=bench.environ(),
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        memory_proc.end(self.process, 3)

    def pids(self) -> list[int]:
        """All processes of it."""
        return memory_proc.session(self.process.pid)

    def get(self, path: str) -> int:
        """One request on a connection of its own; the pid of the worker."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
            response = client.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"{path} answers {response.status}")
            return int(response.headers["X-Worker"])
        finally:
            client.close()

    def wait_for_answer(self, path: str) -> None:
        """Until it has answered once."""
        while True:
            try:
                self.get(path)
                return
            except (ConnectionError, http.client.HTTPException):
                if self.process.poll() is not None or time.monotonic() > self.started + 60:
                    raise RuntimeError(self.said()[-3000:]) from None
                time.sleep(0.005)

    def wait_for_rest(self) -> None:
        """Until it uses no processor time."""
        while not _is_listening(self.port):
            if self.process.poll() is not None:
                raise RuntimeError(self.said()[-3000:])
            time.sleep(0.05)
        before = -1
        while (now := memory_proc.cpu_ticks(self.pids())) != before:
            before = now
            time.sleep(0.4)

    def settle(self) -> None:
        """With `refork-after`: until that is over."""
        deadline = time.monotonic() + 60
        while "refork-after" in " ".join(self.arguments) and REFORKED not in self.said():
            for path in self.bench.pages:
                self.drive(path, self.workers)
            if time.monotonic() > deadline:
                raise RuntimeError(f"no refork:\n{self.said()[-3000:]}")

    def said(self) -> str:
        """Its log so far."""
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")

    def drive(self, path: str, requests: int) -> Counter[int]:
        """Makes requests, as many at once as there are workers, until each has had its share."""
        seen: Counter[int] = Counter()
        share = requests // self.workers * 2 // 3
        with ThreadPoolExecutor(self.workers) as clients:
            for _ in range(5):
                seen.update(clients.map(self.get, [f"{path}?hold=0.03"] * requests))
                if len(seen) >= self.workers and min(seen.values()) >= share:
                    break
        return seen

    def collect(self) -> None:
        """One full collection in every worker."""
        seen: set[int] = set()
        with ThreadPoolExecutor(self.workers) as clients:
            for _ in range(100):
                seen.update(clients.map(self.get, ["/collect/?hold=0.1"] * self.workers))
                if len(seen) >= self.workers:
                    return
        raise RuntimeError(f"only {len(seen)} of {self.workers} workers answer")

    def measure(self, workers: Counter[int]) -> dict[str, float]:
        """Sum of PSS, and the private memory of the median worker, in MB."""
        time.sleep(self.bench.rest_s)
        private = [memory_proc.usage(pid).private for pid in workers]
        return {
            "total_mb": round(memory_proc.total_pss(self.pids()) / MB, 1),
            "private_mb": round(statistics.median(private) / MB, 2),
        }


def _is_listening(port: int) -> bool:
    """Without connecting: that would be a request to some."""
    wanted = f":{port:04X} "
    with open("/proc/net/tcp") as table:
        return any(wanted in line and " 0A " in line for line in table)


# ---- what is measured


def measure_memory(bench: Bench, command: Command, workers: int) -> dict[str, Any]:
    """Memory before and after the full collections; each worker gets the same number of requests."""
    requests = bench.requests * workers // bench.most_workers
    with Running(bench, command, workers) as server:
        server.wait_for_answer(bench.pages[0])
        server.wait_for_rest()
        idle = memory_proc.total_pss(server.pids())
        server.settle()
        seen: Counter[int] = Counter()
        for page in bench.pages:
            seen += server.drive(page, requests)
        before = server.measure(seen)
        server.collect()
        after = server.measure(seen)
    return {
        "idle_mb": round(idle / MB, 1),
        "before": before,
        "after": after,
        "least_requests_of_a_worker": min(seen.values()),
    }


def measure_first(bench: Bench, command: Command, repeats: int) -> dict[str, float]:
    """The first request of a new worker against the median of a warm one, in ms."""
    first, warm = [], []
    for _ in range(repeats):
        with Running(bench, command, 1) as server:
            server.wait_for_rest()
            times = []
            for _ in range(41):
                start = time.perf_counter()
                server.get(bench.pages[0])
                times.append((time.perf_counter() - start) * 1000)
            first.append(times[0])
            warm.append(statistics.median(times[1:]))
    ratio = statistics.median(a / b for a, b in zip(first, warm, strict=True))
    return {
        "first_ms": round(statistics.median(first), 1),
        "warm_ms": round(statistics.median(warm), 1),
        "first_to_warm": round(ratio, 2),
    }


def measure_start(bench: Bench, command: Command, repeats: int) -> dict[str, float]:
    """From the start to the first answer, against `python -c` doing the same work, in s."""
    code = f"import project.warm as w; w.request({bench.pages[0]!r})"
    plain, served = [], []
    for _ in range(repeats):
        start = time.monotonic()
        subprocess.run([bench.program("python"), "-c", code], env=bench.environ(), check=True)
        plain.append(time.monotonic() - start)
        with Running(bench, command, 1) as server:
            server.wait_for_answer(bench.pages[0])
            served.append(time.monotonic() - server.started)
    return {
        "start_s": round(min(served), 2),
        "python_s": round(min(plain), 2),
        "start_to_python": round(min(served) / min(plain), 2),
    }


def slope(totals: dict[int, float]) -> float:
    """What one more worker costs: least squares."""
    mean_x = statistics.mean(totals)
    mean_y = statistics.mean(totals.values())
    above = sum((x - mean_x) * (y - mean_y) for x, y in totals.items())
    return above / sum((x - mean_x) ** 2 for x in totals)


def measure_server(bench: Bench, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one server."""
    command = SERVERS[name]
    most = max(args.workers)
    by_workers = {n: measure_memory(bench, command, n) for n in args.workers}
    found = {"server": name, "workers": most} | by_workers[most]
    if len(by_workers) > 1:
        totals = {n: float(result["after"]["total_mb"]) for n, result in by_workers.items()}
        found["total_by_workers_mb"] = totals
        found["further_worker_mb"] = round(slope(totals), 2)
    if args.repeats:
        found |= measure_first(bench, command, args.repeats)
        if name == "prewarm":
            found |= measure_start(bench, command, args.repeats)
    return found


# ---- the command line


COLUMNS = (
    ("server", "server"),
    ("idle", "idle_mb"),
    ("total", "before.total_mb"),
    ("a worker", "before.private_mb"),
    ("after gc", "after.total_mb"),
    ("a worker", "after.private_mb"),
    ("further", "further_worker_mb"),
    ("first ms", "first_ms"),
    ("warm ms", "warm_ms"),
    ("ratio", "first_to_warm"),
)


def cell(result: dict[str, Any], path: str) -> str:
    """One value of a result, by its dotted path."""
    value: Any = result
    for key in path.split("."):
        value = value.get(key, "") if isinstance(value, dict) else ""
    return str(value)


def table_row(result: dict[str, Any] | None = None) -> str:
    """A line of the table; the head without a result."""
    cells = [cell(result, path) if result else head for head, path in COLUMNS]
    return f"{cells[0]:18}" + "".join(f"{text:>10}" for text in cells[1:])


def make_venv(python: str, version: str) -> Path:
    """The virtualenv with the peers."""
    venv = ROOT / f".venv-bench-{version}"
    if not (venv / "bin" / "uwsgi").exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", *PEERS], check=True)
    return venv


def make_project(venv: Path, directory: Path, *arguments: str) -> None:
    """The project, and what gunicorn needs beside it."""
    command = [venv / "bin" / "python", HERE / "memory_project.py", directory, *arguments]
    subprocess.run(command, check=True)
    (directory / "gunicorn_freeze.py").write_text(GUNICORN_FREEZE)
    subprocess.run([venv / "bin" / "python", "-m", "compileall", "-q", directory], check=True)


def machine() -> dict[str, str]:
    """Where it was measured."""
    models = [line for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": f"{os.cpu_count()} x {models[0].partition(':')[2].strip() if models else '?'}",
        "kernel": platform.release(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
        "date": datetime.date.today().isoformat(),
    }


def versions(venv: Path) -> dict[str, str]:
    """Of Python and what it runs."""
    code = "import sys, importlib.metadata as m; print(*[m.version(p) for p in sys.argv[1:]])"
    names = ["Django", "gunicorn", "granian", "uWSGI"]
    command = [venv / "bin" / "python", "-c", code, *names]
    said = subprocess.run(command, capture_output=True, text=True)
    return dict(zip(names, said.stdout.split(), strict=False))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments; those of the command line without any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, metavar="NAME")
    parser.add_argument("--python", default="python3", help="the interpreter of all servers")
    parser.add_argument("--binary", type=Path, help="our program, if not the one of `make`")
    parser.add_argument("--venv", type=Path, help="one with the peers, if there is one already")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--requests", type=int, default=500, help="of each page")
    parser.add_argument("--rounds", type=int, default=25, help="of the warm-up")
    parser.add_argument("--repeats", type=int, default=5, help="of timings; 0: none")
    parser.add_argument("--small", action="store_true", help="hello and one page, on PostgreSQL")
    parser.add_argument("--quick", action="store_true", help="few servers, 8 workers, no timings")
    parser.add_argument("--pages", action="store_true", help="compare our pages with the mold's")
    parser.add_argument("--option", nargs="*", default=[], help="more options for ours")
    parser.add_argument("--output", type=Path, help="add the results to this JSON file")
    args = parser.parse_args(arguments)
    if args.quick:
        args.workers, args.repeats = [8], 0
        args.servers = args.servers or QUICK
    return args


def prepare(args: argparse.Namespace, directory: Path, database_url: str | None) -> Bench:
    """Builds and installs what is missing."""
    code = "import platform; print(platform.python_version())"
    said = subprocess.run([args.python, "-c", code], check=True, capture_output=True, text=True)
    version = said.stdout.strip()
    binary = args.binary.absolute() if args.binary else None
    if binary is None:
        target = f"build/release-{version}/myserver"
        subprocess.run(["make", "-s", f"PYTHON={args.python}", target], cwd=ROOT, check=True)
        binary = ROOT / target
    venv = args.venv or make_venv(args.python, version)
    arguments = ["--apps", "1", "--models", "3"] if args.small else []
    if database_url:
        arguments += ["--database-url", database_url]
    make_project(venv, directory, *arguments)
    return Bench(
        python=args.python,
        version=version,
        venv=venv,
        binary=binary,
        project=directory,
        pages=SMALL_PAGES if args.small else PAGES,
        requests=args.requests,
        most_workers=max(args.workers),
        rest_s=2 if args.quick else 5,
        rounds=args.rounds,
        extra=tuple(f"--{option}" for option in args.option),
        env={"DATABASE_URL": database_url} if database_url else {},
    )


def facts(args: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """What was measured, and where."""
    return {
        "python": bench.version,
        "versions": versions(bench.venv),
        "machine": machine(),
        "project": "hello and one page" if args.small else "300 models",
        "pages": bench.pages,
        "requests_of_each": bench.requests,
        "rounds": bench.rounds,
    }


def save(path: Path, about: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Writes them; of other servers, what the file has already stays."""
    new = {result["server"] for result in results}
    old = json.loads(path.read_text())["results"] if path.exists() else []
    kept = [result for result in old if result["server"] not in new]
    order = list(SERVERS)
    merged = sorted(kept + results, key=lambda result: order.index(result["server"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | {"results": merged}, indent=1) + "\n")


def run(args: argparse.Namespace, bench: Bench) -> None:
    """The table, printed and saved line by line."""
    print(f"Python {bench.version}, {max(args.workers)} workers; MB\n{table_row()}")
    about, results = facts(args, bench), []
    for name in args.servers or SERVERS:
        results.append(measure_server(bench, name, args))
        print(table_row(results[-1]), flush=True)
        if "start_s" in results[-1]:
            text = "  start {start_s} s, python -c {python_s} s: {start_to_python}"
            print(text.format(**results[-1]))
        if args.output:
            save(args.output, about, results)


def main(arguments: list[str] | None = None) -> None:
    """The command line, or `arguments`."""
    args = parse(arguments)
    with ExitStack() as things:
        directory = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="memory-")))
        database_url = None
        if args.small:
            import services

            database_url = things.enter_context(services.postgres("shop")) + "/shop"
        bench = prepare(args, directory / "project", database_url)
        if args.pages:
            import memory_pages

            memory_pages.report(bench, SERVERS["prewarm"])
            return
        run(args, bench)


if __name__ == "__main__":
    main()
