"""What other servers call their options, and what ours are: both as the program has them.

Nothing is written here a second time: the tables are `myserver --options=json` and
`myserver --options=foreign`.
"""

import difflib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from myserver import commands


@dataclass(frozen=True)
class Ours:
    """An option of myserver. `least` and `most` count bytes, milliseconds or things, as `type` does."""

    name: str
    type: str
    default: str | None
    repeatable: bool
    least: int
    most: int


@dataclass(frozen=True)
class Row:
    """One option of another server, under all its names (see foreign.h in the program's source)."""

    name: str  # the first
    verdict: str  # kept, needless, dropped, cannot
    ours: str | None
    how: str | None  # the name of the function that reads the value; "own": the server's module
    note: str | None


@dataclass(frozen=True)
class Spelling:
    """One name of a row."""

    name: str
    row: Row
    values: int  # how many follow on a command line: 0, 1 or 2
    may_lack: bool  # the value may be left out
    where: str  # "any", "file" or "line"
    setting: str  # the name in a file, where that differs from this one of a command line


def _bare(word: str) -> str:
    return word.lstrip(".").partition("=")[0].removesuffix("[")


class Table:
    """The options of one server."""

    def __init__(self, server: str, rows: Iterable[dict[str, Any]]) -> None:
        self.server = server
        self.in_file: dict[str, Spelling] = {}
        self.on_line: dict[str, Spelling] = {}
        self.flags: dict[str, Spelling] = {}
        for row in rows:
            if row["server"] == server:
                self._add(row)

    def _add(self, row: dict[str, Any]) -> None:
        words = row["names"].split()
        first = _bare(words[0])
        made = Row(first, row["verdict"], row["ours"], row["how"], row["note"])
        only_file = any(word.startswith(".") for word in words)
        last: Spelling | None = None
        in_file = ""
        for word in words:
            if word.startswith("-"):
                assert last is not None, row
                self.flags[word[1:]] = last
                continue
            in_file = _bare(word) if word.startswith(".") else in_file
            last = Spelling(
                _bare(word),
                made,
                word.count("="),
                word.endswith("[=]"),
                "file" if word.startswith(".") else "line" if only_file else "any",
                in_file or _bare(word),
            )
            if last.where != "line":
                self.in_file[last.name] = last
            if last.where != "file":
                self.on_line[last.name] = last

    def nearest(self, name: str, names: Iterable[str]) -> str | None:
        """The one of `names` that was probably meant; None: none is near."""
        near = difflib.get_close_matches(name, list(names), 1, 0.75)
        return near[0] if near else None


def _read(kind: str) -> Any:
    done = subprocess.run(
        [commands.program(), f"--options={kind}"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def read_table(server: str) -> Table:
    """The options of that server. Raises what commands.program() and the program's failure raise."""
    return Table(server, _read("foreign"))


def read_ours() -> dict[str, Ours]:
    """All options of myserver by name, in the order of its documents."""
    return {
        row["name"]: Ours(
            row["name"], row["type"], row["default"], row["repeatable"], row["min"], row["max"]
        )
        for row in _read("json")
    }
