"""How the values of other servers are read: the functions that `how` names in the tables.

Each takes a text and returns what the ini gets: a text, or a number in the unit of the option's
type. ValueError: a sentence that says what would be right.
"""

import re
from collections.abc import Callable

from .result import Given, Result
from .tables import Row

# A variable of the environment that the server asks for at its start: of uWSGI, where it is not set
# now, and of a command line.
UNSET = re.compile(r"\$\(\w+\)|\$\{\w+(:-[^{}]*)?\}")

_LEVELS = {
    "warn": "warning",
    "fatal": "critical",
    "notice": "info",
    "crit": "critical",
    "alert": "critical",
    "emerg": "critical",
    "notset": "debug",
    "trace": "debug",
}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def text(value: str) -> str:
    """As it is."""
    if not value:
        raise ValueError("is empty")
    return value


def number(value: str) -> float:
    """A number with or without a fraction."""
    if not re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        raise ValueError("is no number")
    return float(value)


def count(value: str) -> str | int:
    """A whole number."""
    if UNSET.fullmatch(value):
        return value
    if not re.fullmatch(r"\d+", value.strip()):
        raise ValueError("is no whole number")
    return int(value)


def seconds(value: str) -> str | int:
    """Seconds, as milliseconds."""
    return value if UNSET.fullmatch(value) else round(number(value) * 1000)


def milliseconds(value: str) -> str | int:
    """Milliseconds."""
    return f"{value}ms" if UNSET.fullmatch(value) else count(value)


def duration(value: str) -> int:
    """Seconds, or 1h30m and its like, as milliseconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    if not parts or "".join(n + unit for n, unit in parts) != value.strip():
        raise ValueError("is no time, such as 90, 30s or 1h30m")
    return round(sum(float(n) * _UNITS[unit] for n, unit in parts) * 1000)


def size(value: str) -> str | int:
    """Bytes; perhaps with k, m or g."""
    match = re.fullmatch(r"(\d+)\s*([kmg]?)b?", value.strip().lower())
    if UNSET.fullmatch(value):
        return value
    if not match:
        raise ValueError("is no number of bytes")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def megabytes(value: str) -> str | int:
    """Megabytes, as bytes."""
    return f"{value}m" if UNSET.fullmatch(value) else round(number(value) * 1048576)


def limit(value: str) -> str | int:
    """A size or a count of which 0 is no limit: the largest that there is."""
    found = size(value)
    return 1 << 62 if found == 0 else found


def mode(value: str) -> str | int:
    """An octal number."""
    if UNSET.fullmatch(value):
        return value
    if not re.fullmatch(r"(0o)?[0-7]+", value.strip().lower()):
        raise ValueError("is no octal number, such as 660")
    return int(value.strip().lower().removeprefix("0o"), 8)


def flag(value: str) -> bool:
    """On, unless it says that it is off."""
    return value.strip().lower() not in ("false", "off", "no", "0", "none")


def level(value: str) -> str:
    """The name of a level, as logging or Apache have it."""
    found = value.strip().lower()
    found = _LEVELS.get(re.sub(r"\d$", "", found), found)
    if found not in ("debug", "info", "warning", "error", "critical"):
        raise ValueError("is no level: write debug, info, warning, error or critical")
    return found


def prefix(value: str) -> str:
    """The beginning of a path."""
    found = value.strip().strip("/")
    return f"/{found}" if found else ""


READERS: dict[str, Callable[[str], str | int | bool]] = {
    "text": text,
    "list": text,
    "count": count,
    "seconds": seconds,
    "milliseconds": milliseconds,
    "duration": duration,
    "bytes": size,
    "megabytes": megabytes,
    "limit": limit,
    "mode": mode,
    "flag": flag,
    "level": level,
    "prefix": prefix,
}


def apply(result: Result, row: Row, given: Given) -> None:
    """Does with an option what its row says, and no more; not for those that `how` calls "own"."""
    note = row.note or ""
    if row.how == "flag" and row.verdict != "kept" and not flag(given.value):
        result.spare(given, "off")
    elif row.verdict == "cannot":
        result.refuse(given, row)
    elif row.verdict == "needless":
        result.spare(given, note)
    elif row.verdict == "dropped":
        result.drop(given, note)
    else:
        assert row.ours is not None and row.how is not None, row
        try:
            result.set(row.ours, READERS[row.how](given.value), given, row.note)
        except ValueError as error:
            result.wrong.append(f'{given.place}: {given.name}: "{given.value}" {error}')
