"""What is shown of running code: tracebacks, the stacks of all threads, the names of threads.

Called by the C side; applications never import this module.
"""

import faulthandler
import importlib
import os
import threading
import traceback
from types import TracebackType

import myserver

_HERE = os.path.dirname(__file__) + os.sep
_STDLIB = os.path.dirname(os.__file__) + os.sep
_LIBRARIES = ("/site-packages/", "/dist-packages/")


def describe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """The traceback as text, ending without a newline; without our own frames at its top."""
    while trace and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")


def _is_ours(filename: str) -> bool:
    return filename == importlib.__file__ or filename.startswith((_HERE, "<frozen importlib"))


def is_of_application(path: str) -> bool:
    """Whether a file of code is none of Python's, of an installed package, or of this one."""
    return not (path.startswith(("<", _STDLIB, _HERE)) or any(part in path for part in _LIBRARIES))


def shown_path(path: str) -> str:
    """The path of a file as it is shown: from the working directory, if it is below that."""
    name = os.path.relpath(path)
    return path if name.startswith("..") else name


def in_package(path: str) -> str:
    """A file of an installed package as seen from where packages are; empty: it is none of one."""
    for part in _LIBRARIES:
        if part in path:
            return path.rpartition(part)[2]
    return ""


def name_thread(name: str) -> None:
    """Names the calling thread, for logs and debuggers."""
    threading.current_thread().name = name


def watch(fd: int, number: int) -> type[BaseException]:
    """Lets signal `number` write all stacks to `fd`; returns what interrupts a late request."""
    faulthandler.register(number, file=fd, all_threads=True, chain=False)
    return myserver.RequestTimeout
