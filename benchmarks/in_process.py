"""What the application itself can do: calls it in a loop, without a server.

`in_process.py body APP PATH` prints the body in full, for comparisons;
`in_process.py run APP PATH PROCESSES THREADS SECONDS` prints JSON as benchmarks/load does.
"""

from __future__ import annotations

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
    """What PEP 3333 asks for, for a GET."""
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


def loop(application: Application, url: str, end: float, latencies_us: list[int]) -> None:
    """Requests until `end`."""
    begun = time.perf_counter()
    while begun < end:
        status, _ = call(application, url)
        assert status.startswith("2"), status
        now = time.perf_counter()
        latencies_us.append(round((now - begun) * 1e6))
        begun = now


def cpu_s() -> float:
    """Of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_process(name: str, url: str, threads: int, seconds: float) -> dict[str, Any]:
    """One process: loads, warms, measures."""
    application = load(name)
    call(application, url)
    warm: list[int] = []
    loop(application, url, time.perf_counter() + min(seconds, 1) / 4, warm)
    latencies: list[list[int]] = [[] for _ in range(threads)]
    before, begun = cpu_s(), time.perf_counter()
    end = begun + seconds
    workers = [
        threading.Thread(target=loop, args=(application, url, end, latencies[n]))
        for n in range(1, threads)
    ]
    for worker in workers:
        worker.start()
    loop(application, url, end, latencies[0])
    for worker in workers:
        worker.join()
    wall_s = time.perf_counter() - begun
    merged = list(itertools.chain.from_iterable(latencies))
    return {"latencies_us": merged, "cpu_s": cpu_s() - before, "rate": len(merged) / wall_s}


def run(name: str, url: str, processes: int, threads: int, seconds: float) -> dict[str, Any]:
    """All processes at once, forked before the application is loaded."""
    pipes = []
    for _ in range(processes):
        reader, writer = os.pipe()
        if os.fork() == 0:
            with open(writer, "w") as out:
                json.dump(run_process(name, url, threads, seconds), out)
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    results = []
    for reader in pipes:
        with open(reader) as source:
            results.append(json.load(source))
    latencies = sorted(itertools.chain.from_iterable(r["latencies_us"] for r in results))

    def at(fraction: float) -> int:
        return latencies[min(len(latencies) - 1, int(fraction * len(latencies)))]

    return {
        "rate": sum(result["rate"] for result in results),
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
        processes, threads, seconds = int(rest[0]), int(rest[1]), float(rest[2])
        print(json.dumps(run(name, url, processes, threads, seconds)))


if __name__ == "__main__":
    sys.path.pop(0)  # this directory: its names are nobody's business
    main(sys.argv[1:])
