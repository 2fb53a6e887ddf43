"""Checks that functions and files of src/ and include/ stay small.

A function has at most 60 lines from its name to its brace, unless it is one switch with little
around it. A file has less than 600. Relies on clang-format: a body is what stands between `{` and
`}` in the first column.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FUNCTION_LINES = 60
AROUND_A_SWITCH_LINES = 20
FILE_LINES = 600


@dataclass
class Function:
    """A function: where its first line is, and its lines from there to its brace."""

    line: int
    lines: list[str]

    @property
    def name(self) -> str:
        """The name before the parameters."""
        return " ".join(self.lines).partition("(")[0].split()[-1].lstrip("*")

    def lines_around_switch(self) -> int:
        """How many lines are not in the longest switch of the outermost block."""
        longest, start = 0, None
        for i, line in enumerate(self.lines):
            if line.startswith("    switch ("):
                start = i
            elif line == "    }" and start is not None:
                longest, start = max(longest, i - start + 1), None
        return len(self.lines) - longest


def functions(lines: list[str]) -> Iterator[Function]:
    """The functions of a file."""
    body = None
    for i, line in enumerate(lines):
        if line == "{":
            body = i
        elif line == "}" and body is not None:
            start = body
            while start and lines[start - 1] and lines[start - 1][-1] not in ";}/":
                start -= 1
            yield Function(start + 1, lines[start : i + 1])
            body = None


def check(path: Path) -> list[str]:
    """What is too long in one file."""
    lines = path.read_text().splitlines()
    name = path.relative_to(ROOT)
    errors = []
    if len(lines) >= FILE_LINES:
        errors.append(f"{name} has {len(lines)} lines; at most {FILE_LINES - 1}")
    for function in functions(lines):
        length = len(function.lines)
        if length > FUNCTION_LINES and function.lines_around_switch() > AROUND_A_SWITCH_LINES:
            errors.append(f"{name}:{function.line}: {function.name} has {length} lines")
    return errors


def main() -> int:
    """Print what is wrong; the exit status."""
    paths = [*sorted((ROOT / "src").glob("*.c")), *sorted((ROOT / "include").glob("*.h"))]
    errors = [error for path in paths for error in check(path)]
    print("\n".join(errors), end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
