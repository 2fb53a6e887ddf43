"""`myserver crash`: what a worker did in the minute before it died, or was killed.

The server keeps the memory in which the worker has left it; the report is made here.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from myserver.asking import AskError, Control, add_options, find
from myserver.profiles import formats
from myserver.profiles.profile import Area, Profile, add_records

# What the report shows of the end: stacks of the last second, and where the time of the minute went.
_LAST_MS = 1000
_MINUTE_MS = 60_000


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 2 for wrong arguments, no server or no crash."""
    parser = argparse.ArgumentParser(
        prog="myserver crash",
        description="Shows what a worker did in the minute before it died or was killed: its stacks, "
        "requests and the last lines that it logged. The last four deaths are kept, in memory, as "
        "long as the server runs.",
    )
    parser.add_argument("number", nargs="?", type=int, metavar="N", help="which death [the last]")
    parser.add_argument("--list", action="store_true", help="list those that are kept")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE")
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        text = _make(find(options), options)
        if options.output:
            options.output.write_text(text, encoding="utf-8", errors="replace")
        else:
            sys.stdout.write(text.encode(errors="replace").decode(errors="replace"))
    except (AskError, OSError) as error:
        print(f"myserver crash: {error}", file=sys.stderr)
        return 2
    return 0


def _make(control: Control, options: argparse.Namespace) -> str:
    deaths = control.ask("/crashes")["deaths"]
    if options.list:
        return "".join(f"{death['number']:4}  {_headline(death)}\n" for death in deaths)
    if not deaths:
        raise AskError("no worker has died since the server began")
    number = options.number or deaths[-1]["number"]
    return report(control.ask(f"/crash?number={number}"))


def _headline(death: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(death["died_at"]))
    return f"{at}  worker {death['worker']} (pid {death['pid']}): {death['how']}"


def report(answer: dict[str, Any]) -> str:
    """The report, from what /crash answers."""
    death = answer["death"]
    out = [_headline(death), ""]
    running = death["running"].rstrip("\n")
    out += ["It was running", running or "  nothing", ""]
    out += _last_stacks(answer)
    out += ["", "Requests that it had ended, the last one last", *_requests(answer["requests"])]
    out += ["", "The last lines that it logged", *_log(answer["log"]), ""]
    out.append(formats.report(_minute(answer), "wall"))
    return "\n".join(out)


def _area(answer: dict[str, Any]) -> tuple[Area, list[list[int]]]:
    area = Area()
    return area, area.take(answer)


def _last_stacks(answer: dict[str, Any]) -> list[str]:
    """Where each thread was when it was seen last."""
    area, records = _area(answer)
    died_ms = answer["death"]["died_ms"]
    last: dict[tuple[int, str], list[int]] = {}
    for record in records:
        begin_ms, wall_us, node, view, seat = record[:5]
        if begin_ms + wall_us / 1000 >= died_ms - _LAST_MS:
            root = str(area.stack(node)[:1]) if seat < 0 else ""
            last[seat, root] = record
    out = ["Where its threads were last"]
    for begin_ms, wall_us, node, view, seat, *_ in last.values():
        ago = max(0.0, died_ms - begin_ms - wall_us / 1000)
        name = f"thread {seat + 1}, {area.view(view)}" if seat >= 0 else area.view(view)
        out.append(f"  {name}, {ago:.0f} ms before the end was noticed, most recent call first:")
        out += [f"    {formats.label(f, lines=True)}" for f in reversed(area.stack(node))]
    return out if last else [*out, "  in no Python code"]


def _requests(requests: list[list[Any]]) -> list[str]:
    return [
        f"  {ago_ms / 1000:8.1f} s before  {wall_us / 1000:9.1f} ms  {status or '-':>3}  {method} {path}"
        for ago_ms, wall_us, status, method, path in requests
    ] or ["  none"]


def _log(text: str) -> list[str]:
    return [f"  {line}" for line in text.rstrip("\n").split("\n")] if text else ["  none"]


def _minute(answer: dict[str, Any]) -> Profile:
    area, records = _area(answer)
    died_ms = answer["death"]["died_ms"]
    recent = [record for record in records if record[0] >= died_ms - _MINUTE_MS]
    profile = Profile(title="the minute before")
    if recent:
        profile.seconds = (died_ms - recent[0][0]) / 1000
    add_records(profile, area, recent, answer["death"]["worker"])
    return profile
