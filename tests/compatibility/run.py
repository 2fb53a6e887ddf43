"""Runs applications that use popular libraries on myserver and beside it on `gunicorn --preload`.

Each combination of application, server, number of threads and event (TERM, reload, recycling) is
one life of a real server, which real requests visit. The verdicts go to
build/compatibility/results.json, and from there as a table into docs/compatibility.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "benchmarks")]

from cases import CASES, Case, Shared  # noqa: E402
from harness import BINARY, ROOT  # noqa: E402
from life import EVENTS, SERVERS, THREADS, WITHOUT_PRELOAD, Life  # noqa: E402
from table import write_table  # noqa: E402

RESULTS = ROOT / "build" / "compatibility" / "results.json"

Verdict = dict[str, Any]
Key = tuple[str, str, int, str]


def live(kind: type[Case], shared: Shared, server: str, threads: int, event: str) -> Verdict:
    """One life; what it was, and what was wrong."""
    begun = time.monotonic()
    life = Life(kind(shared), server, threads, event)
    try:
        problems = life.run()
    except Exception as error:  # of the tool: said like a fault of the server, so that it is seen
        problems = [f"the tool failed: {error!r}"]
    return {
        "case": kind.name,
        "server": server,
        "threads": threads,
        "event": event,
        "problems": problems,
        "warnings": life.said,
        "seconds": round(time.monotonic() - begun, 1),
    }


def key(verdict: Verdict) -> Key:
    """What one life is."""
    return verdict["case"], verdict["server"], verdict["threads"], verdict["event"]


def versions() -> dict[str, str]:
    """What was tried."""
    lines = (HERE / "requirements.txt").read_text().splitlines()
    names = [line.partition("==")[0].partition("[")[0] for line in lines if "==" in line]
    said = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout
    found = {name: importlib.metadata.version(name) for name in names}
    return {"myserver": said.strip(), "CPython": platform.python_version()} | found


class Run:
    """Lives, and their verdicts in a file."""

    def __init__(self, results: Path, verdicts: dict[Key, Verdict]) -> None:
        self.results, self.verdicts = results, verdicts
        self.shared = Shared()

    def live(self, todo: Iterable[tuple[type[Case], str, int, str]], jobs: int) -> None:
        """So many at once."""
        with ThreadPoolExecutor(jobs) as executor:
            lives = [
                executor.submit(live, kind, self.shared, server, threads, event)
                for kind, server, threads, event in todo
            ]
            for done, job in enumerate(as_completed(lives), 1):
                verdict = job.result()
                self.verdicts[key(verdict)] = verdict
                name = "  ".join(str(part) for part in key(verdict))
                print(f"[{done}/{len(lives)}] {verdict['seconds']:5} s  {name}")
                for problem in verdict["problems"]:
                    print(f"      {problem}")
                sys.stdout.flush()
                self.save()

    def save(self) -> None:
        """After each life: a run may be ended."""
        self.results.parent.mkdir(parents=True, exist_ok=True)
        found = {"versions": versions(), "verdicts": list(self.verdicts.values())}
        self.results.write_text(json.dumps(found, indent=1))

    def wrong(self, kinds: list[type[Case]]) -> list[type[Case]]:
        """Those that were not right on myserver as it is used."""
        names = {
            case
            for (case, server, _, _), verdict in self.verdicts.items()
            if verdict["problems"] and server in SERVERS and server.startswith("myserver")
        }
        return [kind for kind in kinds if kind.name in names]


def main() -> int:
    """The command line; 1 if myserver had a problem."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="names; default: all")
    parser.add_argument("--server", action="append", choices=[*SERVERS, WITHOUT_PRELOAD])
    parser.add_argument("--threads", type=int, action="append", choices=THREADS)
    parser.add_argument("--event", action="append", choices=EVENTS)
    parser.add_argument("--jobs", type=int, default=2, help="lives at once")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--table", action="store_true", help="write docs/compatibility.md anew")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{case.name:18} {case.title}" for case in CASES))
        return 0
    unknown = set(args.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    old = json.loads(args.results.read_text())["verdicts"] if args.results.exists() else []
    run = Run(args.results, {key(verdict): verdict for verdict in old})
    kinds = [case for case in CASES if not args.cases or case.name in args.cases]
    with run.shared.stack:
        for servers in [args.server] if args.server else [SERVERS, [WITHOUT_PRELOAD]]:
            # What is wrong is tried without preload, too, to say whether that helps.
            some = kinds if servers != [WITHOUT_PRELOAD] or args.server else run.wrong(kinds)
            run.live(
                itertools.product(some, servers, args.threads or THREADS, args.event or EVENTS),
                args.jobs,
            )
    if args.table:
        write_table(json.loads(args.results.read_text()))
    return 1 if run.wrong(kinds) else 0


if __name__ == "__main__":
    sys.exit(main())
