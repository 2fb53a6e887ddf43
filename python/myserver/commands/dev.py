"""`myserver dev [APP] [[HOST:]PORT] [OPTION...]`: serves an application for development.

Works out what to serve and with which settings, and then is the server. What the server puts around
the application is in myserver.develop.
"""

import contextlib
import errno
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from myserver import load
from myserver.commands import program
from myserver.develop.find import Found, NotFound, find_project

USAGE = """\
Usage: myserver dev [APP] [[HOST:]PORT] [OPTION...]
       python manage.py dev [[HOST:]PORT] [OPTION...]      ("myserver" in INSTALLED_APPS)

Serves an application for development, on http://127.0.0.1:8000/ unless told otherwise: reloads when
a .py file, a template, .env or the ini file changes; shows in the browser why the code is broken;
serves the static files of Django's apps; has a terminal for breakpoint().

APP is a module, MODULE:CALLABLE, a .py file, or left out: then a manage.py is used, else
$DJANGO_SETTINGS_MODULE, $FLASK_APP, an app.py, wsgi.py, application.py or main.py, or the only
package that has a wsgi.py or create_app().

  --open         Opens the page in the browser.
  --public       Lets other machines connect; they see your code when it is broken.
  --no-live      Does not let open pages load themselves again after a change.
  --help, -h     Prints this.

Every other option is one of the server (myserver --help), such as --threads 1 or -c FILE.ini.
"""

# What is right while somebody develops; whoever gives an option has it as given.
DEFAULTS = {
    "workers": "1",
    "threads": "8",  # a browser asks for six files at once
    "reload": None,
    "prewarm-rounds": "0",
    "timeout": "0",  # a debugger waits
    "startup-timeout": "24h",
    "graceful-timeout": "3s",
    "log-level": "warning",
}
PORT = 8000
_ADDRESS = re.compile(r"(?:unix:.+|(?:\[[^\]]*\]|[A-Za-z0-9_.-]*):\d+|\d+)")


class Refused(Exception):
    """The command line is wrong; the text says what is right."""


@dataclass
class Line:
    """The command line, taken apart."""

    positional: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)  # for the server, as given
    values: dict[str, list[str]] = field(default_factory=dict)  # by the name of the option
    opens: bool = False
    is_public: bool = False
    is_live: bool = True
    wants_help: bool = False


def main(arguments: list[str], manage: str = "") -> int:
    """Runs the command; returns only when it cannot.

    Args:
        arguments: what stands behind `dev`.
        manage: the manage.py that has called, "" if none has.
    """
    try:
        server = program()
        line = read(arguments, _option_types(server))
        if line.wants_help:
            sys.stdout.write(USAGE)
            return 0
        command, url, app = _prepare(line, server, manage)
    except (Refused, NotFound, FileNotFoundError) as error:
        sys.stderr.write(f"myserver dev: {error}\n")
        return 2
    os.environ[load.DEVELOP] = json.dumps({"public": line.is_public, "live": line.is_live})
    sys.stderr.write(f"{_banner(url, app)}\n")
    sys.stderr.flush()
    if line.opens and url:
        _open_when_ready(url)
    os.execv(server, command)


def _option_types(server: str) -> dict[str, str]:
    """By name and by flag ("-w"): the type of every option of the server, which the server tells."""
    said = subprocess.run([server, "--options=json"], check=True, capture_output=True)
    types: dict[str, str] = {}
    for row in json.loads(said.stdout):
        types[row["name"]] = row["type"]
        if row["short"]:
            types[f"-{row['short']}"] = row["name"]
    return types | {"config": "STRING", "-c": "config"}


