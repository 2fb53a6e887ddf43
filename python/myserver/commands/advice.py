"""`myserver advice`: what the numbers of a running server say about its settings, in sentences."""

import argparse
import json
import sys
import textwrap
from typing import Any

from myserver.asking import AskError, add_options, find

_WIDTH = 100


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 1 if there is something to advise, 2 for no server."""
    parser = argparse.ArgumentParser(
        prog="myserver advice",
        description="Says what the numbers of a running server advise: each with the number, the "
        "period, and the setting that would change it.",
        epilog="Exit status: 0 nothing to advise, 1 something, 2 no server.",
    )
    parser.add_argument("--json", action="store_true", help="all that the server says, as JSON")
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        found = find(options).ask("/advice")
    except AskError as error:
        print(f"myserver advice: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found) if options.json else "\n".join(listing(found)))
    return 1 if found["advice"] else 0


def listing(found: Any) -> list[str]:
    """The lines of the text."""
    lines = []
    for advice in found["advice"]:
        title = f"{advice['advice']}: " if not advice["setting"] else f"{advice['setting']}: "
        lines += [*textwrap.wrap(title + advice["text"], _WIDTH, subsequent_indent="    "), ""]
    if lines:
        return lines[:-1]
    seen = f"{found['requests']} requests in {found['period']:.0f} s"
    off = "" if found["observed"] else ", and the option observe is off"
    return [f"nothing to advise ({seen}{off})"]
