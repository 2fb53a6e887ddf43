"""From granian: its command line and the variables GRANIAN_*."""

import re
from collections.abc import Sequence

from . import logformat, values
from .common import (
    Environment,
    add_environment,
    find_application,
    load_in_each_worker,
    read_text,
    say_nginx,
    set_log_format,
    tls,
)
from .result import Cannot, Given, Result
from .tables import Table
from .words import read_words

THREADS = 64  # for granian's hundreds


class Granian:
    """One conversion."""

    def __init__(self, table: Table, result: Result, environment: Environment) -> None:
        self.table = table
        self.result = result
        self.environment = environment
        self.given: dict[str, list[Given]] = {}

    def read(self, words: Sequence[str]) -> None:
        """Reads the variables, and the command line, which wins."""
        for name, spelling in self.table.on_line.items():
            variable = "GRANIAN_" + name.upper().replace("-", "_")
            value = self.environment.find(variable)
            if value is not None and (spelling.values or values.flag(value)):
                self.given[name] = [Given(name, value, f"environment, {variable}", value)]
        given, rest = read_words(self.table, words, shorten=False)
        if len(rest) > 1:
            raise Cannot(f"command line: two applications are given, {rest[0]} and {rest[1]}")
        fresh: set[str] = set()
        for one in given:
            if one.name not in fresh:
                self.given[one.name] = []
                self.given.pop(f"no-{one.name}", None)
                self.given.pop(one.name.removeprefix("no-"), None) if one.name[
                    :3
                ] == "no-" else None
            fresh.add(one.name)
            self.given.setdefault(one.name, []).append(one)
        if rest:
            app = rest[0] if "factory" not in self.given else f"{rest[0]}()"
            self.result.set("app", app, Given("application", rest[0], "command line", rest[0]))

    def _text(self, name: str, default: str) -> str:
        return self.given[name][-1].value if name in self.given else default

    def convert(self) -> None:
        """Fills the result."""
        interface = self._text("interface", "rsgi")
        if interface != "wsgi":
            raise Cannot(
                f"command line: granian serves {interface} applications unless --interface wsgi is "
                "given, and myserver serves WSGI; a Django project has both: convert with "
                "--interface wsgi PROJECT.wsgi"
            )
        for given in list(self.given.values()):
            for one in given:
                self._option(one)
        self._together()

    def _option(self, one: Given) -> None:
        row = self.table.on_line[one.name].row
        own = getattr(self, "_" + row.name.replace("-", "_"), None)
        if row.how == "tls":
            tls(self.result, one, row)
        elif row.how == "own":
            if own:
                own(one)
        elif one.name.startswith("no-") and row.verdict != "needless":
            self.result.spare(one, "off")
        else:
            values.apply(self.result, row, one)

    def _uds_permissions(self, one: Given) -> None:
        try:
            self.result.set("socket-mode", int(one.value, 8 if one.value[:1] == "0" else 10), one)
        except ValueError:
            self.result.wrong.append(f'{one.place}: {one.name}: "{one.value}" is no number')

    def _http(self, one: Given) -> None:
        if one.value == "2":
            self.result.drop(one, "HTTP/2 is the work of nginx")
        else:
            self.result.spare(one, "it speaks HTTP/1.1")

    def _http1_keep_alive(self, one: Given) -> None:
        if one.name.startswith("no-"):
            self.result.set("keep-alive", 0, one)
        else:
            self.result.spare(one, "connections are kept for keep-alive, 100 s")

    def _log(self, one: Given) -> None:
        if one.name == "no-log":
            self.result.set("log-level", "critical", one)
        else:
            self.result.spare(one, "there is an error log")

    def _access_log(self, one: Given) -> None:
        if one.name == "access-log":
            self.result.set("access-logfile", "-", one)

    def _access_log_fmt(self, one: Given) -> None:
        set_log_format(self.result, one, *logformat.from_granian(one.value))

    def _env_files(self, one: Given) -> None:
        lines = read_text(one.value, one.place).splitlines()
        for number, line in enumerate(lines, 1):
            match = re.fullmatch(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*", line)
            if match:
                value = match[2]
                if value[:1] in "'\"" and value[:1] == value[-1:]:
                    value = value[1:-1]
                given = Given("env-files", value, f"{one.value}:{number}", value)
                add_environment(self.result, match[1], value, given)

    def _static_path_mount(self, one: Given) -> None:
        if one.name != "static-path-mount" or self.result.has("static"):
            return
        mounts = self.given["static-path-mount"]
        routes = [g.value for g in self.given.get("static-path-route", [])] or ["/static"]
        for mount, route in zip(mounts, routes, strict=False):
            self.result.set("static", f"/{route.strip('/')}={mount.value}", mount)
        for mount in mounts[len(routes) :]:
            self.result.drop(mount, "there is no --static-path-route for it")

    def _metrics(self, one: Given) -> None:
        if "metrics" in self.given:
            host = self._text("metrics-address", "127.0.0.1")
            self.result.set(
                "control",
                f"{host}:{self._text('metrics-port', '9090')}",
                one,
                "it answers /metrics, and more",
            )
        else:
            self.result.spare(one, "metrics are off")

    def _reload(self, one: Given) -> None:
        self.result.set("reload", one.name == "reload", one)

    def _together(self) -> None:
        """What follows from several options, or from none."""
        if not self.result.has("app"):
            find_application(self.result)
        if "uds" in self.given:
            self.result.set("bind", f"unix:{self._text('uds', '')}", self.given["uds"][-1])
        else:
            host, port = self._text("host", "127.0.0.1"), self._text("port", "8000")
            host = f"[{host}]" if ":" in host else host
            origin = self.given.get("port") or self.given.get("host")
            self.result.set("bind", f"{host}:{port}", origin[-1] if origin else None)
        if not self.result.has("workers"):
            self.result.set("workers", 1, note="granian's default; auto is one for each CPU")
        if not self.result.has("threads"):
            note = (
                "granian ran hundreds of threads in a worker; here they are exactly how many "
                "requests run at once, and each may hold a connection to the database"
            )
            self.result.set("threads", THREADS, note=note)
        self.result.set("timeout", 0, note="granian ends no request; ours is 60 s")
        load_in_each_worker(self.result)
        say_nginx(self.result)


def convert(table: Table, result: Result, environment: Environment, words: Sequence[str]) -> None:
    """Converts a command line, without the program."""
    conversion = Granian(table, result, environment)
    conversion.read(words)
    conversion.convert()