def read(arguments: list[str], types: dict[str, str]) -> Line:
    """Takes the command line apart. Raises Refused."""
    line = Line()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if argument in ("--open", "--public", "--no-live", "--help", "-h"):
            line.opens |= argument == "--open"
            line.is_public |= argument == "--public"
            line.is_live &= argument != "--no-live"
            line.wants_help |= argument in ("--help", "-h")
        elif not argument.startswith("-"):
            line.positional.append(argument)
        elif not argument.startswith("--"):
            name = types.get(argument[:2], "")
            value = argument[2:] or _next(rest, argument)
            _add(line, name, [argument] if argument[2:] else [argument, value], value)
        elif equals or types.get(name.removeprefix("no-")) == "BOOL" or name not in types:
            _add(line, name.removeprefix("no-"), [argument], value)
        else:
            value = _next(rest, argument)
            _add(line, name, [argument, value], value)
    return line


def _next(rest: Iterator[str], option: str) -> str:
    value = next(rest, None)
    if value is None:
        raise Refused(f"{option} needs a value")
    return value


def _add(line: Line, name: str, words: list[str], value: str) -> None:
    line.options += words
    line.values.setdefault(name, []).append(value)


def _prepare(line: Line, server: str, manage: str) -> tuple[list[str], str, str]:
    """The server's command line, the URL ("": there is none) and the name of what is served.

    Raises Refused, NotFound.
    """
    apps = [text for text in line.positional if not _is_address(text) and not _is_ini(text)]
    addresses = [text for text in line.positional if _is_address(text)]
    inis = [text for text in line.positional if _is_ini(text)]
    if len(apps) > 1 or len(addresses) > 1:
        raise Refused(f"{' and '.join(apps if len(apps) > 1 else addresses)} are given; keep one")
    if apps and manage:
        raise Refused(f"manage.py has an application; leave out {apps[0]}")
    given = line.values.get("bind", [])
    if addresses and given:
        raise Refused(f"{addresses[0]} and --bind {given[0]} are given; keep one")
    binds = given or [_bind(addresses[0] if addresses else os.environ.get("PORT", ""))]
    for bind in binds:
        if not line.is_public:
            _refuse_public(bind)
        if not bind.startswith(("unix:", "fd:", "uwsgi:")):
            _refuse_taken(bind)
    given_inis = [*inis, *line.values.get("config", [])]
    found = _find(line, apps[0] if apps else "", given_inis, manage)
    command = [server, *_defaults(line, binds), *line.options, *inis]
    if "chdir" not in line.values and not found.directory.samefile(Path()):
        command.append(f"--chdir={found.directory.resolve()}")
    command += [f"--pythonpath={path}" for path in found.paths if "pythonpath" not in line.values]
    virtualenv = _virtualenv(line, manage, found.directory)
    if virtualenv and "virtualenv" not in line.values and "virtualenv" not in _names(given_inis):
        command.append(f"--virtualenv={virtualenv}")
    command += [f"--reload-dir={path}" for path in editable(virtualenv)]
    command += [found.app] if found.app else []
    return command, _url(binds), found.app or "the application"


def _is_address(text: str) -> bool:
    return _ADDRESS.fullmatch(text) is not None


def _is_ini(text: str) -> bool:
    return text.endswith(".ini")


def _bind(text: str) -> str:
    """`[HOST:]PORT` as the server has it; without a host, this machine alone."""
    if text.startswith("unix:") or (text.startswith(":") and _is_address(text)):
        return text
    host, _, port = (text or str(PORT)).rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Refused(f"{text}: a port is a number up to 65535")
    return f"{host or '127.0.0.1'}:{port}"


def _refuse_public(bind: str) -> None:
    """Raises Refused, unless only this machine can connect."""
    address = bind.removeprefix("uwsgi:")
    if address.startswith("unix:"):
        return
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", 0)}
    except OSError:
        found = set()
    if not found or not all(
        ipaddress.ip_address(text.partition("%")[0]).is_loopback for text in found
    ):
        raise Refused(
            f"other machines can connect to {bind}, and the pages of this server show your code when "
            f"it is broken: write 127.0.0.1:{address.rpartition(':')[2]}, or add --public if that is "
            f"what you want"
        )


