"""A command line as it stands in a unit, a Dockerfile, a Procfile or a script: what starts the server,
what it is given, and what stands around it."""

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .result import Cannot

_LABEL = re.compile(
    r"\s*(?:Exec\w+=\s*[-@:+!|]*|(?:CMD|ENTRYPOINT|RUN)\s+|(?:[A-Za-z][\w-]*:)(?=\s)|- )\s*"
)
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh")
_PYTHON = re.compile(r"(.*/)?(python|pypy)[\d.]*")
_NAME = re.compile(r"\$(?:\{(\w+)(?::?-([^{}]*))?\}|(\w+))")

# What an option of the interpreter is as a variable of its environment; None: its value is that.
_INTERPRETER = {
    "u": ("PYTHONUNBUFFERED", "1"),
    "B": ("PYTHONDONTWRITEBYTECODE", "1"),
    "O": ("PYTHONOPTIMIZE", "1"),
    "OO": ("PYTHONOPTIMIZE", "2"),
    "v": ("PYTHONVERBOSE", "1"),
    "P": ("PYTHONSAFEPATH", "1"),
    "W": ("PYTHONWARNINGS", None),
    "Xdev": ("PYTHONDEVMODE", "1"),
    "Xfaulthandler": ("PYTHONFAULTHANDLER", "1"),
    "Xutf8": ("PYTHONUTF8", "1"),
}


@dataclass
class Line:
    """One command, taken apart."""

    program: str
    arguments: list[str]
    variables: dict[str, str] = field(default_factory=dict)  # in front of it
    front: list[str] = field(default_factory=list)  # what starts it, such as ddtrace-run
    python: str = ""  # the interpreter that runs it, if it is named
    lost: list[str] = field(default_factory=list)  # options of the interpreter without an equal
    redirected: list[str] = field(default_factory=list)  # >FILE, 2>&1
    others: list[str] = field(default_factory=list)  # other commands of the same line
    computed: list[str] = field(default_factory=list)  # what only a shell can tell


@dataclass
class _Command:
    words: list[str] = field(default_factory=list)
    redirected: list[str] = field(default_factory=list)
    text: str = ""


