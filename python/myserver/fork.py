"""Before and after the fork: what the mold leaves behind, and what a worker begins with.

Called by the C side; applications never import this module.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import _myserver
import myserver
from myserver import clients, ends, hooks, origins, private, shared
from myserver.shared import Thing

_HELP = "close it in a function decorated with @myserver.prefork"


class WarmupError(Exception):
    """The warm-up has left something that workers must not share."""


class ReforkError(Exception):
    """A worker has something that keeps it from being the next mold."""


class _Moment(NamedTuple):
    """What there was before something began."""

    descriptors: dict[int, str]
    children: list[int]
    threads: int  # that live, the caller's too
    started: int  # until then


class _Thread(NamedTuple):
    """A thread of the mold, as far as it can be found again in a worker."""

    name: str
    kind: type
    target: str
    line: str

    def is_like(self, other: "_Thread") -> bool:
        """Whether the other one does its work."""
        return (self.kind, self.target) == (other.kind, other.target)


_started = _Moment({}, [], 1, 0)  # before the application was loaded
_loaded = _started  # after that, when the warm-up began
_modules_at_fork: set[str] = set()
_is_collector_on = True  # as the application wants it
_has_forked = False
_threads: list[_Thread] = []  # of the mold, that workers may miss
_connections: list[Thing] = []  # that workers must not use
_files: list[Thing] = []  # of which each worker needs its own offset
_private: list[private.Own] = []  # that each worker opens for itself


def begin() -> None:
    """To be called before the application is loaded: what is open now is the server's."""
    global _started
    _started = _now()
    origins.begin()


def begin_warmup() -> None:
    """To be called when it is loaded: what is opened from now on is the warm-up's."""
    global _loaded
    _loaded = _now()


def _now() -> _Moment:
    threads = len(os.listdir("/proc/self/task"))
    return _Moment(shared.descriptors(), origins.children(), threads, origins.started_threads())


def before_fork(order_fd: int) -> list[str]:
    """Leaves the mold in a state that workers can share; returns warnings for the log.

    Runs the application's prefork hooks, closes connections that workers must not share, finds what
    they need anew. What the warm-up has left and what would mix up the answers of workers is an
    error, if no other thread can have made it. `order_fd` is -1, or the server's own pipe in a process
    that was a worker, and gives up being a mold rather than lose a thread or share a connection.
    """
    global _is_collector_on, _has_forked
    if order_fd >= 0:
        hooks.worker_exit("refork")
    else:
        hooks.hint()
    for hook in myserver._prefork_hooks:
        hook()
    gc.collect()  # what is left in cycles is not left; close_connections freezes all there is
    warnings = clients.close_connections()
    try:
        if order_fd >= 0:
            _refuse_refork(order_fd)
        else:
            warnings += _look_at_warmup() + _look_at_import()
        _note_what_workers_need(has_served=order_fd >= 0)
    except (WarmupError, ReforkError):
        raise
    except Exception as error:
        warnings.append(f"what is open cannot be looked at: {type(error).__name__}: {error}")
    origins.end()
    _has_forked = True
    _modules_at_fork.update(sys.modules)
    gc.collect()  # also empties the interpreter's free lists, before holes are filled
    _is_collector_on = gc.isenabled()
    gc.disable()
    gc.unfreeze()  # all objects are looked at once more
    return list(dict.fromkeys(warnings))


def _look_at_warmup() -> list[str]:
    """Raises WarmupError, or returns warnings, for what the warm-up has left."""
    now = _now()
    children = [pid for pid in now.children if pid not in _loaded.children]
    warnings = clients.end_pools(children)
    known = {*_loaded.children, *clients.trackers()}
    children = [pid for pid in origins.children() if pid not in known]
    mixing, harmless = _new_things(_loaded.descriptors, children)
    mixing = [thing for thing in mixing if not origins.is_of_other_thread(thing.target)]
    helpers = _helpers(mixing, children)
    lines = (_to_helper(helpers[t.fd]).rstrip(",") if t.fd in helpers else t.line for t in mixing)
    left = ", ".join(thing.text + line for thing, line in zip(mixing, lines, strict=True))
    is_alone = now.threads == _loaded.threads == 1 and now.started == _loaded.started
    if left and is_alone:
        raise WarmupError(
            f"prewarm has left open {left}, that all workers would share: {_HELP}, or warm up with "
            f"other paths"
        )
    if left:
        warnings.append(
            f"prewarm or a thread has left open what workers must not share: {left}: {_HELP}"
        )
    warnings += [f"prewarm has left open {thing.text}{thing.line}: {_HELP}" for thing in harmless]
    warnings += [
        f"process {pid}{_at(origins.of_process(pid))} is a child of the mold and of no worker: start it in "
        f"a function decorated with @myserver.postfork"
        for pid in children
    ]
    return warnings