def _refuse_taken(bind: str) -> None:
    """Raises Refused if somebody else listens there; what else may be wrong the server says."""
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"{bind} is in use, by another server of yours perhaps: end that, or name "
                    f"another port, such as `myserver dev {int(port) % 65535 + 1}`"
                ) from error
        except ValueError:
            pass


def _find(line: Line, app: str, inis: list[str], manage: str) -> Found:
    """What to serve. Nothing is looked for where an ini file names it."""
    here = Path(line.values.get("chdir", ["."])[-1])
    if manage or app.endswith("/manage.py"):
        return Found("manage.py", Path(manage or app).parent)
    if app.endswith("/") or app in (".", ".."):
        return find_project(Path(app).resolve(), os.environ)
    if app:
        return Found(app, Path())
    if "app" in _names(inis):
        return Found("", Path())
    found = find_project(here.resolve(), os.environ)
    if "chdir" in line.values and found.directory != here.resolve():
        raise Refused(f"the project is in {found.directory}: write --chdir {found.directory}")
    return found


def _names(inis: list[str]) -> set[str]:
    """The options that ini files set. What cannot be read, the server refuses."""
    names: set[str] = set()
    for ini in inis:
        with contextlib.suppress(OSError):
            text = Path(ini).read_text(errors="replace")
            names |= set(re.findall(r"^\s*([\w-]+)\s*=", text, re.MULTILINE))
    return names


def _defaults(line: Line, binds: list[str]) -> list[str]:
    """The options that nobody has given."""
    options = []
    for name, value in DEFAULTS.items():
        if name not in line.values:
            options.append(f"--{name}" if value is None else f"--{name}={value}")
    if "bind" not in line.values:
        options += [f"--bind={bind}" for bind in binds]
    return options


def _virtualenv(line: Line, manage: str, directory: Path) -> str:
    """The one in use: as given, that of manage.py's Python, of the environment, or the project's
    own; "": none.
    """
    if "virtualenv" in line.values:
        return line.values["virtualenv"][-1]
    running = sys.prefix if sys.prefix != sys.base_prefix else ""
    if manage:
        return running
    for place in (os.environ.get("VIRTUAL_ENV", ""), directory / ".venv", directory / "venv"):
        if place and (Path(place) / "pyvenv.cfg").exists():
            return os.path.abspath(place)
    return running


def editable(virtualenv: str) -> list[str]:
    """Directories of packages that are installed there to be worked on (`pip install -e`, PEP 610)."""
    found: list[str] = []
    for file in sorted(
        Path(virtualenv or "/nowhere").glob("lib/*/site-packages/*/direct_url.json")
    ):
        with contextlib.suppress(OSError, ValueError, AttributeError, KeyError):
            said = json.loads(file.read_text())
            url = urlsplit(str(said["url"]) if said.get("dir_info", {}).get("editable") else "")
            if url.scheme == "file" and os.path.isdir(unquote(url.path)):
                found.append(unquote(url.path))
    return found


def _url(binds: list[str]) -> str:
    """Where a browser finds the first address; "" of a unix socket."""
    for bind in binds:
        host, _, port = bind.rpartition(":")
        if bind.startswith(("unix:", "uwsgi:", "fd:")) or port == "0":
            continue
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        return f"http://{host}:{port}/"
    return ""


def _banner(url: str, app: str) -> str:
    from myserver.develop import terminal

    where = terminal.paint(url or "a unix socket", "bold")
    return f"myserver dev: {app} on {where}, until Ctrl-C"


def _open_when_ready(url: str) -> None:
    """Leaves a process behind that opens the browser when the server says that it serves."""
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind("")  # the kernel chooses an abstract name
    os.environ["NOTIFY_SOCKET"] = "@" + ready.getsockname()[1:].decode()
    server = os.getpid()
    if os.fork() > 0:
        ready.close()
        return
    ready.settimeout(1)
    message = b""
    while b"READY=1" not in message and os.getppid() == server:
        try:
            message = ready.recv(4096)
        except TimeoutError:
            continue
    if b"READY=1" in message:
        import webbrowser

        webbrowser.open(url)
    os._exit(0)