class _Shell:
    """Splits a text as a shell does, but keeps variables: $NAME as ${NAME}."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.began = 0
        self.word: str | None = None
        self.target: str | None = None  # of a redirection whose file is the next word
        self.commands = [_Command()]
        self.computed: list[str] = []

    def split(self) -> list[_Command]:
        """The commands. Cannot: a quote has no end."""
        while self.at < len(self.text):
            c = self.text[self.at]
            if c in " \t\r":
                self._end_word()
                self.at += 1
            elif c in ";&|\n" and not self.text.startswith("&>", self.at):
                self._end_command()
            elif c in "<>" or self.text.startswith("&>", self.at):
                self._redirect()
            elif c == "\\":
                after = self.text[self.at + 1 : self.at + 2]
                if after != "\n":
                    self._add(after)
                self.at += 2
            elif c in "'\"":
                self._quoted(c)
            else:
                self._plain()
        self._end_word()
        self.commands[-1].text = self.text[self.began :].strip()
        return [command for command in self.commands if command.words]

    def _add(self, text: str) -> None:
        self.word = (self.word or "") + text

    def _end_word(self) -> None:
        if self.word is None:
            return
        if self.target is not None:
            self.commands[-1].redirected.append(f"{self.target}{shlex.quote(self.word)}")
        else:
            self.commands[-1].words.append(self.word)
        self.word = self.target = None

    def _end_command(self) -> None:
        self._end_word()
        self.commands[-1].text = self.text[self.began : self.at].strip()
        while self.text[self.at : self.at + 1] in (";", "&", "|", "\n"):
            self.at += 1
        self.began = self.at
        self.commands.append(_Command())

    def _redirect(self) -> None:
        match = re.compile(r"&>>?|[<>]+[|&]?").match(self.text, self.at)
        assert match
        number = self.word if self.word and self.word.isdigit() else ""
        if number:
            self.word = None
        self._end_word()
        self.target = number + match[0]
        self.at = match.end()

    def _quoted(self, quote: str) -> None:
        self._add("")
        self.at += 1
        while self.text[self.at : self.at + 1] != quote:
            if self.at >= len(self.text):
                raise Cannot(f"command line: {self.text}: no closing quotation")
            c = self.text[self.at]
            if quote == '"' and c == "\\" and self.text[self.at + 1 : self.at + 2] in '"\\$`\n':
                self._add(self.text[self.at + 1].strip("\n"))
                self.at += 2
            elif quote == '"':
                self._plain()
            else:
                self._add(c)
                self.at += 1
        self.at += 1

    def _plain(self) -> None:
        c = self.text[self.at]
        name = _NAME.match(self.text, self.at)
        if name:
            default = f":-{name[2]}" if name[2] is not None else ""
            self._add(f"${{{name[1] or name[3]}{default}}}")
            self.at = name.end()
        elif c == "`" or self.text.startswith("$(", self.at):
            begin = self.at
            self.at = _substitution_end(self.text, begin)
            self.computed.append(self.text[begin : self.at])
            self._add(self.text[begin : self.at])
        else:
            self._add(c)
            self.at += 1


def _substitution_end(text: str, at: int) -> int:
    if text[at] == "`":
        end = text.find("`", at + 1)
        return end + 1 if end >= 0 else len(text)
    depth = 0
    for i in range(at + 1, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    return len(text)


def _program_at(words: Sequence[str], is_program: Callable[[str], bool]) -> int | None:
    """Where the program stands: behind variables, and whatever starts it (exec, env, ddtrace-run).
    What stands behind an option is its value, as in sudo -u uwsgi, if a program comes later."""
    found = [index for index, word in enumerate(words) if is_program(word)]
    if not found:
        return None

    def follows_option(index: int) -> bool:
        before = words[index - 1] if index else ""
        return before.startswith("-") and before not in ("-m", "--")

    if follows_option(found[0]) and len(found) > 1 and not follows_option(found[1]):
        return found[1]
    return found[0]


def _interpreter_options(words: list[str], line: Line) -> None:
    """What stands between python and its -m."""
    rest = [w for w in words if w != "-m"]
    while rest:
        word = rest.pop(0)
        letters = word[1:]
        if word in ("-W", "-X") and rest:
            letters += rest.pop(0)
        known = _INTERPRETER.get("W" if letters.startswith("W") else letters)
        if known:
            line.variables[known[0]] = known[1] or letters[1:]
        else:
            line.lost.append(word if len(word) == 2 or word in letters else f"-{letters}")


def _take_front(words: list[str], line: Line) -> None:
    at = next(
        (
            i
            for i in reversed(range(len(words)))
            if _PYTHON.fullmatch(words[i]) and (i + 1 == len(words) or words[i + 1][:1] == "-")
        ),
        None,
    )
    if at is not None:
        line.python = words[at]
        _interpreter_options(words[at + 1 :], line)
        words = words[:at]
    while words:
        name, equals, value = words[0].partition("=")
        is_variable = bool(equals) and name.isidentifier()
        if is_variable:
            line.variables[name] = value
        elif words[0] != "exec" and not (
            os.path.basename(words[0]) == "env" and not (words + [""])[1].startswith("-")
        ):
            break
        words = words[1:]
    line.front = words


def read(arguments: Sequence[str], is_program: Callable[[str], bool]) -> Line | None:
    """Takes a command line apart: one text, or its words. None: no such program is in it."""
    if len(arguments) != 1:
        return _read_words(list(arguments), is_program)
    text = arguments[0]
    label = _LABEL.match(text)
    text = text[label.end() :] if label else text
    if label and label[0].lstrip().startswith("Exec"):
        specifier = re.search(r"(?<!%)(?:%%)*(%[A-Za-z])", text)
        if specifier:
            raise Cannot(
                f"command line: systemd computes {specifier[1]}: write its value, or a variable "
                f"that Environment= has, such as ${{INSTANCE}} of Environment=INSTANCE={specifier[1]}"
            )
        text = text.replace("%%", "%")
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(w, str) for w in words):
            return _read_words(words, is_program)
    shell = _Shell(text)
    commands = shell.split()
    for command in commands:
        line = _read_words(command.words, is_program)
        if line:
            line.redirected += command.redirected
            line.computed += shell.computed
            line.others += [other.text for other in commands if other is not command]
            return line
    return None


def _read_words(words: list[str], is_program: Callable[[str], bool]) -> Line | None:
    """One command, or what a shell is told to run."""
    for index, word in enumerate(words[:-2]):
        if os.path.basename(word) in _SHELLS and re.fullmatch(r"-[a-z]*c", words[index + 1]):
            return read([words[index + 2]], is_program)
    at = _program_at(words, is_program)
    if at is None:
        return None
    line = Line(words[at], words[at + 1 :])
    _take_front(words[:at], line)
    return line
