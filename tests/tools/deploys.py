"""Counts lost requests while everything is done to a server that operators do to one.

Three kinds of clients, as many connections each, ask without a pause: one opens a connection for
every request, one keeps its connections, one goes through nginx. Meanwhile: reloads, recycled
workers, more and fewer workers, deploys of code that does not import, killed workers, an upgrade
of the program, a master that is stopped for a while, and TERM at the end. Every request is
accounted for: answered whole, or failed with a reason. Only a connection that is refused after TERM
does not count, and while workers are killed those requests that ran in them.

    tests/tools/deploys.py                  the full counts of `make soak`
    tests/tools/deploys.py --hups 3 ...     fewer
    tests/tools/deploys.py --pairs 20 --hups 0 ...
                                            20 reloads with a rest before each, to hold their times
                                            against each other's
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "benchmarks")]

from conftest import start_nginx  # noqa: E402
from harness import APPS, SHOP, VENV, Server, free_port, wait_for  # noqa: E402
from shop_client import populate, shop_env  # noqa: E402

KINDS = ("new", "kept", "nginx")
AGAIN_S = 0.005  # between a failure and the next try

INI = """\
[myserver]
app = deployed
workers = {workers}
threads = {threads}
pythonpath = {path}
virtualenv = {venv}
startup-timeout = 60s
{more}
"""

PLAIN = """\
import os, time
if os.path.exists("broken"):
    raise ImportError("as ordered")
def application(environ, start_response):
    time.sleep(0.002)
    body = b"ok" * 500
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

DJANGO = """\
import os
if os.path.exists("broken"):
    raise ImportError("as ordered")
from shop.wsgi import application
"""

# ---------------------------------------------------------------- clients


@dataclass
class Count:
    """What became of the requests of one kind of client."""

    answered: int = 0
    again: int = 0  # sent again: the kept connection ended before the first byte of an answer
    refused: int = 0  # after TERM
    failed: Counter[str] = field(default_factory=Counter)


class Lost(Exception):
    """A request that was not answered whole."""


class Gone(Exception):
    """Nobody listens any more."""


