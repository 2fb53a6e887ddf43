"""`myserver top`: what a running server does, live in a terminal, or once as text."""

import argparse
import curses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from myserver.asking import AskError, Control, add_options, find
from myserver.commands.queries import milliseconds

PARTS = ("receive", "thread", "gil", "cpu", "database", "runqueue", "other", "send")
PAGES = ("views", "requests", "queries")
_HELP = "q quit  v views  r requests  s statements  < > sort by  Enter open  p pause"


@dataclass
class Column:
    """One column of a table: its title, width, what it shows of a row, and what it is sorted by."""

    title: str
    width: int
    show: Callable[[Any], str]
    key: Callable[[Any], Any]


@dataclass
class Moment:
    """What the server has said at one time."""

    at: float
    stats: Any
    views: Any
    requests: Any
    queries: Any
    advice: Any
    rates: dict[str, float] = field(default_factory=dict)  # requests a second, by view


def look(control: Control, before: Moment | None) -> Moment:
    """Asks the server. Raises AskError."""
    moment = Moment(
        time.monotonic(),
        control.ask("/stats"),
        control.ask("/views"),
        control.ask("/requests"),
        control.ask("/queries"),
        control.ask("/advice"),
    )
    then = {v["view"]: v["requests"] for v in before.views["views"]} if before else {}
    passed = moment.at - before.at if before else max(moment.views["uptime"], 0.001)
    for view in moment.views["views"]:
        count = view["requests"] - then.get(view["view"], 0)
        moment.rates[view["view"]] = max(0, count) / passed
    return moment


def _share(view: Any, *parts: str) -> float:
    spent = sum(float(view["parts"][part]) for part in parts)
    return 100 * spent / max(float(view["wall"]), 1e-9)


def _number(title: str, width: int, value: Callable[[Any], float], form: str = ".0f") -> Column:
    return Column(title, width, lambda row: format(value(row), form), value)


def _duration(title: str, width: int, value: Callable[[Any], float]) -> Column:
    return Column(title, width, lambda row: milliseconds(value(row)), value)


def columns(page: str, moment: Moment) -> list[Column]:
    """The columns of a page, the last of which takes the rest of the line."""
    if page == "views":
        return [
            _number("req/s", 7, lambda v: moment.rates.get(v["view"], 0), ".1f"),
            _number("requests", 9, lambda v: v["requests"]),
            _number("5xx", 5, lambda v: v["responses"]["5xx"]),
            _duration("p50 ms", 8, lambda v: v["p50"]),
            _duration("p95 ms", 8, lambda v: v["p95"]),
            _duration("p99 ms", 8, lambda v: v["p99"]),
            _number("total s", 9, lambda v: v["wall"], ".1f"),
            _number("thrd%", 6, lambda v: _share(v, "thread")),
            _number("gil%", 5, lambda v: _share(v, "gil")),
            _number("cpu%", 5, lambda v: _share(v, "cpu")),
            _number("db%", 5, lambda v: _share(v, "database")),
            _number("wait%", 6, lambda v: _share(v, "other", "runqueue")),
            _number("io%", 5, lambda v: _share(v, "send", "receive")),
            _number("gc%", 5, lambda v: 100 * v["gc"]["time"] / max(v["wall"], 1e-9), ".1f"),
            _number("q/req", 6, lambda v: v["queries"] / max(1, v["requests"]), ".1f"),
            Column("view", 0, lambda v: str(v["view"]), lambda v: v["view"]),
        ]
    if page == "requests":
        return [
            _number("worker", 6, lambda r: r["worker"]),
            _number("thread", 6, lambda r: r["thread"]),
            _duration("age ms", 9, lambda r: r["elapsed"]),
            Column("does", 9, lambda r: str(r["doing"]), lambda r: r["doing"]),
            _duration("for ms", 9, lambda r: r["doing_for"]),
            Column(
                "request",
                0,
                lambda r: f"{r['method']} {r['path']} {r.get('statement', '')}",
                lambda r: r["path"],
            ),
        ]
    return [
        Column("id", 8, lambda s: str(s["id"][:8]), lambda s: s["id"]),
        _number("count", 8, lambda s: s["count"]),
        _number("total s", 9, lambda s: s["time"], ".2f"),
        _duration("mean ms", 8, lambda s: s["time"] / max(1, s["count"])),
        _duration("most ms", 8, lambda s: s["slowest"]),
        _number("dupl.", 6, lambda s: s["duplicates"]),
        Column("statement", 0, lambda s: str(s["text"]), lambda s: s["text"]),
    ]


