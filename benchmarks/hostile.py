"""What floods do to the latency of normal clients: p99 during each against p99 without, in one run.

Quiet and flooded windows alternate, so that a disturbance of the machine meets both. Normal clients
ask for a page that computes for a few milliseconds, on new and on kept connections, each in a
process of its own, as the floods are, which run at the lowest priority: what is measured is what
they take from the server, not what they take from the machine. Only to 127.0.0.1.

    benchmarks/hostile.py                       all floods
    benchmarks/hostile.py --floods silent,deaf --rounds 10
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import select
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from harness import Server  # noqa: E402

Address = tuple[str, int]

GET = b"GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /upload HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = POST + b"Content-Length: 1000000\r\n\r\n"
PAUSE_S = 0.02
TURNS = 20
PROCESSES = multiprocessing.get_context("fork")


# ---------------------------------------------------------------- floods


def connections(address: Address, count: int, data: bytes = b"") -> list[socket.socket]:
    """Many of them; fewer where the server does not take more."""
    found = []
    for _ in range(count):
        with suppress(OSError):
            found.append(socket.create_connection(address, 1))
            found[-1].sendall(data)
            found[-1].setblocking(False)
    return found


def holders(data: bytes, drip: bytes = b"", count: int = 2000) -> Callable[[Address, Event], None]:
    """Connections that send the beginning of something, then nothing or a little now and then."""

    def run(address: Address, over: Event) -> None:
        held = connections(address, count, data)
        turn = 0
        while not over.wait(1 / TURNS):  # they do not all wake at once
            turn = (turn + 1) % TURNS
            for number in range(turn, len(held), TURNS):
                connection = held[number]
                try:
                    if drip:
                        connection.send(drip)
                except OSError:
                    connection.close()
                    held[number : number + 1] = connections(address, 1, data)
        for connection in held:
            connection.close()

    return run


def senders(start: bytes, more: bytes, count: int = 20) -> Callable[[Address, Event], None]:
    """Connections that send without an end, as fast as the server takes it; when one is refused,
    another takes its place."""

    def run(address: Address, over: Event) -> None:
        open_ones = connections(address, count, start)
        while not over.wait(PAUSE_S):
            _, writable, _ = select.select([], open_ones, [], 0.1)
            for connection in writable:
                try:
                    connection.send(more)
                except OSError:
                    connection.close()
                    open_ones.remove(connection)
            open_ones += connections(address, count - len(open_ones), start)
        for connection in open_ones:
            connection.close()

    return run


def half_closed(address: Address, over: Event) -> None:
    """Connections that say they are done before they have begun, or in the middle."""
    while not over.wait(PAUSE_S):
        some = connections(address, 5, b"GET / HT") + connections(address, 5)
        for connection in some:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        over.wait(PAUSE_S)
        for connection in some:
            connection.close()


def comers_and_goers(address: Address, over: Event) -> None:
    """Connections that begin a request and are reset, as many as there can be."""
    now = struct.pack("ii", 1, 0)
    while not over.wait(PAUSE_S):
        for connection in connections(address, 50, b"GET"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            connection.close()


FLOODS: dict[str, Callable[[Address, Event], None]] = {
    "silent": holders(b""),
    "slow heads": holders(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x"),
    "slow bodies": holders(LENGTH + b"x" * 1000, b"x" * 10),
    "deaf": holders(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n", count=50),
    "half-closed": half_closed,
    "connections": comers_and_goers,
    "pipelining": senders(b"", GET * 20, count=5),
    "headers": senders(b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 300),
    "chunk extensions": senders(CHUNKED, b"1;" + b"x" * 2000 + b"\r\nx\r\n"),
    "nonsense": senders(b"", b"\0\r\n\r\n"),
}


# ---------------------------------------------------------------- normal clients


def ask(connection: socket.socket, request: bytes) -> None:
    """One request and its whole answer, whose length is known to be short."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(b"ms=4\n"):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("no whole answer")
        data += piece


