"""What floods do to the latency of normal clients: p99 of a server during each flood, in one run.

Two servers of the same kind run side by side; the normal clients are always those of the first.
Three kinds of windows take turns, in another order each round:

    quiet       nobody floods
    elsewhere   the flood is at the second server
    here        the same flood is at the first

`here / quiet` is what a normal client sees on this machine, everything counted: the server, and what
the flood itself, the kernel's part of it and the caches take where all share a few CPUs.
`here / elsewhere` is what the server loses: the machine bears the same flood in both windows, and a
second server deals with it in the one. `cpu` is how much of one CPU the flood costs the server. The
flood `none` compares windows that are all quiet: it says what a ratio is worth on this machine.

The normal clients (load/load.c) ask at a fixed rate for a page that computes for 1 ms, in every other
round on new connections and in the others on kept ones; a latency begins when its request was due.
The floods (load/flood.c) send little and read nothing, at the lowest priority. A ratio is the median
of those of the rounds; in brackets the quartiles. Only to 127.0.0.1.

    benchmarks/hostile.py                       all floods
    benchmarks/hostile.py --floods silent,deaf --rounds 20
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from harness import Server  # noqa: E402
from measure import TOOLS, cpu_s, run_json  # noqa: E402

LOAD_DIRECTORY = ROOT / "benchmarks" / "load"
FLOOD = str(TOOLS / "flood")
WINDOWS = ("quiet", "elsewhere", "here")
NO_FLOOD = "none"
WARMUP_S = 0.3
PATH = "/cpu?ms=1"
PAIRS = (("here", "elsewhere"), ("here", "quiet"), ("elsewhere", "quiet"))

# What one window has seen: p50_ms and p99_ms, requests, failures, CPU.
Seen = dict[str, float]


def flood_names() -> list[str]:
    """What the generator can do."""
    listed = subprocess.run([FLOOD], capture_output=True, text=True, check=False).stdout
    return [NO_FLOOD, *listed.split()]


@contextmanager
def flood_at(server: Server, name: str) -> Iterator[None]:
    """A flood at its height, for as long as the block runs."""
    command = ["nice", "-n", "19", FLOOD, f"127.0.0.1:{server.port}", name]
    flood = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert flood.stdout
    try:
        if flood.stdout.readline() != b"ready\n":
            raise SystemExit(f"the flood {name} did not begin")
        yield
    finally:
        flood.communicate()


def window(server: Server, args: argparse.Namespace, new: bool = False) -> Seen:
    """What the normal clients see for a while, each on a new connection or all on kept ones."""
    before = cpu_s([server.pid])
    command = [str(TOOLS / "load"), "-c", "32", "-d", str(args.seconds), "-w", str(WARMUP_S)]
    command += ["-r", str(args.rate), *(["-1"] if new else []), f"127.0.0.1:{server.port}", PATH]
    result = run_json(command, args.seconds + 30)
    return {
        "p50_ms": result["p50_us"] / 1000,
        "p99_ms": result["p99_us"] / 1000,
        "requests": result["count"],
        "failed": sum(result["errors"].values()) + result["dropped"],
        "cpu": (cpu_s([server.pid]) - before) / (args.seconds + WARMUP_S),
    }


def measure_round(
    number: int, name: str, ours: Server, other: Server, args: argparse.Namespace
) -> dict[str, Seen]:
    """One window of each kind."""
    seen = {}
    for turn in range(len(WINDOWS)):
        kind = WINDOWS[(number + turn) % len(WINDOWS)]
        flooded = {"quiet": None, "elsewhere": other, "here": ours}[kind]
        calm = flooded is None or name == NO_FLOOD
        with nullcontext() if calm else flood_at(flooded, name):
            seen[kind] = window(ours, args, number % 2 == 0)
    return seen


def compare(name: str, ours: Server, other: Server, args: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one flood."""
    rounds = [measure_round(n, name, ours, other, args) for n in range(args.rounds)]

    def median(kind: str, key: str) -> float:
        return statistics.median(seen[kind][key] for seen in rounds)

    result: dict[str, Any] = {"flood": name}
    for key in ("p50_ms", "p99_ms"):
        result[key] = {kind: round(median(kind, key), 2) for kind in WINDOWS}
    for one, two in PAIRS:
        ratios = [seen[one]["p99_ms"] / seen[two]["p99_ms"] for seen in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        result[f"{one}/{two}"] = [round(middle, 3), round(low, 2), round(high, 2)]
    result["cpu"] = round(median("here", "cpu") - median("elsewhere", "cpu"), 3)
    result["failed"] = sum(seen["here"]["failed"] for seen in rounds)
    result["requests"] = sum(seen["here"]["requests"] for seen in rounds)
    return result


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--floods", help="comma-separated; default: all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a window")
    parser.add_argument("--rate", type=float, default=500, help="of normal requests a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="one object per line")
    return parser.parse_args(argv)


def show(result: dict[str, Any]) -> None:
    """A line for people."""
    ratios = "  ".join(
        "{}/{} {:.2f} [{}, {}]".format(one, two, *result[f"{one}/{two}"]) for one, two in PAIRS
    )
    p99s = " ".join(f"{kind} {p99:g}" for kind, p99 in result["p99_ms"].items())
    print(
        f"{result['flood']:18} p99 {ratios}  ms: {p99s}  cpu {result['cpu']:.3f}  "
        f"{result['failed']} of {result['requests']} failed",
        flush=True,
    )


def main() -> None:
    """Print a line per flood."""
    args = parse(sys.argv[1:])
    TOOLS.mkdir(parents=True, exist_ok=True)
    make = ["make", "-s", "-C", str(LOAD_DIRECTORY), f"OUT={TOOLS}", FLOOD, str(TOOLS / "load")]
    subprocess.run(make, check=True)
    shape = {"workers": args.workers, "threads": args.threads, "env": dict(os.environ)}
    with Server("mix:application", **shape) as ours, Server("mix:application", **shape) as other:
        window(ours, args)
        for name in args.floods.split(",") if args.floods else flood_names():
            result = compare(name, ours, other, args)
            print(json.dumps(result), flush=True) if args.json else show(result)


if __name__ == "__main__":
    main()
