"""Profiles as other tools read them: collapsed stacks, speedscope, pprof; and as text."""

import gzip
import json
import re
from collections.abc import Iterable
from io import BytesIO

from myserver.profiles.profile import KIND_NAMES, KINDS, Frame, Profile

# ---- collapsed stacks: flamegraph.pl, inferno, and most others


def label(frame: Frame, lines: bool = False) -> str:
    """A frame as one text: "name (file:line)"; a view as its name."""
    if not frame.file:
        return frame.name
    return f"{frame.name} ({short(frame.file)}:{frame.line if lines else frame.first_line})"


def short(file: str) -> str:
    """The part of a path that tells most: behind site-packages, or the library's own."""
    return re.sub(r"^.*/(?:(?:site|dist)-packages|python3\.\d+)/", "", file)


def collapsed(profile: Profile, kind: str) -> str:
    """A line for each stack: the frames, outermost first, and its microseconds."""
    lines = []
    for stack, seconds in profile.stacks(kind).items():
        names = (label(frame).replace(";", ":") for frame in stack)
        lines.append(f"{';'.join(names)} {max(1, round(seconds * 1e6))}")
    return "".join(f"{line}\n" for line in sorted(lines))


# ---- speedscope: https://www.speedscope.app/file-format-schema.json


def speedscope(profile: Profile) -> str:
    """One profile of the sampled type for each kind of time that there is."""
    numbers: dict[Frame, int] = {}
    profiles = []
    for kind in KINDS:
        stacks = profile.stacks(kind)
        if not stacks:
            continue
        weights = [round(seconds, 6) for seconds in stacks.values()]
        samples = [[numbers.setdefault(frame, len(numbers)) for frame in stack] for stack in stacks]
        profiles.append(
            {
                "type": "sampled",
                "name": KIND_NAMES[kind],
                "unit": "seconds",
                "startValue": 0,
                "endValue": round(sum(weights), 6),
                "samples": samples,
                "weights": weights,
            }
        )
    frames = [
        {"name": f.name, "file": f.file, "line": f.first_line} if f.file else {"name": f.name}
        for f in numbers
    ]
    return json.dumps(
        {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "name": f"myserver: {profile.title}",
            "exporter": "myserver",
            "activeProfileIndex": 0,
            "shared": {"frames": frames},
            "profiles": profiles,
        }
    )


# ---- pprof: github.com/google/pprof/blob/main/proto/profile.proto, gzipped


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _packed(field: int, values: Iterable[int]) -> bytes:
    return _bytes(field, b"".join(map(_varint, values)))


