"""The verdicts as a table of docs/compatibility.md, with a footnote for each that is not "right"."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from cases import CASES, Case
from harness import ROOT
from life import EVENTS, SERVERS, THREADS, WITHOUT_PRELOAD

PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- the table: written by make compatibility -->", "<!-- end of the table -->"

Verdict = dict[str, Any]
Place = tuple[int, str]  # threads and event
ALL: set[Place] = {(threads, event) for threads in THREADS for event in EVENTS}

WORST = ("another user", "other data", "another page", "share", "refused", "answers", "missing", "")
MOST_KINDS = 4
NAMES = dict(
    zip(SERVERS, ("myserver", "myserver with `prewarm`", "`gunicorn --preload`"), strict=True)
)


def in_number(threads: int) -> str:
    """1 thread, 4 threads."""
    return f"{threads} thread{'s' * (threads > 1)}"


def in_words(problem: str) -> str:
    """Without the numbers that differ from run to run."""

    def share(match: re.Match[str]) -> str:
        return "all" if match[1] == match[2] else "some"

    problem = re.sub(r"^(\d+) of (\d+) answers: ", lambda m: f"{share(m)} answers: ", problem)
    problem = re.sub(r"^(\d+) of (\d+)\b", share, problem)
    problem = re.sub(r"^\d+ requests counted of \d+$", "a wrong sum", problem)
    problem = re.sub(r"^\d+ processes", "processes", problem)
    problem = re.sub(r"^\d+ s from", "10 s or more from", problem)
    problem = re.sub(r" \(\d+ in the log\)$", " in the log", problem)
    return problem.replace("|", "\\|").replace("<", "&lt;")


def places_in_words(places: set[Place]) -> str:
    """ " (TERM with 1 thread)", or nothing for all."""
    if places == ALL:
        return ""
    by_events: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for threads in THREADS:
        events = tuple(event for event in EVENTS if (threads, event) in places)
        if events:
            by_events[events].append(threads)
    parts = []
    for events, numbers in by_events.items():
        what = "" if events == EVENTS else ", ".join(events)
        number = "" if numbers == list(THREADS) else in_number(numbers[0])
        parts.append(" with ".join(filter(None, (what, number))))
    return f" ({'; '.join(parts)})"


def footnote(verdicts: list[Verdict]) -> str:
    """What was wrong with one application on one server, the worst first, and in which lives.

    Exceptions in the log only explain what users saw: they stand here when nobody saw anything.
    """
    bad = [verdict for verdict in verdicts if verdict["problems"]]
    kinds = dict.fromkeys(in_words(problem) for verdict in bad for problem in verdict["problems"])
    seen = [kind for kind in kinds if not kind.endswith(" in the log")] or list(kinds)
    seen = [
        kind for kind in seen if kind.replace("all ", "some ", 1) not in kinds or "some " in kind
    ]
    seen.sort(key=lambda kind: next(n for n, word in enumerate(WORST) if word in kind))
    where = places_in_words({(verdict["threads"], verdict["event"]) for verdict in bad})
    return f"{where}: {'; '.join(seen[:MOST_KINDS])}"


def warning_of(verdicts: list[Verdict]) -> str:
    """What the server has warned of in these lives."""
    said = dict.fromkeys(w for verdict in verdicts for w in verdict["warnings"])
    return next(iter(said), "")


class Table:
    """Numbers the footnotes."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        self.of: defaultdict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            self.of[verdict["case"], verdict["server"]].append(verdict)
        self.notes: list[str] = []

    def rows(self) -> list[str]:
        """The table."""
        heads = [f"{NAMES[server]}, {in_number(n)}" for server in SERVERS for n in THREADS]
        rows = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
        for case in CASES:
            cells = [cell for server in SERVERS for cell in self.cells(case, server)]
            rows.append(f"| {case.title} | {' | '.join(cells)} |")
        return rows

    def cells(self, case: type[Case], server: str) -> list[str]:
        """One for each number of threads."""
        verdicts = self.of[case.name, server]
        mark = ""
        if any(verdict["problems"] for verdict in verdicts):
            text = self.note(case, server, verdicts)
            if text not in self.notes:
                self.notes.append(text)
            mark = f" [{self.notes.index(text) + 1}]"
        cells = []
        for threads in THREADS:
            mine = [verdict for verdict in verdicts if verdict["threads"] == threads]
            bad = [verdict for verdict in mine if verdict["problems"]]
            if len(mine) < len(EVENTS):
                cells.append("not run")
            elif not bad:
                cells.append("right")
            elif all("is refused: " in verdict["problems"][0] for verdict in bad):
                cells.append(f"refused{mark}")
            else:
                cells.append(f"**wrong**{mark}")
        return cells

    def note(self, case: type[Case], server: str, verdicts: list[Verdict]) -> str:
        """A footnote; the same one where two servers do the same."""
        text = f"{case.title}{footnote(verdicts)}."
        if server.startswith("myserver"):
            said = warning_of(verdicts)
            text += f" The log warns: “{said}”." if said else " Without a warning."
            remedy = self.of[case.name, WITHOUT_PRELOAD]
            if remedy and not any(verdict["problems"] for verdict in remedy):
                text += " With `preload = false` all is right."
        return text


def render(results: dict[str, Any]) -> str:
    """The part of the page between the marks."""
    table = Table(results["verdicts"])
    rows = table.rows()
    tried = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    notes = [f"{number}. {note}" for number, note in enumerate(table.notes, 1)]
    why = [
        f"* {case.title}: {case.why}"
        for case in CASES
        if case.why and any(v["problems"] for s in SERVERS for v in table.of[case.name, s])
    ]
    lives = len(results["verdicts"])
    parts = [f"{lives} lives of servers, with {tried}.", "\n".join(rows)]
    parts += ["\n".join(notes)] if notes else []
    parts += (
        ["What these make at import does not outlive a fork by itself:", "\n".join(why)]
        if why
        else []
    )
    return "\n\n".join(parts)


def write_table(results: dict[str, Any]) -> None:
    """Into the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{render(results)}\n\n{END}{after}")
