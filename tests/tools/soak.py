"""Good clients beside bad ones, while everything that can go wrong does, with exact accounting.

Good clients send numbered requests and check every answer. Bad ones flood, drip, hold, leave and
send what is no request. Meanwhile, one after the other: workers are killed and stopped, the
application is reloaded, logs are rotated, the disk for bodies is full, descriptors run out. A good
request may only fail while something is done that explains it: its worker died, the disk was full,
there was no descriptor. Each that is answered has one line in the access log; each that is not has
one too, or a record in the error log says at that time what it was lost by. At the end memory and
descriptors are where they were.

    tests/tools/soak.py --seconds 600
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import FLAVOUR, Server, descriptors, wait_for  # noqa: E402
from wire import Answer, Wire, request  # noqa: E402

REQUESTS = Path(__file__).resolve().parent.parent / "requests"
ATTACKS = [path.read_bytes() for path in sorted(REQUESTS.glob("*/*.http"))]
NUMBERS = itertools.count(1)
GRACE_S = 3.0  # how long what was done may still explain a failure
RECORD = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z) \[(?:error|warning)\] (.*)")
REASON = re.compile(r"died: signal 9 |Too many open files|no descriptor is free")
REASON_S = 3.0  # between what happens and its record
DISK_BYTES = 32 << 20


class Failed(Exception):
    """A good request has no good answer."""


class Soak:
    """The clients, what is done to the server, and the accounts."""

    def __init__(self, server: Server, disk: Path | None, seed: int) -> None:
        self.server = server
        self.disk = disk
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.answered: dict[int, int] = {}  # number: status
        self.failed: dict[int, tuple[float, float]] = {}  # number: wall clock, from when to when
        self.trouble: dict[str, float] = {}  # what was done, and until when it explains failures
        self.unsure: set[int] = set()  # answered while workers were killed: the line may be lost
        self.slowest = 0.0

    def count(self, what: str) -> None:
        """Add to a counter."""
        with self.lock:
            self.counts[what] += 1

    # ---- good clients

    def explained(self, began: float) -> str | None:
        """What was done since then that a request may fail by."""
        with self.lock:
            causes = [cause for cause, until in self.trouble.items() if until >= began]
        return causes[0] if causes else None

    def good_client(self, seed: int) -> None:
        """Connections, kept for a while, with requests that must be answered."""
        rng = random.Random(seed)
        while not self.over.is_set():
            try:
                with Wire(self.server, timeout=20) as wire:
                    for _ in range(rng.randrange(1, 30)):
                        if self.over.is_set() or not self.good_request(wire, rng):
                            break
                        time.sleep(rng.random() / 50)
            except OSError as error:
                self.counts["no connection"] += 1
                if not self.explained(time.monotonic() - GRACE_S):
                    self.faults.append(f"no connection: {error!r}")

    def good_request(self, wire: Wire, rng: random.Random) -> bool:
        """One; False when its connection is at its end."""
        number, began = next(NUMBERS), time.monotonic()
        kind = rng.choice(["fast"] * 6 + ["sleep", "cpu", "stream", "upload", "upload", "big"])
        body = rng.randbytes(rng.choice((10, 3000, 200_000))) if kind == "upload" else None
        fresh = not hasattr(wire, "used")
        self.count("sent")
        try:
            wire.request("POST" if body else "GET", f"/{kind}?id={number}&ms=3&n=5", body)
            answer = wire.answer()
            if answer.status == 0 and not answer.reset and not fresh:
                self.count("kept connection ended")  # before the request: nothing was lost
                return False
            self.check(answer, number, body)
        except (OSError, Failed, AssertionError, ValueError) as error:
            self.fail(number, kind, began, error)
            return False
        wire.used = True  # type: ignore[attr-defined]
        unsure = self.explained(began) == "killed"
        with self.lock:
            self.answered[number] = answer.status
            if unsure:
                self.unsure.add(number)
            self.slowest = max(self.slowest, time.monotonic() - began)
        return answer.get("Connection") != "close"

    def check(self, answer: Answer, number: int, body: bytes | None) -> None:
        """It is whole, and it is the one that was asked for."""
        if answer.status != 200 or not answer.complete:
            raise Failed(f"status {answer.status}, complete: {answer.complete}, {answer.reset}")
        line, _, rest = answer.body.partition(b"\n")
        if not line.startswith(b"id=%d&" % number):
            raise Failed(f"the answer of another request: {line[:60]!r}")
        if body and rest != f"{len(body)} {hashlib.sha1(body).hexdigest()}".encode():
            raise Failed("another body arrived")

    def fail(self, number: int, kind: str, began: float, error: Exception) -> None:
        """A failure counts, or is a fault if nothing explains it."""
        cause = self.explained(began)
        self.count(f"failed: {cause}")
        now = time.time()
        with self.lock:
            self.failed[number] = now - (time.monotonic() - began), now
        if not cause or "another" in str(error):
            self.faults.append(f"request {number} ({kind}): {error!r}")

    # ---- bad clients

    def bad_client(self, seed: int) -> None:
        """One bad habit after the other; what becomes of them is their business."""
        rng = random.Random(seed)
        habits = [self.attack, self.attack, self.hold, self.flood, self.drip, self.deaf, self.leave]
        while not self.over.is_set():
            habit = rng.choice(habits)
            try:
                habit(rng)
                self.count(f"bad: {habit.__name__}")
            except (OSError, AssertionError, ValueError):
                self.count(f"bad, and cut off: {habit.__name__}")

    def attack(self, rng: random.Random) -> None:
        """A raw request of the other tests."""
        with Wire(self.server, timeout=0.3) as wire:
            wire.send(rng.choice(ATTACKS))
            wire.stream.read(1000)

    def hold(self, rng: random.Random) -> None:
        """Many silent ones."""
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(self.server)) for _ in range(rng.randrange(5, 60))]
            for wire in wires:
                wire.send(rng.choice([b"", b"GET / HT", request("GET", "/")[:-2]]))
            self.over.wait(rng.random() * 2)

    def flood(self, rng: random.Random) -> None:
        """Something without an end."""
        start, more = rng.choice(
            [
                (b"GET / HTTP/1.1\r\nX: ", b"x" * 2000),
                (
                    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                    b"x" * 2000,
                ),
                (b"", request("GET", "/fast") * 50),
            ]
        )
        with Wire(self.server) as wire:
            wire.send(start)
            wire.socket.settimeout(0.2)
            for _ in range(200):
                wire.send(more)

    def drip(self, rng: random.Random) -> None:
        """A body, a byte at a time."""
        with Wire(self.server) as wire:
            wire.send(request("POST", "/upload")[:-2] + b"Content-Length: 5000\r\n\r\n")
            for _ in range(50):
                wire.send(b"x")
                self.over.wait(0.02)

    def deaf(self, rng: random.Random) -> None:
        """Asks for much and reads nothing."""
        with Wire(self.server) as wire:
            wire.send(request("GET", rng.choice(["/big", "/file", "/stream?n=500&size=10000"])))
            self.over.wait(rng.random() * 2)

    def leave(self, rng: random.Random) -> None:
        """Goes in the middle, with a reset."""
        with Wire(self.server) as wire:
            data = request("POST", "/upload", b"x" * 5000)
            wire.send(data[: rng.randrange(len(data))])
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    # ---- what is done to the server

    @contextmanager
    def trouble_by(self, cause: str) -> Iterator[None]:
        """Failures meanwhile, and for a moment after, are explained."""
        with self.lock:
            self.trouble[cause] = float("inf")
        try:
            yield
        finally:
            with self.lock:
                self.trouble[cause] = time.monotonic() + GRACE_S

    def kill(self) -> None:
        """A worker dies without a word."""
        with self.trouble_by("killed"):
            os.kill(self.random.choice(self.server.workers()), signal.SIGKILL)
            wait_for(lambda: len(self.server.workers()) >= 2, what="another worker")

    def stop(self) -> None:
        """A worker hangs for a moment; nothing may be lost by that."""
        pid = self.random.choice(self.server.workers())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)

    def reload(self) -> None:
        """New code for old, without a loss."""
        self.server.signal(signal.SIGHUP)
        self.over.wait(4)

    def rotate(self) -> None:
        """As logrotate does."""
        path = self.server.dir / "access.log"
        path.rename(path.with_name(f"access.log.{time.monotonic_ns()}"))
        self.server.signal(signal.SIGUSR1)
        wait_for(path.exists, what="a new access log")

    def fill_disk(self) -> None:
        """Large bodies have no room."""
        if not self.disk:
            return
        with self.trouble_by("disk full"):
            filler = self.disk / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    file.write(bytes(2 * DISK_BYTES))
                except OSError:
                    pass
            self.over.wait(1)
            filler.unlink()

    def take_descriptors(self) -> None:
        """A worker may open no more."""
        with self.trouble_by("no descriptors"):
            pid = self.random.choice(self.server.workers())
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            count = len(descriptors(pid))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, limits[1]))
            self.over.wait(1)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

    def disturb(self) -> None:
        """One thing after the other, with quiet between."""
        acts: list[Callable[[], None]] = [
            *(self.kill, self.stop, self.reload, self.rotate, self.fill_disk),
            self.take_descriptors,
        ]
        while not self.over.wait(self.random.uniform(0.5, 2)):
            act = self.random.choice(acts)
            try:
                act()
                self.count(f"done: {act.__name__}")
            except (ProcessLookupError, FileNotFoundError, IndexError):
                self.count(f"too late: {act.__name__}")  # that worker has just gone
            except AssertionError as error:
                self.faults.append(f"{act.__name__}: {error}")

    # ---- the whole

    def run(self, seconds: float, good: int, bad: int) -> None:
        """All of it, for so long."""
        jobs = [threading.Thread(target=self.good_client, args=(n,)) for n in range(good)]
        jobs += [threading.Thread(target=self.bad_client, args=(1000 + n,)) for n in range(bad)]
        jobs.append(threading.Thread(target=self.disturb))
        for job in jobs:
            job.start()
        time.sleep(seconds)
        self.over.set()
        for job in jobs:
            job.join(60)
            if job.is_alive():
                self.faults.append("a client waits for ever")

    def check_log(self) -> None:
        """One line for each answered request, with its status; none twice."""
        lines: Counter[tuple[int, int]] = Counter()
        for path in self.server.dir.glob("access.log*"):
            for text in path.read_text().splitlines():
                entry = json.loads(text)
                if match := re.match(r"id=(\d+)&", entry["query"] or ""):
                    lines[int(match[1]), entry["status"]] += 1
        found = Counter(number for number, _ in lines.elements())
        self.faults += [f"request {n} has {c} lines" for n, c in found.items() if c > 1]
        missing = {
            key for key in self.answered.items() if key not in lines and key[0] not in self.unsure
        }
        if missing:
            self.faults.append(f"{len(missing)} answers have no line: {sorted(missing)[:5]}")
        reasons = self.logged_reasons()
        lost = {number: when for number, when in self.failed.items() if number not in found}
        self.faults += [
            f"request {number} was lost without a word"
            for number, (began, ended) in lost.items()
            if not any(began - REASON_S <= at <= ended + REASON_S for at in reasons)
        ]
        self.counts["failed, with a line"] = len(self.failed) - len(lost)
        self.counts["failed, with a record of why"] = len(lost)

    def logged_reasons(self) -> list[float]:
        """When the error log says that something happened by which requests are lost."""
        return [
            datetime.fromisoformat(match[1]).timestamp()
            for line in self.server.log.splitlines()
            if (match := RECORD.match(line)) and REASON.search(match[2])
        ]


def usage(server: Server) -> dict[str, tuple[int, int]]:
    """Private KiB and descriptors, the largest of each kind of process."""
    found: dict[str, tuple[int, int]] = {}
    for process in server.relatives():
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            files = len(os.listdir(f"/proc/{process.pid}/fd"))
        except OSError:
            continue
        kib = sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+)", rollup, re.MULTILINE))
        before = found.get(process.name, (0, 0))
        found[process.name] = (max(before[0], kib), max(before[1], files))
    return found


def compare(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """What has grown."""
    grown = []
    for name, (kib, files) in after.items():
        old_kib, old_files = before.get(name, (0, 0))
        fat = FLAVOUR == "release" and kib > old_kib * 1.25 + 6000
        if files > old_files + 2 or fat:
            grown.append(f"{name}: {old_kib} KiB, {old_files} files became {kib}, {files}")
    return grown


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A file system for bodies that is soon full; None where it cannot be mounted."""
    directory = Path(tempfile.mkdtemp(prefix="myserver-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(directory)]
    mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield directory if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(directory)], check=True)
        directory.rmdir()