@dataclass
class Asker:
    """One connection's worth of requests."""

    kind: str
    address: tuple[str, int]
    path: str
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self) -> None:
        """One request and its whole answer; Lost or Gone."""
        keep = self.kind != "new"
        if self.writer is None:
            try:
                self.reader, self.writer = await asyncio.open_connection(*self.address)
            except ConnectionRefusedError:
                raise Gone from None
        assert self.reader is not None
        head = f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n"
        head += "\r\n" if keep else "Connection: close\r\n\r\n"
        try:
            self.writer.write(head.encode())
            answer = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Lost("closed in the head" if error.partial else "closed before") from None
        except OSError as error:
            raise Lost(f"closed before: {error.strerror or error}") from None
        status = int(answer.split(b" ", 2)[1])
        length = re.search(rb"(?i)content-length: (\d+)", answer)
        try:
            if length:
                await self.reader.readexactly(int(length[1]))
            else:
                await self.read_chunks()
        except (asyncio.IncompleteReadError, OSError):
            raise Lost("closed in the body") from None
        if status != 200:
            raise Lost(f"status {status}")
        if not keep or b"connection: close" in answer.lower():
            self.close()

    async def read_chunks(self) -> None:
        """A body of unknown length."""
        assert self.reader is not None
        while size := int((await self.reader.readline()).strip() or b"-1", 16):
            if size < 0:
                raise OSError("torn")
            await self.reader.readexactly(size + 2)
        await self.reader.readline()

    def close(self) -> None:
        """The next request opens a new connection."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Clients:
    """All clients, in a process of their own; told what goes on by a pipe."""

    def __init__(self, pipe: Connection, ports: dict[str, int], each: int, path: str) -> None:
        self.pipe, self.ports, self.each, self.path = pipe, ports, each, path
        self.phase = "warm"
        self.counts: dict[str, dict[str, Count]] = {}
        self.times: dict[str, list[float]] = {}

    def main(self) -> None:
        """Ask until told to end, then send the counts."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(self.run())
        self.pipe.send((self.counts, self.times))

    async def run(self) -> None:
        """Start everyone and listen to the pipe."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.add_reader(self.pipe.fileno(), self.on_word, over)
        tasks = [
            asyncio.create_task(self.keep_asking(kind, over))
            for kind in KINDS
            for _ in range(self.each)
        ]
        await over
        await asyncio.wait_for(asyncio.gather(*tasks), 60)

    def on_word(self, over: asyncio.Future[None]) -> None:
        """The next phase begins, which is said back; "end" ends all."""
        self.phase = self.pipe.recv()
        if self.phase != "end":
            self.pipe.send(self.phase)
        elif not over.done():
            over.set_result(None)

    def count(self, kind: str, begun: str = "") -> Count:
        """The counter of the phase that goes on now. What had begun among the kills may have failed
        by one, and be seen later."""
        name = "kills" if begun == "kills" else self.phase
        return self.counts.setdefault(name, {kind: Count() for kind in KINDS})[kind]

    async def keep_asking(self, kind: str, over: asyncio.Future[None]) -> None:
        """One client."""
        asker = Asker(kind, ("127.0.0.1", self.ports[kind]), self.path)
        while not over.done():
            used, phase, begin = asker.writer is not None, self.phase, time.monotonic()
            try:
                await asyncio.wait_for(asker.ask(), 60)
                self.count(kind).answered += 1
                self.times.setdefault(f"{phase} {kind}", []).append(time.monotonic() - begin)
                continue
            except Gone:
                if self.phase in ("term", "end"):
                    self.count(kind).refused += 1
                    return
                self.count(kind).failed["refused"] += 1
            except Lost as lost:
                if self.phase in ("term", "end") and kind == "nginx" and "502" in str(lost):
                    self.count(kind).refused += 1  # whether it was, nginx has logged
                    return
                by_kill = "kills" in (phase, self.phase)
                if used and str(lost).startswith("closed before") and by_kill:
                    self.count(kind, phase).again += 1
                else:
                    self.count(kind, phase).failed[str(lost)] += 1
            except TimeoutError:
                self.count(kind).failed["no answer in 60 s"] += 1
            asker.close()
            await asyncio.sleep(AGAIN_S)


# ---------------------------------------------------------------- what is done to the server


class Deploys:
    """A server under load, and what is done to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.server = Server(None, env=self.environment())
        self.server.expect_deaths = True
        self.master = 0
        self.generation = 1
        self.kills = 0
        self.directory = Path(tempfile.mkdtemp(prefix="myserver-nginx-"))
        self.nginx: subprocess.Popen[bytes] | None = None
        self.clients: multiprocessing.Process | None = None

    # ---- life

    def environment(self) -> dict[str, str]:
        """The shop has a database of its own."""
        if not self.options.shop:
            return {}
        return shop_env(populate(Path(tempfile.mkdtemp(prefix="myserver-shop-"))))

    def write_ini(self, workers: int, more: str = "") -> None:
        """The settings."""
        path = f"{self.server.dir}\npythonpath = {SHOP if self.options.shop else APPS}"
        text = INI.format(
            workers=workers, threads=self.options.threads, path=path, venv=VENV, more=more
        )
        (self.server.dir / "it.ini").write_text(text)

    def start(self) -> None:
        """The server, nginx before it, and the clients."""
        s = self.server
        code = DJANGO if self.options.shop else PLAIN
        (s.dir / "deployed.py").write_text(code)
        self.write_ini(self.options.workers)
        port = free_port()
        s.command = [s.command[0], "-c", "it.ini", f"--bind=127.0.0.1:{port}"]
        s.start()
        self.master = s.pid
        nginx_port = free_port()
        self.nginx = start_nginx(self.directory, s, nginx_port, True, "")
        ours, theirs = multiprocessing.Pipe()
        self.pipe = ours
        ports = {"new": port, "kept": port, "nginx": nginx_port}
        clients = Clients(theirs, ports, self.options.connections, self.options.path)
        self.clients = multiprocessing.Process(target=clients.main)
        self.clients.start()
        theirs.close()  # so that their end is seen, also one without a word

    def close(self) -> None:
        """End whatever is left."""
        if self.clients and self.clients.is_alive():
            self.clients.kill()
        if self.nginx:
            self.nginx.terminate()
            self.nginx.wait(20)
        if self.options.log:
            shutil.copy(self.server.log_path, self.options.log)
        self.server.close()
        for directory in (self.directory, self.server.env.get("SHOP_VAR", "")):
            shutil.rmtree(directory, ignore_errors=True)

    def signal(self, number: int) -> None:
        """To the master that is one now."""
        os.kill(self.master, number)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What the clients count from here on belongs to it."""
        self.pipe.send(name)
        self.pipe.recv()  # they know
        begin = time.monotonic()
        yield
        print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)

    def wait_for_log(self, pattern: str, begin: int, what: str) -> None:
        """Wait for a line behind offset `begin` of the log."""
        regex = re.compile(pattern, re.MULTILINE)

        def look() -> bool:
            with self.server.log_path.open(errors="replace") as log:
                log.seek(begin)
                found = regex.search(log.read()) is not None
            if not found:
                time.sleep(0.05)
            return found

        wait_for(look, 60, what)

    def log_end(self) -> int:
        """Where the next line of the log will stand."""
        return self.server.log_path.stat().st_size

    # ---- deeds

    def reload(self) -> None:
        """A HUP, and all workers are new."""
        begin = self.log_end()
        self.signal(signal.SIGHUP)
        self.wait_for_log("reloaded: all workers are of generation", begin, "the reload")

    def deploy_broken(self) -> None:
        """Code that does not import; the old goes on."""
        begin = self.log_end()
        (self.server.dir / "broken").touch()
        self.signal(signal.SIGHUP)
        self.wait_for_log("reload failed", begin, "the failure")
        (self.server.dir / "broken").unlink()

    def recycle(self, count: int) -> None:
        """Workers that leave after some requests."""
        self.write_ini(self.options.workers, f"max-requests = {self.options.max_requests}")
        begin = self.log_end()
        self.reload()

        def are_enough() -> bool:
            time.sleep(0.2)
            with self.server.log_path.open(errors="replace") as log:
                log.seek(begin)
                return log.read().count("it has answered max-requests") >= count

        wait_for(are_enough, 60 + 3 * count, f"{count} recycled workers")
        self.write_ini(self.options.workers)
        self.reload()

    def scale(self, by: int) -> None:
        """More or fewer workers, one after the other."""
        number = signal.SIGTTIN if by > 0 else signal.SIGTTOU
        for _ in range(abs(by)):
            begin = self.log_end()
            self.signal(number)
            pattern = r"worker \d+ \(pid \d+\) " + ("serves" if by > 0 else "left")
            self.wait_for_log(pattern, begin, "the change")

    def upgrade(self) -> None:
        """USR2, and the old master is gone."""
        old = self.master
        self.signal(signal.SIGUSR2)

        def find_new() -> int:
            time.sleep(0.05)
            masters = [p.pid for p in self.server.relatives() if p.name == "myserver:master"]
            _ = self.server.status  # reaps it, if it was the first
            return masters[0] if len(masters) == 1 and masters[0] != old else 0

        self.master = wait_for(find_new, 60, "the new master alone")

    def stop_master(self, seconds: float) -> None:
        """SIGSTOP; when it goes on, it blames nobody for the time."""
        workers = self.server.workers()
        self.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.signal(signal.SIGCONT)
        time.sleep(min(seconds, 5))
        assert self.server.workers() == workers, "a worker was killed for the master's stop"

    def kill(self) -> None:
        """SIGKILL for a worker, and its replacement."""
        pid = random.choice(self.server.workers())
        begin = self.log_end()
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        self.wait_for_log(r"worker \d+ \(pid \d+\) serves", begin, "the replacement")
        time.sleep(0.05)

    def run(self) -> None:
        """Everything, then TERM."""
        o = self.options
        time.sleep(1)
        with self.phase("quiet"):
            time.sleep(o.quiet)
        for _ in range(o.pairs):
            with self.phase("rest"):
                time.sleep(o.quiet)
            with self.phase("reload"):
                self.reload()
        with self.phase("hups"):
            for _ in range(o.hups):
                self.reload()
        with self.phase("broken"):
            for _ in range(o.broken):
                self.deploy_broken()
        with self.phase("recycled"):
            if o.recycled:
                self.recycle(o.recycled)
        with self.phase("scale"):
            for _ in range(o.scales):
                self.scale(6)
                self.scale(-6)
        with self.phase("upgrades"):
            for _ in range(o.upgrades):
                self.upgrade()
        with self.phase("stopped"):
            self.stop_master(o.stopped)
        with self.phase("kills"):
            for _ in range(o.kills):
                self.kill()
            time.sleep(0.5)
        with self.phase("term"):
            self.signal(signal.SIGTERM)
            wait_for(lambda: not self.server.relatives(), 40, "the end")
            time.sleep(0.2)
        self.pipe.send("end")

    # ---- accounting

    def report(self) -> list[str]:
        """Print the account; what is wrong with it."""
        counts, times = self.pipe.recv()
        wrong = []
        for phase, kinds in counts.items():
            for kind, count in kinds.items():
                lost = sum(count.failed.values())
                took = sorted(times.get(f"{phase} {kind}", [])) or [0.0]
                p50, p99, most = took[len(took) // 2], took[len(took) * 99 // 100], took[-1]
                print(
                    f"{phase:9} {kind:6} {count.answered:8} answered {lost:4} lost"
                    f" {count.again:4} sent again {count.refused:4} refused"
                    f"  p50 {p50 * 1000:.0f}, p99 {p99 * 1000:.0f}, most {most * 1000:.0f} ms"
                    f"  {dict(count.failed) or ''}"
                )
                if phase != "kills" and lost:
                    wrong.append(f"{phase}, {kind}: {dict(count.failed)}")
        lost_to_kills = sum(
            sum(count.failed.values()) for count in counts.get("kills", {}).values()
        )
        if lost_to_kills > self.kills * self.options.threads:
            wrong.append(f"{self.kills} kills cost {lost_to_kills} requests")
        log = (self.directory / "error.log").read_text(errors="replace")
        torn = [line for line in log.splitlines() if re.search(r"prematurely|reset by peer", line)]
        if len(torn) > self.kills * self.options.connections:
            wrong.append(f"nginx: {torn[-1]}")
        return wrong + self.server.problems()


def parse(args: list[str]) -> argparse.Namespace:
    """The counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (
        ("pairs", 0),
        ("hups", 100),
        ("broken", 50),
        ("recycled", 1000),
        ("scales", 1),
        ("upgrades", 1),
        ("kills", 200),
        ("connections", 50),
        ("workers", 2),
        ("threads", 2),
        ("max-requests", 100),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds of load alone")
    parser.add_argument("--stopped", type=float, default=30.0, help="seconds of SIGSTOP")
    parser.add_argument("--shop", action="store_true", help="the Django project, not a plain page")
    parser.add_argument("--path", default="/")
    parser.add_argument("--log", help="keep the server's log in this file")
    return parser.parse_args(args)


def run(args: list[str]) -> list[str]:
    """One run; what went wrong."""
    deploys = Deploys(parse(args))
    try:
        deploys.start()
        deploys.run()
        return deploys.report()
    except AssertionError as error:
        return [f"{error}\n{deploys.server.log[-3000:]}"]
    finally:
        deploys.close()


if __name__ == "__main__":
    problems = run(sys.argv[1:])
    print("\n".join(problems) or "no request was lost")
    sys.exit(bool(problems))
