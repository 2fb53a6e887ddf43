"""What a conversion has found so far, and the ini that it becomes."""

import os
import re
import textwrap
from dataclasses import dataclass, field

from .tables import Ours, Row

WIDTH = 100
_VARIABLE = re.compile(r"\$\((\w+)(:?-[^()]*)?\)")  # of uWSGI
_OF_LINE = re.compile(r"\$\{(\w+)(:-[^{}]*)?\}")  # of a command line


class Cannot(Exception):
    """Nothing can be converted; the argument is one sentence that says where, why, and what to do."""


@dataclass(frozen=True)
class Given:
    """One option as it was given. `value` has its variables replaced, where they are set; `written`
    is the text that stands there."""

    name: str
    value: str
    place: str  # "app.ini:3", "command line"
    written: str = ""

    def shown(self) -> str:
        """As the user would recognize it."""
        text = self.written or self.value
        if self.place.startswith(("command line", "GUNICORN_CMD_ARGS")):
            return f"--{self.name} {text}".rstrip()
        return f"{self.name} = {text}" if text else self.name


@dataclass
class Setting:
    """One line of the ini."""

    name: str
    text: str  # as it stands in the file
    given: Given | None  # None: it follows from others
    note: str | None

    @property
    def origin(self) -> str:
        """Where it comes from."""
        return f"{self.given.name}, {self.given.place}" if self.given else ""


@dataclass
class Remark:
    """An option that became no setting."""

    given: Given
    note: str


