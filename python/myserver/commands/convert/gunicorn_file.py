"""Runs a gunicorn.conf.py as gunicorn does, in a process of its own, and tells what it has set.

Executed as a file by the project's Python, which may be another one than ours: it imports nothing of
this package. Arguments: the file or python:MODULE, the descriptor that takes the JSON, and the names
of all settings.
"""

import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_read: "dict[str, bool]" = {}  # whether it is set


class _Listed(str):
    """A name that the file has found by going through all of them."""


class _Environment(type(os.environ)):  # type: ignore[misc]
    """Notes which variables are read by their name."""

    def __getitem__(self, name: str) -> str:
        if isinstance(name, str) and not isinstance(name, _Listed):  # not what subprocess looks up
            _read[name] = self.encodekey(name) in self._data
        value: str = super().__getitem__(name)
        return value

    def __iter__(self) -> "Iterator[str]":
        return map(_Listed, super().__iter__())


def _plain(value: object) -> Any:
    """The value as JSON has it; what is none of its kinds is told as what it is."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {str(key): str(item) for key, item in value.items()}}
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if callable(value):
        code = getattr(value, "__code__", None)
        return {"function": getattr(value, "__name__", "?"), "line": code and code.co_firstlineno}
    try:
        return str(value)
    except Exception:
        return type(value).__qualname__


def _load(location: str) -> ModuleType:
    if location.startswith("python:"):
        return importlib.import_module(location.removeprefix("python:"))
    name = "__config__"
    loader = importlib.machinery.SourceFileLoader(name, location)
    spec = importlib.util.spec_from_file_location(name, location, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _place(location: str, error: BaseException) -> str:
    """The line of the file that is to blame."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.relpath(error.filename)}:{error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.abspath(frame.filename) == os.path.abspath(location)
    ]
    return f"{location}:{lines[-1]}" if lines else location


def main(location: str, descriptor: int, names: "set[str]") -> None:
    """Writes {"settings": values by name, "others": names, "read": variables} or {"error": why}."""
    sys.path[0] = os.getcwd()
    sys.argv = ["gunicorn"]
    os.environ.__class__ = _Environment
    answer: dict[str, Any] = {}
    try:
        found = vars(_load(location))
        answer["settings"] = {n: _plain(value) for n, value in found.items() if n in names}
        answer["others"] = [
            n
            for n, value in found.items()
            if n not in names and not n.startswith("_") and not isinstance(value, ModuleType)
        ]
        answer["read"] = _read
    except BaseException as error:  # SystemExit, too
        said = getattr(error, "msg", None) or str(error)
        answer["error"] = f"{_place(location, error)}: {type(error).__name__}: {said}"
        answer["missing"] = getattr(error, "name", None) if isinstance(error, ImportError) else None
    with open(descriptor, "w") as out:
        json.dump(answer, out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), set(sys.argv[3].split(",")))
