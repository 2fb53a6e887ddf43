"""The configuration files of uWSGI: ini, yaml and json; placeholders, conditions, loops, includes.

Ends with a list of options whose values are those that uWSGI would see. Nothing here knows what an
option means, but those that are part of this language.
"""

import glob
import grp
import json
import os
import pwd
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .common import Environment, read_text
from .result import Cannot, Given

LOADS = ("ini", "yaml", "yml", "json", "js", "config", "include", "inherit")
_ENDS = ("end", "endfor", "endif", "end-if", "end-for")
_KINDS = {".ini": "ini", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".js": "json"}
_DEEPEST = 32  # files that include each other, and placeholders in placeholders


def split_section(location: str) -> tuple[str, str]:
    """FILE:SECTION as both; the section is uwsgi unless given."""
    path, colon, section = location.rpartition(":")
    if not colon or "/" in section:
        return location, "uwsgi"
    return path, section or "uwsgi"


def kind_of(path: str) -> str:
    """ini, yaml or json. Cannot: another kind of file."""
    suffix = Path(path).suffix
    if suffix == ".xml":
        raise Cannot(
            f"{path}: XML is not read; write it as an ini: NAME = VALUE below the line [uwsgi]"
        )
    return _KINDS.get(suffix, "ini")


# ---- magic variables


