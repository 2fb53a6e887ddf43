"""Checks the includes of src/ and include/ against the table of layers in ARCHITECTURE.md.

A row of that table is `| 2 protocol | http, body | 0 | `llhttp.h` |`: number and name of the layer,
its files, the layers below that it may use (its own it always may), and the headers of libraries
that no other layer includes. Every file must stand in the table, and every name in it be a file.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


@dataclass
class Layer:
    """One row of the table."""

    number: int
    name: str
    files: list[str]
    may_use: set[int] = field(default_factory=set)
    doors: set[str] = field(default_factory=set)


def numbers(text: str) -> set[int]:
    """The layers that `0-2`, `0, 1` or `0` mean; none for `libc` or nothing."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:\s*-\s*(\d+))?", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def read_table(text: str) -> list[Layer]:
    """The layers of a document with the table."""
    layers = []
    for line in text.splitlines():
        row = re.fullmatch(r"\|\s*(\d+) ([^|]+)\|([^|]*)\|([^|]*)\|([^|]*)\|\s*", line)
        if row:
            files = re.findall(r"\w+", row[3])
            doors = set(re.findall(r"[\w/]+\.h", row[5]))
            number = int(row[1])
            layers.append(Layer(number, row[2].strip(), files, numbers(row[4]) | {number}, doors))
    return layers


def includes(path: Path) -> list[tuple[int, str, bool]]:
    """Line, header, and whether it is one of ours, for every include of a file."""
    found = []
    for line, text in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(text):
            found.append((line, match[1] or match[2], match[1] is not None))
    return found


def check_file(path: Path, layer: Layer, home: dict[str, Layer], doors: set[str]) -> list[str]:
    """What is wrong with the includes of one file."""
    errors = []
    for line, header, ours in includes(path):
        where = f"{path.relative_to(ROOT)}:{line}: {header}"
        target = home.get(Path(header).stem) if ours else None
        if ours and target is None:
            errors.append(f"{where} is in no layer")
        elif target and target.number not in layer.may_use:
            errors.append(f"{where} is layer {target.number}; layer {layer.number} may not use it")
        elif header in doors and header not in layer.doors:
            errors.append(f"{where} is another layer's door")
    return errors


def check(layers: list[Layer], paths: list[Path]) -> list[str]:
    """Everything that is wrong."""
    home = {name: layer for layer in layers for name in layer.files}
    doors = {door for layer in layers for door in layer.doors}
    errors = []
    for path in paths:
        if path.stem in home:
            errors += check_file(path, home[path.stem], home, doors)
        else:
            errors.append(f"{path.relative_to(ROOT)} is in no row of the table")
    stems = {path.stem for path in paths}
    return errors + [f"ARCHITECTURE.md: there is no {name}" for name in home if name not in stems]


def main() -> int:
    """Print what is wrong; the exit status."""
    layers = read_table((ROOT / "ARCHITECTURE.md").read_text())
    paths = [p for d in ("src", "include") for p in sorted((ROOT / d).iterdir())]
    errors = check(layers, [p for p in paths if p.suffix in (".c", ".h", ".def")])
    if not layers:
        errors = ["ARCHITECTURE.md has no table of layers"]
    print("\n".join(errors), end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
