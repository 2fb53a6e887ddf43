"""`myserver memory`: what the workers have, and how it grows."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from control_client import OPTIONS
from harness import Server, run, wait_for


def test_growth_is_shown(server: Callable[..., Server]) -> None:
    """A view that leaks 1 MB a call."""
    s = server("leaks", **OPTIONS)
    done = threading.Event()

    def leak() -> None:
        calls = 0
        while not done.wait(0.05) and calls < 400:  # it grows all the time that the command looks
            with suppress(OSError):
                s.get("/leak")
                calls += 1

    thread = threading.Thread(target=leak)
    thread.start()
    try:
        shown = run("memory", "--control", f"unix:{s.dir}/control.sock", "--seconds=7", "--every=3")
    finally:
        done.set()
        thread.join()
    assert shown.returncode == 0, shown.stderr
    (pid,) = s.workers()
    rows = re.findall(rf"^ +\d+ s +1 +{pid} +\d+ +[\d.]+ +[\d.]+ +([\d.]+)", shown.stdout, re.M)
    assert len(rows) >= 2 and float(rows[-1]) > float(rows[0]) + 5, shown.stdout
    growth = re.search(r"private \+([\d.]+) MB, .* \+([\d.]+) KB private each", shown.stdout)
    assert growth and float(growth[1]) > 5, shown.stdout


def test_what_a_worker_has_copied_of_the_mold(server: Callable[..., Server]) -> None:
    """Requests that write to the reference counts of what was loaded."""
    s = server("heap", immortal=False, **OPTIONS)
    where = f"--control=unix:{s.dir}/control.sock"
    share = r"of ([\d.]+) MB that it shared with the mold it still shares ([\d.]+) MB \((\d+) %\)"

    def shown() -> str:
        return run("memory", where, "--seconds=0").stdout

    before = re.search(share, shown())
    assert before and float(before[1]) > 15 and int(before[3]) > 80
    for _ in range(3):
        s.get("/read")
    for _ in range(120):
        s.get("/")

    def is_copied() -> re.Match[str] | None:
        found = re.search(share + r", ([\d.]+) MB less for 1000 requests", shown())
        return found if found and float(found[2]) < float(found[1]) - 5 else None

    after = wait_for(is_copied)
    assert after[1] == before[1]
    copied = float(after[1]) - float(after[2])
    assert int(after[3]) < int(before[3])
    assert float(after[4]) == pytest.approx(1000 * copied / 123, rel=0.05)


@pytest.mark.parametrize("preload", [True, False])
def test_after_recycling(server: Callable[..., Server], preload: bool) -> None:
    """It counts from the beginning of each worker; one that has loaded by itself shares nothing."""
    s = server("heap", preload=preload, max_requests=3, max_requests_jitter=0, **OPTIONS)
    (first,) = s.workers()
    for _ in range(3):
        s.get("/")
    (second,) = wait_for(lambda: first not in s.workers() and s.serving())
    shown = run("memory", f"--control=unix:{s.dir}/control.sock", "--seconds=0").stdout
    line = next(x for x in shown.splitlines() if f"(pid {second}) since it began" in x)
    assert re.search(r" s and 0 requests ago: private [\d.]+ -> [\d.]+ MB", line), line
    found = re.search(r"of ([\d.]+) MB that it shared with the mold", line)
    shared = float(found[1]) if found else 0.0
    assert shared > 3 if preload else shared < 2  # without Python the mold is small


def test_wrong_arguments(server: Callable[..., Server]) -> None:
    s = server("hello", **OPTIONS)
    where = f"--control=unix:{s.dir}/control.sock"
    assert run("memory", where, "--every=1").returncode == 2
    assert run("memory", "--control=unix:/nowhere.sock").returncode == 2
    once = run("memory", where, "--seconds=0")
    assert once.returncode == 0 and "private +0.0 MB" in once.stdout
