"""Checks the house: which folder may use which, no circle of files, each library behind one door.

The rules stand in the table of folders in ARCHITECTURE.md. A row of it is

    | `control/` | what it does | http, shared, system, config, base | `ev.h` |

the folder, then the folders that it may use, then the headers of libraries that it alone may
include. A header in src/ is for the files beside it, one in include/ for other folders too. What a file includes is asked of the compiler (-M), so an include through another header
counts too. What it calls is asked of its object (nm).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROW = re.compile(r"\|\s*`([\w.]+?)/?`\s*\|[^|]*\|([^|]*)\|([^|]*)\|\s*")


@dataclass
class Folder:
    """One row of the table."""

    name: str
    may_use: set[str] = field(default_factory=set)
    doors: set[str] = field(default_factory=set)


def read_table(text: str) -> dict[str, Folder]:
    """The folders of a document with the table, by name."""
    folders = {}
    for line in text.splitlines():
        if row := ROW.fullmatch(line):
            name = row[1].removesuffix(".c")
            used = set(re.findall(r"\w+", row[2])) - {"nothing"}
            folders[name] = Folder(name, used | {name}, set(re.findall(r"[\w/]+\.h", row[3])))
    return folders


def place_of(path: Path, root: Path) -> tuple[str, str] | None:
    """Folder and module of a file of ours: ("http", "http/parse"). None: it is not ours."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return None
    if parts[0] not in ("src", "include"):
        return None
    module = str(Path(*parts[1:])).removesuffix(".c").removesuffix(".h")
    return (parts[1] if len(parts) > 2 else Path(parts[1]).stem), module


def included(path: Path, root: Path, command: list[str]) -> list[Path]:
    """Every header that the compiler reads for this file."""
    run = subprocess.run(
        [*command, "-M", "-x", "c", str(path.relative_to(root))],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"{path.relative_to(root)} cannot be read by the compiler:\n{run.stderr}")
    names = run.stdout.partition(":")[2].replace("\\\n", " ").split()
    return [root / os.path.normpath(name) for name in names[1:]]


def check_arrows(
    path: Path, headers: Iterable[Path], folders: dict[str, Folder], root: Path
) -> list[str]:
    """What one file includes and may not."""
    place = place_of(path, root)
    assert place is not None
    where = path.relative_to(root)
    if place[0] not in folders:
        return [f"{where}: {place[0]}/ is in no row of the table"]
    doors = {door: folder.name for folder in folders.values() for door in folder.doors}
    errors = []
    for header in headers:
        target = place_of(header, root)
        if target and target[0] not in folders[place[0]].may_use:
            errors.append(f"{where} includes {target[1]}: {place[0]}/ may not use {target[0]}/")
        elif target and target[0] != place[0] and root / "src" in header.parents:
            errors.append(f"{where} includes {target[1]}, which only {target[0]}/ may")
        for door, owner in doors.items():
            if not target and owner != place[0] and f"/{header}".endswith(f"/{door}"):
                errors.append(f"{where} includes {door}, which is the door of {owner}/")
    return errors


def find_circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that lead back to themselves (Tarjan's components of two and more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                circles.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return circles


def check_includes(folders: dict[str, Folder], root: Path, command: list[str]) -> list[str]:
    """Forbidden arrows, opened doors and circles among the files of a project."""
    paths = sorted(p for d in ("src", "include") for p in (root / d).rglob("*.[ch]"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        headers = dict(
            zip(paths, pool.map(lambda p: included(p, root, command), paths), strict=True)
        )
    errors = []
    edges: dict[str, set[str]] = {}
    for path in paths:
        errors += check_arrows(path, headers[path], folders, root)
        place = place_of(path, root)
        assert place is not None
        targets = {found[1] for h in headers[path] if (found := place_of(h, root))}
        edges.setdefault(place[1], set()).update(targets - {place[1]})
    errors += [f"a circle of files: {', '.join(circle)}" for circle in find_circles(edges)]
    arrows = {folder.name: folder.may_use - {folder.name} for folder in folders.values()}
    errors += [f"a circle of folders: {', '.join(circle)}" for circle in find_circles(arrows)]
    here = {place[0] for path in paths if (place := place_of(path, root))}
    return errors + [f"ARCHITECTURE.md: there is no {name}" for name in folders if name not in here]


def symbols(objects: Path, root: Path, nm: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """From the objects of all sources: who defines each symbol, and what each object needs."""
    defined: dict[str, str] = {}
    needed: dict[str, set[str]] = {}
    sources = sorted((root / "src").rglob("*.c"))
    paths = [str(source.relative_to(root / "src").with_suffix(".o")) for source in sources]
    text = subprocess.run(
        [nm, "-A", "--", *paths], cwd=objects, capture_output=True, text=True, check=True
    ).stdout
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        kind, symbol = rest.split()[-2:]
        if kind == "U":
            needed.setdefault(name, set()).add(symbol)
        elif kind.isupper():
            defined[symbol] = name
    return defined, needed


def check_symbols(folders: dict[str, Folder], objects: Path, root: Path, nm: str) -> list[str]:
    """What an object calls in a folder that its own may not use."""
    defined, needed = symbols(objects, root, nm)
    errors = []
    for name, wanted in sorted(needed.items()):
        folder = name.split("/")[0].removesuffix(".o")
        if folder not in folders:
            continue
        for symbol in sorted(wanted):
            owner = defined.get(symbol, "").split("/")[0].removesuffix(".o")
            if owner in folders and owner not in folders[folder].may_use:
                errors.append(f"{name} calls {symbol}: {folder}/ may not use {owner}/")
            elif re.match(r"_?Py[A-Z_]|_Py", symbol) and "Python.h" not in folders[folder].doors:
                errors.append(f"{name} calls {symbol} of Python")
            elif re.match(r"ev_", symbol) and "ev.h" not in folders[folder].doors:
                errors.append(f"{name} calls {symbol} of libev")
    return errors


def main(arguments: list[str]) -> int:
    """Print what is wrong; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=Path, required=True, help="where the objects are")
    parser.add_argument("--nm", default="nm")
    parser.add_argument("command", nargs="+", help="the compiler and its flags")
    args = parser.parse_args(arguments)
    folders = read_table((ROOT / "ARCHITECTURE.md").read_text())
    if not folders:
        errors = ["ARCHITECTURE.md has no table of folders"]
    else:
        errors = check_includes(folders, ROOT, args.command)
        errors += check_symbols(folders, args.objects, ROOT, args.nm)
    print("\n".join(errors), end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
