"""From uWSGI: its files, its command line and the variables UWSGI_*."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import logformat, values
from .common import (
    GREEN_THREADS,
    Environment,
    add_environment,
    find_application,
    read_text,
    say_nginx,
    set_log_format,
)
from .result import Cannot, Given, Result
from .tables import Table
from .uwsgi_file import Language
from .words import read_words

_MEMORY = ("reload-on-rss", "reload-on-uss", "reload-on-pss", "evil-reload-on-rss")
_PRIVATE = "it counts private memory, not what is shared"
_NUMBERS = ("count", "seconds", "milliseconds", "bytes", "megabytes", "limit")
_PLUGINS = re.compile(
    r"(0:)?(python\d*(\.\d+)?|python3\d*|http|corerouter|cheaper_\w+|router_\w+|log\w+|syslog|rsyslog|gevent\d*"
    r"|asyncio|greenlet|transformation_\w+|stats_pusher_\w+|ping|cache|carbon|signal|rpc|spooler"
    r"|symcall|ugreen|nagios|zergpool|fastrouter|rawrouter|sslrouter|dumbloop|notfound|logcrypto)"
)


def address(text: str) -> str:
    """One address of a socket of uWSGI as ours, without the protocol."""
    text = text.strip()
    if ":" not in text or text.startswith(("/", "@")):
        return f"unix:{text}"
    if text.startswith("unix:") or text.startswith("fd://"):
        return text
    return ":" + text.partition(":")[2] if text.startswith("*") else text


class Uwsgi:
    """One conversion."""

    def __init__(self, table: Table, result: Result, environment: Environment) -> None:
        self.table = table
        self.result = result
        self.environment = environment
        self.given: list[Given] = []
        self.language = Language(environment)

    def read(self, words: Sequence[str], location: str | None) -> None:
        """Reads everything in uWSGI's order: variables, the command line, the files that it names."""
        for name, value in {**os.environ, **self.environment.variables}.items():
            option = name.removeprefix("UWSGI_").lower().replace("_", "-")
            if name.startswith("UWSGI_") and option in self.table.in_file:
                self.language.add(option, value, f"environment, {name}")
        given, rest = read_words(self.table, words)
        for one in given:
            self.language.add(one.name, one.value, one.place)
        for word in rest:
            if word.endswith((".py", ".wsgi")):
                self.language.add("wsgi-file", word, "command line")
            else:
                self.language.load(word, "command line")
        if location is not None:
            self.language.load(location, location)
        self.given = self.language.finish()

    def convert(self) -> None:
        """Fills the result."""
        for one in self.given:
            spelling = self.table.in_file.get(one.name)
            if not spelling:
                self._unknown(one)
                continue
            row = spelling.row
            own = getattr(self, "_" + row.name.replace("-", "_"), None)
            number = re.match(r"(\d+)\s*[;#]", one.value)
            if number and row.how in _NUMBERS:  # as strtol(3) does, which uWSGI asks
                one = replace(one, value=number[1])
            nothing = re.search(r"%\((\w[\w-]*)\)", one.value)
            if nothing and row.verdict == "kept" and row.name != "log-format":
                self._wrong(one, f"has %({nothing[1]}), and nothing has that name")
                continue
            if spelling.values == 0 and not values.flag(one.value or "true"):
                self.result.spare(one, "off")
            elif row.how == "own" and own:
                own(one)
            elif row.how == "own":
                self.result.spare(one, row.note or "")
            else:
                values.apply(self.result, row, one)
        self._together()

    def _unknown(self, one: Given) -> None:
        """uWSGI takes a name that it does not know for a placeholder, unless it is strict."""
        near = self.table.nearest(one.name, self.table.in_file)
        hint = f"; did you mean {near}?" if near else ""
        strict = self._find("strict")
        if strict and values.flag(strict.value or "true"):
            raise Cannot(f"{one.place}: uWSGI has no option {one.name}, and strict is set{hint}")
        if one.name in self.language.used:
            return
        if near:
            self.result.wrong.append(
                f"{one.place}: uWSGI has no option {one.name} and takes it for a placeholder, "
                f"which nothing uses{hint}"
            )
        else:
            self.result.spare(
                one, "uWSGI has no such option; it is a placeholder that nothing uses"
            )

    def _find(self, *names: str) -> Given | None:
        """The last option of these names."""
        return next((g for g in reversed(self.given) if g.name in names), None)

    def _is_on(self, *names: str) -> bool:
        found = self._find(*names)
        return found is not None and values.flag(found.value or "true")

    def _wrong(self, one: Given, error: object) -> None:
        self.result.wrong.append(f'{one.place}: {one.name}: "{one.value}" {error}')

    def _number(self, one: Given) -> int | None:
        try:
            found = values.count(one.value)
        except ValueError as error:
            self._wrong(one, error)
            return None
        return found if isinstance(found, int) else None

    # -- what is served

    def _socket(self, one: Given) -> None:
        protocol = self._find("protocol", "socket-protocol")
        spoken = protocol.value if protocol and one.name == "socket" else "uwsgi"
        if spoken in ("http", "http11"):
            self._bind(one, "")
        elif spoken == "uwsgi":
            self._bind(one, "uwsgi:")
        else:
            self.result.drop(one, f"it does not speak {spoken}")

    def _http_socket(self, one: Given) -> None:
        self._bind(one, "")

    def _bind(self, one: Given, scheme: str) -> None:
        if one.value.startswith("="):
            self.result.drop(one, "write the address itself: bind = ADDR")
            return
        found = address(one.value)
        self.result.set("bind", scheme + found, one)

    def _protocol(self, one: Given) -> None:
        self.result.spare(one, "bind says it: uwsgi:ADDR is the uwsgi protocol, ADDR is HTTP")

    def _module(self, one: Given) -> None:
        self.result.set("app", self._with_callable(one.value), one)

    def _with_callable(self, app: str) -> str:
        callable_name = self._find("callable")
        if not callable_name or ":" in app.rpartition("/")[2]:
            return app
        return f"{app}:{callable_name.value}"

    def _callable(self, one: Given) -> None:
        if not self._find("module", "wsgi", "wsgi-file", "file", "mount", "worker-mount"):
            self.result.drop(one, "there is no module for it")

    def _mount(self, one: Given) -> None:
        if one.name == "manage-script-name":
            return
        point, equals, app = one.value.partition("=")
        if not equals:
            self._wrong(one, "is not /PREFIX=APP")
            return
        first = self._find_first_mount()
        if first is not one:
            if self._mount_target(first) != self._mount_target(one):
                self.result.drop(one, "it serves one application; start one for each")
            else:
                self.result.drop(one, "the application has one script-name; start one for each")
            return
        self.result.set("app", self._with_callable(app), one)
        prefix = values.prefix(point)
        if prefix:
            note = None
            if not self._is_on("manage-script-name"):
                note = "without manage-script-name, uWSGI left the prefix in PATH_INFO, unless nginx had it in SCRIPT_NAME"
            self.result.set("script-name", prefix, one, note)

    def _find_first_mount(self) -> Given:
        return next(g for g in self.given if g.name in ("mount", "worker-mount"))

    @staticmethod
    def _mount_target(one: Given) -> str:
        return one.value.partition("=")[2]

    def _chdir(self, one: Given) -> None:
        self.result.set("chdir", one.value, one)

    _force_cwd = _chdir

    def _pythonpath(self, one: Given) -> None:
        matches = (
            sorted(Path().glob(one.value))
            if re.search(r"[*?[]", one.value) and not one.value.startswith("/")
            else []
        )
        for path in [str(p) for p in matches] or [one.value]:
            self.result.set("pythonpath", path, one)

    def _env(self, one: Given) -> None:
        name, equals, value = one.value.partition("=")
        if not equals:
            self._wrong(one, "is not NAME=VALUE")
            return
        add_environment(self.result, name.strip(), value, one)

    def _envdir(self, one: Given) -> None:
        try:
            files = sorted(p for p in Path(one.value).iterdir() if p.is_file())
        except OSError as error:
            raise Cannot(f"{one.place}: {one.value}: cannot be read: {error.strerror}") from None
        for path in files:
            first = read_text(path, one.place).partition("\n")[0].rstrip()
            add_environment(self.result, path.name, first, one)

    def _plugins(self, one: Given) -> None:
        for name in one.value.split(","):
            if name.strip() and not _PLUGINS.fullmatch(name.strip()):
                raise Cannot(
                    f"{one.place}: plugin {name.strip()}: it serves WSGI applications only"
                )
        self.result.spare(one, "there are no plugins")

    # -- processes

    def _threads(self, one: Given) -> None:
        try:
            self.result.set("threads", values.count(one.value), one)
        except ValueError as error:
            self._wrong(one, error)

    def _gevent(self, one: Given) -> None:
        number = self._number(one)
        if number is not None and not self._find("threads"):
            threads = min(number, GREEN_THREADS)
            self.result.set(
                "threads",
                threads,
                one,
                f"{one.name} ran up to {number} requests at once in a worker; threads do that "
                "here, and each may hold a connection to the database",
            )
        if one.name == "gevent":
            self.result.drop(one, "requests run in threads, which need no patching; write threads")

    def _lazy(self, one: Given) -> None:
        self.result.set("preload", False, one)

    def _max_requests_delta(self, one: Given) -> None:
        number, workers = self._number(one), self._find("workers", "processes")
        if number is not None:
            many = int(workers.value) if workers and workers.value.isdigit() else 1
            self.result.set(
                "max-requests-jitter",
                number * many,
                one,
                "there it was so many more for each worker",
            )

    def _reload_on_rss(self, one: Given) -> None:
        """Several of them: the lowest comes first."""
        try:
            found = values.megabytes(one.value)
        except ValueError as error:
            self._wrong(one, error)
            return
        there = [g for g in self.given if g.name in _MEMORY and re.fullmatch(r"\d+", g.value)]
        lowest = min(there, key=lambda g: int(g.value), default=one)
        if lowest is one or lowest.value == one.value or not isinstance(found, int):
            self.result.set("max-worker-memory", found, one, _PRIVATE)
        else:
            self.result.spare(one, f"max-worker-memory is that of {lowest.name}, which is lower")

    def _py_auto_reload(self, one: Given) -> None:
        self.result.set("reload", values.flag(one.value), one)

    # -- sockets

    def _chmod_socket(self, one: Given) -> None:
        try:
            found = values.mode(one.value if one.value not in ("", "1", "true") else "666")
            self.result.set("socket-mode", found, one)
        except ValueError as error:
            self._wrong(one, error)

    def _chown_socket(self, one: Given) -> None:
        user, _, group = one.value.partition(":")
        uid, gid = self._find("uid", "immediate-uid"), self._find("gid", "immediate-gid")
        same = uid is not None and uid.value == user
        if same and (not group or gid is None or gid.value == group):
            self.result.spare(one, "the unix sockets belong to user and group")
        else:
            self.result.drop(
                one, "the unix sockets belong to user and group; socket-mode says who may connect"
            )

    # -- limits

    def _buffer_size(self, one: Given) -> None:
        number = self._number(one)
        if number is not None and number > 8190:
            note = "there it bounds the whole head, here the longest line"
            self.result.set("limit-request-field-size", number, one, note)
            self.result.set("limit-request-line", number, one)
        elif number is not None:
            self.result.spare(one, "a line may have 8190 bytes, and the head more than that")

    def _max_vars(self, one: Given) -> None:
        number = self._number(one)
        if number is not None and number > 100:
            self.result.set("limit-request-fields", number, one)
        elif number is not None:
            self.result.spare(one, "a request may have 100 header fields")

    def _post_buffering_bufsize(self, one: Given) -> None:
        self.result.spare(one, "bodies above body-buffer are written to a file as they come")

    def _http_timeout(self, one: Given) -> None:
        self.result.spare(
            one,
            "no router stands in front: timeout is for the application, body-timeout and send-timeout for its client",
        )

    def _http_keepalive(self, one: Given) -> None:
        if one.value.isdigit() and int(one.value) > 1:
            self.result.set("keep-alive", int(one.value) * 1000, one)
        else:
            self.result.spare(one, "connections are kept for keep-alive, 100 s")

    def _enable_proxy_protocol(self, one: Given) -> None:
        self.result.set("proxy-protocol", "v1", one, "from the addresses in forwarded-allow-ips")

    # -- logs

    def _logto(self, one: Given) -> None:
        if re.match(r"\d+\.\d+\.\d+\.\d+:\d+$", one.value):
            self.result.drop(one, "write error-logfile = syslog:HOST:PORT, for a syslog")
        else:
            self.result.set("error-logfile", one.value, one)

    def _daemonize(self, one: Given) -> None:
        self._logto(one)
        self.result.drop(one, "it stays in the foreground, for systemd or a container to supervise")

    def _log_syslog(self, one: Given) -> None:
        self.result.set("error-logfile", "syslog:unix:/dev/log", one)

    def _target(self, one: Given) -> str | None:
        """Where a logger writes, as ours."""
        text = one.value.rpartition(" ")[2]
        kind, _, rest = text.partition(":")
        if kind == "file":
            return rest
        if kind == "stdio" or text in ("stdio", "fd:1", "fd:2"):
            return "-"
        if kind == "syslog":
            return "syslog:unix:/dev/log"
        if kind == "rsyslog":
            host, _, port = rest.partition(",")[0].partition(":")
            return f"syslog:{host}:{port or 514}"
        return None

    def _logger(self, one: Given) -> None:
        target = self._target(one)
        if re.match(r"\w+\s+\w+", one.value):
            self.result.drop(one, "a logger with a name is for log-route; there is one error log")
        elif target is None:
            self.result.drop(one, "an error log goes to a file, to stderr or to a syslog")
        else:
            self.result.set("error-logfile", target, one)

    def _req_logger(self, one: Given) -> None:
        target = self._target(one)
        if target is None:
            self.result.drop(one, "an access log goes to a file, to stdout or to a syslog")
        else:
            self.result.set("access-logfile", target, one)

    def _disable_logging(self, one: Given) -> None:
        self.result.spare(one, "there is no access log unless access-logfile is set")

    def _log_4xx(self, one: Given) -> None:
        if not self._is_on("disable-logging"):
            self.result.spare(one, "the access log has every request, with its status")

    def _log_format(self, one: Given) -> None:
        set_log_format(self.result, one, *logformat.from_uwsgi(one.value))

    def _log_encoder(self, one: Given) -> None:
        self._encoder(one, "log-format")

    def _log_req_encoder(self, one: Given) -> None:
        self._encoder(one, "access-logformat")

    def _encoder(self, one: Given, name: str) -> None:
        if re.match(r"(\S+\s+)?json", one.value):
            self.result.set(name, "json", one, "the object has the names of this server")
        elif re.match(r"nl\b", one.value):
            self.result.spare(one, "every record is a line")
        else:
            self.result.drop(one, f"{name} is text or json, and nothing is encoded further")

    # -- static files

    def _static_map(self, one: Given) -> None:
        prefix, _, place = one.value.partition("=")
        if Path(place).is_file():
            self.result.drop(one, "static serves directories; nginx can serve one file")
            self.result.nginx.append(f"location = {prefix} {{ alias {os.path.abspath(place)}; }}")
            return
        prefix = "/" + prefix.strip("/")
        self.result.set("static", f"{prefix}={place}", one)
        self._fall_through()

    def _check_static(self, one: Given) -> None:
        self.result.set("static", f"/={one.value}", one)
        self._fall_through()

    def _fall_through(self) -> None:
        note = "as in uWSGI, the application answers for a file that is missing"
        self.result.set("static-fallthrough", True, note=note)

    # -- seen from outside

    def _stats(self, one: Given) -> None:
        if self._is_on("stats-http"):
            self.result.set(
                "control", address(one.value), one, "it answers /stats, /metrics and more over HTTP"
            )
        else:
            self.result.set("stats", address(one.value), one)

    def _stats_http(self, one: Given) -> None:
        self.result.spare(one, "control speaks HTTP")

    # -- nginx

    def _add_header(self, one: Given) -> None:
        self.result.drop(one, "headers are the work of nginx or of the application")
        name, colon, value = one.value.partition(":")
        if one.name == "add-header" and colon:
            text = value.strip().replace('"', '\\"')
            self.result.nginx.append(f'add_header {name.strip()} "{text}" always;')

    def _https(self, one: Given) -> None:
        self.result.drop(one, "TLS is the work of nginx")
        parts = one.value.split(",")
        self.result.nginx += ["# TLS ends in nginx:", "listen 443 ssl;"]
        if len(parts) > 2 and one.name != "https2":
            self.result.nginx += [
                f"ssl_certificate {os.path.abspath(parts[1])};",
                f"ssl_certificate_key {os.path.abspath(parts[2])};",
            ]

    # -- all together

    def _together(self) -> None:
        """What follows from several options, or from none."""
        result = self.result
        if not result.has("app"):
            find_application(result)
        if not result.has("workers"):
            result.set("workers", 1, note="uWSGI's default; auto is one for each CPU")
        if not result.has("timeout"):
            note = "without harakiri, no request was ended; ours is 60 s"
            result.set("timeout", 0, note=note)
        logs = self._find("logto", "logto2", "daemonize", "daemonize2", "logger", "log-syslog")
        if not result.has("access-logfile") and not self._is_on("disable-logging"):
            target = next((s.text for s in result.settings if s.name == "error-logfile"), "-")
            note = "uWSGI logs every request, unless disable-logging is set"
            result.set("access-logfile", target, logs, note)
        self._log_errors_only()
        if not self._is_on("die-on-term"):
            result.hints.append(
                "TERM stops myserver gracefully; uWSGI without die-on-term reloads."
            )
        say_nginx(result)

    def _log_errors_only(self) -> None:
        """disable-logging with log-4xx and log-5xx: only those requests are logged."""
        wanted = [g for g in self.given if g.name in ("log-4xx", "log-5xx")]
        if not wanted or not self._is_on("disable-logging") or self.result.has("access-logfile"):
            return
        if "access-log-exclude" not in self.result.ours:
            self.result.drop(
                wanted[0], "the access log has every request, with its status, or none"
            )
            return
        without = ["1xx", "2xx", "3xx"]
        without += [] if self._is_on("log-4xx") else ["4xx"]
        without += [] if self._is_on("log-5xx") else ["5xx"]
        target = next((s.text for s in self.result.settings if s.name == "error-logfile"), "-")
        self.result.set("access-logfile", target, wanted[-1])
        self.result.set("access-log-exclude", ",".join(without), wanted[-1])


def convert(
    table: Table,
    result: Result,
    environment: Environment,
    words: Sequence[str],
    location: str | None = None,
) -> None:
    """Converts a command line (`words`, without the program), or a file alone (`location`)."""
    conversion = Uwsgi(table, result, environment)
    conversion.read(words, location)
    conversion.convert()
