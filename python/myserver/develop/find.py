"""Finds what there is to serve in a directory, without importing any of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Names of files that frameworks look for, the usual ones first.
_FILES = ("app.py", "wsgi.py", "application.py", "main.py")
_NO_PROJECT = {"site-packages", "node_modules", "tests", "test", "docs", "build", "dist"}
_APPLICATION = re.compile(
    r"^(?:application|app)\s*(?::[^=]+)?=|^def (?:application|app|create_app|make_app)\(",
    re.MULTILINE,
)
_FACTORY = re.compile(r"^def (?:create_app|make_app)\(|^(?:app|application)\s*=", re.MULTILINE)
_DJANGO = "django.core.servers.basehttp:get_internal_wsgi_application()"


@dataclass
class Found:
    """What to serve."""

    app: str  # as the server takes it, or a manage.py; "" if the ini file names it
    directory: Path  # to run in
    paths: list[str] = field(default_factory=list)  # for pythonpath


class NotFound(Exception):
    """Nothing, or too much, is there; the text says what to write."""


def find_project(directory: Path, environ: Mapping[str, str]) -> Found:
    """What to serve in `directory`. Raises NotFound."""
    if (directory / "manage.py").exists():
        return Found("manage.py", directory)
    if environ.get("DJANGO_SETTINGS_MODULE"):
        return Found(_DJANGO, directory)
    if environ.get("FLASK_APP"):
        return Found(environ["FLASK_APP"], directory)
    for name in _FILES:
        if (directory / name).exists():
            return Found(name, directory)
    return _below(directory) or _only_file(directory)


def _below(directory: Path) -> Found | None:
    """A manage.py, or a package with an application, one directory deeper."""
    places = [directory, *([directory / "src"] if (directory / "src").is_dir() else [])]
    folders = sorted(folder for place in places for folder in place.iterdir() if _may_be(folder))
    projects = [folder for folder in folders if (folder / "manage.py").exists()]
    if projects:
        return Found("manage.py", _only(projects, directory, "a manage.py"))
    packages = [folder for folder in folders if (folder / "wsgi.py").exists()]
    found = "{}.wsgi"
    if not packages:
        packages = [folder for folder in folders if _defines(folder / "__init__.py", _FACTORY)]
        found = "{}"
    if not packages:
        return None
    package = _only(packages, directory, "an application")
    paths = [] if package.parent == directory else [str(package.parent)]
    return Found(found.format(package.name), directory, paths)


def _only_file(directory: Path) -> Found:
    files = [path for path in sorted(directory.glob("*.py")) if _defines(path, _APPLICATION)]
    if not files:
        raise NotFound(
            f"there is no application in {directory}: no manage.py, {', '.join(_FILES)}, nor a package "
            f"with a wsgi.py or create_app(); write `myserver dev MODULE:CALLABLE`, or begin where it is"
        )
    return Found(_only(files, directory, "an application").name, directory)


def _only(found: list[Path], directory: Path, what: str) -> Path:
    if len(found) > 1:
        names = ", ".join(_shown(found, directory))
        raise NotFound(f"several have {what}: {names}; name one, or begin in its directory")
    return found[0]


def _shown(found: Iterable[Path], directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in found]


def _may_be(folder: Path) -> bool:
    return (
        folder.is_dir()
        and not folder.name.startswith(".")
        and folder.name not in _NO_PROJECT
        and not (folder / "pyvenv.cfg").exists()
    )


def _defines(path: Path, pattern: re.Pattern[str]) -> bool:
    try:
        return pattern.search(path.read_text(errors="replace")) is not None
    except OSError:
        return False
