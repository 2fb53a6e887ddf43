"""From gunicorn: its command line, GUNICORN_CMD_ARGS, and its configuration file in Python."""

import ast
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import logformat, values
from .common import (
    GREEN_THREADS,
    Environment,
    add_environment,
    find_application,
    load_in_each_worker,
    say_nginx,
    split_words,
    tls,
)
from .result import Cannot, Given, Result
from .tables import Spelling, Table
from .words import read_words

TIMEOUT_S = 30  # for the file
_APPENDED = {"bind", "raw-env", "reload-extra-files", "dirty-apps", "raw-paste-global-conf"}
_ASYNCIO = ("uvicorn", "asgi", "aiohttp", "hypercorn", "daphne")
_GREEN = ("gevent", "eventlet", "meinheld")


def address(text: str) -> str:
    """One address of gunicorn's --bind as ours."""
    text = text.strip()
    if re.match(r"unix:(//)?", text):
        return "unix:" + re.sub(r"^unix:(//)?", "", text)
    text = text.removeprefix("tcp://")
    if text.startswith("fd://"):
        return text
    if text == "":
        return "0.0.0.0:8000"
    if text.startswith("["):
        return text if "]:" in text else f"{text}:8000"
    if values.UNSET.fullmatch(text):
        return text
    host, colon, port = text.partition(":")
    return f"{host or '0.0.0.0'}:{port}" if colon and port else f"{host}:8000"


# ---- the file