@dataclass
class Result:
    """Filled by the module of a server; printed by the command."""

    server: str
    source: str  # the file, or the command line
    ours: dict[str, Ours]
    settings: list[Setting] = field(default_factory=list)
    needless: list[Remark] = field(default_factory=list)
    dropped: list[Remark] = field(default_factory=list)
    wrong: list[str] = field(
        default_factory=list
    )  # sentences: options that the server does not know
    hints: list[str] = field(default_factory=list)  # paragraphs above the settings
    nginx: list[str] = field(default_factory=list)  # lines; a sentence begins with #
    unset: set[str] = field(default_factory=set)  # variables of the settings that have no value now

    # ---- adding

    def drop(self, given: Given, note: str) -> None:
        """Something that is not kept."""
        self.dropped.append(Remark(given, note))

    def spare(self, given: Given, note: str) -> None:
        """Something that needs no setting."""
        self.needless.append(Remark(given, note))

    def refuse(self, given: Given, row: Row) -> None:
        """Something with which nothing can be served."""
        raise Cannot(f"{given.place}: {given.name}: {row.note}")

    def has(self, name: str) -> bool:
        """Whether there is a setting of that name."""
        return any(s.name == name for s in self.settings)

    def remove(self, name: str) -> None:
        """Takes back all settings of that name."""
        self.settings = [s for s in self.settings if s.name != name]

    def set(
        self,
        name: str,
        value: str | int | float | bool,
        given: Given | None = None,
        note: str | None = None,
    ) -> None:
        """Adds a setting; one that cannot be repeated replaces the one before.

        A number counts what the option's type counts: bytes, milliseconds, things. One that is out
        of range becomes the nearest that is not, and the note says so.
        """
        option = self.ours[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            bound = min(max(value, option.least), option.most)
            if bound != value:
                side = "least" if bound > value else "most"
                clamped = f"the {side} that there is here"
                note = f"{note}; {clamped}" if note else clamped
            text = _spell(option, bound)
        else:
            text = _spell(option, value)
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]|(^|\s);", text) or text != text.strip():
            lost = given or Given(name, text, self.source)
            self.drop(lost, f"an ini file cannot hold this value of {name}")
            return
        if not option.repeatable:
            self._say_replaced(name, text, given)
            self.remove(name)
        elif any(s.name == name and s.text == self._escape(text, given) for s in self.settings):
            return
        self.settings.append(Setting(name, self._escape(text, given), given, note))

    def _say_replaced(self, name: str, text: str, given: Given | None) -> None:
        """What another option has set is not kept, where one comes that sets the same otherwise."""
        for before in self.settings:
            if before.name == name and before.given and given and before.text != text:
                if before.given.name != given.name:
                    self.drop(before.given, f"there is one {name}, which is that of {given.name}")

    def _escape(self, text: str, given: Given | None) -> str:
        """With $ doubled, but in variables: those of a command line, and those of uWSGI as ours where
        the value has them as they were."""
        out = text.replace("$", "$$")
        if given and given.place == "command line":
            for match in _OF_LINE.finditer(text):
                out = out.replace("$" + match[0], match[0])
                if match[2] is None and match[1] not in os.environ:
                    self.unset.add(match[1])
        if self.server != "uWSGI":
            return out
        for match in _VARIABLE.finditer(text):  # not set: the text has stayed as it was
            out = out.replace("$" + match[0], "${" + match[1] + "}")
            self.unset.add(match[1])
        if given and given.written != given.value and given.value and given.value in text:
            variables = list(_VARIABLE.finditer(given.written))
            if variables and "%(" not in given.written and "@(" not in given.written:
                kept = given.written.replace("$", "$$")
                for match in variables:
                    if match[2]:
                        return out  # a default: the value of now
                    kept = kept.replace("$" + match[0], "${" + match[1] + "}")
                before, _, after = text.partition(given.value)
                out = before.replace("$", "$$") + kept + after.replace("$", "$$")
        return out

    # ---- rendering

    def status(self) -> int:
        """The exit status: 0 all is kept, 1 something is not."""
        return 1 if self.dropped or self.wrong else 0

    def ini(self) -> str:
        """The whole file."""
        lines = [f"# Written by myserver convert from {self.source} ({self.server})."]
        lines += ["# myserver --check-config -c FILE tries it without opening a socket."]
        for hint in self.hints:
            lines += ["#", *_comment(hint)]
        lines += ["", "[myserver]"]
        for name in self.ours:
            for setting in (s for s in self.settings if s.name == name):
                lines += self._setting(setting)
        lines += _remarks("Not needed here", self.needless)
        lines += _remarks("Not kept", self.dropped)
        if self.wrong:
            lines += ["", "# Wrong there:"]
            for sentence in self.wrong:
                lines += _comment(sentence)
        if self.nginx:
            lines += ["", "# nginx:"]
            for line in self.nginx:
                lines += _comment(line[2:]) if line.startswith("# ") else [f"#     {line}"]
        return "\n".join(lines) + "\n"

    def _setting(self, setting: Setting) -> list[str]:
        line = f"{setting.name} = {setting.text}"
        if setting.origin:
            line = f"{line:<39} ; {setting.origin}"
        return [*(_comment(setting.note) if setting.note else []), line]

    def summary(self) -> str:
        """What standard error gets."""
        kept, needless, dropped = len(self.settings), len(self.needless), len(self.dropped)
        lines = [f"myserver convert: {sentence}" for sentence in self.wrong]
        lines += [
            f"myserver convert: {r.given.place}: not kept: {r.given.shown()}: {r.note}"
            for r in self.dropped
        ]
        lines.append(
            f"myserver convert: {self.source}: {kept} settings, {needless} options not needed, "
            f"{dropped} not kept" + ("" if self.status() else ": all is kept")
        )
        if self.unset:
            names = ", ".join(sorted(self.unset))
            lines.append(f"myserver convert: not set now, and asked for at the start: {names}")
        return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _remarks(title: str, remarks: list[Remark]) -> list[str]:
    lines = ["", f"# {title}:"] if remarks else []
    by_note: dict[str, list[str]] = {}
    for remark in remarks:
        shown = f"{remark.given.shown()} ({remark.given.place})"
        by_note.setdefault(remark.note, []).append(shown)
    for note, shown_all in by_note.items():
        lines += _comment(f"{', '.join(shown_all)}: {note}")
    return lines


def _spell(option: Ours, value: str | int | float | bool) -> str:
    """A value as the ini has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    number = int(value)
    if option.type == "DURATION":
        return f"{number // 1000}s" if number % 1000 == 0 else f"{number}ms"
    if option.type == "MODE":
        return f"{number:04o}"
    if option.type == "SIZE" and number:
        for power, unit in ((30, "g"), (20, "m"), (10, "k")):
            if number % (1 << power) == 0:
                return f"{number >> power}{unit}"
    return str(number)
