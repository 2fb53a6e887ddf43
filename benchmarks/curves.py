"""Cost against work: whether a measured curve is flat, or a constant and so much for each.

The line through the points is the one with the least relative errors, so that the small sizes, which
are many on a logarithmic axis, count as much as the large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from measure import METRICS

OURS = "myserver"
FLAT_MOST = 1.35  # the most to the least
LINE_MOST = 1.35  # a point to the line, or the line to the point

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Verdict:
    """What a curve is: "flat", "linear" or "bends", and the words for it."""

    kind: str
    text: str


def points_of(result: dict[str, Any], curve: dict[str, Any]) -> Points:
    """Size and measured median, of the points that were measured."""
    rows = {(r["case"], r["load"]): r for r in result["results"] if r["server"] == OURS}
    return [
        (size, rows[case, load][curve["metric"]]["median"])
        for size, case, load in curve["points"]
        if curve["metric"] in rows.get((case, load), {})
    ]


def line_through(points: Points) -> tuple[float, float]:
    """The constant and the rise of the line with the least relative errors."""
    weights = [1 / (y * y) if y else 0 for _, y in points]
    w = sum(weights)
    mean_x = sum(k * x for k, (x, _) in zip(weights, points, strict=True)) / w
    mean_y = sum(k * y for k, (_, y) in zip(weights, points, strict=True)) / w
    spread = sum(k * (x - mean_x) ** 2 for k, (x, _) in zip(weights, points, strict=True))
    both = sum(k * (x - mean_x) * (y - mean_y) for k, (x, y) in zip(weights, points, strict=True))
    rise = both / spread if spread else 0.0
    return mean_y - rise * mean_x, rise


def verdict(points: Points, form: str) -> Verdict:
    """Flat when the most is not far from the least; linear when no point is far from the line."""
    values = [y for _, y in points]
    least, most = min(values), max(values)
    said = f"{format(least, form)} to {format(most, form)}"
    if most <= FLAT_MOST * least:
        return Verdict("flat", f"flat, {said}")
    constant, rise = line_through(points)
    off = {x: _factor(y, constant + rise * x) for x, y in points}
    worst = max(off, key=lambda x: off[x])
    if rise > 0 and off[worst] <= LINE_MOST:
        return Verdict("linear", f"linear, {said}: {constant:.3g} and {rise:.3g} for each")
    return Verdict("bends", f"bends, {said}; furthest from a line at {worst:,g}")


def _factor(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return high / low if low > 0 else float("inf")


def is_met(curve: dict[str, Any], found: Verdict) -> bool:
    """What is flat is better than a line."""
    return found.kind in (curve["due"], "flat")


def lines(result: dict[str, Any], curves: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each curve."""
    said = []
    for curve in curves:
        points = points_of(result, curve)
        if len(points) < 2:
            continue
        heading, form, _ = METRICS[curve["metric"]]
        found = verdict(points, form)
        sizes = f"{points[0][0]:,g} to {points[-1][0]:,g} {curve['thing']}"
        met = is_met(curve, found)
        why = f": {curve['why']}" if not met and curve["why"] else ""
        due = "" if met else f" (due: {curve['due']})"
        said.append(f"{curve['title']}, {sizes}, {heading}: {found.text}{due}{why}")
    return said
