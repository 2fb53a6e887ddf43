"""`myserver memory`: the memory of the workers over time, how it grows with the requests, and of what."""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from myserver import grown
from myserver.asking import AskError, Control, add_options, find

_MB = 1024 * 1024
_REQUESTS_LEAST = 100  # before that a worker copies what every request writes, once


@dataclass
class _Worker:
    """One worker at one moment; memory in bytes."""

    number: int
    pid: int
    requests: int
    resident: int
    proportional: int
    private: int
    of_mold: int
    start: dict[str, int]  # what it had when it began to serve
    started_at: float

    @property
    def shared(self) -> int:
        """What other processes have too."""
        return max(0, self.resident - self.private)


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 2 for wrong arguments or no server."""
    parser = argparse.ArgumentParser(
        prog="myserver memory",
        description="Shows the memory of each worker over time: resident, proportional (shared pages "
        "divided by those who share them), private, shared, and of that what is shared with the mold; and "
        "at the end how it has grown, and how much of the mold's memory the worker has copied.",
    )
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="watch so long [60]")
    parser.add_argument(
        "--every",
        type=float,
        default=5,
        metavar="N",
        help="a row each so many seconds, 3 or more [5]",
    )
    trace = parser.add_argument_group(
        "of what one worker grows",
        "by view, line and type; it serves all the time, several times slower",
    )
    trace.add_argument("--trace", type=int, metavar="N", help="trace its memory for N seconds")
    trace.add_argument(
        "--worker",
        type=int,
        metavar="N",
        help="that worker [the one that has answered most requests]",
    )
    trace.add_argument(
        "--referrers",
        default="",
        metavar="TYPE",
        help="show what keeps objects of that type alive",
    )
    trace.add_argument(
        "--pages",
        action="store_true",
        help="show which types lie on pages of the mold that the worker has copied",
    )
    trace.add_argument("--json", action="store_true", help="all that was found, as JSON")
    add_options(parser)
    options = parser.parse_args(arguments)
    if options.seconds < 0 or options.every < 3:  # the server itself looks every 3 seconds
        parser.error("--seconds is 0 or more, and --every 3 or more")
    if options.trace is not None and not 1 <= options.trace <= 3600:
        parser.error("--trace is from 1 to 3600 seconds")
    if options.trace is None and (
        options.worker or options.referrers or options.pages or options.json
    ):
        parser.error("--worker, --referrers, --pages and --json go with --trace")
    if not re.fullmatch(r"[\w.]*", options.referrers, re.ASCII):
        parser.error("--referrers is the name of a type, such as list or shop.models.Item")
    try:
        if options.trace is None:
            _watch(find(options), options.seconds, options.every)
        else:
            _trace(find(options), options)
    except AskError as error:
        print(f"myserver memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _trace(control: Control, options: argparse.Namespace) -> None:
    show = grown.show_progress(options.trace)
    found = grown.trace(
        control, options.trace, options.worker, options.referrers, options.pages, show
    )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(json.dumps(found) if options.json else grown.report(found))


def _read(control: Control) -> Iterator[_Worker]:
    for worker in control.ask("/stats")["workers"]:
        memory: dict[str, Any] = worker["memory"]
        if worker["state"] != "empty" and memory["resident_bytes"]:
            yield _Worker(
                worker["worker"],
                worker["pid"],
                worker["requests"],
                memory["resident_bytes"],
                memory["proportional_bytes"],
                memory["private_bytes"],
                memory["of_mold_bytes"],
                memory["at_start"],
                worker["started_at"],
            )


def _watch(control: Control, seconds: float, every: float) -> None:
    first: dict[int, _Worker] = {}
    last: dict[int, _Worker] = {}
    begin = time.monotonic()
    print(
        "   after  worker     pid  requests   resident       PSS   private    shared   of mold  MB"
    )
    while True:
        passed = time.monotonic() - begin
        for worker in _read(control):
            first.setdefault(worker.pid, worker)
            last[worker.pid] = worker
            print(
                f"{passed:6.0f} s  {worker.number:6} {worker.pid:7} {worker.requests:9}"
                f" {worker.resident / _MB:10.1f} {worker.proportional / _MB:9.1f}"
                f" {worker.private / _MB:9.1f} {worker.shared / _MB:9.1f}"
                f" {worker.of_mold / _MB:9.1f}",
                flush=True,
            )
        if passed + every > seconds:
            break
        time.sleep(every)
    _growth(first, last)


def _growth(first: dict[int, _Worker], last: dict[int, _Worker]) -> None:
    for pid, then in last.items():
        before = first[pid]
        requests = then.requests - before.requests
        private = then.private - before.private
        text = f"worker {then.number} (pid {pid}): private {private / _MB:+.1f} MB"
        text += f", shared {(then.shared - before.shared) / _MB:+.1f} MB in {requests} requests"
        if requests:
            text += f", {private / requests / 1024:+.2f} KB private each"
        print(text)
    for then in last.values():
        _since_start(then)


def _since_start(worker: _Worker) -> None:
    """How much of what the worker shared at first it has copied."""
    requests = worker.requests - worker.start["requests"]
    shared = worker.start["of_mold_bytes"]
    now = min(shared, worker.of_mold)  # what the server's processes share besides may have grown
    text = f"worker {worker.number} (pid {worker.pid}) since it began to serve, "
    text += f"{time.time() - worker.started_at:.0f} s and {requests} requests ago: private "
    text += f"{worker.start['private_bytes'] / _MB:.1f} -> {worker.private / _MB:.1f} MB"
    if shared:
        text += f"; of {shared / _MB:.1f} MB that it shared with the mold it still shares "
        text += f"{now / _MB:.1f} MB ({100 * now / shared:.0f} %)"
        if requests >= _REQUESTS_LEAST:
            text += f", {(shared - now) / _MB / requests * 1000:.2f} MB less for 1000 requests"
    print(text)
