"""How a process ends: a worker ends what it has made, the mold ends what was made before the fork.

Called by the C side; applications never import this module. All that `python` does at its end and
a program can notice is done here, but the interpreter is not taken apart: that would copy every
page that the workers share, and run code of extension modules that is known to crash then.
"""

import atexit
import contextlib
import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
)
from typing import Any

import _myserver
from myserver import hooks, streams

# Whose finalizers do nothing that the end of the process does not do, or only complain.
_SILENT = {("_socket", "socket"), ("_asyncio", "Future"), ("_asyncio", "Task")}
# Types in C without a finalizer that close what they have when they are freed: what was written to such
# a database may not be in its file before, or be in a second one beside it.
_DATABASES = {("_dbm", "dbm"), ("_gdbm", "gdbm"), ("sqlite3", "Connection")}
# What leads to everything, and is not part of an object.
_NOT_INSIDE = (type, ModuleType, FunctionType)

_children: list[str] = []  # of the mold, their pids
_threads: list[str] = []  # of the mold, their names
_is_inherited = False  # what is frozen was made by the process before the fork, and also:
_of_mold: dict[int, weakref.ref[Any] | None] = {}  # by id: what notices its end, and is not frozen
_looked = -1  # see streams.recent()
_finalizers: list["weakref.finalize[..., Any]"] = []  # the mold's, which run at its end


# --- the fork ------------------------------------------------------------------------------------


def before_fork() -> None:
    """In the mold, before each fork: notes what a worker that becomes the mold would not have."""
    executors = sys.modules.get("concurrent.futures.thread")
    idle = getattr(executors, "_threads_queues", {})  # whose threads come back: see fork.py
    alive = set(os.listdir("/proc/self/task"))
    _children[:] = children()
    global _looked
    found, _looked = streams.recent(_looked)
    for thing in _noticing(found):
        try:
            _of_mold[id(thing)] = weakref.ref(thing)
        except TypeError:
            _of_mold[id(thing)] = None
    _threads[:] = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and thread not in idle
        and str(thread.native_id) in alive
    ]


def of_mold_only() -> list[str]:
    """In a worker: threads and children that the mold has, and no other process, as text."""
    return [f"thread {name}" for name in _threads] + [
        f"process {pid}" for pid in _children if _is_alive(pid)
    ]


def begin_worker() -> None:
    """In a worker, right after the fork: what was made before is not its own to end."""
    global _is_inherited
    _is_inherited = True
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        if finalizer.atexit:
            finalizer.atexit = False
            _finalizers.append(finalizer)
    module = sys.modules.get("concurrent.futures.process")
    if module is not None:
        module._threads_wakeups.clear()  # of executors whose threads and children are the mold's
    if "multiprocessing.process" in sys.modules:
        _begin_multiprocessing()
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if getattr(server, "_forkserver_pid", None) is not None:
        _forget_forkserver(server)


def _begin_multiprocessing() -> None:
    """What multiprocessing does in a process that it has forked itself."""
    from multiprocessing import process

    process._children.clear()  # type: ignore[attr-defined]
    util = sys.modules.get("multiprocessing.util")  # which no worker shall import for this
    if util is not None:
        util._run_after_forkers()


def _forget_forkserver(server: Any) -> None:
    """The server of forks is a child of the mold and ends with it; multiprocessing would look after it
    as if it were this process's. The next that needs one starts its own.
    """
    os.close(server._forkserver_alive_fd)
    for name in ("authkey", "address", "alive_fd", "pid"):  # the key: since 3.14
        setattr(server, f"_forkserver_{name}", None)


def begin_mold() -> None:
    """In a worker that becomes the mold: it owns all that it has, as the mold before is gone."""
    global _is_inherited, _looked
    _is_inherited = False
    _looked = -1
    _of_mold.clear()
    for finalizer in _finalizers:
        if finalizer.alive:
            finalizer.atexit = True
    _finalizers.clear()


def children() -> list[str]:
    """Pids of the children of this process that live, without those that multiprocessing has for
    itself.
    """
    own = {
        getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        for module, name, attribute in (
            ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
            ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
        )
    }
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                pids = file.read().split()
        except OSError:  # a thread that has ended, or a kernel that does not tell
            continue
        found += [pid for pid in pids if int(pid) not in own and _is_alive(pid)]
    return found


