"""A panel for Django Debug Toolbar: where the time of the page went, its memory, and its stacks.

The toolbar imports this module, where a project's DEBUG_TOOLBAR_PANELS has "myserver.toolbar.MyserverPanel";
nothing else does.
"""

import os
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from myserver import RequestCosts, request_costs
from myserver.stacks import in_package, is_of_application

_EVERY_S = 0.005
_STACKS_SHOWN = 5
_LINES_SHOWN = 15
_FRAMES_SHOWN = 40  # of one stack, the innermost
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PARTS = (
    ("cpu", "computing"),
    ("gil", "waiting for the interpreter (GIL)"),
    ("database", "in the database"),
    ("other", "waiting for something else"),
    ("runqueue", "waiting for a CPU"),
)


class _Sampler(threading.Thread):
    """Looks at the stack of the thread that makes it, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(name="myserver toolbar", daemon=True)
        self.looked_at = threading.get_ident()
        self.stacks: Counter[tuple[str, ...]] = Counter()  # outermost frame first
        self.lines: Counter[str] = Counter()  # of the application, the innermost of each stack
        self._is_over = threading.Event()

    def run(self) -> None:
        """One look every _EVERY_S, as far as this thread gets the interpreter."""
        while not self._is_over.wait(_EVERY_S):
            frame = sys._current_frames().get(self.looked_at)
            if frame:
                self._note(frame)

    def stop(self) -> None:
        """Waits until it has ended."""
        self._is_over.set()
        self.join()

    def _note(self, innermost: FrameType) -> None:
        stack = []
        line = ""
        frame: FrameType | None = innermost
        while frame and frame.f_code.co_filename != __file__:
            text = _shown(frame)
            stack.append(text)
            if not line and is_of_application(frame.f_code.co_filename):
                line = text
            frame = frame.f_back
        self.stacks[tuple(reversed(stack))] += 1
        self.lines[line or "no line of the application"] += 1


def _shown(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    name = in_package(path) or (os.path.relpath(path) if is_of_application(path) else path)
    return f"{path if name.startswith('..') else name}:{frame.f_lineno} in {frame.f_code.co_name}"


def _memory() -> tuple[int, int]:
    """Bytes of this process that are resident, and of these those that it shares with no file."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        _, resident, shared, *_ = map(int, statm.read().split())
    return resident * _PAGE, (resident - shared) * _PAGE


def _between(before: RequestCosts | None, after: RequestCosts | None) -> dict[str, float]:
    """Milliseconds of each part, and the number of statements; empty: not known."""
    if not before or not after:
        return {}
    found = {name: getattr(after, name) - getattr(before, name) for name, _ in _PARTS}
    # What was taken for other waiting at first may have been known better later.
    milliseconds = {name: 1000 * max(0.0, seconds) for name, seconds in found.items()}
    return milliseconds | {
        "waited": 1000 * after.waited,
        "queries": after.queries - before.queries,
    }


class MyserverPanel(Panel):  # type: ignore[misc]
    """What the server knows of the request that has made the page."""

    title = "Server"
    nav_title = "Server"

    @property
    def nav_subtitle(self) -> str:
        """The two numbers that explain most pages."""
        costs = self.get_stats().get("costs")
        if not costs:
            return "not served by myserver"
        return (
            f"CPU {costs['cpu']:.1f} ms, GIL {costs['gil']:.1f} ms, DB {costs['database']:.1f} ms"
        )

    def process_request(self, request: HttpRequest) -> HttpResponse:
        """Measures all that is inside of this panel: later panels, middleware, the view."""
        sampler = _Sampler()
        memory, began, before = _memory(), time.monotonic(), request_costs()
        sampler.start()
        try:
            return super().process_request(request)
        finally:
            sampler.stop()
            after, wall = request_costs(), time.monotonic() - began
            self.record_stats(
                {
                    "wall": 1000 * wall,
                    "costs": _between(before, after),
                    "memory": [now - then for now, then in zip(_memory(), memory, strict=True)],
                    "looks": sum(sampler.stacks.values()),
                    "lines": sampler.lines.most_common(_LINES_SHOWN),
                    "stacks": [
                        [list(stack[-_FRAMES_SHOWN:]), count]
                        for stack, count in sampler.stacks.most_common(_STACKS_SHOWN)
                    ],
                }
            )

    @property
    def content(self) -> SafeString:
        """HTML, without a template: the project need not have this package among its apps."""
        stats = self.get_stats()
        return format_html(
            "{}{}{}{}", _time(stats), _memory_shown(stats), _lines(stats), _stacks(stats)
        )


def _time(stats: dict[str, Any]) -> SafeString:
    costs, wall = stats["costs"], stats["wall"]
    if not costs:
        return format_html(
            "<p>The page took {} ms. Where they went is known when myserver serves it, with "
            "<code>observe</code> on.</p>",
            f"{wall:.1f}",
        )
    rows = [
        (text, f"{costs[name]:.2f} ms", f"{100 * costs[name] / wall:.0f} %")
        for name, text in _PARTS
    ]
    rows.append(("together", f"{wall:.2f} ms", f"{costs['queries']} statements"))
    rows.append(("before that, until a thread was free", f"{costs['waited']:.2f} ms", ""))
    shown = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td></tr>", rows)
    return format_html("<h4>Time</h4><table><tbody>{}</tbody></table>", shown)


def _memory_shown(stats: dict[str, Any]) -> SafeString:
    resident, private = stats["memory"]
    return format_html(
        "<h4>Memory</h4><p>The process has grown by {} kB meanwhile, {} kB of them its own. Other "
        "requests that ran at the same time are in that.</p>",
        f"{resident / 1024:+,.0f}",
        f"{private / 1024:+,.0f}",
    )


def _lines(stats: dict[str, Any]) -> SafeString:
    looks = stats["looks"]
    if not looks:
        return format_html("<h4>Stacks</h4><p>The page was ready before the first look.</p>")
    rows = format_html_join(
        "",
        "<tr><td>{}</td><td><code>{}</code></td></tr>",
        ((f"{100 * count / looks:.0f} %", line) for line, count in stats["lines"]),
    )
    return format_html(
        "<h4>Lines of the application</h4><p>Where its thread was, at {} looks, computing or waiting."
        "</p><table><tbody>{}</tbody></table>",
        looks,
        rows,
    )


def _stacks(stats: dict[str, Any]) -> SafeString:
    shown = (
        (f"{count} of {stats['looks']} looks", "\n".join(stack)) for stack, count in stats["stacks"]
    )
    return format_html_join("", "<h4>{}</h4><pre>{}</pre>", shown)
