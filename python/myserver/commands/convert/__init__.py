"""`myserver convert FILE|COMMAND LINE`: the configuration of another server as our ini.

Standard output gets the ini, which starts as it is, with a comment for each option that has no equal;
standard error a summary. Exit status: 0 all is kept, 1 something is not, 2 it cannot be converted.
"""

import ast
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from myserver import commands

from . import granian, gunicorn, line, mod_wsgi, tables, uwsgi, waitress
from .common import Environment, add_environment, drop_missing_directories
from .result import Cannot, Given, Result

USAGE = """\
Usage: myserver convert FILE
       myserver convert COMMAND LINE

Prints the ini file that does what the configuration of another server does.
FILE: of uWSGI (.ini, .yaml, .json), or a gunicorn.conf.py, which is run to read it.
COMMAND LINE: of gunicorn, uwsgi, granian, mod_wsgi-express or waitress-serve, as it stands in a
unit, a Dockerfile or a Procfile, with NAME=VALUE in front of it where there is any.

    myserver convert uwsgi.ini >myserver.ini
    myserver convert GUNICORN_CMD_ARGS="--threads 4" gunicorn -c gunicorn.conf.py shop.wsgi

Exit status: 0 all is kept, 1 something is not (comments in the ini say what), 2 it cannot be
converted.
"""

Convert = Callable[[tables.Table, Result, Environment, Sequence[str]], None]
_PROGRAMS: dict[str, tuple[str, Convert]] = {
    "gunicorn": ("gunicorn", gunicorn.convert),
    "gunicorn.app.wsgiapp": ("gunicorn", gunicorn.convert),
    "uwsgi": ("uWSGI", uwsgi.convert),
    "pyuwsgi": ("uWSGI", uwsgi.convert),
    "uwsgi-core": ("uWSGI", uwsgi.convert),
    "granian": ("granian", granian.convert),
    "mod_wsgi-express": ("mod_wsgi-express", mod_wsgi.convert),
    "waitress-serve": ("waitress-serve", waitress.convert),
    "waitress": ("waitress-serve", waitress.convert),
}
_OTHERS = ("uvicorn", "hypercorn", "daphne", "bjoern", "cheroot", "meinheld", "pserve", "runserver")
_FILES = (".ini", ".yaml", ".yml", ".json", ".js", ".xml")


def _plain_name(word: str) -> str:
    """gunicorn3 and uwsgi_python311 without what only some distributions add."""
    name = os.path.basename(word)
    return name if name in _PROGRAMS else re.sub(r"(_python|-)?\d+(\.\d+)*$", "", name)


def _is_program(word: str) -> bool:
    return _plain_name(word) in _PROGRAMS


def _convert_words(words: list[str], ours: dict[str, tables.Ours]) -> Result:
    found = line.read(words, _is_program)
    if found is None:
        names = shlex.split(words[0], posix=False) if len(words) == 1 else words
        other = next((w for w in names if os.path.basename(w) in _OTHERS), None)
        if other:
            raise Cannot(f"command line: {os.path.basename(other)} is none that is known here")
        raise Cannot(
            f"command line: {names[0]} is no file, and no command line of "
            + ", ".join(sorted({server for server, _ in _PROGRAMS.values()}))
        )
    server, convert = _PROGRAMS[_plain_name(found.program)]
    if found.computed and server != "uWSGI":
        raise Cannot(
            f"command line: a shell computes {found.computed[0]}: write its value, or a variable"
        )
    environment = Environment(found.variables)
    result = Result(server, "its command line", ours)
    convert(tables.read_table(server), result, environment, found.arguments)
    _add_what_stands_around(result, found)
    return result


