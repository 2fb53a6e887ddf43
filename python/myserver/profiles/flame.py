"""A flame graph as one HTML file that needs no other: it zooms, searches, and compares."""

import html
import json
from pathlib import Path
from typing import Any

from myserver.profiles.formats import short
from myserver.profiles.profile import KIND_NAMES, KINDS, Frame, Profile, Stack

# Rectangles that are less than this part of the whole are nowhere visible, even when zoomed to the
# parents of most; leaving them out keeps the file small.
_LEAST = 1 / 20000


class _Node:
    """A frame below its callers: its times in `values`, one for each graph of the file."""

    def __init__(self, frame: Frame, count: int) -> None:
        self.frame = frame
        self.values = [0.0] * count
        self.below: dict[Frame, _Node] = {}

    def add(self, stack: Stack, index: int, seconds: float) -> None:
        """Adds a stack below this one."""
        at = self
        at.values[index] += seconds
        for frame in stack:
            node = at.below.get(frame)
            if node is None:
                node = at.below[frame] = _Node(frame, len(self.values))
            at = node
            at.values[index] += seconds

    def rows(self, least: list[float], frames: dict[Frame, int]) -> list[Any]:
        """[frame, values, children], for the page."""
        below = [
            node.rows(least, frames)
            for _, node in sorted(self.below.items(), key=lambda item: item[0])
            if any(v > low for v, low in zip(node.values, least, strict=True))
        ]
        values = [round(value * 1000, 3) for value in self.values]
        return [frames.setdefault(self.frame, len(frames)), values, below]


def _page(title: str, tree: _Node, graphs: list[str], compares: bool, notes: str) -> str:
    frames: dict[Frame, int] = {}
    rows = tree.rows([value * _LEAST for value in tree.values], frames)
    data = {
        "graphs": graphs,
        "compares": compares,
        "frames": [[f.name, short(f.file), f.first_line] for f in frames],
        "tree": rows,
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = Path(__file__).with_name("flame.html").read_text(encoding="utf-8")
    values = {"TITLE": html.escape(title), "NOTES": html.escape(notes), "DATA": text}
    for name, value in values.items():
        page = page.replace(f"@{name}@", value)
    return page


def _notes(profile: Profile) -> str:
    notes = []
    if profile.lost:
        notes.append(f"{profile.lost} samples came faster than they were read, and are missing.")
    if profile.slowed:
        notes.append("A sampler looked less often, to stay below 1 % of a CPU.")
    return " ".join(notes)


def flame(profile: Profile, kind: str) -> str:
    """The page, with a graph for each kind of time; `kind` is shown first."""
    kinds = [kind, *(other for other in KINDS if other != kind)]
    tree = _Node(Frame("all", "", 0, 0), len(kinds))
    for index, each in enumerate(kinds):
        for stack, seconds in profile.stacks(each).items():
            tree.add(stack, index, float(seconds))
    title = f"myserver: {profile.title}"
    return _page(title, tree, [KIND_NAMES[each] for each in kinds], False, _notes(profile))


def difference(before: Profile, after: Profile, kind: str) -> str:
    """The page that compares: as wide as `after`, coloured by how much more or less it is.

    Both are shares of their whole, as they may have been taken for different times and loads.
    """
    tree = _Node(Frame("all", "", 0, 0), 2)
    for index, profile in enumerate((after, before)):
        stacks = profile.stacks(kind)
        total = sum(stacks.values()) or 1
        for stack, seconds in stacks.items():
            tree.add(stack, index, float(seconds) / float(total))
    title = f"myserver: {KIND_NAMES[kind]}, {before.title} and then {after.title}"
    return _page(title, tree, ["after", "before"], True, _notes(after))


def difference_text(before: Profile, after: Profile, kind: str, rows: int = 15) -> str:
    """The functions whose share has changed most, as text."""
    shares: dict[Frame, list[float]] = {}
    for index, profile in enumerate((before, after)):
        total = float(sum(profile.stacks(kind).values())) or 1.0
        for frame, own, _ in profile.by_function(kind):
            shares.setdefault(frame, [0.0, 0.0])[index] = own / total
    changed = sorted(shares.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    out = [f"Functions by {KIND_NAMES[kind]} in themselves", " before   after  change"]
    for frame, (first, then) in changed[:rows]:
        place = f"{frame.name} ({short(frame.file)}:{frame.first_line})"
        out.append(f" {first:6.1%}  {then:6.1%} {then - first:+7.1%}  {place}")
    return "\n".join(out) + "\n"
