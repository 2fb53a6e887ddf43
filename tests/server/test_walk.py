"""ARCHITECTURE.md's walk of one request is what a request does: a build that notes each function
which is entered is asked for one."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import FLAVOUR, ROOT, Server, engine_of, wait_for

pytestmark = [
    pytest.mark.skipif(FLAVOUR != "release", reason="one flavour is enough"),
    pytest.mark.timeout(900),  # it compiles
]

STEP = re.compile(r"^    ((?:worker|http|python)/\w+\.c) +(\w+)", re.MULTILINE)


def section() -> str:
    """What the page says on one request."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    return page.partition("## One request\n")[2].partition("\n## ")[0]


def walk() -> list[tuple[str, str]]:
    """The steps of the page: file below src/, and function."""
    return STEP.findall(section())


@pytest.fixture(scope="module")
def traced() -> Path:
    """The program that notes what is entered."""
    make = ["make", "-C", str(ROOT), "-j2", "FLAVOUR=traced", f"PYTHON={sys.executable}"]
    where = "print-program:\n\t@echo $(CURDIR)/$(BIN)\n"
    subprocess.run([*make, "all"], check=True, capture_output=True)
    shown = subprocess.run(
        [*make, "-s", "-f", "Makefile", "--eval", where, "print-program"],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(shown.stdout.strip())


def functions(program: Path) -> dict[int, tuple[str, str]]:
    """By address in the engine of a program: file below src/, and name."""
    shown = subprocess.run(
        ["nm", "--line-numbers", "--defined-only", engine_of(program)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = {}
    for line in shown.stdout.splitlines():
        symbol, _, place = line.partition("\t")
        address, _, name = symbol.split()
        if "/src/" in place:
            found[int(address, 16)] = (place.rpartition("/src/")[2].partition(":")[0], name)
    return found


def entered(known: dict[int, tuple[str, str]], trace: Path) -> list[tuple[str, str]]:
    """What the thread of the request has entered, in order."""
    entries = [
        (thread, known[offset])
        for thread, offset in struct.iter_unpack("QQ", trace.read_bytes())
        if offset in known
    ]
    by = next((thread for thread, step in entries if step[1] == "answer_run"), None)
    return [step for thread, step in entries if thread == by]


def switch(trace: Path, on: bool) -> None:
    """Whether what is entered is noted from now on."""
    with trace.open("r+b") as file:
        file.write(bytes([on]))


def one_request(s: Server, program: Path, trace: Path) -> list[tuple[str, str]]:
    """The functions of one request, from the first step of the page to the last.

    Which thread leads when the connection comes is chance; the page is about the one that runs it.
    """
    known, (first, *_, last) = functions(program), walk()
    noted = trace.with_name(f"{trace.name}.steps")
    for _ in range(50):
        noted.unlink(missing_ok=True)
        switch(trace, True)
        assert s.get("/").status == 200
        steps = wait_for(
            lambda: found if last in (found := entered(known, noted)) else None,
            what="the end of the request",
        )
        switch(trace, False)
        end = steps.index(last)
        if first in steps[:end]:
            begin = max(i for i, step in enumerate(steps[:end]) if step == first)
            return steps[begin : end + 1]
    raise AssertionError("no request was read by the thread that ran it")


def test_one_request_takes_the_steps_of_the_page(
    server: Callable[..., Server], traced: Path, tmp_path: Path
) -> None:
    """In their order; and the page names every file that is entered."""
    trace = tmp_path / "trace"
    trace.write_bytes(bytes(1))
    s = server(binary=traced, env={"TRACE": str(trace)})
    for _ in range(3):  # what only the first request does is no part of the walk
        assert s.get("/").status == 200
    done, steps = one_request(s, traced, trace), walk()
    rest = iter(done)
    assert [step for step in steps if step not in rest] == []
    files = {file for file, _ in done if re.match(r"(worker|http|python)/.*\.c$", file)}
    assert len(files) > 20
    assert [file for file in files if file.rpartition("/")[2] not in section()] == []
