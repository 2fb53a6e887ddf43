"""Functions whose inline caches never settle, far from each other; and code that others know."""

from __future__ import annotations

import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator

PAGE_BYTES = 4096
NAMES: dict[str, Callable[[object], int]] = {}
FUNCTIONS = 1500
LONG_SUM = " + ".join(["thing.value"] * 60)  # code of more than 512 bytes has a piece of its own
SOURCE = """
def function_{number}(thing):
    first = {sum}
    def inner(other):
        return other.value + first - thing.value
    return sum(one for one in (inner(thing), inner(thing)))
"""


def make(number: int) -> tuple[Callable[[object], int], bytes]:
    """A function, and what lies between it and the next."""
    exec(SOURCE.format(number=number, sum=LONG_SUM), NAMES)
    return NAMES[f"function_{number}"], bytes(PAGE_BYTES)


FUNCTIONS_AND_GAPS = [make(number) for number in range(FUNCTIONS)]
# Ten classes: no instruction that meets all of them stays specialized.
THINGS = [type(f"Thing{n}", (), {"value": n})() for n in range(10)]


def known(thing: object) -> object:
    """Somebody has a weak reference to its code."""
    return thing


def numbers(count: int) -> Iterator[int]:
    """A generator that outlives the fork."""
    yield from range(count)


KNOWN_CODE = weakref.ref(known.__code__)
WAITING = numbers(3)
next(WAITING)
COPY_BEFORE = types.FunctionType(numbers.__code__, globals())
seen_codes: dict[types.CodeType, str] = {}


def work() -> str:
    """Calls all functions with all things in turn."""
    total = 0
    for number, (function, _) in enumerate(FUNCTIONS_AND_GAPS):
        total += function(THINGS[number % 10]) + function(THINGS[(number + 5) % 10])
    return str(total)


def facts() -> str:
    """What may depend on the identity of code, as words; each of them should be true."""
    seen_codes.setdefault(work.__code__, "work")
    try:
        _ = work.nothing  # type: ignore[attr-defined]
    except AttributeError:
        trace = sys.exc_info()[2]
        assert trace
    answers = [
        KNOWN_CODE() is known.__code__,
        known(3) == 3,
        list(WAITING) in ([1, 2], []),
        list(COPY_BEFORE(3)) == [0, 1, 2],
        COPY_BEFORE.__code__ == numbers.__code__,
        seen_codes == {work.__code__: "work"},
        trace.tb_frame.f_code is facts.__code__,
        work.__code__.co_name == "work" and bool(work.__code__.co_code),
        eval(work.__code__.replace(co_name="other")) == work(),
    ]
    return " ".join(map(str, answers))


def code_bytes() -> str:
    """How long the code of all functions is: new versions of Python have larger caches."""
    outer = [function.__code__ for function, _ in FUNCTIONS_AND_GAPS]
    inner = [code for o in outer for code in o.co_consts if isinstance(code, types.CodeType)]
    return str(sum(map(sys.getsizeof, outer + inner)))


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/ works; /facts says what is true."""
    answers = {"/facts": facts, "/bytes": code_bytes}
    answer = answers.get(environ["PATH_INFO"], lambda: f"{work()} {os.getpid()}")()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer.encode()]
