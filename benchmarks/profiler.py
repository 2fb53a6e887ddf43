#!/usr/bin/env python3
"""Compares `myserver profile` with py-spy, on the same worker of the shop under the same load, and
says what the sampler costs.

py-spy looks from another process, which needs the right to trace; it is not installed with the
benchmarks, so name it: `--py-spy PATH`. The two look by turns, in short spans, so that a load that
changes meanwhile is the same for both. Compared are the shares of the CPU time of the ten hottest
functions. The CPU of the sampler is its thread's own, from /proc.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "python")]

from harness import Server  # noqa: E402
from myserver.asking import Control  # noqa: E402
from myserver.profiles import collect  # noqa: E402
from shop_client import populate, shop_options  # noqa: E402

CLIENTS = 3
PAGES = ("/", "/?page=2", "/search?q=a", "/api/products")
MOST_POINTS = 3.0
TICKS = 100  # USER_HZ, of the times in /proc


def ask_often(server: Server, done: threading.Event) -> None:
    """One client, until `done`."""
    while not done.is_set():
        for page in PAGES:
            with suppress(OSError, AssertionError):
                server.get(page)


def look_with_py_spy(program: str, pid: int, seconds: int, found: Counter[str]) -> None:
    """Adds the samples of threads that run, by function of the innermost frame."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "raw")
        command = [program, "record", "-F", "-r", "100", "-f", "raw", "-d", str(seconds)]
        subprocess.run(
            [*command, "-p", str(pid), "-o", str(path)],
            check=True,
            capture_output=True,
            timeout=120,
        )
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            match = re.fullmatch(r"(.*) \((.*?)(?::\d+)?\)", stack.rpartition(";")[2])
            if match:
                found[f"{match[1].rpartition('.')[2]} {Path(match[2]).name}"] += int(count)


def look_with_ours(control: Control, seconds: int, found: Counter[str]) -> None:
    """The same for ours."""
    for frame, own, _ in collect.live(control, seconds, 250).by_function("cpu"):
        name = frame.name.rpartition(".")[2]
        found[f"{name} {Path(frame.file).name}"] += round(own * 1e6)


def shares(counts: Counter[str]) -> dict[str, float]:
    """Hundredths of the whole."""
    total = sum(counts.values()) or 1
    return {name: 100 * count / total for name, count in counts.items()}


def compare(theirs: dict[str, float], ours: dict[str, float]) -> float:
    """Prints the ten hottest by either; returns the largest difference in points."""
    hottest = sorted(theirs, key=lambda name: -theirs[name])[:10]
    hottest += [n for n in sorted(ours, key=lambda name: -ours[name])[:10] if n not in hottest]
    print(f"{'function':44} {'py-spy':>7} {'ours':>7} {'points':>7}")
    for name in hottest:
        a, b = theirs.get(name, 0.0), ours.get(name, 0.0)
        print(f"{name[:44]:44} {a:6.1f}% {b:6.1f}% {b - a:+7.1f}")
    return max(abs(ours.get(name, 0.0) - theirs.get(name, 0.0)) for name in hottest)


def cpu_s(pid: int, thread: str) -> float:
    """CPU time of the threads of that name; of all with "", in seconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().rpartition(")")
        if not thread or name.endswith(f"({thread}"):
            fields = rest.split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def measure_cost(control: Control, pid: int, seconds: int) -> None:
    """Prints the CPU of the sampler at the steady rate and at 250 Hz, under load."""
    for name, hz in (("always on, 19 Hz", 0), ("profile, 250 Hz", 250)):
        before = control.ask("/profile")["workers"][0]
        sampler, worker = cpu_s(pid, "sampler"), cpu_s(pid, "")
        begin = time.monotonic()
        if hz:
            collect.live(control, seconds, hz)
        else:
            time.sleep(seconds)
        passed = time.monotonic() - begin
        after = control.ask("/profile")["workers"][0]
        used, all_used = cpu_s(pid, "sampler") - sampler, cpu_s(pid, "") - worker
        looks = after["taken"] - before["taken"]
        print(
            f"{name}: {looks / passed:.0f} looks a second, {100 * used / passed:.2f} % of a CPU, "
            f"{1e6 * used / max(looks, 1):.0f} us each, {100 * used / max(all_used, 0.01):.2f} % of "
            f"what the worker used"
        )


def main() -> int:
    """Runs it; 1 when the two differ by more than MOST_POINTS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--py-spy", required=True, metavar="PATH")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    theirs: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    done = threading.Event()
    with tempfile.TemporaryDirectory() as var:
        shop = shop_options(populate(Path(var)))
        with Server(workers=1, threads=4, control="unix:control.sock", **shop) as server:
            control = Control(str(server.dir / "control.sock"))
            (pid,) = server.workers()
            clients = [
                threading.Thread(target=ask_often, args=(server, done)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            try:
                time.sleep(2)
                for _ in range(options.rounds):
                    look_with_py_spy(options.py_spy, pid, options.seconds, theirs)
                    look_with_ours(control, options.seconds, ours)
                worst = compare(shares(theirs), shares(ours))
                measure_cost(control, pid, 2 * options.seconds)
            finally:
                done.set()
                for client in clients:
                    client.join()
            server.stop()
    print(f"the largest difference: {worst:.1f} points")
    return worst > MOST_POINTS


if __name__ == "__main__":
    sys.exit(main())
