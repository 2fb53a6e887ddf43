"""From mod_wsgi-express: its command line."""

import os
from collections.abc import Sequence

from . import logformat, values
from .common import (
    Environment,
    add_environment,
    find_application,
    load_in_each_worker,
    say_nginx,
    set_log_format,
    tls,
)
from .result import Cannot, Given, Result
from .tables import Table
from .words import read_words


class ModWsgi:
    """One conversion."""

    def __init__(self, table: Table, result: Result) -> None:
        self.table = table
        self.result = result
        self.given: list[Given] = []

    def convert(self, words: Sequence[str]) -> None:
        """Fills the result."""
        if not words or words[0] not in ("start-server", "setup-server"):
            raise Cannot("command line: only mod_wsgi-express start-server and setup-server serve")
        self.given, rest = read_words(self.table, words[1:])
        self._application(rest)
        for one in self.given:
            row = self.table.on_line[one.name].row
            own = getattr(self, "_" + row.name.replace("-", "_"), None)
            if row.how == "tls":
                tls(self.result, one, row)
            elif row.how != "own":
                values.apply(self.result, row, one)
            elif own:
                own(one)
        self._together()

    def _last(self, name: str) -> Given | None:
        return next((g for g in reversed(self.given) if g.name == name), None)

    def _text(self, name: str, default: str) -> str:
        found = self._last(name)
        return found.value if found else default

    def _application(self, rest: list[str]) -> None:
        kind = self._text("application-type", "script")
        if kind not in ("script", "module"):
            raise Cannot(f"command line: --application-type {kind}: it is script or module here")
        entry = self._last("entry-point")
        app = entry.value if entry else rest[0] if rest else ""
        if not app:
            find_application(self.result)
            return
        name = self._text("callable-object", "application")
        text = app if name == "application" else f"{app}:{name}"
        self.result.set("app", text, entry or Given("application", app, "command line", app))

    def _url_alias(self, one: Given) -> None:
        prefix, _, place = one.value.partition("\0")
        if os.path.isfile(place):
            self.result.drop(one, "static serves directories; nginx can serve one file")
            self.result.nginx.append(f"location = {prefix} {{ alias {os.path.abspath(place)}; }}")
        else:
            self.result.set("static", f"/{prefix.strip('/')}={place}", one)

    def _document_root(self, one: Given) -> None:
        self.result.set("static", f"/={one.value}", one)
        self.result.set("static-fallthrough", True)

    def _trust_proxy(self, one: Given) -> None:
        addresses = [g.value for g in self.given if g.name == "trust-proxy"]
        self.result.set("forwarded-allow-ips", ",".join(addresses), one)

    def _setenv(self, one: Given) -> None:
        name, _, value = one.value.partition("\0")
        add_environment(self.result, name, value, one)

    def _lang(self, one: Given) -> None:
        add_environment(self.result, "LANG" if one.name == "lang" else "LC_ALL", one.value, one)

    def _log_directory(self, one: Given) -> None:
        directory = self._last("log-directory")
        if directory:
            name = self._text("error-log-name", "error_log")
            self.result.set("error-logfile", f"{directory.value}/{name}", one)
        else:
            self.result.spare(one, "the error log goes to stderr unless error-logfile is set")

    def _access_log(self, one: Given) -> None:
        if not self._last("access-log"):
            self.result.spare(one, "there was no access log")
            return
        directory, name = self._last("log-directory"), self._text("access-log-name", "access_log")
        self.result.set("access-logfile", f"{directory.value}/{name}" if directory else "-", one)

    def _access_log_format(self, one: Given) -> None:
        set_log_format(self.result, one, *logformat.from_apache(one.value))

    def _together(self) -> None:
        """What follows from several options, or from none."""
        host, port = self._last("host"), self._last("port")
        self.result.set(
            "bind", f"{host.value if host else ''}:{port.value if port else '8000'}", port or host
        )
        defaults = {
            "workers": (1, "mod_wsgi-express's default; auto is one for each CPU"),
            "threads": (5, "mod_wsgi-express's default"),
            "limit-request-body": (10485760, "mod_wsgi-express's default; ours is 1g"),
            "queue-timeout": (45_000, "mod_wsgi-express's default; ours is none"),
        }
        for name, (value, note) in defaults.items():
            if not self.result.has(name):
                self.result.set(name, value, note=note)
        load_in_each_worker(self.result)
        say_nginx(self.result)


def convert(table: Table, result: Result, environment: Environment, words: Sequence[str]) -> None:
    """Converts a command line, without the program."""
    ModWsgi(table, result).convert(words)
