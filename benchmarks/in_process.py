"""What the application itself can do: calls it in a loop, without a server.

`in_process.py body APP PATH` prints the body in full, for comparisons;
`in_process.py run APP PATH PROCESSES THREADS WARMUP_S SECONDS` prints JSON as benchmarks/load does.

It counts as benchmarks/load -p does: all threads of all processes run before the seconds that count
begin, and go on until what was under way at their end is done; a request counts by the part of it
that lies within.
"""

from __future__ import annotations

import gc
import importlib
import io
import itertools
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


def load(name: str) -> Application:
    """`module:callable`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute or "application")


def environ(url: str) -> dict[str, Any]:
    """What PEP 3333 asks for, for a GET with the headers of benchmarks/load."""
    path, _, query = url.partition("?")
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "load",
        "HTTP_ACCEPT": "*/*",
        "CONTENT_LENGTH": "",
        "CONTENT_TYPE": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def call(application: Application, url: str) -> tuple[str, bytes]:
    """Status and body of one request."""
    started: list[str] = []

    def start_response(status: str, headers: list[Any], exc_info: Any = None) -> None:
        started.append(status)

    answer = application(environ(url), start_response)
    try:
        body = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return started[-1], body


class Counted:
    """What one thread has done within the time that counts."""

    def __init__(self, begin: float, end: float) -> None:
        self.begin = begin
        self.end = end
        self.work = 0.0  # requests, with the parts of those at the ends
        self.latencies_us: list[int] = []

    def add(self, begun: float, ended: float) -> None:
        """One request."""
        within = min(ended, self.end) - max(begun, self.begin)
        self.work += max(0.0, within) / (ended - begun)
        if self.begin <= ended < self.end:
            self.latencies_us.append(round((ended - begun) * 1e6))


def loop(application: Application, url: str, start: float, counted: Counted) -> None:
    """Requests from `start` until the end of what counts."""
    time.sleep(max(0.0, start - time.monotonic()))
    begun = time.monotonic()
    while begun < counted.end:
        status, _ = call(application, url)
        assert status.startswith("2"), status
        now = time.monotonic()
        counted.add(begun, now)
        begun = now


def cpu_s() -> float:
    """Of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_threads(
    application: Application, url: str, threads: int, warmup_s: float, counted: list[Counted]
) -> float:
    """All threads of a process, who come one after the other in the first half of the warm-up, as
    connections do; the CPU time of the seconds that count."""
    begin, end = counted[0].begin, counted[0].end
    starts = [begin - warmup_s + warmup_s / 2 * n / threads for n in range(threads)]
    workers = [
        threading.Thread(target=loop, args=(application, url, starts[n], counted[n]))
        for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    time.sleep(max(0.0, begin - time.monotonic()))
    before = cpu_s()
    time.sleep(max(0.0, end - time.monotonic()))
    used = cpu_s() - before
    for worker in workers:
        worker.join()
    return used


def run_process(
    name: str, url: str, threads: int, times: tuple[float, float], ready: int, go: int
) -> dict[str, Any]:
    """One process: loads, says that it is ready, is told when the warm-up begins, measures."""
    warmup_s, seconds = times
    application = load(name)
    call(application, url)
    gc.collect()
    gc.freeze()  # what is loaded stays: a server that forks has done that, too
    os.write(ready, b"r")
    begin = float(os.read(go, 32)) + warmup_s
    counted = [Counted(begin, begin + seconds) for _ in range(threads)]
    used = run_threads(application, url, threads, warmup_s, counted)
    merged = list(itertools.chain.from_iterable(c.latencies_us for c in counted))
    return {"latencies_us": merged, "cpu_s": used, "work": sum(c.work for c in counted)}


def start_process(*arguments: Any) -> tuple[int, int, int]:
    """Forked before the application is loaded: where it says that it is ready, is told when to
    begin, and tells its result."""
    (ready, say_ready), (go, say_go), (result, say_result) = os.pipe(), os.pipe(), os.pipe()
    if os.fork() == 0:
        with open(say_result, "w") as out:
            json.dump(run_process(*arguments, say_ready, go), out)
        os._exit(0)
    for descriptor in (say_ready, go, say_result):
        os.close(descriptor)
    return ready, say_go, result


def run(
    name: str, url: str, processes: int, threads: int, times: tuple[float, float]
) -> dict[str, Any]:
    """All processes at once."""
    started = [start_process(name, url, threads, times) for _ in range(processes)]
    if not all(os.read(ready, 1) for ready, _, _ in started):
        raise SystemExit(f"{name} {url} cannot be called")
    begin = repr(time.monotonic()).encode()
    for _, go, _ in started:
        os.write(go, begin)
    results = []
    for _, _, result in started:
        with open(result) as source:
            results.append(json.load(source))
    latencies = sorted(itertools.chain.from_iterable(r["latencies_us"] for r in results))

    def at(fraction: float) -> int:
        return latencies[min(len(latencies) - 1, int(fraction * len(latencies)))]

    work = sum(result["work"] for result in results)
    return {
        "rate": work / times[1],
        "work": work,
        "count": len(latencies),
        "cpu_s": sum(result["cpu_s"] for result in results),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "max_us": latencies[-1],
    }


def main(arguments: list[str]) -> None:
    """See the top of the file."""
    sys.path.insert(0, "")
    mode, name, url, *rest = arguments
    if mode == "body":
        status, body = call(load(name), url)
        sys.stdout.buffer.write(status[:3].encode() + b"\n" + body)
    else:
        times = float(rest[2]), float(rest[3])
        print(json.dumps(run(name, url, int(rest[0]), int(rest[1]), times)))


if __name__ == "__main__":
    sys.path.pop(0)  # this directory: its names are nobody's business
    main(sys.argv[1:])