def _is_alive(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the end -------------------------------------------------------------------------------------


def end(reason: str) -> None:
    """Ends all that this process has made; then it may _exit. `reason`: why a worker ends that has
    served; "" in any other process.
    """
    if reason:
        hooks.worker_exit(reason)
    if not _is_inherited:
        gc.unfreeze()
    for stage in (
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,
        streams.flush_all,  # first, as a finalizer may hang
        _finalize_all,
        streams.flush_all,
    ):
        try:
            stage()
        except BaseException:
            sys.excepthook(*sys.exc_info())


def _finalize_all() -> None:
    """Runs what objects made here do when they are freed. Those that refer to others come first, as
    they may need these for their end.
    """
    made = gc.get_objects()
    found = [thing for thing in _noticing(made) if _is_ours(thing) and _can_end(thing)]
    own = {id(thing) for thing in made}
    ending = {id(thing) for thing in found}
    used = {id(thing) for thing in _reach(_used_by_threads(), own)} if found else set()
    for thing in reversed(list(_reach(found, own))):
        if id(thing) in used:
            continue
        if type(thing) in streams.PLAIN:
            streams.flush(thing)
        elif id(thing) in ending and _database(type(thing)):
            _close(thing)
        elif id(thing) in ending and _can_end(thing):
            _myserver.finalize(thing)


def _noticing(things: list[object]) -> list[object]:
    """Those of these that do something at their end."""
    notices = {kind: _notices_end(kind) for kind in {type(thing) for thing in things}}
    return [thing for thing in things if notices[type(thing)]]


def _is_ours(thing: object) -> bool:
    """Not one of the mold's, unless it has ended and this is another one in its place."""
    if not _is_inherited or id(thing) not in _of_mold:
        return True
    before = _of_mold[id(thing)]
    return before is not None and before() is not thing


def _notices_end(kind: type) -> bool:
    """Whether instances of this type do something at their end."""
    if kind in streams.PLAIN or kind in (CoroutineType, AsyncGeneratorType):
        return False
    for base in kind.__mro__:
        if "__del__" in vars(base):
            return (base.__module__, base.__name__) not in _SILENT
    return _database(kind) is not None


def _database(kind: type) -> Any:
    """Of the types in _DATABASES the one that this is, or is made from."""
    return next((b for b in kind.__mro__ if (b.__module__, b.__name__) in _DATABASES), None)


def _close(database: object) -> None:
    """As its type does it, if need be also from another thread than the one that has opened it."""
    kind = _database(type(database))
    try:
        kind.close(database)
    except Exception:
        if kind.__name__ == "Connection":
            with contextlib.suppress(Exception):
                kind.__init__(
                    database, ":memory:"
                )  # closes the one before, without asking who asks


def _can_end(thing: object) -> bool:
    """Not a generator that runs, or has ended."""
    return type(thing) is not GeneratorType or (thing.gi_frame is not None and not thing.gi_running)


def _used_by_threads() -> Iterator[object]:
    """What other threads work with. As they go on, `python` would not end that either."""
    for ident, current in sys._current_frames().items():
        frame: FrameType | None = current if ident != threading.get_ident() else None
        while frame is not None:
            yield from list(frame.f_locals.values())
            frame = frame.f_back


def _reach(roots: Iterable[object], own: set[int]) -> Iterator[object]:
    """Those of `roots` and of what they refer to, over any distance, that are in `own`, by id. What
    is referred to comes before what refers to it.
    """
    seen: set[int] = set()

    def is_new(thing: object) -> bool:
        return (
            id(thing) in own and id(thing) not in seen and not issubclass(type(thing), _NOT_INSIDE)
        )

    def enter(thing: object) -> tuple[object, Iterator[object]]:
        seen.add(id(thing))
        return thing, iter(gc.get_referents(thing))

    for root in roots:
        path = [enter(root)] if is_new(root) else []
        while path:
            thing, inside = path[-1]
            part = next((part for part in inside if is_new(part)), None)
            if part is None:
                path.pop()
                yield thing
            else:
                path.append(enter(part))