def _new_things(known: dict[int, str], children: list[int]) -> tuple[list[Thing], list[Thing]]:
    """What would mix up the data of workers, and what only one of them should have."""
    with_children = shared.with_children(list(children))
    renewed = clients.known_descriptors()
    renewed.update(fd for own in _find_private() if own.kind != "epoll" for fd in own.targets)
    queues = clients.queue_descriptors()
    mixing, harmless = [], []
    for thing in shared.things(known):
        is_common = thing.target in with_children or (thing.kind == "pair" and bool(children))
        if thing.fd in renewed or thing.kind in ("read", "datagrams"):
            continue
        if thing.fd in queues and not is_common:
            continue
        if thing.kind in ("connection", "update", "write", "terminal") or (
            thing.kind in ("pipe", "pair") and is_common
        ):
            mixing.append(thing)
        else:
            harmless.append(thing)
    return mixing, harmless


def _find_private() -> list[private.Own]:
    """What only this process uses, of what the application has open."""
    cared_for = clients.known_descriptors() | clients.queue_descriptors()
    inherited = set(_started.descriptors.values())
    things = [
        thing
        for thing in shared.things(_started.descriptors)
        if thing.fd not in cared_for and (thing.kind == "events" or thing.target not in inherited)
    ]
    if not any(thing.kind in ("pipe", "pair", "datagrams", "events") for thing in things):
        return []
    children = [pid for pid in origins.children() if pid not in clients.trackers()]
    foreign = shared.with_children([os.getppid()], without=os.getpid())
    foreign |= shared.with_children(list(children))
    things = [
        thing
        for thing in things
        if thing.target not in foreign and not (thing.target == shared.EVENTFD and children)
    ]
    return private.find(things, is_alone=len(os.listdir("/proc/self/task")) == 1)


def _look_at_import() -> list[str]:
    """Warnings for sockets and pipes of the import that workers cannot use or would share."""
    renewed = clients.known_descriptors()
    queues = clients.queue_descriptors()
    at_import = [
        thing
        for thing in shared.things(_started.descriptors)
        if _loaded.descriptors.get(thing.fd) == thing.target
        and thing.fd not in renewed
        and not origins.is_of_other_thread(thing.target)
    ]
    helpers = _helpers(at_import, list(_loaded.children))
    warnings = []
    for thing in at_import:
        if thing.kind == "connection":
            warnings.append(
                f"{thing.text} is open{thing.line}: in the workers it is at its end, so that they "
                f"connect anew; {_HELP}, or open it in @myserver.postfork"
            )
        elif thing.kind in ("listener", "terminal"):
            warnings.append(
                f"{thing.text} is open{thing.line}: all workers would share it; {_HELP}, or open it "
                f"in @myserver.postfork"
            )
        elif thing.fd in helpers and thing.fd not in queues:
            warnings.append(
                f"{thing.text}{_to_helper(helpers[thing.fd])} is open: all workers would share it, and "
                f"read each other's answers; start the process in @myserver.postfork"
            )
    return warnings


def _helpers(things: list[Thing], children: list[int]) -> dict[int, int]:
    """Of the pipes and pairs among these, by descriptor: the child that may be at the other end."""
    found: dict[int, int] = {}
    others = shared.unnamed_sockets() - set(shared.descriptors().values())
    for pid in children:
        links = shared.with_children([pid])
        has_other_end = not links.isdisjoint(others)
        for thing in things:
            is_common = thing.target in links or (thing.kind == "pair" and has_other_end)
            if thing.kind in ("pipe", "pair") and is_common:
                found.setdefault(thing.fd, pid)
    return found


def _to_helper(pid: int) -> str:
    """Whose pipe it is, as part of a sentence."""
    line = origins.of_process(pid)
    return f" to process {pid}" + ("" if line == "?" else f", started at {line},")


def _refuse_refork(order_fd: int) -> None:
    """Raises ReforkError if the process has open what workers cannot share, children, or more than
    one thread, or if the mold has that, which ends.
    """
    children = [pid for pid in origins.children() if pid not in _loaded.children]
    mixing, _harmless = _new_things(_loaded.descriptors, children)
    left = ", ".join(thing.text for thing in mixing if thing.fd != order_fd)
    if left:
        raise ReforkError(f"no refork: requests have left open {left}: {_HELP}")
    only = ends.of_mold_only()
    if only:
        raise ReforkError(
            f"no refork: the workers may need what the import has started and only the mold has "
            f"({', '.join(only)}): start it in a function decorated with @myserver.postfork"
        )
    living = _in_time(ends.children)
    if living:
        raise ReforkError(
            f"no refork: this worker has child processes ({', '.join(living)}): end them in a function "
            f"decorated with @myserver.prefork"
        )
    threads = _in_time(_other_threads)
    if threads:
        raise ReforkError(
            f"no refork: the application has threads of its own ({', '.join(threads)}): end them in a "
            f"function decorated with @myserver.prefork and start them in @myserver.postfork"
        )


def _in_time(find: Callable[[], list[str]]) -> list[str]:
    """What is found, also after a while: what was ended a moment ago may still be there."""
    for _ in range(1000):
        found = find()
        if not found:
            break
        time.sleep(0.001)
    return found


