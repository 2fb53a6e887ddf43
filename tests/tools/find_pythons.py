"""Prints the interpreters of this machine that myserver can be built for, one path per line.

CPython 3.11 or newer with its headers and a shared libpython, from PATH and from pyenv; of those
that share a library, one.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

CHECK = """
import os, sys, sysconfig
get = sysconfig.get_config_var
library = os.path.join(get("LIBDIR"), get("INSTSONAME") or get("LDLIBRARY"))
header = os.path.join(get("INCLUDEPY"), "Python.h")
usable = sys.implementation.name == "cpython" and sys.version_info >= (3, 11)
if usable and get("Py_ENABLE_SHARED") and os.path.exists(library) and os.path.exists(header):
    print(os.path.realpath(library))
"""


def candidates() -> list[Path]:
    """Everything that is called like a Python 3."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # The shims of pyenv only lead to the versions that are listed here themselves.
    folders = [folder for folder in folders if folder.name != "shims"]
    folders += sorted(pyenv.glob("versions/*/bin"))
    name = re.compile(r"python3(\.\d+)?t?")
    return [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if name.fullmatch(path.name)
    ]


def library_of(python: Path) -> str:
    """The shared library of a usable interpreter, else nothing."""
    try:
        done = subprocess.run([python, "-c", CHECK], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def main() -> None:
    """Print one interpreter per library."""
    found: dict[str, Path] = {}
    for python in candidates():
        if library := library_of(python):
            found.setdefault(library, python)
    for python in found.values():
        print(python)


if __name__ == "__main__":
    main()
