"""`myserver observe`: which parts of the observation are on, and switches them while the server runs."""

import argparse
import re
import sys
from typing import Any
from urllib.parse import quote

from myserver.asking import AskError, add_options, find

_MEANING = {
    "views": "the account of the views: where the time of requests goes",
    "queries": "statements to databases, and the time in them",
    "gil": "the wait for the interpreter as a part of the time",
    "collector": "pauses for garbage collections",
    "sampler": "the samplers' looks while nobody makes a profile",
}


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 2 for wrong arguments or no server."""
    parser = argparse.ArgumentParser(
        prog="myserver observe",
        description="Shows which parts of the observation are on, and switches them, for all workers "
        "at once: "
        + "; ".join(f"{name}: {text}" for name, text in _MEANING.items())
        + ". It stays so over reloads and new workers, until the server is restarted.",
    )
    parser.add_argument(
        "switches", nargs="*", metavar="PART=on|off", help="for instance queries=off, or all=on"
    )
    parser.add_argument(
        "--view", metavar="V", help="have queries=on or sampler=on for the view of that name alone"
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    for switch in options.switches:
        if not re.fullmatch(rf"(all|{'|'.join(_MEANING)})=(on|off)", switch):
            parser.error(f"{switch} is none of {', '.join(_MEANING)} or all, with =on or =off")
    if options.view is not None and not options.switches:
        parser.error("--view goes with queries=on or sampler=on")
    query = "&".join(options.switches)
    query += f"&view={quote(options.view, safe='')}" if options.view is not None else ""
    try:
        control = find(options)
        found = control.ask(f"/observe?{query}", "POST") if query else control.ask("/observe")
    except AskError as error:
        print(f"myserver observe: {error}", file=sys.stderr)
        return 2
    print("\n".join(_shown(found)))
    return 0


def _shown(found: Any) -> list[str]:
    lines = []
    for name, part in found["parts"].items():
        state = "on" if part["on"] else "off"
        state += f", for {part['view']} alone" if "view" in part else ""
        why = _why_not(found, name)
        lines.append(f"{name:9} {state}{why}   ({_MEANING.get(name, '')})")
    return lines


def _why_not(found: Any, name: str) -> str:
    """Why a part that is on does nothing all the same."""
    if not found["parts"][name]["on"]:
        return ""
    if name == "sampler":
        return "" if found["profile_rate"] else ", but the setting profile-rate is 0"
    if not found["observe"]:
        return ", but the setting observe is off: set it and reload"
    if name == "collector" or found["parts"]["views"]["on"]:
        return ""
    return ", but nothing without views"