def _other_threads() -> list[str]:
    """Names of all threads but the caller's, also of those that Python does not know."""
    names = {t.native_id: t.name for t in threading.enumerate()}
    tids = [int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()]
    return [names.get(tid, f"thread {tid}") for tid in tids]


def _note_what_workers_need(has_served: bool) -> None:
    clients.find_renewed()
    things = shared.things(_started.descriptors)
    _connections[:] = [thing for thing in things if thing.kind == "connection"]
    _files[:] = [thing for thing in things if thing.kind in ("read", "update")]
    # A worker has opened others for the server; what it made anew at its birth, it knows.
    if not has_served:
        _private[:] = _find_private()
    # A worker's threads have ended, though `threading` may still know them.
    _threads[:] = [] if has_served else _find_threads()


def _find_threads() -> list[_Thread]:
    """Those that workers may miss: not those that come back by themselves.

    A pool of threads starts new ones (clients.renew) for what it was not running at the fork.
    """
    worker = getattr(sys.modules.get("concurrent.futures.thread"), "_worker", None)
    frames = sys._current_frames()

    def waits_for_work(thread: threading.Thread) -> bool:
        frame = frames.get(thread.ident or 0)
        return bool(worker and frame and frame.f_code is worker.__code__)

    return [
        _describe_thread(thread)
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and not isinstance(thread, threading._DummyThread)
        and not waits_for_work(thread)
        and not _looks_after_forks(thread)
    ]


def _describe_thread(thread: threading.Thread) -> _Thread:
    target = getattr(thread, "_target", None)
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return _Thread(thread.name, type(thread), name, origins.of_thread(thread))


def _looks_after_forks(thread: threading.Thread) -> bool:
    """Whether its owner remembers the process that it belongs to, or starts it again when it is not
    alive: the way of agents, which start their threads with the first thing that they have to do.
    """
    owners: list[Any] = [thread, getattr(getattr(thread, "_target", None), "__self__", None)]
    gc.unfreeze()
    for referrer in gc.get_referrers(thread):
        if type(referrer) is dict:  # perhaps the attributes of an object
            owners += [
                o for o in gc.get_referrers(referrer) if getattr(o, "__dict__", 0) is referrer
            ]
        else:
            owners.append(referrer)
    gc.freeze()
    return any(_remembers_process(owner) or _starts_again(type(owner)) for owner in owners)


def _remembers_process(owner: object) -> bool:
    if isinstance(owner, ModuleType):
        return False
    attributes = getattr(owner, "__dict__", None)
    names = list(attributes) if type(attributes) is dict else []
    for kind in type(owner).__mro__:
        slots = vars(kind).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return any("pid" in str(name) and getattr(owner, name, 0) == os.getpid() for name in names)


def _starts_again(kind: type) -> bool:
    for base in kind.__mro__:
        if base is object or getattr(threading, base.__name__, None) is base:
            continue
        for function in vars(base).values():
            names = getattr(getattr(function, "__code__", None), "co_names", ())
            if "start" in names and ("is_alive" in names or "getpid" in names):
                return True
    return False


def resume_collector() -> None:
    """Ends its rest since before_fork."""
    if _is_collector_on:
        gc.enable()


def after_fork() -> list[str]:
    """In a worker: gives it what it must not share, runs the application's postfork hooks, and
    returns warnings about what has not come back.
    """
    origins.end()  # without preload nobody has done so
    warnings = _part() if _has_forked else hooks.unheard()
    hooks.begin_worker()
    for hook in myserver._postfork_hooks:
        hook()
    alive = [_describe_thread(t) for t in threading.enumerate() if t is not threading.main_thread()]
    lost = [t for t in _threads if not any(t.is_like(other) for other in alive)]
    warnings += [
        f"thread {thread.name!r}{_at(thread.line)} does not exist in the workers: start it in a "
        f"function decorated with @myserver.postfork, or set preload = false"
        for thread in lost
    ]
    if lost:
        name = f"{lost[0].name!r}{_at(lost[0].line)}".rstrip(",")
        _myserver.hint_lost_thread(name.encode("utf-8", "replace").decode(), len(lost))
    _threads.clear()
    return warnings


def after_fork_for_hooks() -> list[str]:
    """The same in the process that the generation has for its hooks, which is no worker."""
    return _part() if _has_forked else []


def _part() -> list[str]:
    """Ends what the worker shares with the mold and the other workers; returns warnings."""
    warnings = []
    try:
        if _connections:
            shared.give_end_of_file(_connections)
        if _files:
            warnings = shared.give_own_offset(_files)
        private.renew(_private)
    except Exception as error:
        warnings = [f"what is open cannot be parted: {type(error).__name__}: {error}"]
    _connections.clear()
    _files.clear()
    return warnings + clients.renew()


def _at(line: str) -> str:
    """Of a thread or process, as part of a sentence."""
    return "" if line == "?" else f", started at {line},"


def new_modules() -> str:
    """Names of modules imported since the fork or the last call, as text; "" without any."""
    names = [name for name in sys.modules.copy() if name not in _modules_at_fork]
    _modules_at_fork.update(names)
    return ", ".join(names)
