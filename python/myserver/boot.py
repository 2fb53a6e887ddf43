"""What the server does in Python when it starts: paths, import, tracebacks.

Called by the C side once per load; applications never import this module.
"""

import importlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType


class LoadError(Exception):
    """The application was found, and is not one."""


def prepare(pythonpath: list[str]) -> None:
    """Puts the working directory and `pythonpath` (first entry first) ahead on sys.path."""
    sys.path[:0] = [os.path.abspath(entry) for entry in pythonpath] + [os.getcwd()]


def check_interpreter(virtualenv: str, library: str) -> str | None:
    """Says why the running library cannot serve `virtualenv` (a directory), or None.

    `library` is the file libpython was loaded from. A virtualenv made by another build of the
    same version imports, and fails later in extension modules; so the builds are compared here.
    """
    import sysconfig

    libdir = sysconfig.get_config_var("LIBDIR")
    if not virtualenv or not libdir:
        return None
    theirs = os.path.realpath(os.path.join(libdir, sysconfig.get_config_var("INSTSONAME") or ""))
    if theirs == os.path.realpath(library) or not os.path.exists(theirs):
        return None
    return (
        f"the virtualenv {virtualenv} was made by the Python in {sys.base_prefix}, but this program "
        f"uses {library}: make the virtualenv with that Python, or build the program with "
        f"PYTHON={sys.base_prefix}/bin/python3"
    )


def load(app: str) -> Callable:
    """Imports `app`: "module", "module:callable" or the path of a .py file (with ":callable").

    Returns the WSGI callable. Raises whatever the import raises, or LoadError.
    """
    target, _, name = app.partition(":")
    name = name or "application"
    module = _load_file(target) if target.endswith(".py") else importlib.import_module(target)
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise LoadError(
                f"{target} has no {name!r}: name the WSGI callable as {target}:CALLABLE"
                + _hint(module)
            )
        found = getattr(found, part)
    if not callable(found):
        raise LoadError(f"{target}:{name} is a {type(found).__name__}, and cannot be called")
    return found


def _hint(module: ModuleType) -> str:
    names = [name for name in ("app", "wsgi", "create_app") if callable(getattr(module, name, None))]
    return f" (it has {', '.join(names)})" if names else ""


def _load_file(path: str) -> ModuleType:
    """Imports a .py file under its dotted name below the nearest directory on sys.path."""
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise LoadError(f"there is no file {path}")
    directory, filename = os.path.split(path)
    parts = [filename.removesuffix(".py")]
    while os.path.exists(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        parts.insert(0, package)
    # A Django project: mysite/wsgi.py without __init__.py still means "mysite.wsgi".
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return importlib.import_module(".".join(parts))


def describe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """The traceback as text, ending without a newline."""
    return "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")


def name_thread(name: str) -> None:
    """Names the calling thread, for logs and debuggers."""
    threading.current_thread().name = name


def stop() -> None:
    """Waits for the application's non-daemon threads, then runs its atexit functions."""
    import atexit

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
