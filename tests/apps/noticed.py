"""Things whose end can be noticed, made at import; a request ends them and says what happened."""

from __future__ import annotations

import array
import collections
import contextlib
import functools
import gc
import mmap
import os
import select
import selectors
import socket
import sqlite3
import tempfile
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

said: list[str] = []


class Told:
    """Says that it ends."""

    def __del__(self) -> None:
        said.append("ended")


class Plain:
    """Has what it is given, and may be referenced weakly."""

    def __init__(self, *things: object) -> None:
        self.things = things
        self.later: object = None


class Slotted:
    """Without a dictionary."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing


class Node:
    """In a cycle with its child."""

    def __init__(self, thing: object) -> None:
        self.thing, self.itself = thing, self


def closure(thing: object) -> Callable[[], object]:
    """A function that keeps `thing`."""
    return lambda: thing


def default(thing: object) -> Callable[[], object]:
    """One that keeps it as the default of an argument."""

    def function(kept: object = thing) -> object:
        return kept

    return function


def begun(thing: object) -> Iterator[object]:
    """A generator that has begun, and says when it ends."""

    def numbers() -> Iterator[object]:
        try:
            yield thing
            yield thing
        finally:
            said.append("ended")

    iterator = numbers()
    next(iterator)
    return iterator


@contextlib.contextmanager
def managed() -> Iterator[None]:
    """Says when it ends."""
    try:
        yield
    finally:
        said.append("ended")


def entered() -> object:
    """A context that nobody leaves."""
    context = managed()
    context.__enter__()
    return context


def caught(thing: object) -> Exception:
    """An exception whose traceback keeps `thing`."""
    try:
        raise ValueError(thing)
    except ValueError as error:
        return error


def class_with(thing: object) -> type:
    """A class that keeps it."""
    return type("WithThing", (), {"thing": thing})


def cached(thing: object) -> Callable[[], object]:
    """A function whose cache keeps it."""
    function = functools.lru_cache(closure(thing))
    function()
    return function


def local_with(thing: object) -> threading.local:
    """In the storage of the main thread."""
    local = threading.local()
    local.thing = thing
    return local


def module_with(thing: object) -> types.ModuleType:
    """A module that nobody has imported."""
    module = types.ModuleType("nowhere")
    module.thing = thing  # type: ignore[attr-defined]
    return module


# Each keeps the thing alone; what is noticed of the thing has to be noticed when its keeper goes.
KEEPERS: dict[str, Callable[[object], object]] = {
    "itself": lambda thing: thing,
    "list": lambda thing: [thing],
    "dict": lambda thing: {"thing": thing},
    "tuple": lambda thing: (1, (thing,)),
    "set": lambda thing: {thing},
    "deque": lambda thing: collections.deque([thing]),
    "defaultdict": lambda thing: collections.defaultdict(list, thing=thing),
    "instance": Plain,
    "slots": Slotted,
    "chain": lambda thing: [Plain({"a": Slotted([thing])})],
    "cycle": Node,
    "closure": closure,
    "default": default,
    "partial": lambda thing: functools.partial(print, thing),
    "method": lambda thing: types.MethodType(print, thing),
    "cache": cached,
    "iterator": lambda thing: iter([thing]),
    "view": lambda thing: {"thing": thing}.values(),
    "exception": caught,
    "class": class_with,
    "local": local_with,
    "module": module_with,
    "namespace": lambda thing: types.SimpleNamespace(thing=thing),
    "proxy": lambda thing: types.MappingProxyType({"thing": thing}),
}


def is_open(fd: int) -> bool:
    """Whether the descriptor is."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def handle(make: Callable[[], Any], fileno: Callable[[Any], int]) -> tuple[object, Callable]:
    """Something with a descriptor, and whether that is closed."""
    thing = make()
    fd = fileno(thing)
    return thing, lambda: not is_open(fd)


def told() -> tuple[object, Callable[[], bool]]:
    """An object with __del__."""
    return Told(), lambda: said == ["ended"]


def weak_value() -> tuple[object, Callable[[], bool]]:
    """The value of a WeakValueDictionary."""
    thing = Plain()
    known = weakref.WeakValueDictionary({"thing": thing})
    return thing, lambda: not known


def weak_key() -> tuple[object, Callable[[], bool]]:
    """A key of a WeakKeyDictionary."""
    thing = Plain()
    known = weakref.WeakKeyDictionary({thing: 1})
    return thing, lambda: not known


def weak_set() -> tuple[object, Callable[[], bool]]:
    """A member of a WeakSet."""
    thing = Plain()
    known = weakref.WeakSet([thing])
    return thing, lambda: not known