def _add_what_stands_around(result: Result, found: line.Line) -> None:
    """The variables, the virtualenv and the other words of a command line."""
    for name, value in found.variables.items():
        if not name.startswith(("GUNICORN_", "UWSGI_", "GRANIAN_", "WEB_CONCURRENCY")):
            given = Given(name, value, "command line, in front", value)
            add_environment(result, name, value, given)
    for option in found.lost:
        given = Given("python", option, "command line, in front", option)
        result.drop(given, "an option of the interpreter that has no variable")
    if found.front or found.redirected:
        shown = shlex.join([*found.front, "myserver", "-c", "FILE"])
        shown = " ".join([shown, *found.redirected])
        result.hints.append(f"Start it as before, with what stood around it: {shown}")
    if found.others:
        result.hints.append(f"Other commands of that line stay: {'; '.join(found.others)}")
    program = found.python or found.program
    home = Path(program).parent.parent
    if (home / "pyvenv.cfg").exists() and "/" in program and not result.has("virtualenv"):
        result.set("virtualenv", str(home), Given("program", program, "command line", program))


def _convert_file(path: str, ours: dict[str, tables.Ours]) -> Result:
    name = path.removeprefix("file:")
    if name.startswith("python:") or name.endswith(".py") or _looks_like_python(name):
        result = Result("gunicorn", name, ours)
        gunicorn.convert(tables.read_table("gunicorn"), result, Environment(), None, path)
    else:
        if not name.endswith(_FILES) and not _has_section(name):
            raise Cannot(
                f"{name}: this is no configuration of uWSGI or gunicorn; put the command line that "
                "starts the server behind convert"
            )
        result = Result("uWSGI", name, ours)
        uwsgi.convert(tables.read_table("uWSGI"), result, Environment(), [], path)
    return result


def _text(path: str) -> str:
    """The text of a file; nothing when it cannot be read, which is said by who needs it."""
    try:
        return Path(path if os.path.isfile(path) else path.rpartition(":")[0]).read_text()
    except (OSError, ValueError):
        return ""


def _has_section(path: str) -> bool:
    """Whether a file has a section of an ini, or uWSGI's mapping of YAML."""
    return re.search(r"(?m)^\s*(\[\w|uwsgi\s*:)", _text(path)) is not None


def _looks_like_python(path: str) -> bool:
    """Whether a file without one of uWSGI's endings is a configuration of gunicorn."""
    if path.endswith(_FILES) or not os.path.isfile(path) or _has_section(path):
        return False
    try:
        return bool(ast.parse(_text(path)).body)
    except (SyntaxError, ValueError):
        return False


def _is_file(word: str) -> bool:
    path = word.removeprefix("file:")
    return (
        word.startswith("python:")
        or os.path.isfile(path)
        or os.path.isfile(path.rpartition(":")[0])
        or (path.endswith((".py", *_FILES)) and " " not in path)
    )


def _check(result: Result) -> None:
    """Lets the program read the ini. Cannot: it refuses it."""
    if result.unset or any("${" in s.text for s in result.settings):
        return  # variables may have no value now
    with tempfile.NamedTemporaryFile("w", prefix="myserver-", suffix=".ini") as file:
        file.write(result.ini())
        file.flush()
        command = [commands.program(), "--print-config", "-c", file.name]
        env = {k: v for k, v in os.environ.items() if k != "GUNICORN_CMD_ARGS"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode != 0:
            said = done.stderr.strip().removeprefix("myserver: ")
            said = re.sub(rf"^{re.escape(file.name)}:\d+: ", "", said)
            raise Cannot(f"{result.source}: {said}")


def main(arguments: list[str]) -> int:
    """Converts the file or the command line. Returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        ours = tables.read_ours()
        is_file = len(arguments) == 1 and _is_file(arguments[0])
        result = _convert_file(arguments[0], ours) if is_file else _convert_words(arguments, ours)
        drop_missing_directories(result)
        _check(result)
    except Cannot as reason:
        print(f"myserver convert: {reason}", file=sys.stderr)
        return 2
    sys.stdout.write(result.ini())
    sys.stderr.write(result.summary())
    return result.status()
