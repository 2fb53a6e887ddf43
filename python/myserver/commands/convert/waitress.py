"""From waitress-serve: its command line."""

from collections.abc import Sequence

from . import values
from .common import Environment, find_application, load_in_each_worker, say_nginx
from .result import Cannot, Given, Result
from .tables import Table
from .words import read_words


class Waitress:
    """One conversion."""

    def __init__(self, table: Table, result: Result) -> None:
        self.table = table
        self.result = result
        self.given: list[Given] = []

    def convert(self, words: Sequence[str]) -> None:
        """Fills the result."""
        self.given, rest = read_words(self.table, words)
        apps = [Given("application", word, "command line", word) for word in rest]
        apps += [g for g in self.given if g.name == "app"]
        if len(apps) > 1:
            raise Cannot(
                f"command line: two applications are given, {apps[0].value} and {apps[1].value}"
            )
        for one in apps:
            call = "()" if self._last("call") else ""
            self.result.set("app", one.value + call, one)
        for one in self.given:
            row = self.table.on_line[one.name].row
            own = getattr(self, "_" + row.name.replace("-", "_"), None)
            if row.how != "own":
                values.apply(self.result, row, one)
            elif own:
                own(one)
        self._together()

    def _last(self, name: str) -> Given | None:
        return next((g for g in reversed(self.given) if g.name == name), None)

    def _unix_socket_perms(self, one: Given) -> None:
        try:
            self.result.set("socket-mode", values.mode(one.value), one)
        except ValueError as error:
            self.result.wrong.append(f'{one.place}: {one.name}: "{one.value}" {error}')

    def _ipv4(self, one: Given) -> None:
        if one.name in ("no-ipv4", "no-ipv6"):
            self.result.drop(one, "the address says it: 0.0.0.0 is IPv4, [::] is both")
        else:
            self.result.spare(one, "the address says it: 0.0.0.0 is IPv4, [::] is both")

    def _url_scheme(self, one: Given) -> None:
        note = "the scheme comes from X-Forwarded-Proto, of those in forwarded-allow-ips"
        if one.value == "http":
            self.result.spare(one, note)
        else:
            self.result.drop(one, note)
            self.result.nginx.append("proxy_set_header X-Forwarded-Proto $scheme;")

    def _trusted_proxy(self, one: Given) -> None:
        if one.value == "localhost":
            self.result.spare(one, "whoever comes over a unix socket is trusted")
        else:
            self.result.set("forwarded-allow-ips", one.value, one)

    def _expose_tracebacks(self, one: Given) -> None:
        if one.name == "expose-tracebacks":
            self.result.drop(one, "the traceback goes to the error log, and no client sees it")

    def _together(self) -> None:
        """What follows from several options, or from none."""
        if not self.result.has("app"):
            find_application(self.result)
        path = self._last("unix-socket")
        listens = [g for g in self.given if g.name == "listen"]
        if path:
            self.result.set("bind", f"unix:{path.value}", path)
            if not self.result.has("socket-mode"):
                self.result.set("socket-mode", 0o600, note="waitress's default")
        for listen in listens:
            for address in listen.value.split():
                name, colon, number = address.partition(":")
                found = address if colon else f"{address}:8080"
                self.result.set("bind", f":{number}" if name == "*" else found, listen)
        if not path and not listens:
            host, port = self._last("host"), self._last("port")
            name = host.value if host else "0.0.0.0"
            name = "" if name == "*" else f"[{name}]" if ":" in name else name
            self.result.set("bind", f"{name}:{port.value if port else '8080'}", port or host)
        if not self.result.has("threads"):
            self.result.set("threads", 4, note="waitress's default")
        self.result.set("workers", 1, note="waitress is one process; auto is one for each CPU")
        self.result.set("timeout", 0, note="waitress ends no request; ours is 60 s")
        load_in_each_worker(self.result)
        say_nginx(self.result)


def convert(table: Table, result: Result, environment: Environment, words: Sequence[str]) -> None:
    """Converts a command line, without the program."""
    Waitress(table, result).convert(words)