def soak(seconds: float, good: int, bad: int, workers: int, threads: int, seed: int) -> list[str]:
    """Returns the faults; prints the accounts."""
    with (
        small_disk() as disk,
        Server(
            "mix:application",
            workers=workers,
            threads=threads,
            expect_deaths=True,
            access_logfile="access.log",
            access_logformat="json",
            body_buffer="64k",
            header_timeout="2s",
            body_timeout="2s",
            send_timeout="5s",
            tmp_dir=str(disk or "/tmp"),
        ) as server,
    ):
        run = Soak(server, disk, seed)
        run.run(3, good, 0)
        if run.faults:
            return run.faults
        before = usage(server)
        run.over.clear()
        run.run(seconds, good, bad)
        try:
            wait_for(lambda: not compare(before, usage(server)), 30, "memory and descriptors")
        except AssertionError:
            run.faults += compare(before, usage(server))
        print(json.dumps({"before": before, "after": usage(server)}))
        server.stop()
        run.faults += server.problems()
        run.check_log()
        if disk and any(disk.iterdir()):
            run.faults.append("bodies were left behind")
        if run.faults:
            keep = Path(tempfile.mkdtemp(prefix="soak-"))
            for path in server.dir.glob("*.log*"):
                shutil.copy(path, keep)
            run.faults.append(f"the logs are in {keep}")
        print(json.dumps(dict(sorted(run.counts.items())), indent=1))
        print(f"answered {len(run.answered)}, the slowest after {run.slowest:.2f} s")
    return run.faults


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in [
        ("seconds", 600.0),
        ("good", 8),
        ("bad", 8),
        ("workers", 2),
        ("threads", 4),
        ("seed", 1),
    ]:
        parser.add_argument(f"--{name}", type=type(default), default=default)
    faults = soak(**vars(parser.parse_args()))
    for fault in faults[:30]:
        print("FAULT", fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
