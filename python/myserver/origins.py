"""Which line of the application made a thread, a connection, a file or a process before the fork.

Recorded by an audit hook from loading until the fork; behind it the hook does nothing. Threads have
no event before Python 3.12: Thread.start is wrapped meanwhile. Applications never import this module.
"""

import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

_HERE = os.path.dirname(__file__) + os.sep
_STANDARD = os.path.dirname(os.__file__) + os.sep
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_is_recording = False
_threads: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()
_sockets: dict[str, str] = {}  # by the link in /proc/self/fd, which has the inode
_of_others: set[str] = set()  # those of them that another thread has connected
_files: dict[str, str] = {}  # by absolute path
_processes: dict[int, str] = {}
_last_process_line = "?"
_starts = 0  # of threads
_on_end: list[Callable[[], None]] = []


def begin() -> None:
    """Records from now on. Once in the life of a process: an audit hook stays."""
    global _is_recording
    _is_recording = True
    sys.addaudithook(_hear)
    _wrap_start()


def end() -> None:
    """Records no more, and forgets."""
    global _is_recording
    _is_recording = False
    while _on_end:
        _on_end.pop()()
    for known in (_threads, _sockets, _of_others, _files, _processes):
        known.clear()


def started_threads() -> int:
    """How many threads have been started since the beginning."""
    return _starts


def of_thread(thread: threading.Thread) -> str:
    """The line that started it; "?" where that is not known, as for all of these."""
    return _threads.get(thread, "?")


def of_descriptor(target: str) -> str:
    """The line that connected the socket or opened the file with this link in /proc/self/fd."""
    return _sockets.get(target) or _files.get(target.removesuffix(" (deleted)"), "?")


def is_of_other_thread(target: str) -> bool:
    """Whether another thread than the main one has connected the socket: it uses it, and lives in
    the mold.
    """
    return target in _of_others


def of_process(pid: int) -> str:
    """The line that started a child."""
    _attribute_processes("?")
    return _processes.get(pid, "?")


def children() -> list[int]:
    """The children of this process."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                found += [int(pid) for pid in file.read().split()]
        except OSError:  # the thread has ended, or this kernel does not tell
            continue
    return found


def _line() -> str:
    """Where the application is: its innermost line, else that of a package, else any."""
    frame: FrameType | None = sys._getframe(2)
    best, best_rank = "?", 0
    while frame and best_rank < 3:
        name = frame.f_code.co_filename
        if name.startswith((_HERE, "<frozen ")):
            rank = 0
        elif any(part in name for part in _PACKAGES):
            rank = 2
        else:
            rank = 1 if name.startswith(_STANDARD) else 3
        if rank > best_rank:
            best, best_rank = f"{name}:{frame.f_lineno}", rank
        frame = frame.f_back
    return best


def _hear(event: str, args: tuple[Any, ...]) -> None:
    """The audit hook: must never raise, or what it hears of would fail."""
    if not _is_recording or event not in _NOTES:
        return
    try:
        _NOTES[event](args)
    except Exception:
        return


def _wrap_start() -> None:
    start = threading.Thread.start

    def watched_start(self: threading.Thread) -> None:
        global _starts
        if _is_recording:
            _starts += 1
            _threads[self] = _line()
        start(self)

    def unwrap() -> None:
        # Only if nobody has wrapped it meanwhile, as monitoring does: then it stays, and is idle.
        if threading.Thread.start is watched_start:
            threading.Thread.start = start  # type: ignore[method-assign]

    threading.Thread.start = watched_start  # type: ignore[method-assign]
    _on_end.append(unwrap)


def _note_socket(args: tuple[Any, ...]) -> None:
    target = os.readlink(f"/proc/self/fd/{args[0].fileno()}")
    _sockets[target] = _line()
    if threading.current_thread() is not threading.main_thread():
        _of_others.add(target)


def _note_file(args: tuple[Any, ...]) -> None:
    path = args[0]
    if isinstance(path, (str, bytes)) and not os.fsdecode(path).endswith((".py", ".pyc")):
        _files[os.path.realpath(os.fsdecode(path))] = _line()


def _note_process(_args: tuple[Any, ...]) -> None:
    _attribute_processes(_line())


def _attribute_processes(next_line: str) -> None:
    """Those that are new came from the line before; what comes now is from `next_line`."""
    global _last_process_line
    for pid in children():
        _processes.setdefault(pid, _last_process_line)
    _last_process_line = next_line


_NOTES: dict[str, Callable[[tuple[Any, ...]], None]] = {
    "socket.connect": _note_socket,
    "open": _note_file,
    "subprocess.Popen": _note_process,
    "os.fork": _note_process,
    "os.forkpty": _note_process,
    "os.posix_spawn": _note_process,
}
