"""Connections that workers give each other: what lies in the inbox of one that is gone."""

from __future__ import annotations

import itertools
import resource
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness import FLAVOUR, ROOT, Server, descriptors, wait_for
from wire import let, wire_to

Start = Callable[..., Server]

PPOLL = (271, 73)  # x86-64, aarch64


@pytest.fixture(scope="module")
def hold_letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that holds who gives a connection, while the test wants it."""
    library = tmp_path_factory.mktemp("letters") / "hold_letters.so"
    flags = ["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    source = ROOT / "tests" / "tools" / "hold_letters.c"
    subprocess.run(["cc", *flags, "-o", library, source], check=True)
    return library


def sleeps_for_ever(pid: int) -> bool:
    """It is in ppoll(2), without a time."""
    words = Path(f"/proc/{pid}/syscall").read_text().split()
    return len(words) > 3 and int(words[0]) in PPOLL and int(words[3], 16) == 0


def test_given_to_one_without_descriptors(server: Start) -> None:
    """It takes the connection when it has one again, and nothing is lost."""
    s = server("cases", workers=2)
    with ExitStack() as stack:
        slow, waits, there = (wire_to(s, stack, number) for number in (1, 1, 2))
        first = slow.request("GET", "/steps?go").head()
        pid = int(there.ask("/pid").text.split()[0])
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        lowest = next(fd for fd in itertools.count() if fd not in descriptors(pid))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, limits[1]))
        waits.request("GET", "/")
        assert s.log_contains("no connection is accepted for a moment: Too many open files")
        assert waits.is_silent()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert waits.answer().text == "hello"
        let(s, "go")
        slow.read_body(first)
    assert "was lost" not in s.log


@pytest.mark.skipif(FLAVOUR != "release", reason="a sanitizer's library must come first")
def test_given_to_one_that_has_gone(server: Start, hold_letters: Path) -> None:
    """It is moved to another soon, though nothing happens that would wake the master."""
    s = server("cases", workers=2, timeout="0s", env={"LD_PRELOAD": str(hold_letters)})
    hold = s.dir / "hold-letters"
    with ExitStack() as stack:
        slow, waits = (wire_to(s, stack, 1) for _ in range(2))
        first = slow.request("GET", "/steps?go").head()
        assert slow.chunk() == b"first"
        wait_for(lambda: sleeps_for_ever(s.pid), 20, "nothing to be due for the master")
        hold.touch()
        waits.request("GET", "/")
        wait_for((s.dir / "letter-held").exists, what="worker 1 to give it")
        s.signal(signal.SIGTTOU)
        assert s.log_contains(r"worker 2 \(pid \d+\) left")
        hold.unlink()
        let(s, "go")
        slow.read_body(first)
        assert first.complete
        assert waits.answer().text == "hello"