class _Pprof:
    """A profile.proto in the making: texts, functions and locations get numbers as they come."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {"": 0}
        self.functions: dict[Frame, int] = {}
        self.locations: dict[Frame, int] = {}
        self.out = BytesIO()

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def value_type(self, field: int, name: str, unit: str) -> None:
        inner = _number(1, self.text(name)) + _number(2, self.text(unit))
        self.out.write(_bytes(field, inner))

    def location(self, frame: Frame) -> int:
        known = self.locations.get(frame)
        if known:
            return known
        function = self._function(frame.function())
        number = self.locations[frame] = len(self.locations) + 1
        line = _number(1, function) + _number(2, frame.line)
        self.out.write(_bytes(4, _number(1, number) + _bytes(4, line)))
        return number

    def _function(self, frame: Frame) -> int:
        known = self.functions.get(frame)
        if known:
            return known
        number = self.functions[frame] = len(self.functions) + 1
        name = self.text(frame.name)
        inner = _number(1, number) + _number(2, name) + _number(3, name)
        inner += _number(4, self.text(frame.file)) + _number(5, frame.first_line)
        self.out.write(_bytes(5, inner))
        return number


def pprof(profile: Profile) -> bytes:
    """All kinds of time as values of each sample, in nanoseconds, with view and thread as labels."""
    made = _Pprof()
    for kind in KINDS:
        made.value_type(1, kind, "nanoseconds")
    view, thread = made.text("view"), made.text("thread")
    for place, times in profile.places.items():
        locations = [made.location(frame) for frame in reversed(place.stack)]
        inner = _packed(1, locations)
        inner += _packed(2, [round(value(times) * 1e9) for value in KINDS.values()])
        inner += _bytes(3, _number(1, view) + _number(2, made.text(place.view)))
        inner += _bytes(3, _number(1, thread) + _number(2, made.text(place.thread)))
        made.out.write(_bytes(2, inner))
    made.value_type(11, "cpu", "nanoseconds")
    made.out.write(_number(10, round(profile.seconds * 1e9)))
    made.out.write(_number(14, made.text("cpu")))
    for text in made.texts:  # the last: all that was needed is known now
        made.out.write(_bytes(6, text.encode(errors="replace")))
    return gzip.compress(made.out.getvalue(), mtime=0)


# ---- text


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:5.1f}%" if whole else "    -"


def report(profile: Profile, kind: str, rows: int = 15) -> str:
    """The views, the hot functions, and what the views wait for that mostly wait."""
    out = [f"{profile.title or 'profile'}, {profile.seconds:.1f} s"]
    out += _views(profile, rows)
    total = sum(profile.stacks(kind).values())
    out += ["", f"Functions by {KIND_NAMES[kind]}, {total:.2f} s in all", "   self   total"]
    for frame, own, whole in profile.by_function(kind)[:rows]:
        out.append(f" {_percent(own, total)}  {_percent(whole, total)}  {label(frame)}")
    out += _waiting(profile, rows)
    return "\n".join(out) + "\n"


def _views(profile: Profile, rows: int) -> list[str]:
    out = ["", "Where the threads were      wall s    cpu  GIL wait  waiting"]
    for view, times in profile.by_view()[:rows]:
        out.append(
            f"  {view[:24]:24} {times.wall:8.2f} {_percent(times.cpu, times.wall)}"
            f"    {_percent(times.gil_wait, times.wall)}   {_percent(times.waiting, times.wall)}"
        )
    return out


MOSTLY = 0.8  # a view that waits for this part of its time only waits


def _waiting(profile: Profile, rows: int) -> list[str]:
    """For each view that only waits: where, the innermost frames first."""
    out: list[str] = []
    stacks = profile.stacks("wait", lines=True)
    for view, times in profile.by_view():
        if times.wall <= 0 or times.waiting < MOSTLY * times.wall:
            continue
        found = sorted(
            ((s, seconds) for s, seconds in stacks.items() if s[0].name == view),
            key=lambda item: -item[1],
        )
        for stack, seconds in found[:3]:
            chain = " < ".join(label(frame, lines=True) for frame in reversed(stack[1:][-4:]))
            out.append(f"  {seconds:8.2f} s  {view}: {chain}")
    return ["", "Views that only wait, and where", *out[:rows]] if out else []


def lines_of(profile: Profile, kind: str, name: str) -> str:
    """Seconds by line of each function of that name: in the line itself, and in all it calls.

    ValueError: no function of that name was seen.
    """
    own: dict[Frame, float] = {}
    whole: dict[Frame, float] = {}
    for stack, seconds in profile.stacks(kind, with_views=False, lines=True).items():
        for frame in {f for f in stack if _is_named(f, name)}:
            whole[frame] = whole.get(frame, 0.0) + float(seconds)
            if stack[-1] == frame:
                own[frame] = own.get(frame, 0.0) + float(seconds)
    if not whole:
        raise ValueError(f"no function {name} was seen")
    out = []
    for function in sorted({frame.function() for frame in whole}):
        found = sorted(f for f in whole if f.function() == function)
        total = sum(whole[f] for f in found)
        out.append(f"{label(function)}: {total:.2f} s of {KIND_NAMES[kind]}")
        source = _source(function.file)
        for f in found:
            text = source[f.line - 1].rstrip() if 0 < f.line <= len(source) else ""
            out.append(
                f"{f.line:6} {_percent(own.get(f, 0.0), total)} {_percent(whole[f], total)}  {text}"
            )
    return "\n".join(["  line    self   total", *out]) + "\n"


def _is_named(frame: Frame, name: str) -> bool:
    return frame.name == name or frame.name.endswith((f".{name}", f".<locals>.{name}"))


def _source(file: str) -> list[str]:
    try:
        with open(file, encoding="utf-8", errors="replace") as source:
            return source.read().splitlines()
    except OSError:
        return []