def weak_function() -> tuple[object, Callable[[], bool]]:
    """A function that a signal knows, for example."""
    thing = closure(1)
    known = weakref.ref(thing)
    return thing, lambda: known() is None


def callback() -> tuple[object, Callable[[], bool]]:
    """A weak reference that calls back."""
    thing = Plain()
    known = weakref.ref(thing, lambda _: said.append("ended"))
    return thing, lambda: bool(known) and said == ["ended"]


def finalized() -> tuple[object, Callable[[], bool]]:
    """What weakref.finalize watches."""
    thing = Plain()
    weakref.finalize(thing, said.append, "ended").atexit = False
    return thing, lambda: said == ["ended"]


def weak_method() -> tuple[object, Callable[[], bool]]:
    """What has a method that is known weakly."""
    thing = Told()
    known = weakref.WeakMethod(thing.__del__)
    return thing, lambda: known() is None


def exported(exporter: Any) -> tuple[object, Callable[[], bool]]:
    """A view of something that cannot grow as long as it is there."""

    def can_grow() -> bool:
        try:
            exporter.append(1)
        except BufferError:
            return False
        return True

    return memoryview(exporter), can_grow


def exported_map() -> tuple[object, Callable[[], bool]]:
    """A view of a map that cannot be closed as long as it is there."""
    pages = mmap.mmap(-1, 4096)

    def can_close() -> bool:
        try:
            pages.close()
        except BufferError:
            return False
        return True

    return memoryview(pages), can_close


def mapped() -> tuple[object, Callable[[], bool]]:
    """A map of a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * 4096)
        file.flush()
        name, thing = file.name, mmap.mmap(file.fileno(), 4096)
    return thing, lambda: name not in open("/proc/self/maps").read()


def database() -> tuple[object, Callable[[], bool]]:
    """A connection to a file of SQLite."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/data"
        thing = sqlite3.connect(path, check_same_thread=False)
        thing.execute("create table t (n)")
        assert any(path in target for target in open_files())
    return thing, lambda: not any(path in target for target in open_files())


def open_files() -> list[str]:
    """The names of all open files."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


THINGS: dict[str, Callable[[], tuple[object, Callable[[], bool]]]] = {
    "__del__": told,
    "weak value": weak_value,
    "weak key": weak_key,
    "weak set": weak_set,
    "weak function": weak_function,
    "callback": callback,
    "finalize": finalized,
    "weak method": weak_method,
    "epoll": lambda: handle(select.epoll, lambda thing: thing.fileno()),
    "selector": lambda: handle(selectors.DefaultSelector, lambda thing: thing.fileno()),
    "socket": lambda: handle(socket.socket, lambda thing: thing.fileno()),
    "file": lambda: handle(lambda: open(os.devnull), lambda thing: thing.fileno()),
    "temporary": lambda: handle(tempfile.TemporaryFile, lambda thing: thing.fileno()),
    "bytearray": lambda: exported(bytearray(b"x")),
    "array": lambda: exported(array.array("b", b"x")),
    "map of pages": exported_map,
    "map of a file": mapped,
    "sqlite": database,
    "generator": lambda: (begun(1), lambda: said == ["ended"]),
    "context": lambda: (entered(), lambda: said == ["ended"]),
}
WATCHED = ("weak value", "weak key", "weak set", "weak function", "callback", "finalize")
UNHASHABLE = ("bytearray", "array", "map of pages")


def keep_all(thing: str) -> tuple[dict[str, object], dict[str, Callable[[], bool]]]:
    """A thing for each keeper, and how to see its end."""
    kept, checks = {}, {}
    for keeper, keep in KEEPERS.items():
        if keeper == "set" and thing in UNHASHABLE:
            continue
        if keeper == "class" and thing in WATCHED:
            continue  # classes stay, see docs/memory.md
        made, checks[keeper] = THINGS[thing]()
        kept[keeper] = keep(made)
    return kept, checks


kept, checks = keep_all(os.environ["THING"])
empty: list[object] = []
holder = Plain()


def end(name: str) -> str:
    """Whether the end of this keeper is noticed at all, and not before."""
    said.clear()
    before = checks[name]()
    del kept[name]
    gc.collect()
    return f"{name}: {before} {checks[name]()}"


def fill_and_forget() -> str:
    """What was empty at the fork keeps something, and goes."""
    global empty, holder
    said.clear()
    empty.append(Told())
    holder.later = Told()
    empty, holder = [], Plain()
    return f"forgotten: {len(said)}"


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """/end ends all keepers and says what was noticed; /forget what was empty."""
    lines = [""]
    if environ["PATH_INFO"] == "/end":
        lines = [end(name) for name in list(kept)]
    elif environ["PATH_INFO"] == "/forget":
        lines = [fill_and_forget()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(lines).encode()]
