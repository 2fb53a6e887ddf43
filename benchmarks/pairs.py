"""Ratios within one run, round by round: what is compared was measured within the same minute."""

from __future__ import annotations

import statistics
from typing import Any

Samples = dict[int, dict[str, Any]]  # by round
OURS = "myserver"


def samples(result: dict[str, Any], server: str, case: str, load: str) -> Samples:
    """What was measured of a server."""
    wanted = (server, case, load)
    return {
        sample["round"]: sample
        for sample in result["samples"]
        if (sample["server"], sample["case"], sample["load"]) == wanted
    }


def ratios(metric: str, above: Samples, below: Samples) -> list[float]:
    """Of the rounds that both have; none where the lower one is nothing."""
    rounds = sorted(above.keys() & below.keys())
    return [above[n][metric] / below[n][metric] for n in rounds if below[n].get(metric)]


def median(values: list[float]) -> float | None:
    """None of none."""
    return statistics.median(values) if values else None


def text(values: list[float], form: str = ".3f") -> str:
    """The median of some ratios, with their spread."""
    if not values:
        return "not measured"
    said = format(statistics.median(values), form)
    if len(values) > 1:
        said += f" ({format(min(values), form)}–{format(max(values), form)}, {len(values)} rounds)"
    return said


def servers(result: dict[str, Any], case: str, load: str) -> list[str]:
    """Those that were measured, in the order of the table."""
    rows = [row for row in result["results"] if (row["case"], row["load"]) == (case, load)]
    rows.sort(key=lambda row: -row["rps"]["median"])
    return [row["server"] for row in rows]