def run_file(location: str, names: Iterable[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the file sets, as gunicorn_file.py tells it. Cannot: it fails, or takes too long."""
    python = sys.executable
    virtualenv = os.environ.get("VIRTUAL_ENV")
    if virtualenv and os.access(f"{virtualenv}/bin/python", os.X_OK):
        python = f"{virtualenv}/bin/python"
    script = str(Path(__file__).with_name("gunicorn_file.py"))
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [python, script, location, str(out.fileno()), ",".join(names)],
            env={**os.environ, **environment},
            pass_fds=[out.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
        )
        try:
            status = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Cannot(
                f"{location}: it has not come to its end within {TIMEOUT_S} s; "
                "what it waits for must not be needed for its settings"
            ) from None
        finally:
            with suppress(ProcessLookupError):  # what it has started, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        text = out.read()
    if status != 0 or not text:
        raise Cannot(f"{location}: running it ended Python with status {status}")
    answer: dict[str, Any] = json.loads(text)
    if "error" in answer:
        missing = "; run convert with the project's virtualenv in VIRTUAL_ENV"
        raise Cannot(f"{answer['error']}{missing if answer['missing'] else ''}")
    return answer


class _Source:
    """The text of the file: where a name is set, and as what."""

    def __init__(self, location: str) -> None:
        self.location = location.removeprefix("file:")
        self.lines: dict[str, int] = {}
        self.computed: dict[str, str] = {}
        self.used: set[str] = set()
        try:
            text = Path(self.location).read_text()
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError):
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.used.add(node.id)
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.lines.setdefault(node.name, node.lineno)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._assigned(target.id, node.value, node.lineno, text)

    def _assigned(self, name: str, value: ast.expr | None, line: int, text: str) -> None:
        self.lines[name] = line
        self.computed.pop(name, None)
        if value is not None and any(
            isinstance(n, (ast.Call, ast.Name, ast.BinOp, ast.IfExp)) for n in ast.walk(value)
        ):
            shown = ast.get_source_segment(text, value) or ""
            self.computed[name] = " ".join(shown.split())

    def place(self, name: str) -> str:
        line = self.lines.get(name)
        return f"{self.location}:{line}" if line else self.location


def _texts(value: Any) -> list[str]:
    """The value of a setting as texts: one, or the items of a list."""
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, dict):
        return [value["function"] if "function" in value else json.dumps(value["dict"])]
    return [str(value)]


# ---- the conversion


class Gunicorn:
    """One conversion."""

    def __init__(self, table: Table, result: Result, environment: Environment) -> None:
        self.table = table
        self.result = result
        self.environment = environment
        self.settings: dict[str, list[Given]] = {}  # by name in the file
        self.spellings: dict[str, Spelling] = {}
        self.location = ""  # of the file

    # -- reading, in the order in which a later one wins

    def read(self, words: Sequence[str] | None, location: str | None) -> None:
        """Reads everything; `words` is the command line without the program."""
        arguments = self.environment.get("GUNICORN_CMD_ARGS", "")
        extra = split_words(arguments, "GUNICORN_CMD_ARGS")
        first, _ = read_words(self.table, extra, "GUNICORN_CMD_ARGS")
        last, rest = read_words(self.table, words or [])
        for given in [*first, *last]:
            if given.name == "config":
                location = given.value
        if location is None and words is not None and Path("gunicorn.conf.py").exists():
            location = "./gunicorn.conf.py"
        if location is not None:
            self._read_file(location)
        for part in (first, last):
            self._override(part)
        if len(rest) > 1:
            raise Cannot(f"command line: two applications are given, {rest[0]} and {rest[1]}")
        if rest:
            self.settings["wsgi-app"] = [Given("application", rest[0], "command line", rest[0])]
            self.spellings["wsgi-app"] = self.table.in_file["wsgi-app"]

    def _override(self, given: list[Given]) -> None:
        fresh: set[str] = set()
        for one in given:
            spelling = self.table.on_line[one.name]
            name = spelling.setting
            if name not in fresh or name not in _APPENDED:
                self.settings[name] = []
            fresh.add(name)
            self.settings[name].append(one)
            self.spellings[name] = spelling

    def _read_file(self, location: str) -> None:
        self.location = path = location.removeprefix("file:")
        if not location.startswith("python:") and not Path(path).exists():
            raise Cannot(f"{path}: there is no such file")
        known = {name.replace("-", "_"): name for name in self.table.in_file}
        answer = run_file(path, known, self.environment.variables)
        source = _Source(path)
        for name in answer["others"]:
            self._unknown(source, name)
        for name, value in answer["settings"].items():
            if value is not None:
                written = source.computed.get(name) or ", ".join(_texts(value))
                self.settings[known[name]] = [
                    Given(name, text, source.place(name), written) for text in _texts(value)
                ]
                self.spellings[known[name]] = self.table.in_file[known[name]]
        self._say_what_was_read(path, answer["read"])

    def _unknown(self, source: _Source, name: str) -> None:
        """gunicorn ignores names that it does not know; one that nothing uses is a mistake."""
        if name in source.used or name not in source.lines or name != name.lower():
            return
        known = [n.replace("-", "_") for n in self.table.in_file]
        cli = self.table.on_line.get(name.replace("_", "-"))
        near = cli.setting.replace("-", "_") if cli else None
        if near is None:
            found = difflib.get_close_matches(name, known, 1, 0.8)
            near = found[0] if found else None
        if near:
            self.result.wrong.append(
                f"{source.place(name)}: gunicorn has no setting {name} and ignores it; "
                f"did you mean {near}?"
            )

    def _say_what_was_read(self, path: str, read: dict[str, bool]) -> None:
        named = [name if is_set else f"{name} (not set)" for name, is_set in read.items()]
        if named:
            self.result.hints.append(
                f"{path} reads the environment, and what came of it now is below: {', '.join(named)}. "
                "Write ${NAME} where one is to be read at each start."
            )

    # -- writing

    def convert(self) -> None:
        """Fills the result."""
        for name, given in self.settings.items():
            row = self.spellings[name].row
            own = getattr(self, "_" + name.replace("-", "_"), None)
            if row.how == "own":
                if own:
                    own(given)
            elif row.how == "tls":
                tls(self.result, given[-1], row)
            elif row.how == "list":
                for one in given:
                    values.apply(self.result, row, one)
            elif row.how == "hook":
                self._hook(given[-1])
            else:
                values.apply(self.result, row, given[-1])
        self._note_computed()
        self._together()

    def _note_computed(self) -> None:
        for setting in self.result.settings:
            name = setting.origin.partition(",")[0].replace("_", "-")
            given = self.settings.get(name, [])
            if given and not given[-1].place.startswith(("command line", "GUNICORN_CMD_ARGS")):
                one = given[-1]
                if one.written and one.written != ", ".join(g.value for g in given):
                    computed = f"there: {one.written}"
                    setting.note = f"{setting.note}; {computed}" if setting.note else computed

    def _last(self, name: str) -> Given | None:
        given = self.settings.get(name)
        return given[-1] if given else None

    def _number(self, name: str, default: int) -> int:
        given = self._last(name)
        if given is None:
            return default
        try:
            return int(given.value)
        except ValueError:
            self.result.wrong.append(f'{given.place}: {given.name}: "{given.value}" is no number')
            return default

    def _hook(self, given: Given) -> None:
        """A function that gunicorn calls."""
        module = self.location.removeprefix("python:").removeprefix("./")
        if "chdir" in self.settings and not self.location.startswith("python:"):
            module = os.path.abspath(module)
        self.result.set("hooks", module, Given("hooks", module, self.location))
        self.result.spare(given, "hooks calls it as it is")

    def _wsgi_app(self, given: list[Given]) -> None:
        self.result.set("app", given[-1].value, given[-1])

    def _bind(self, given: list[Given]) -> None:
        protocol = self._last("protocol")
        scheme = "uwsgi:" if protocol and protocol.value == "uwsgi" else ""
        mask = self._last("umask")
        for one in given:
            for part in one.value.split(","):
                found = address(part)
                self.result.set("bind", scheme + found, one)
                if found.startswith("unix:") and not mask:
                    self.result.set(
                        "socket-mode",
                        0o666,
                        note="gunicorn's umask is 0, so that everybody could connect; 0660 is "
                        "safer, where nginx is in the group",
                    )

    def _workers(self, given: list[Given]) -> None:
        self._count("workers", given[-1])

    def _count(self, name: str, given: Given) -> None:
        try:
            self.result.set(name, values.count(given.value), given)
        except ValueError as error:
            self.result.wrong.append(f'{given.place}: {given.name}: "{given.value}" {error}')

    def _threads(self, given: list[Given]) -> None:
        if not self._is_green():
            self._count("threads", given[-1])

    def _is_green(self) -> bool:
        given = self._last("worker-class")
        return given is not None and any(word in given.value.lower() for word in _GREEN)

    def _worker_class(self, given: list[Given]) -> None:
        one = given[-1]
        name = one.value.lower()
        if any(word in name for word in _ASYNCIO):
            raise Cannot(
                f"{one.place}: {one.name} {one.value} serves an asyncio application, and myserver "
                "serves WSGI; a Django project has both: convert with PROJECT.wsgi and without "
                "the worker class"
            )
        if re.search(r"(^|[.#])(sync|syncworker|gthread|threadworker)$", name):
            self.result.spare(one, "there is one kind of worker; threads says how many it runs")
        elif self._is_green():
            at_once = self._number("worker-connections", 1000)
            threads = min(at_once, GREEN_THREADS)
            self.result.set(
                "threads",
                threads,
                note=f"{one.value} ran up to {at_once} requests at once in a worker; threads do "
                "that here, and each may hold a connection to the database",
            )
            self.result.drop(one, f"there is one kind of worker; {threads} threads run requests")
        else:
            self.result.drop(one, "there is one kind of worker; write threads")

    def _worker_connections(self, given: list[Given]) -> None:
        threaded = self._number("threads", 1) > 1 or "thread" in getattr(
            self._last("worker-class"), "value", ""
        )
        if self._is_green():
            self.result.spare(given[-1], "threads says how many requests run at once")
        elif threaded:
            self._count("worker-connections", given[-1])
        else:
            self.result.spare(
                given[-1], "sync workers hold one connection; idle ones cost little here"
            )

    def _timeout(self, given: list[Given]) -> None:
        threaded = self._number("threads", 1) > 1 or self._is_green()
        note = (
            "there it watched the worker, so that a single request could take longer; here it is "
            "for each request"
        )
        try:
            value = values.seconds(given[-1].value)
            self.result.set("timeout", value, given[-1], note if threaded else None)
        except ValueError as error:
            self.result.wrong.append(f'{given[-1].place}: timeout: "{given[-1].value}" {error}')

    def _raw_env(self, given: list[Given]) -> None:
        for one in given:
            name, _, value = one.value.partition("=")
            if name == "SCRIPT_NAME":
                self.result.set("script-name", values.prefix(value), one)
            else:
                add_environment(self.result, name, value, one)

    def _umask(self, given: list[Given]) -> None:
        one = given[-1]
        from_line = one.place.startswith(("command line", "GUNICORN_CMD_ARGS"))
        try:
            octal = from_line and re.match(r"0\d", one.value)
            mask = int(one.value, 8) if octal else int(one.value, 0)
        except ValueError:
            self.result.wrong.append(f'{one.place}: umask: "{one.value}" is no number')
            return
        self.result.set("umask", mask, one)
        if any("unix:" in s.value for s in self.settings.get("bind", [])):
            self.result.set("socket-mode", 0o666 & ~mask, one)

    def _forwarded_allow_ips(self, given: list[Given]) -> None:
        self.result.set("forwarded-allow-ips", ",".join(g.value for g in given), given[-1])

    def _secure_scheme_headers(self, given: list[Given]) -> None:
        usual = {"x-forwarded-proto", "x-forwarded-protocol", "x-forwarded-ssl"}
        try:
            found = {name.lower() for name in json.loads(given[-1].value)}
        except ValueError:
            found = {given[-1].value}
        note = "the scheme comes from X-Forwarded-Proto, of those in forwarded-allow-ips"
        if "x-forwarded-proto" in found and found <= usual:
            self.result.spare(given[-1], note)
        else:
            self.result.drop(given[-1], note)

    def _access_log_format(self, given: list[Given]) -> None:
        found, missing = logformat.from_gunicorn(given[-1].value)
        note = f"not there, and - here: {', '.join(missing)}" if missing else None
        self.result.set("access-logformat", found, given[-1], note)
        if missing:
            self.result.drop(given[-1], f"access-logformat has no {', '.join(missing)}")

    def _syslog_addr(self, given: list[Given]) -> None:
        if "syslog" not in self.settings:
            self.result.spare(given[-1], "syslog was off")

    def _syslog(self, given: list[Given]) -> None:
        if not values.flag(given[-1].value):
            return
        where = self._last("syslog-addr")
        text = where.value if where else "udp://localhost:514"
        text = re.sub(r"#\w+$", "", text)
        if text.startswith("unix://"):
            target = "syslog:unix:" + text.removeprefix("unix://")
        else:
            host, _, port = re.sub(r"^\w+://", "", text).partition(":")
            target = f"syslog:{host or 'localhost'}:{port or 514}"
        self.result.set("error-logfile", target, where or given[-1])
        if "disable-redirect-access-to-syslog" not in self.settings:
            self.result.set("access-logfile", target, where or given[-1])

    def _disable_redirect_access_to_syslog(self, given: list[Given]) -> None:
        self.result.spare(given[-1], "the access log goes to access-logfile only")

    def _pythonpath(self, given: list[Given]) -> None:
        for path in reversed([p for p in given[-1].value.split(",") if p]):
            self.result.set("pythonpath", path, given[-1])

    def _proxy_protocol(self, given: list[Given]) -> None:
        value = given[-1].value.lower()
        found = {"true": "auto", "": "auto", "false": "off", "v1": "v1", "v2": "v2", "off": "off"}
        self.result.set("proxy-protocol", found.get(value, "auto"), given[-1])

    def _proxy_allow_ips(self, given: list[Given]) -> None:
        if not self._last("forwarded-allow-ips"):
            self._forwarded_allow_ips(given)

    _uwsgi_allow_ips = _proxy_allow_ips

    def _protocol(self, given: list[Given]) -> None:
        if given[-1].value not in ("http", "uwsgi"):
            raise Cannot(f"{given[-1].place}: protocol {given[-1].value}: it is http or uwsgi here")
        if given[-1].value == "http":
            self.result.spare(given[-1], "HTTP is what bind = ADDR means")
        elif "bind" not in self.settings:
            self.result.set("bind", "uwsgi:127.0.0.1:8000", given[-1])

    def _header_map(self, given: list[Given]) -> None:
        note = "headers with _ in their names always are dropped"
        if given[-1].value.lower() == "drop":
            self.result.spare(given[-1], note)
        else:
            self.result.drop(given[-1], note)

    def _together(self) -> None:
        """What follows from several settings, or from none."""
        if not self.result.has("app"):
            find_application(self.result)
        port = self.environment.variables.get("PORT")
        if port and not self.result.has("bind"):
            given = Given("PORT", port, "command line, in front")
            self.result.set("bind", f"0.0.0.0:{port}", given)
        if not self.result.has("workers"):
            concurrency = self.environment.get("WEB_CONCURRENCY", "")
            number = int(concurrency) if concurrency.isdigit() else 1
            note = "gunicorn runs $WEB_CONCURRENCY workers, or one; auto is one for each CPU"
            self.result.set("workers", number, note=note)
        if not self.result.has("timeout"):
            self.result.set("timeout", 30_000, note="gunicorn's default; ours is 60 s")
        allowed = self.environment.get("FORWARDED_ALLOW_IPS", "")
        if allowed and not self.result.has("forwarded-allow-ips"):
            given = Given("FORWARDED_ALLOW_IPS", allowed, "environment")
            self.result.set("forwarded-allow-ips", allowed, given)
        if "preload-app" not in self.settings:
            load_in_each_worker(self.result)
        say_nginx(self.result)


def convert(
    table: Table,
    result: Result,
    environment: Environment,
    words: Sequence[str] | None,
    location: str | None = None,
) -> None:
    """Converts a command line (`words`, without the program), or a file alone (`location`)."""
    conversion = Gunicorn(table, result, environment)
    conversion.read(words, location)
    conversion.convert()
