"""`myserver memory --trace`: has one worker trace its memory, and shows what of it has grown."""

import sys
import time
from collections.abc import Callable
from typing import Any

from myserver.asking import AskError, Control

_MB = 1024 * 1024
_SAY_EVERY_S = 1.0  # that the trace is still wanted: when this command ends, so does the trace
_BEGINS_S = 15.0
_LIMIT = 15  # rows of a list


def trace(
    control: Control,
    seconds: int,
    worker: int | None,
    suspect: str,
    pages: bool,
    progress: Callable[[float], None],
) -> Any:
    """Traces, and returns what control says at the end. AskError: there is no result, and why."""
    query = f"seconds={seconds}"
    query += f"&worker={worker}" if worker is not None else ""
    query += f"&type={suspect}" if suspect else ""
    query += "&pages=1" if pages else ""
    state = control.ask(f"/memory?{query}", "POST")
    begin = time.monotonic()
    while state["state"] in ("asked", "tracing"):
        if state["state"] == "asked" and time.monotonic() - begin > _BEGINS_S:
            raise AskError(
                f"{_name(state)} does not begin: its threads are stuck, or it is stopped "
                "(myserver top shows what it runs)"
            )
        progress(state["passed"])
        left = state["seconds"] - state["passed"] if state["state"] == "tracing" else 1.0
        time.sleep(max(0.1, min(_SAY_EVERY_S, left)))
        state = control.ask(f"/memory?trace={state['trace']}", "POST")
    if state["state"] == "failed":
        raise AskError(f"{_name(state)} gives no result: {state['why']}. Trace again")
    return state


def _name(state: Any) -> str:
    return f"worker {state['worker']} (pid {state['pid']})"


def show_progress(seconds: int) -> Callable[[float], None]:
    """Says on a terminal how far it is."""
    if not sys.stderr.isatty():
        return lambda passed: None

    def show(passed: float) -> None:
        text = f"\rtracing: {passed:.0f} of {seconds} s, the worker serves slower"
        print(text, end="", file=sys.stderr, flush=True)

    return show


def report(state: Any) -> str:
    """The result as text."""
    result = state["result"]
    lines = [
        f"{_name(state)}, traced for {state['seconds']:.0f} s: {result['requests']} requests, "
        f"{_mb(result['bytes'])} MB that were made and are still there",
        "",
        *_views(result),
        *_lines(result),
        *_types(result),
        *_copied(result),
        *_suspect(result.get("suspect")),
    ]
    return "\n".join(lines).rstrip()


def _mb(size: float) -> str:
    return f"{size / _MB:+.2f}"


def _sizes(row: Any) -> str:
    return f"{_mb(row['bytes']):>10} {_mb(row['bytes'] - row['bytes_half']):>10} {row['blocks']:9}"


def _views(result: Any) -> list[str]:
    lines = ["        MB   2nd half    blocks  requests  KB a request   view, and its lines"]
    for view in result["views"][:_LIMIT]:
        each = f"{view['bytes'] / 1024 / view['requests']:13.2f}" if view["requests"] else " " * 13
        lines.append(f"{_sizes(view)} {view['requests']:9} {each}   {view['view']}")
        for line in view["lines"][:3]:
            lines.append(f"{_sizes(line)} {' ' * 23}       {_line(line)}")
    return [*lines, "", "What grows in the second half, too, is no cache that has filled.", ""]


def _line(line: Any) -> str:
    return f"{line['line']}{', in ' if line['inner'] else ''}{line['inner']}"


def _lines(result: Any) -> list[str]:
    lines = ["        MB   2nd half    blocks   line, of all views"]
    lines += [f"{_sizes(line)}   {_line(line)}" for line in result["lines"][:_LIMIT]]
    return [*lines, ""]


def _types(result: Any) -> list[str]:
    lines = ["     grown        now   objects of the type"]
    lines += [
        f"{row['grown']:+10} {row['count']:10}   {row['type']}" for row in result["types"][:_LIMIT]
    ]
    return [*lines, ""]


def _copied(result: Any) -> list[str]:
    if "copied" not in result:
        return []
    lines = ["    copied         of          objects of before the fork on pages that are copied"]
    for row in result["copied"][:_LIMIT]:
        share = 100 * row["copied"] / row["all"]
        lines.append(f"{row['copied']:10} {row['all']:10} {share:5.0f} %   {row['type']}")
    return [*lines, ""]


def _suspect(suspect: Any) -> list[str]:
    if not suspect:
        return []
    if not suspect["count"]:
        return [f"no object of a type {suspect['type']} is there that the collector sees"]
    head = f"what keeps {suspect['type']} alive, of {suspect['looked_at']} of {suspect['count']}:"
    return [head, *(f"{owner['count']:10}   {owner['way']}" for owner in suspect["owners"])]
