"""Runs the suite on each release of Debian with each of its Pythons, and shows it in README.

    python3 tests/tools/matrix.py [-k NAME] SUITE ...

As debian.py does for one. With NAME only the tests of that name, which the table then says. Releases that
did not run now keep their rows and dates, if the same tests had run on them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable
from datetime import date

from debian import ROOT, Folder, Result

README = ROOT / "README.md"
BEGIN, END = "<!-- make test-matrix writes from here -->\n", "<!-- to here -->\n"

HEAD = 4  # lines before the first row
ORDER = "bullseye bookworm trixie forky sid"


def release(row: str) -> str:
    """Of a row of the table."""
    return row.split("|")[1].strip()


def table(rows: Iterable[tuple[str, Result, str]], name: str) -> str:
    """The rows (release, result, day) as Markdown, below a line that says which tests ran."""
    what = f"Only the tests that match `{name}`" if name else "All tests"
    lines = [
        f"{what}, by `make test-matrix`:",
        "",
        "| Debian | Python | passed | failed | skipped | date |",
        "|---|---|---:|---:|---:|---|",
    ]
    for suite, result, day in rows:
        failed = str(result.failed) if result.good or result.failed else "not run to its end"
        counts = f"{result.passed} | {failed} | {result.skipped}"
        lines.append(f"| {suite} | {result.python.removeprefix('python')} | {counts} | {day} |")
    return "\n".join(lines) + "\n"


def put(text: str, block: str) -> str:
    """The text with this table between the marks, and in it the rows of other releases that stood there."""
    head, begin, rest = text.partition(BEGIN)
    before, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN.strip()} and {END.strip()} are not both there, in this order")
    new, old = block.splitlines(), before.splitlines()
    if old[:HEAD] == new[:HEAD]:
        names = {release(row) for row in new[HEAD:]}
        kept = [row for row in old[HEAD:] if release(row) not in names]
        new[HEAD:] = sorted(kept + new[HEAD:], key=lambda row: ORDER.find(release(row)))
    return head + begin + "\n".join(new) + "\n" + end + tail


def main() -> int:
    """0: everything passed everywhere."""
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("-k", dest="name", default="")
    arguments.add_argument("suites", nargs="+")
    given = arguments.parse_args()
    if os.geteuid() != 0:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # undoes the mounts
    put(README.read_text(), table([], given.name))  # says at once whether there is a place for it
    rows = []
    for suite in given.suites:
        results = Folder(suite).test_all(name=given.name)
        rows += [(suite, result, date.today().isoformat()) for result in results]
        print(table(rows, given.name), flush=True)
    README.write_text(put(README.read_text(), table(rows, given.name)))
    return 0 if all(result.good for _, result, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
