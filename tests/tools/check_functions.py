"""Names the functions and files of src/ and include/ that hold more than one thought.

A function may have 80 lines from its name to its brace, a file 900. Relies on clang-format: a body
is what stands between `{` and `}` in the first column.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FUNCTION_LINES = 80
FILE_LINES = 900


@dataclass
class Function:
    """A function: where its first line is, and its lines from there to its brace."""

    line: int
    lines: list[str]

    @property
    def name(self) -> str:
        """The name before the parameters."""
        return " ".join(self.lines).partition("(")[0].split()[-1].lstrip("*")


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
    if len(lines) > FILE_LINES:
        errors.append(f"{name} has {len(lines)} lines")
    for function in functions(lines):
        length = len(function.lines)
        if length > FUNCTION_LINES:
            errors.append(f"{name}:{function.line}: {function.name} has {length} lines")
    return errors


def main() -> int:
    """Print what is wrong; the exit status."""
    paths = sorted(path for d in ("src", "include") for path in (ROOT / d).rglob("*.[ch]"))
    errors = [error for path in paths for error in check(path)]
    print("\n".join(errors), end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