def measure(address: Address, seconds: float, report: Connection) -> None:
    """Latencies in milliseconds, of new and kept connections in turn."""
    request = b"GET /cpu?ms=4 HTTP/1.1\r\nHost: a\r\n\r\n"
    latencies = []
    failures = 0
    end = time.monotonic() + seconds
    kept = socket.create_connection(address, 10)
    while time.monotonic() < end:
        for fresh in (True, False):
            began = time.monotonic()
            try:
                if fresh:
                    with socket.create_connection(address, 10) as connection:
                        ask(connection, request)
                else:
                    ask(kept, request)
                latencies.append((time.monotonic() - began) * 1000)
            except OSError:
                failures += 1
                kept.close()
                kept = socket.create_connection(address, 10)
        time.sleep(0.002)
    kept.close()
    report.send((latencies, failures))


def window(address: Address, seconds: float, clients: int) -> tuple[list[float], int]:
    """What all normal clients saw for a while."""
    pipes = [PROCESSES.Pipe(False) for _ in range(clients)]
    jobs = [PROCESSES.Process(target=measure, args=(address, seconds, p[1])) for p in pipes]
    for job in jobs:
        job.start()
    results = [receiving.recv() for receiving, _ in pipes]
    for job in jobs:
        job.join()
    return sum((latencies for latencies, _ in results), []), sum(f for _, f in results)


def percentile(values: list[float], share: float) -> float:
    """Of the sorted values, the one that so many do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


# ---------------------------------------------------------------- the whole


def run_flood(flood: Callable[[Address, Event], None], address: Address, over: Event) -> None:
    """At the lowest priority."""
    os.nice(19)
    flood(address, over)


def compare(address: Address, name: str, args: argparse.Namespace) -> dict[str, float | str]:
    """Quiet and flooded windows in turn."""
    quiet: list[float] = []
    flooded: list[float] = []
    ratios: list[float] = []
    failures = 0
    for _ in range(args.rounds):
        before = window(address, args.seconds, args.clients)[0]
        quiet += before
        over = PROCESSES.Event()
        job = PROCESSES.Process(target=run_flood, args=(FLOODS[name], address, over))
        job.start()
        time.sleep(1)  # until it is at its height
        latencies, failed = window(address, args.seconds, args.clients)
        flooded += latencies
        ratios.append(percentile(latencies, 0.99) / percentile(before, 0.99))
        failures += failed
        over.set()
        job.join()
        time.sleep(0.5)
    result: dict[str, float | str] = {"flood": name, "requests": len(flooded)}
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        calm, during = percentile(quiet, share), percentile(flooded, share)
        result |= {f"{label}_quiet_ms": round(calm, 2), f"{label}_ms": round(during, 2)}
        result[f"{label}_ratio"] = round(during / calm, 3)
    return result | {"failed": failures, "p99_median": round(statistics.median(ratios), 3)}


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--floods", default=",".join(FLOODS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="one object per line")
    return parser.parse_args(argv)


def main() -> None:
    """Print a line per flood."""
    args = parse(sys.argv[1:])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    with Server("mix:application", workers=args.workers, threads=args.threads) as server:
        address = ("127.0.0.1", server.port)
        window(address, 2, args.clients)
        for name in args.floods.split(","):
            result = compare(address, name, args)
            if args.json:
                print(json.dumps(result), flush=True)
            else:
                print(
                    "{flood:18} p50 {p50_quiet_ms:7} -> {p50_ms:7} ms ({p50_ratio:.2f} x)  "
                    "p99 {p99_quiet_ms:7} -> {p99_ms:7} ms ({p99_ratio:.2f} x, "
                    "median of rounds {p99_median:.2f} x)  "
                    "{failed} of {requests} failed".format(**result),
                    flush=True,
                )


if __name__ == "__main__":
    main()
