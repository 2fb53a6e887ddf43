"""What the Debian packages and the table of releases are made from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import debian
import matrix
from harness import ROOT

REPORT = """<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" />
</testsuites>"""
CMOCKA = """\
[==========] tests: Running 6 test(s).
[       OK ] test_one
[  PASSED  ] 4 test(s).
[  SKIPPED ] tests: 1 test(s), listed below:
[  FAILED  ] tests: 1 test(s), listed below:
[  FAILED  ] test_two
"""


def test_count_of_a_run(tmp_path: Path) -> None:
    """Tests in C and in Python; of these there may be no report."""
    report = tmp_path / "report.xml"
    assert debian.count(report, "cc: error") == (0, 0, 0)
    assert debian.count(report, CMOCKA) == (4, 1, 1)
    report.write_text(REPORT)
    assert debian.count(report, CMOCKA) == (8, 4, 4)


def test_table_of_releases() -> None:
    """A run that did not come to its end is not shown as one without failures."""
    good = debian.Result("python3.13", True, 10, 0, 2)
    bad = debian.Result("python3.14", False, 9, 1, 2)
    broken = debian.Result("python3.15", False)
    rows = [("forky", result, "2026-01-02") for result in (good, bad, broken)]
    lines = matrix.table(rows, "").splitlines()
    assert lines[0].startswith("All tests")
    assert lines[-3:] == [
        "| forky | 3.13 | 10 | 0 | 2 | 2026-01-02 |",
        "| forky | 3.14 | 9 | 1 | 2 | 2026-01-02 |",
        "| forky | 3.15 | 0 | not run to its end | 0 | 2026-01-02 |",
    ]
    assert "only the tests that match `gil`" in matrix.table(rows, "gil").splitlines()[0].lower()


def test_table_in_readme() -> None:
    """README has the two marks; what stands around them stays, and so do rows of other releases."""
    text = (ROOT / "README.md").read_text()
    head, _, rest = text.partition(matrix.BEGIN)
    _, _, tail = rest.partition(matrix.END)

    def block(name: str, **passed: int) -> str:
        results = [
            (s, debian.Result("python3.13", True, n), "2026-01-02") for s, n in passed.items()
        ]
        return matrix.table(results, name)

    def put(text: str, table: str, expected: str) -> str:
        new = matrix.put(text, table)
        assert new == f"{head}{matrix.BEGIN}{expected}{matrix.END}{tail}"
        return new

    first = put(text, block("x", forky=1, trixie=2), block("x", forky=1, trixie=2))
    second = put(first, block("x", trixie=3), block("x", trixie=3, forky=1))
    put(second, block("y", bookworm=4), block("y", bookworm=4))
    with pytest.raises(ValueError, match="not both there"):
        matrix.put(head, block("x"))


def test_changelog_of_the_package_is_of_this_version() -> None:
    """Else `make deb` refuses."""
    found = re.search(r"^VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    changelog = (ROOT / "packaging/debian/changelog").read_text()
    assert changelog.startswith(f"myserver ({found[1]}-")


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_scripts_of_the_package(name: str) -> None:
    """The shell can read them."""
    path = ROOT / "packaging/debian" / f"myserver.{name}"
    subprocess.run(["sh", "-n", path], check=True)
