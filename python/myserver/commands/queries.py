"""`myserver queries`: the statements of a running server to its databases, and EXPLAIN of one."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import myserver
from myserver import commands
from myserver.asking import AskError, Control, add_options, find

SORTS = ("time", "count", "mean", "slowest", "duplicates", "failed")
_EXPLAIN_S = 60


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 2 for wrong arguments, no server or no plan."""
    options = _parser().parse_args(arguments)
    try:
        control = find(options)
        if options.explain:
            print(_explain(control, options))
            return 0
        found = control.ask("/queries")
    except AskError as error:
        print(f"myserver queries: {error}", file=sys.stderr)
        return 2
    print(
        json.dumps(found)
        if options.json
        else "\n".join(listing(found, options.sort, options.limit))
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="myserver queries",
        description="Shows the statements that requests make: those that one request repeats (n+1), "
        "and those that took longest. Values are never kept.",
    )
    parser.add_argument("--sort", choices=SORTS, default="time", help="what comes first [time]")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="so many statements [20]"
    )
    parser.add_argument("--json", action="store_true", help="all that the server says, as JSON")
    explain = parser.add_argument_group("how the database runs one")
    explain.add_argument(
        "--explain",
        metavar="ID",
        help="EXPLAIN of that statement (the beginning of its id is enough)",
    )
    explain.add_argument(
        "--analyze", action="store_true", help="run it, and say what it took (not with SQLite)"
    )
    explain.add_argument(
        "--param", action="append", default=[], metavar="VALUE", help="a value, in their order"
    )
    explain.add_argument(
        "--timeout", type=float, default=5, metavar="S", help="let the database run so long [5]"
    )
    add_options(parser)
    return parser


# ---- the list


def _mean(statement: Any) -> float:
    return float(statement["time"]) / max(1, int(statement["count"]))


def milliseconds(seconds: float) -> str:
    """As short as it can be read: 0.12, 4.5, 1234."""
    ms = seconds * 1000
    return f"{ms:.2f}" if ms < 1 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def listing(found: Any, sort: str, limit: int) -> list[str]:
    """The lines of the list, from what control says at /queries."""
    lines = []
    if found["repeated"]:
        lines += ["Repeated in one request (n+1):", ""]
    for repeat in sorted(found["repeated"], key=lambda r: -r["time"]):
        often = repeat["queries"] / max(1, repeat["requests"])
        lines += [
            f"  {repeat['id'][:8]}  {repeat['view']}: {often:.0f} times a request (at most "
            f"{repeat['most']}), {milliseconds(repeat['time'] / max(1, repeat['requests']))} ms of it",
            f"            {repeat['origin'] or 'by a line outside of the application'}",
            f"            {repeat.get('text', '')}",
            "",
        ]
    key = _mean if sort == "mean" else lambda s: float(s[sort])
    statements = sorted(found["statements"], key=lambda s: -key(s))
    lines += ["id        count  total ms   mean ms  slowest  dupl.  statement (slowest in)"]
    for s in statements[:limit]:
        lines += [
            f"{s['id'][:8]} {s['count']:6}  {milliseconds(s['time']):>8}  {milliseconds(_mean(s)):>8} "
            f"{milliseconds(s['slowest']):>8} {s['duplicates']:6}  {s['text']} ({s['view']})"
        ]
    if len(statements) > limit:
        lines.append(f"... and {len(statements) - limit} more: --limit")
    return lines


# ---- EXPLAIN


def _explain(control: Control, options: argparse.Namespace) -> str:
    """The plan of one statement, asked for by the application's own Python, with its own settings."""
    statement = _find_statement(control, options.explain)
    if statement["cut"]:
        raise AskError("the statement was longer than what is kept of it: it cannot be explained")
    application = control.ask("/application")
    order = {
        "app": application["app"],
        "pythonpath": application["pythonpath"],
        "statement": statement["text"],
        "database": statement["database"],
        "vendor": statement["vendor"],
        "analyze": options.analyze,
        "parameters": options.param,
        "timeout": options.timeout,
    }
    try:
        run = subprocess.run(
            [_python(application), Path(myserver.__file__).parent / "explain.py"],
            input=json.dumps(order),
            cwd=application["directory"],
            env=_environment(application),
            capture_output=True,
            text=True,
            timeout=_EXPLAIN_S + options.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AskError(
            f"no plan after {error.timeout:g} s: the application does not load, or its database "
            f"does not answer"
        ) from None
    if run.returncode:
        raise AskError(run.stderr.strip() or "the statement cannot be explained")
    return run.stdout.rstrip()


def _find_statement(control: Control, begin: str) -> Any:
    found = [s for s in control.ask("/queries")["statements"] if s["id"].startswith(begin)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AskError(
            f"{len(found)} statements have an id that begins with {begin}: give more of it"
        )
    raise AskError(f"no statement has the id {begin}: `myserver queries` lists them")


def _python(application: Any) -> str:
    virtualenv = application["virtualenv"]
    return str(Path(virtualenv, "bin/python")) if virtualenv else sys.executable


def _environment(application: Any) -> dict[str, str]:
    """What the server was started with, and its option `env` as far as an ini file has it."""
    env = dict(os.environ)
    try:
        raw = Path(application["environment"]).read_bytes()
        env |= dict(pair.split("=", 1) for pair in os.fsdecode(raw).split("\0") if "=" in pair)
    except OSError:
        pass  # another user's: the environment of this command is what there is
    if application["ini"]:
        command = [commands.program(), "-c", application["ini"], "--print-config"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        for name, value in re.findall(r"^env = (\w+)=(.*?)(?:\s+[#;].*)?$", run.stdout, re.M):
            env[name] = value
    return env
