"""What a profile is: where threads were, for how long, and what they did there.

One `Profile` holds spans that were added up: for each view, thread and stack the seconds of wall
time, and how much of them the thread computed, had the GIL, or waited for it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

APPLICATION_THREAD = "(thread of the application)"
OTHER_VIEW = "(other)"


class Frame(NamedTuple):
    """A line of a function that runs; `first_line` is where the function begins."""

    name: str
    file: str
    first_line: int
    line: int

    def function(self) -> "Frame":
        """The function alone, whatever line of it runs."""
        return self._replace(line=0)


Stack = tuple[Frame, ...]  # outermost first


class Place(NamedTuple):
    """What spans are added up by. `thread` is like "worker 1 thread 2"."""

    view: str
    thread: str
    stack: Stack


@dataclass
class Times:
    """Seconds. `waiting` is what is neither computing nor waiting for the GIL."""

    wall: float = 0.0
    cpu: float = 0.0
    gil: float = 0.0
    gil_wait: float = 0.0

    @property
    def waiting(self) -> float:
        """Time in which it waited for something else than the GIL."""
        return max(0.0, self.wall - self.cpu - self.gil_wait)

    def add(self, other: "Times") -> None:
        """Adds another one to this."""
        self.wall += other.wall
        self.cpu += other.cpu
        self.gil += other.gil
        self.gil_wait += other.gil_wait


# What may be looked at: the name on the command line, and the time it means.
KINDS: dict[str, Callable[[Times], float]] = {
    "cpu": lambda times: times.cpu,
    "wall": lambda times: times.wall,
    "gil": lambda times: times.gil,
    "wait": lambda times: times.waiting,
}
KIND_NAMES = {
    "cpu": "CPU time",
    "wall": "wall time",
    "gil": "time with the GIL",
    "wait": "time waiting, not for the GIL",
}


@dataclass
class Profile:
    """The sum of many spans."""

    places: dict[Place, Times] = field(default_factory=dict)
    seconds: float = 0.0  # how long was looked
    lost: int = 0  # spans that were overwritten before they were read
    slowed: bool = False  # a sampler looked less often, to stay within its budget
    title: str = ""

    def add(self, place: Place, times: Times) -> None:
        """Adds a span."""
        self.places.setdefault(place, Times()).add(times)

    def only(self, view: str) -> "Profile":
        """What belongs to views whose name has `view` in it."""
        found = {place: times for place, times in self.places.items() if view in place.view}
        return Profile(found, self.seconds, self.lost, self.slowed, self.title)

    def stacks(self, kind: str, with_views: bool = True, lines: bool = False) -> Counter[Stack]:
        """Seconds of that kind by stack, without those that have none.

        The outermost frame is the view, if wanted. Without `lines` the lines of a function are one.
        """
        found: Counter[Stack] = Counter()
        for place, times in self.places.items():
            seconds = KINDS[kind](times)
            if seconds <= 0:
                continue
            stack = place.stack if lines else tuple(frame.function() for frame in place.stack)
            root = (Frame(place.view, "", 0, 0),) if with_views else ()
            found[root + stack] += seconds  # type: ignore[assignment]
        return found

    def by_function(self, kind: str) -> list[tuple[Frame, float, float]]:
        """(function, seconds in itself, seconds in it and what it calls), most first."""
        own: Counter[Frame] = Counter()
        whole: Counter[Frame] = Counter()
        for stack, seconds in self.stacks(kind, with_views=False).items():
            if not stack:
                continue
            own[stack[-1]] += seconds
            for frame in set(stack):
                whole[frame] += seconds
        return sorted(
            ((frame, float(own[frame]), float(whole[frame])) for frame in whole),
            key=lambda row: (-row[1], -row[2], row[0]),
        )

    def by_view(self) -> list[tuple[str, Times]]:
        """The times of each view, the longest first."""
        found: dict[str, Times] = {}
        for place, times in self.places.items():
            found.setdefault(place.view, Times()).add(times)
        return sorted(found.items(), key=lambda item: -item[1].wall)

    # ---- as a file of this program's own, for --diff

    def to_json(self) -> str:
        """The whole profile as text."""
        frames: dict[Frame, int] = {}
        rows = [
            [
                place.view,
                place.thread,
                [frames.setdefault(frame, len(frames)) for frame in place.stack],
                round(times.wall, 6),
                round(times.cpu, 6),
                round(times.gil, 6),
                round(times.gil_wait, 6),
            ]
            for place, times in self.places.items()
        ]
        return json.dumps(
            {
                "myserver_profile": 1,
                "title": self.title,
                "seconds": self.seconds,
                "lost": self.lost,
                "slowed": self.slowed,
                "frames": [list(frame) for frame in frames],
                "places": rows,
            }
        )


def from_json(text: str) -> Profile:
    """Reads what `to_json` wrote. ValueError: it is something else."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("myserver_profile") != 1:
        raise ValueError("no profile of myserver; save one with --format json")
    frames = [Frame(*frame) for frame in data["frames"]]
    profile = Profile({}, data["seconds"], data["lost"], data["slowed"], data["title"])
    for view, thread, stack, wall, cpu, gil, gil_wait in data["places"]:
        place = Place(view, thread, tuple(frames[i] for i in stack))
        profile.add(place, Times(wall, cpu, gil, gil_wait))
    return profile


