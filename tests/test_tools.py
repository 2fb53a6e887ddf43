"""The checks of `make lint`: they must find what they are for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import check_functions
import check_house

# ---- check_house: a small house with one file of each kind, compiled for real

TABLE = """
| folder | what is in it | may use | the only door to |
|---|---|---|---|
| `main.c` | starts | master, base | |
| `master/` | starts the others | shared, base | |
| `worker/` | serves | python, http, base | `ev.h` |
| `python/` | runs | http, base | `Python.h` |
| `shared/` | tells | http, base | |
| `http/` | reads | base | `llhttp.h` |
| `base/` | helps | nothing | |
"""
HOUSE = {
    "ARCHITECTURE.md": TABLE,
    # What the libraries have.
    "library/ev.h": "void ev_run(void);\n",
    "library/Python.h": "extern int _Py_NoneStruct;\nvoid Py_Initialize(void);\n",
    "library/llhttp.h": "void llhttp_execute(void);\n",
    # What crosses a folder.
    "include/base/text.h": "int text_length(void);\n",
    "include/http/head.h": '#include "base/text.h"\nint head_read(void);\n',
    "include/python/wsgi.h": "int wsgi_call(void);\n",
    "include/shared/board.h": "int board_take(void);\n",
    "include/master/book.h": "int book_open(void);\n",
    "include/worker/loop.h": "int loop_run(void);\n",
    "src/http/scan.h": "int scan_line(void);\n",
    "src/base/text.c": '#include "base/text.h"\nint text_length(void) { return 1; }\n',
    "src/http/scan.c": '#include "scan.h"\nint scan_line(void) { return 1; }\n',
    "src/http/head.c": (
        '#include "http/head.h"\n#include <llhttp.h>\n#include "scan.h"\n'
        "int head_read(void) { llhttp_execute(); return scan_line() + text_length(); }\n"
    ),
    "src/python/wsgi.c": (
        '#include <Python.h>\n#include "python/wsgi.h"\n#include "http/head.h"\n'
        "int wsgi_call(void) { Py_Initialize(); return head_read() + _Py_NoneStruct; }\n"
    ),
    "src/shared/board.c": (
        '#include "shared/board.h"\n#include "http/head.h"\n'
        "int board_take(void) { return head_read(); }\n"
    ),
    "src/master/book.c": (
        '#include "master/book.h"\n#include "shared/board.h"\n#include "base/text.h"\n'
        "int book_open(void) { return board_take() + text_length(); }\n"
    ),
    "src/worker/loop.c": (
        '#include "worker/loop.h"\n#include <ev.h>\n#include "python/wsgi.h"\n'
        "int loop_run(void) { ev_run(); return wsgi_call(); }\n"
    ),
    "src/main.c": '#include "master/book.h"\nint main(void) { return book_open(); }\n',
}
COMPILER = ["gcc", "-iquote", "include", "-isystem", "library"]

# Compiles the small house with changes; what the check says of it, and its exit status.
Check = Callable[[dict[str, str]], tuple[list[str], int]]


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """What is written in front of a file of the house, by name; "" makes it empty."""
    monkeypatch.setattr(check_house, "ROOT", tmp_path)

    def run(changes: dict[str, str]) -> tuple[list[str], int]:
        for name in HOUSE.keys() | changes.keys():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(changes.get(name, "") + HOUSE.get(name, ""))
        for source in (tmp_path / "src").rglob("*.c"):
            target = tmp_path / "objects" / source.relative_to(tmp_path / "src").with_suffix(".o")
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([*COMPILER, "-c", source, "-o", target], cwd=tmp_path, check=True)
        status = check_house.main(["--objects", str(tmp_path / "objects"), "--", *COMPILER])
        return capsys.readouterr().out.splitlines(), status

    return run


def test_house_in_order(check: Check) -> None:
    assert check({}) == ([], 0)


@pytest.mark.parametrize(
    "name, text, errors",
    [
        pytest.param(
            "src/http/head.c",
            '#include "python/wsgi.h"',
            [
                "src/http/head.c includes python/wsgi: http/ may not use python/",
                "a circle of files: http/head, python/wsgi",
            ],
            id="upwards",
        ),
        pytest.param(
            "src/base/text.c",
            '#include "http/head.h"',
            [
                "src/base/text.c includes http/head: base/ may not use http/",
                "a circle of files: base/text, http/head",
            ],
            id="from-where-nothing-is-allowed",
        ),
        pytest.param(
            "src/shared/board.c",
            '#include "python/wsgi.h"',
            ["src/shared/board.c includes python/wsgi: shared/ may not use python/"],
            id="sidewards",
        ),
        pytest.param(
            "src/main.c",
            '  #  include   "http/head.h"',
            ["src/main.c includes http/head: main/ may not use http/"],
            id="past-a-layer-with-other-spaces",
        ),
        pytest.param(
            "src/main.c",
            '#define OURS "http/head.h"\n#include OURS',
            ["src/main.c includes http/head: main/ may not use http/"],
            id="by-a-macro",
        ),
        pytest.param(
            "include/shared/board.h",
            '#include "http/head.h"',
            ["src/master/book.c includes http/head: master/ may not use http/"],
            id="through-another-header",
        ),
        pytest.param(
            "include/master/book.h",
            '#include "worker/loop.h"',
            [
                "include/master/book.h includes worker/loop: master/ may not use worker/",
                "src/main.c includes worker/loop: main/ may not use worker/",
                "src/master/book.c includes worker/loop: master/ may not use worker/",
            ],
            id="in-a-header-of-ours",
        ),
        pytest.param(
            "src/python/wsgi.c",
            '#include "../http/scan.h"',
            ["src/python/wsgi.c includes http/scan, which only http/ may"],
            id="private-header",
        ),
    ],
)
def test_house_with_a_forbidden_include(
    check: Check, name: str, text: str, errors: list[str]
) -> None:
    assert check({name: text + "\n"}) == (errors, 1)


@pytest.mark.parametrize(
    "name, text, errors",
    [
        pytest.param(
            "src/http/head.c",
            "#include <ev.h>",
            ["src/http/head.c includes ev.h, which is the door of worker/"],
            id="stranger",
        ),
        pytest.param(
            "src/worker/loop.c",
            '#include "Python.h"',
            ["src/worker/loop.c includes Python.h, which is the door of python/"],
            id="stranger-who-may-use-the-owner",
        ),
        pytest.param(
            "include/http/head.h",
            "#include <llhttp.h>",
            [
                "src/python/wsgi.c includes llhttp.h, which is the door of http/",
                "src/shared/board.c includes llhttp.h, which is the door of http/",
            ],
            id="left-open-by-a-header",
        ),
    ],
)
def test_house_with_an_open_door(check: Check, name: str, text: str, errors: list[str]) -> None:
    assert check({name: text + "\n"}) == (errors, 1)


def test_house_with_a_door_of_a_longer_name(check: Check) -> None:
    """It is not the same library, whose header only ends with the same letters."""
    changes = {"library/stdev.h": "int stdev;\n", "src/http/head.c": "#include <stdev.h>\n"}
    assert check(changes) == ([], 0)


def test_house_with_a_circle_of_two_modules(check: Check) -> None:
    found = check({"src/http/scan.c": '#include "http/head.h"\n'})
    assert found == (["a circle of files: http/head, http/scan"], 1)


def test_house_with_a_circle_of_three_modules(check: Check) -> None:
    """One leads through a file that has no header."""
    changes = {
        "include/http/a.h": "int a(void);\n",
        "include/http/b.h": "int b(void);\n",
        "src/http/a.c": '#include "http/b.h"\n',
        "src/http/b.c": '#include "scan.h"\n',
        "src/http/scan.c": '#include "http/a.h"\n',
    }
    assert check(changes) == (["a circle of files: http/a, http/b, http/scan"], 1)


def test_house_with_a_circle_across_folders(check: Check) -> None:
    """Also where the table allows both arrows, and where no file leads back to itself."""
    table = {"ARCHITECTURE.md": "| `base/` | helps too | http | |\n"}
    between = "a circle of folders: base, http"
    house = HOUSE["ARCHITECTURE.md"].replace("| `base/` | helps | nothing | |\n", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(HOUSE, "ARCHITECTURE.md", house)
        assert check(table) == ([between], 1)
        files = "a circle of files: base/text, http/head"
        assert check(table | {"src/base/text.c": '#include "http/head.h"\n'}) == (
            [files, between],
            1,
        )


@pytest.mark.parametrize(
    "name, text, error",
    [
        pytest.param(
            "src/http/scan.c",
            "int wsgi_call(void); int sneak(void) { return wsgi_call(); }",
            "http/scan.o calls wsgi_call: http/ may not use python/",
            id="of-another-folder",
        ),
        pytest.param(
            "src/main.c",
            "int board_take(void); int sneak(void) { return board_take(); }",
            "main.o calls board_take: main/ may not use shared/",
            id="in-main",
        ),
        pytest.param(
            "src/master/book.c",
            "void Py_Initialize(void); void sneak(void) { Py_Initialize(); }",
            "master/book.o calls Py_Initialize of Python",
            id="of-Python-in-master",
        ),
        pytest.param(
            "src/master/book.c",
            "extern int _Py_NoneStruct; int *sneak(void) { return &_Py_NoneStruct; }",
            "master/book.o calls _Py_NoneStruct of Python",
            id="data-of-Python-in-master",
        ),
        pytest.param(
            "src/master/book.c",
            "void PyErr_Print(void); void (*sneak)(void) = PyErr_Print;",
            "master/book.o calls PyErr_Print of Python",
            id="pointer-to-Python-in-master",
        ),
        pytest.param(
            "src/master/book.c",
            "void ev_run(void); void sneak(void) { ev_run(); }",
            "master/book.o calls ev_run of libev",
            id="of-libev-in-master",
        ),
        pytest.param(
            "src/main.c",
            "void ev_run(void); void sneak(void) { ev_run(); }",
            "main.o calls ev_run of libev",
            id="of-libev-in-main",
        ),
    ],
)
def test_house_with_a_forbidden_symbol(check: Check, name: str, text: str, error: str) -> None:
    """Declared by hand, where no include shows it."""
    assert check({name: text + "\n"}) == ([error], 1)


@pytest.mark.parametrize(
    "name, errors",
    [
        ("src/attic/box.c", ["src/attic/box.c: attic/ is in no row of the table"]),
        ("include/attic/box.h", ["include/attic/box.h: attic/ is in no row of the table"]),
        ("src/attic.c", ["src/attic.c: attic/ is in no row of the table"]),
    ],
)
def test_house_with_a_folder_in_no_row(check: Check, name: str, errors: list[str]) -> None:
    assert check({name: "int box;\n"}) == (errors, 1)


def test_house_with_a_row_without_a_folder(check: Check) -> None:
    found = check({"ARCHITECTURE.md": "| `cellar/` | nothing yet | base | |\n"})
    assert found == (["ARCHITECTURE.md: there is no cellar"], 1)


def test_house_without_a_table(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HOUSE, "ARCHITECTURE.md", "# Nothing\n")
    assert check({}) == (["ARCHITECTURE.md has no table of folders"], 1)


def test_house_with_a_header_that_is_missing(check: Check) -> None:
    """A file that the compiler cannot read is no file without includes."""
    with pytest.raises(SystemExit, match=r"(?s)include/http/odd\.h cannot be read.*gone\.h"):
        check({"include/http/odd.h": '#include "gone.h"\n'})


def test_table_of_this_tree_is_that_of_its_folders() -> None:
    text = (check_house.ROOT / "ARCHITECTURE.md").read_text()
    source = check_house.ROOT / "src"
    assert check_house.read_table(text).keys() == {path.stem for path in source.iterdir()}


# ---- check_functions


def function_errors(tree: Path, text: str) -> list[str]:
    """Check a file of this text."""
    path = tree / "src" / "http" / "x.c"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return check_functions.check(path)


def test_functions_and_files_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_functions, "ROOT", tmp_path)
    long = "int a;\n\nstatic int\nf(int x)\n{\n" + "    x++;\n" * 77 + "}\n"
    named = "src/http/x.c:3: f has 81 lines"
    assert function_errors(tmp_path, long) == [named]
    assert check_functions.main() == 1
    assert capsys.readouterr().out == named + "\n"
    assert not function_errors(tmp_path, long.replace("    x++;\n", "", 1))
    assert check_functions.main() == 0
    switch = "int f(int x)\n{\n    switch (x) {\n" + "    case 1:\n" * 90 + "    }\n}\n"
    assert function_errors(tmp_path, switch) == ["src/http/x.c:1: f has 95 lines"]
    assert function_errors(tmp_path, "int a;\n" * 901) == ["src/http/x.c has 901 lines"]
    assert not function_errors(tmp_path, "int a;\n" * 900)


def test_functions_of_this_tree_are_in_order() -> None:
    assert check_functions.main() == 0
