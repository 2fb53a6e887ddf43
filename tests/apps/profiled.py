"""Views that spend their time in a known way, for the profiler to name."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import myserver

DURATION_S = 0.15
held = threading.Lock()
stop = threading.Event()


def burn_cpu() -> None:
    """Computes."""
    end = time.thread_time() + DURATION_S
    while time.thread_time() < end:
        sum(i * i for i in range(100))


def fall_asleep() -> None:
    """Waits for a clock."""
    time.sleep(DURATION_S)


def nap() -> None:
    """Waits for a clock, for some looks of a profile."""
    time.sleep(0.02)


def sleep_long() -> None:
    """Waits for a clock until something else has happened."""
    time.sleep(3)


def wait_for_lock() -> None:
    """Waits for a lock that another thread has."""
    with held:
        pass


def hold_lock() -> None:
    """Has that lock, and waits for a clock."""
    with held:
        time.sleep(DURATION_S)


def spin() -> None:
    """Computes, and gives the interpreter away only when it must."""
    end = time.monotonic() + 4 * DURATION_S
    number = 0
    while time.monotonic() < end:
        for _ in range(10_000):
            number = (number * 31 + 7) % 1_000_003


def need_interpreter() -> None:
    """Hardly computes, but needs the interpreter again and again."""
    for _ in range(20):
        time.sleep(0)


def run_in_background() -> None:
    """A thread of the application's own."""
    while not stop.wait(0.005):
        sum(i * i for i in range(2000))


@myserver.postfork
def begin() -> None:
    """In each worker, if it is wanted."""
    if os.environ.get("BACKGROUND"):
        threading.Thread(target=run_in_background, daemon=True).start()


def deep(depth: int) -> None:
    """Recursion."""
    if depth:
        deep(depth - 1)
    else:
        burn_cpu()


def deep_asleep(depth: int) -> None:
    """Recursion, and then waiting."""
    if depth:
        deep_asleep(depth - 1)
    else:
        sleep_long()


def crash() -> None:
    """Ends the worker, by a signal to this thread: another one would let this one go on a little."""
    signal.raise_signal(signal.SIGSEGV)


def fork() -> None:
    """Forks while the sampler looks."""
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            sum(i * i for i in range(1000))
            os._exit(0)
        os.waitpid(pid, 0)


def make_code() -> None:
    """Calls functions that exist only once."""
    for i in range(300):
        names: dict[str, Any] = {}
        exec(f"def made_{i}():\n    return sum(range(20000))\n", names)
        names[f"made_{i}"]()


VIEWS: dict[str, Callable[[], None]] = {
    "/burn": burn_cpu,
    "/sleep": fall_asleep,
    "/long": sleep_long,
    "/lock": wait_for_lock,
    "/hold": hold_lock,
    "/spin": spin,
    "/need": need_interpreter,
    "/deep": lambda: deep(400),
    "/deep-asleep": lambda: deep_asleep(400),
    "/crash": crash,
    "/fork": fork,
    "/code": make_code,
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Runs the view of that path; the others take a nap."""
    VIEWS.get(environ["PATH_INFO"], nap)()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