class _Magic:
    """%d and its like: replaced in the whole text of a file."""

    def __init__(self) -> None:
        self.first: dict[str, str] | None = None

    def table(self, given: str, section: str) -> dict[str, str]:
        path = os.path.abspath(given) if os.path.islink(given) else os.path.realpath(given)
        directory, name = os.path.split(path)
        stem, dot, suffix = name.rpartition(".")
        found = {
            "o": given,
            "p": path,
            "s": name,
            "d": directory if directory.endswith("/") else f"{directory}/",
            "c": os.path.basename(directory),
            "e": suffix if dot else "",
            "n": stem if dot else name,
            "x": "" if section == "uwsgi" else section,
        }
        with_stat = os.stat(path)
        found["i"] = str(with_stat.st_ino)
        self.first = self.first or {key.upper(): value for key, value in found.items()}
        parts = [part for part in directory.split("/") if part][:10]
        user, group = os.getuid(), os.getgid()
        return {
            **{str(index): part for index, part in enumerate(parts)},
            **found,
            **self.first,
            "%": "%",
            "(": "%(",
            "v": os.getcwd(),
            "h": socket.gethostname(),
            "t": str(int(time.time())),
            "T": str(time.time_ns() // 1000),
            "V": "2.0",
            "k": str(os.cpu_count() or 1),
            "u": str(user),
            "U": _name(pwd.getpwuid, user),
            "g": str(group),
            "G": _name(grp.getgrgid, group),
        }

    def replace(self, text: str, given: str, section: str) -> str:
        table = self.table(given, section)
        return re.sub(r"%(.)", lambda match: table.get(match[1], ""), text)


def _name(find: Callable[[int], Sequence[object]], number: int) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


# ---- the formats: (name, value, line)


def _ini(text: str, path: str, asked: str) -> Iterator[tuple[str, str, int]]:
    section, sections = "", []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip(" \t\r\ufeff")
        if not line or line[0] in ";#":
            continue
        if line[0] == "[":
            section = line[1:-1]
            sections.append(section)
        elif section == asked:
            name, _, value = line.partition("=")
            yield name.rstrip(" \t"), value.strip(" \t"), number
    if asked not in sections:
        found = f"it has {', '.join(f'[{s}]' for s in sections)}" if sections else "it has none"
        raise Cannot(f"{path}: there is no section [{asked}]: {found}")


def _unquote(text: str) -> str:
    """A scalar of YAML: in quotes, or up to a comment."""
    text = text.strip()
    single = re.match(r"'((?:[^']|'')*)'\s*(#.*)?$", text)
    double = re.match(r'("(?:[^"\\]|\\.)*")\s*(#.*)?$', text)
    if single:
        return single[1].replace("''", "'")
    if double:
        try:
            return str(json.loads(double[1]))
        except ValueError:
            return double[1][1:-1]
    return re.sub(r"(^|\s)#.*$", "", text).rstrip()


def _yaml(text: str, path: str, asked: str) -> Iterator[tuple[str, str, int]]:
    """The part of YAML that such files are made of: one mapping of scalars and of lists of them."""
    inside, found, depth, name = False, False, 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#") or bare in ("---", "..."):
            continue
        indent = len(line) - len(line.lstrip(" "))
        if "\t" in line[:indent]:
            raise Cannot(f"{path}:{number}: YAML is indented with blanks, not with tabs")
        if not inside:
            inside = bool(re.fullmatch(rf"['\"]?{re.escape(asked)}['\"]?\s*:\s*(#.*)?", bare))
            found, depth = found or inside, indent
            continue
        if bare.startswith("- ") and name:
            yield name, _unquote(bare[2:]), number
            continue
        if indent <= depth:
            inside = False
            continue
        match = re.fullmatch(r"(['\"]?)([^'\":\s][^:'\"]*?)\1\s*:(?:\s+(.*))?", bare)
        if not match:
            raise Cannot(f"{path}:{number}: this is no NAME: VALUE")
        name, value = match[2], (match[3] or "").strip()
        flow = re.match(r"\[(.*)\]\s*(#.*)?$", value)
        if flow:
            for item in flow[1].split(","):
                yield name, _unquote(item), number
        elif value and not value.startswith("#"):
            yield name, _unquote(value), number
    if not found:
        raise Cannot(f"{path}: there is no mapping {asked}: at its top")


def _json(text: str, path: str, asked: str) -> Iterator[tuple[str, str, int]]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise Cannot(f"{path}:{error.lineno}: this is no JSON: {error.msg}") from None
    if not isinstance(found, dict) or not isinstance(found.get(asked), dict):
        raise Cannot(f'{path}: there is no object "{asked}" at its top')
    for name, value in found[asked].items():
        at = text.find(json.dumps(name))
        number = text.count("\n", 0, at) + 1 if at >= 0 else 1
        for item in value if isinstance(value, list) else [value]:
            if item is None or isinstance(item, bool):
                item = int(bool(item))
            yield name, str(item), number


# ---- the language


@dataclass
class Option:
    """One option as it is collected."""

    name: str
    value: str
    place: str
    written: str
    is_placeholder: bool = False


class Language:
    """Collects the options of files and command line in uWSGI's order."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.options: list[Option] = []
        self.custom: dict[str, str] = {}
        self.used: set[str] = set()  # names that a %(name) asks for
        self.problems: list[tuple[Given, str]] = []
        self._magic = _Magic()
        self._logic: tuple[str, str] | None = None
        self._failed = False
        self._depth = 0
        self._last_path = ""

    # -- collecting

    def load(self, location: str, place: str) -> None:
        """Reads a file. Cannot: it is not there, or is no such file."""
        path, section = split_section(location)
        path = path or self._last_path
        if "://" in path:
            raise Cannot(f"{place}: {location}: only files are read; save it as a file")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Cannot(f"{place}: {path}: these files include each other without an end")
        kind = kind_of(path)
        text = read_text(path, place)
        self._last_path = path
        text = self._magic.replace(text, path, section)
        reader = {"ini": _ini, "yaml": _yaml, "json": _json}[kind]
        shown = os.path.relpath(path) if not os.path.isabs(location) else path
        for name, value, line in list(reader(text, path, section)):
            self.add(name, value, f"{shown}:{line}")
        self._depth -= 1

    def add(self, name: str, value: str, place: str) -> None:
        """One option, in its turn."""
        name = name.strip()
        if name in _ENDS:
            self._logic, self._failed = None, False
            return
        if name == "else":
            self._logic = (name, "")
            return
        if self._logic:
            kind, argument = self._logic
            for item in self._items(kind, argument, place):
                self._insert(name, value.replace("%(_)", item), place)
        else:
            self._insert(name, value, place)

    def _items(self, kind: str, argument: str, place: str) -> list[str]:
        """How often the option counts, and with which %(_)."""
        if kind == "else":
            return [""] if self._failed else []
        if kind == "for":
            return argument.split()
        if kind == "for-glob":
            return sorted(glob.glob(argument)) or [argument]
        if kind == "for-times":
            return [str(n + 1) for n in range(int(argument) if argument.isdigit() else 0)]
        if kind == "for-readline":
            return read_text(argument, place).splitlines()
        try:
            holds, item = self._condition(kind, argument)
        except re.error as error:
            raise Cannot(f"{place}: {argument}: this is no regular expression: {error}") from None
        self._failed = not holds
        return [item] if holds else []

    def _condition(self, kind: str, argument: str) -> tuple[bool, str]:
        negated = kind.startswith("if-not-")
        subject = kind.removeprefix("if-not-").removeprefix("if-").removeprefix("if")
        name, equals, wanted = argument.partition("=")
        if subject in ("env", "opt"):
            value = self.environment.find(name) if subject == "env" else self._first(name)
            holds = value is not None and (not equals or value == wanted)
            return holds != negated, value or ""
        tests: dict[str, Callable[[str], bool]] = {
            "exists": os.path.exists,
            "file": os.path.isfile,
            "dir": os.path.isdir,
            "directory": os.path.isdir,
            "hostname": lambda text: socket.gethostname() == text,
            "hostname-match": lambda text: re.search(text, socket.gethostname()) is not None,
            "plugin": lambda text: text.startswith(("python", "http")),
            "reload": lambda text: False,
        }
        return tests[subject](argument) != negated, argument

    def _first(self, name: str) -> str | None:
        return next((o.value for o in self.options if o.name == name), None)

    def _insert(self, name: str, value: str, place: str) -> None:
        if name.startswith(("if-", "if", "for")) and self._is_logic(name):
            self._logic = (name, self._now(value))
        elif name in ("set", "set-placeholder", "set-ph"):
            key, equals, rest = value.partition("=")
            if not equals:
                raise Cannot(f"{place}: {name} = {value}: write {name} = NAME=VALUE")
            placeholder = name != "set"
            self.options.append(Option(key.strip(), rest, place, rest, placeholder))
        elif name in ("declare-option", "declare-option2"):
            key, _, template = value.partition("=")
            self.custom[key] = template
        elif name in ("xml", "xmlconfig"):
            kind_of(f"{value}.xml" if not value.endswith(".xml") else value)
        elif name in LOADS and name != "inherit":
            self.load(self._now(value), place)
        else:
            if name == "ienv":
                key, _, rest = value.partition("=")
                self.environment.variables[key] = self._now(rest)
            self.options.append(Option(name, value, place, value))

    @staticmethod
    def _is_logic(name: str) -> bool:
        return name in ("for", "for-glob", "for-times", "for-readline") or bool(
            re.fullmatch(
                r"if(-not)?-(env|opt|exists|file|dir|directory|hostname|hostname-match|plugin|reload)"
                r"|if(env|exists|dir|plugin)",
                name,
            )
        )

    def _now(self, value: str) -> str:
        """An argument that is needed at once."""
        return self._expand(self._expand(value, "$", self._variable), "%", self._placeholder)

    # -- expanding

    def finish(self) -> list[Given]:
        """All options, with their values expanded; custom ones as what they stand for."""
        for option in [o for o in self.options if o.name == "inherit"]:
            self.options.remove(option)
            self.load(self._now(option.value), option.place)
        for symbol, find in (("$", self._variable), ("@", self._file), ("%", self._placeholder)):
            for option in self.options:
                option.value = self._expand(option.value, symbol, find)
        found = []
        for option in self.options:
            for one in self._uncustom(option):
                if not one.is_placeholder:
                    found.append(Given(one.name, one.value, one.place, one.written))
        return found

    def _uncustom(self, option: Option) -> list[Option]:
        if option.name not in self.custom:
            return [option]
        words = option.value.split(" ")
        made = []
        for part in self.custom[option.name].split(";"):
            for number, word in enumerate(words, 1):
                part = part.replace(f"${number}", word)
            name, equals, value = part.partition("=")
            if equals:
                made.append(replace(option, name=name, value=value, written=value))
        return made

    def _expand(self, value: str, symbol: str, find: Callable[[str], str | None]) -> str:
        """Replaces SYMBOL(NAME) as often as there is one that `find` knows."""
        pattern = re.compile(re.escape(symbol) + r"\(([^()]+)\)")
        at = rounds = 0
        while match := pattern.search(value, at):
            found = find(match[1])
            rounds += 1
            if found is None or rounds > _DEEPEST:
                at = match.end()
            else:
                value = value[: match.start()] + found + value[match.end() :]
                at = 0
        return value

    def _variable(self, key: str) -> str | None:
        match = re.fullmatch(r"(\w+)(:?)-(.*)", key)
        if not match:
            return self.environment.find(key)
        value = self.environment.find(match[1])
        return match[3] if value is None or (match[2] and not value) else value

    def _file(self, path: str) -> str | None:
        return read_text(path, f"@({path})").removesuffix("\n")

    def _placeholder(self, key: str) -> str | None:
        words = key.split()
        if len(words) == 1:
            self.used.add(key)
            return self._first(key)
        result: str | None = None
        operator = ""
        for word in words:
            if word in ("+", "-", "*", "/"):
                operator = word
            elif word in ("++", "--"):
                result = str(_integer(result) + (1 if word == "++" else -1))
            else:
                self.used.add(word)
                value = word if word.isdigit() else self._first(word) or ""
                result = _combine(result, operator, value)
                operator = ""
        return result


def _integer(text: str | None) -> int:
    match = re.match(r"\s*[-+]?\d+", text or "")
    return int(match[0]) if match else 0


def _combine(left: str | None, operator: str, right: str) -> str:
    a, b = _integer(left), _integer(right)
    if operator == "":
        return (left or "") + right
    if operator == "/":
        return str(a // b if b else 0)
    return str({"+": a + b, "-": a - b, "*": a * b}[operator])
