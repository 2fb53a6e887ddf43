"""The formats of access logs, as ours: gunicorn's atoms."""

import re

# Those that access-logformat knows.
_ATOM = re.compile(r"%\((?:[hlutrmUqHsBbfaTMDLp]|\{[^}]+\}[io])\)s|%%")
_ANY = re.compile(r"%\(([^)]*)\)([-#0 +]?\d*(?:\.\d+)?[a-zA-Z])?")
_VARIABLE = re.compile(r"%\(([^)]*)\)")
COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

_UWSGI = {
    "addr": "%(h)s",
    "user": "%(u)s",
    "method": "%(m)s",
    "request": "%(r)s",
    "uri": "%(U)s?%(q)s",
    "proto": "%(H)s",
    "status": "%(s)s",
    "size": "%(B)s",
    "rsize": "%(B)s",
    "hsize": "-",
    "cl": "%({Content-Length}i)s",
    "msecs": "%(M)s",
    "micros": "%(D)s",
    "secs": "%(T)s",
    "ltime": "%(t)s",
    "ctime": "%(t)s",
    "time": "%(t)s",
    "ftime": "%(t)s",
    "uagent": "%(a)s",
    "referer": "%(f)s",
    "host": "%({Host}i)s",
    "pid": "%(p)s",
}
_GRANIAN = {
    "addr": "%(h)s",
    "time": "%(t)s",
    "dt_ms": "%(M)s",
    "status": "%(s)s",
    "path": "%(U)s",
    "query_string": "%(q)s",
    "method": "%(m)s",
    "scheme": "-",
    "protocol": "%(H)s",
}
_APACHE = {
    "h": "%(h)s", "a": "%(h)s", "l": "%(l)s", "u": "%(u)s", "t": "%(t)s", "r": "%(r)s",
    "m": "%(m)s", "U": "%(U)s", "q": "?%(q)s", "H": "%(H)s", "s": "%(s)s", "b": "%(b)s",
    "B": "%(B)s", "O": "%(B)s", "D": "%(D)s", "T": "%(T)s", "P": "%(p)s",
}  # fmt: skip


def from_gunicorn(text: str) -> tuple[str, list[str]]:
    """Our format, and the atoms that it does not have, which are - in it."""
    missing = []

    def replace(match: re.Match[str]) -> str:
        as_text = f"%({match[1]})s"
        if _ATOM.fullmatch(as_text):
            return as_text
        missing.append(match[0])
        return "-"

    found = _ANY.sub(replace, text)
    return ("combined" if found == COMBINED else found), missing


def _by_name(text: str, atoms: dict[str, str], pattern: re.Pattern[str]) -> tuple[str, list[str]]:
    missing = []

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name in atoms:
            return atoms[name]
        if name.startswith("var.HTTP_"):
            return "%({" + name[9:].replace("_", "-").title() + "}i)s"
        missing.append(match[0])
        return "-"

    return re.sub(pattern, replace, text), missing


def from_uwsgi(text: str) -> tuple[str, list[str]]:
    """Our format for one of uWSGI's log-format, and the variables that it does not have."""
    return _by_name(text.replace("%(method) %(uri) %(proto)", "%(request)"), _UWSGI, _VARIABLE)


def from_granian(text: str) -> tuple[str, list[str]]:
    """The same for granian's --access-log-fmt."""
    return _by_name(text, _GRANIAN, _ANY)


def from_apache(text: str) -> tuple[str, list[str]]:
    """The same for a LogFormat of Apache."""
    missing: list[str] = []
    if text.strip("\"'") in ("combined", "common"):
        return "combined", missing

    def replace(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%%"
        if match[1] and match[2] in "io":
            return f"%({match[1]}{match[2]})s"
        if match[2] in _APACHE and not match[1]:
            return _APACHE[match[2]]
        missing.append(match[0])
        return "-"

    found = re.sub(r"%%|%[<>]?(\{[^}]+\})?([a-zA-Z])", replace, text)
    return ("combined" if found == COMBINED else found), missing
