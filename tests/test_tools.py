"""The checks of `make lint`: they must find what they are for."""

from __future__ import annotations

from pathlib import Path

import check_functions
import check_layers
import pytest

TABLE = """
| layer | files | may use | the only door to |
|---|---|---|---|
| 2 serve | conn, loop | 0-1 | `ev.h` |
| 1 protocol | http | 0 | `llhttp.h` |
| 0 base | base | libc | |
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.setattr(check_layers, "ROOT", tmp_path)
    monkeypatch.setattr(check_functions, "ROOT", tmp_path)
    return tmp_path


def layer_errors(tree: Path, **files: str) -> list[str]:
    """Check a project of these C files, and empty ones for the rest of the table."""
    paths = []
    for name in {"conn", "loop", "http", "base"} | files.keys():
        paths.append(tree / f"{name}.c")
        paths[-1].write_text(files.get(name, ""))
    return check_layers.check(check_layers.read_table(TABLE), paths)


def test_layers_that_may(tree: Path) -> None:
    assert not layer_errors(
        tree,
        conn='#include "conn.h"\n#include "loop.h"\n#include "http.h"\n#include <ev.h>\n',
        http='#include "base.h"\n#include <llhttp.h>\n#include <string.h>\n',
        base='#include "base.h"\n',
    )


@pytest.mark.parametrize(
    "name, text, error",
    [
        ("http", '#include "conn.h"', "http.c:1: conn.h is layer 2; layer 1 may not use it"),
        ("base", '\n#  include "http.h"', "base.c:2: http.h is layer 1; layer 0 may not use it"),
        ("http", "#include <ev.h>", "http.c:1: ev.h is another layer's door"),
        ("conn", "#include <llhttp.h>", "conn.c:1: llhttp.h is another layer's door"),
        ("conn", '#include "other.h"', "conn.c:1: other.h is in no layer"),
        ("other", "", "other.c is in no row of the table"),
    ],
)
def test_layers_that_may_not(tree: Path, name: str, text: str, error: str) -> None:
    assert layer_errors(tree, **{name: text}) == [error]


def test_table_names_only_files(tree: Path) -> None:
    errors = check_layers.check(check_layers.read_table("| 0 base | gone | libc | |\n"), [])
    assert errors == ["ARCHITECTURE.md: there is no gone"]


def function_errors(tree: Path, text: str) -> list[str]:
    """Check a file of this text."""
    path = tree / "x.c"
    path.write_text(text)
    return check_functions.check(path)


def test_functions_and_files_of_any_length(tree: Path) -> None:
    long = "int a;\n\nstatic int\nf(int x)\n{\n" + "    x++;\n" * 58 + "}\n"
    assert function_errors(tree, long) == ["x.c:3: f has 62 lines"]
    assert not function_errors(tree, long.replace("    x++;\n", "", 2))
    switch = "int f(int x)\n{\n    switch (x) {\n" + "    case 1:\n" * 90 + "    }\n}\n"
    assert not function_errors(tree, switch)
    padded = switch.replace("{\n    switch", "{\n" + "    x++;\n" * 20 + "    switch")
    assert function_errors(tree, padded) == ["x.c:1: f has 115 lines"]
    assert function_errors(tree, "int a;\n" * 600) == ["x.c has 600 lines; at most 599"]


def test_this_tree_is_in_order() -> None:
    assert check_layers.main() == 0
    assert check_functions.main() == 0