# ---- what a worker's area holds


@dataclass
class Area:
    """The tables of one worker, as they were read so far, and the number of the next record."""

    epoch: int = -1
    functions: list[list[Any]] = field(default_factory=list)
    frames: list[list[int]] = field(default_factory=list)
    nodes: list[list[int]] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    next: int = -1  # -1: from now on
    stacks: dict[int, Stack] = field(default_factory=dict)

    def query(self) -> str:
        """What is to be asked for next, as the query of /samples."""
        query = (
            f"epoch={self.epoch}&functions={len(self.functions)}&frames={len(self.frames)}"
            f"&nodes={len(self.nodes)}&views={len(self.views)}"
        )
        return query if self.next < 0 else f"{query}&from={self.next}"

    def take(self, answer: dict[str, Any]) -> list[list[int]]:
        """Takes an answer; returns its records."""
        if answer["epoch"] != self.epoch:
            self.epoch = answer["epoch"]
            for known in (self.functions, self.frames, self.nodes, self.views, self.stacks):
                known.clear()
        for name in ("functions", "frames", "nodes", "views"):
            if name in answer:
                getattr(self, name)[answer[f"{name}_from"] :] = answer[name]
        self.next = answer.get("next", self.next)
        return list(answer["samples"])

    def stack(self, node: int) -> Stack:
        """The stack that ends at a node."""
        known = self.stacks.get(node)
        if known is not None:
            return known
        found: list[Frame] = []
        at = node
        while 0 < at < len(self.nodes) and len(found) < 1000:
            parent, frame = self.nodes[at]
            found.append(self._frame(frame))
            at = parent if parent < at else 0
        stack = tuple(reversed(found))
        self.stacks[node] = stack
        return stack

    def _frame(self, number: int) -> Frame:
        try:
            function, line = self.frames[number]
            name, file, first_line = self.functions[function]
        except IndexError:
            return Frame("?", "?", 0, 0)
        return Frame(name, file, first_line, line)

    def view(self, number: int) -> str:
        """The name of a view."""
        if number == 0:
            return APPLICATION_THREAD
        return self.views[number] if number < len(self.views) else OTHER_VIEW


def add_records(
    profile: Profile, area: Area, records: Iterable[list[int]], worker: int, views: bool = True
) -> None:
    """Adds the records of a worker to a profile."""
    for _, wall_us, node, view, seat, cpu, gil, gil_wait in records:
        wall = wall_us / 1e6
        thread = f"worker {worker} thread {seat + 1}" if seat >= 0 else f"worker {worker}"
        place = Place(area.view(view), thread, area.stack(node))
        profile.add(place, Times(wall, wall * cpu / 255, wall * gil / 255, wall * gil_wait / 255))