_SORT = {"views": "total s", "requests": "age ms", "queries": "total s"}


def rows(page: str, moment: Moment, sort: str) -> list[Any]:
    """What a page shows, in its order: the largest first, texts from a to z."""
    found = {
        "views": moment.views["views"],
        "requests": moment.requests["running"],
        "queries": moment.queries["statements"],
    }[page]
    column = next((c for c in columns(page, moment) if c.title == sort), None)
    if column is None:
        return list(found)
    is_text = bool(found) and isinstance(column.key(found[0]), str)
    return sorted(found, key=column.key, reverse=not is_text)


def head(moment: Moment) -> list[str]:
    """The lines above the table."""
    total, workers = moment.stats["total"], moment.stats["workers"]
    alive = [w for w in workers if w["state"] != "empty"]
    memory = sum(w["memory"]["proportional_bytes"] for w in alive) / 1e6
    waiting = sum(x.get("waiting", 0) for x in moment.stats["listeners"])
    threads = total["threads"]
    state = "ready" if moment.stats["ready"] else "not ready"
    lines = [
        f"{moment.stats['app']}: {state}, {len(alive)} workers, {threads['busy']} of "
        f"{threads['busy'] + threads['idle']} threads busy, {waiting} connections wait, "
        f"{memory:.0f} MB, {sum(moment.rates.values()):.1f} requests/s"
    ]
    gc = total["gc"]["in_requests"]
    if gc["pauses"]:
        lines.append(
            f"gc: {gc['pauses']} collections in requests, {milliseconds(gc['time_s'] / gc['pauses'])} "
            f"ms each, at most {milliseconds(gc['longest_s'])} ms"
        )
    if not moment.views["observed"]:
        lines.append("nothing is observed: the option observe is off")
    elif moment.views["off"]:
        lines.append(f"switched off: {', '.join(moment.views['off'])} (myserver observe)")
    repeated = {r["view"] for r in moment.queries["repeated"]}
    if repeated:
        lines.append(f"n+1: {', '.join(sorted(repeated))} (myserver queries)")
    if advised := list(dict.fromkeys(a["advice"] for a in moment.advice["advice"])):
        lines.append(f"advice: {', '.join(advised)} (myserver advice)")
    return lines


def table(page: str, moment: Moment, sort: str) -> list[str]:
    """The table of a page: a line of titles, and one for each row."""
    shown = columns(page, moment)

    def line(cells: list[str]) -> str:
        fitted = [
            cell if not column.width else cell[: column.width].rjust(column.width)
            for cell, column in zip(cells, shown, strict=True)
        ]
        return " ".join(fitted)

    titles = [f"*{c.title}" if c.title == sort and c.width else c.title for c in shown]
    return [line(titles)] + [line([c.show(r) for c in shown]) for r in rows(page, moment, sort)]


def detail(page: str, row: Any) -> list[str]:
    """All that is known of one row."""
    lines = []
    for name, value in row.items():
        if isinstance(value, dict):
            lines.append(f"{name}:")
            for key, amount in value.items():
                text = milliseconds(amount) + " ms" if name == "parts" else str(amount)
                share = f"{100 * amount / max(row['wall'], 1e-9):5.1f} %" if name == "parts" else ""
                lines.append(f"    {key:10} {text:>12} {share}")
        else:
            lines.append(f"{name}: {value}")
    return [f"one of {page}", "", *lines]


def text(moment: Moment) -> str:
    """Everything once, for a pipe or a file."""
    parts = ["\n".join(head(moment))]
    for page in PAGES:
        parts.append("\n".join([f"{page}:", *table(page, moment, _SORT[page])]))
    return "\n\n".join(parts)


class Screen:
    """The live view: what is shown, and what keys do."""

    def __init__(self, control: Control, interval: float) -> None:
        self.control, self.interval = control, interval
        self.page, self.sorts = "views", dict(_SORT)
        self.selected, self.top = 0, 0
        self.opened: list[str] | None = None
        self.paused = False
        self.moment: Moment | None = None
        self.wrong = ""

    def run(self, window: Any) -> None:
        """Until somebody quits."""
        curses.use_default_colors()
        with_cursor = curses.curs_set
        try:
            with_cursor(0)
        except curses.error:
            pass  # a terminal that cannot hide it
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due and not self.paused:
                self.refresh()
                due = now + self.interval
            self.draw(window)
            window.timeout(
                max(50, int((due - time.monotonic()) * 1000)) if not self.paused else 500
            )
            if not self.press(window.getch()):
                return

    def refresh(self) -> None:
        """Asks again; a server that does not answer is shown as such."""
        try:
            self.moment = look(self.control, self.moment)
            self.wrong = ""
        except AskError as error:
            self.wrong = str(error)

    def press(self, key: int) -> bool:
        """Does what a key means. False: the end."""
        letter = chr(key) if 0 < key < 256 else ""
        if letter == "q" or key == 27:
            if self.opened is None or letter == "q":
                return False
            self.opened = None
        elif letter in "vrs" and letter:
            self.page = {"v": "views", "r": "requests", "s": "queries"}[letter]
            self.selected, self.opened = 0, None
        elif letter in "<>" and letter:
            self._sort_by(1 if letter == ">" else -1)
        elif letter == "p":
            self.paused = not self.paused
        elif key in (curses.KEY_UP, curses.KEY_DOWN):
            self.selected = max(0, self.selected + (1 if key == curses.KEY_DOWN else -1))
        elif key in (curses.KEY_NPAGE, curses.KEY_PPAGE):
            self.selected = max(0, self.selected + (10 if key == curses.KEY_NPAGE else -10))
        elif key in (10, 13, curses.KEY_ENTER):
            self._open()
        return True

    def _sort_by(self, step: int) -> None:
        if self.moment:
            titles = [c.title for c in columns(self.page, self.moment)]
            at = titles.index(self.sorts[self.page]) + step
            self.sorts[self.page] = titles[at % len(titles)]

    def _open(self) -> None:
        if self.opened is not None or not self.moment:
            self.opened = None
            return
        found = rows(self.page, self.moment, self.sorts[self.page])
        if found:
            self.opened = detail(self.page, found[min(self.selected, len(found) - 1)])

    def draw(self, window: Any) -> None:
        """Everything, as far as the terminal has room."""
        height, width = window.getmaxyx()
        window.erase()
        lines = head(self.moment) if self.moment else []
        lines += [self.wrong] if self.wrong else []
        titles = len(lines) + 1
        body = self.opened if self.opened is not None else []
        if self.opened is None and self.moment:
            body = table(self.page, self.moment, self.sorts[self.page])
        self.selected = min(self.selected, max(0, len(body) - 2))
        room = max(1, height - titles - 2)
        self.top = min(max(self.top, self.selected - room + 1), self.selected)
        if self.opened is None:
            body = body[:1] + body[1 + self.top : 1 + self.top + room]
        for y, line in enumerate([*lines, "", *body][: height - 1]):
            is_title = self.opened is None and y == titles
            is_selected = self.opened is None and y == titles + 1 + self.selected - self.top
            look = curses.A_REVERSE if is_selected else curses.A_BOLD if is_title else 0
            window.addnstr(y, 0, line.ljust(width - 1) if is_selected else line, width - 1, look)
        hint = "Esc back" if self.opened is not None else _HELP
        window.addnstr(height - 1, 0, hint + ("  (paused)" if self.paused else ""), width - 1)
        window.refresh()


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 2 for wrong arguments or no server."""
    parser = argparse.ArgumentParser(
        prog="myserver top",
        description="Shows the views, the running requests and the statements of a server, live.",
        epilog=f"Keys: {_HELP}",
    )
    parser.add_argument("--once", action="store_true", help="print everything once, as text")
    parser.add_argument(
        "--interval", type=float, default=2, metavar="S", help="ask again after so long [2]"
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    if not 0.1 <= options.interval <= 3600:
        parser.error("--interval is from 0.1 to 3600 seconds")
    try:
        control = find(options)
        if options.once:
            print(text(look(control, None)))
            return 0
        look(control, None)  # a server that does not answer is told before the screen is taken
    except AskError as error:
        print(f"myserver top: {error}", file=sys.stderr)
        return 2
    if not sys.stdout.isatty():
        print("myserver top: this is no terminal: use --once", file=sys.stderr)
        return 2
    try:
        curses.wrapper(Screen(control, options.interval).run)
    except KeyboardInterrupt:
        pass
    return 0
