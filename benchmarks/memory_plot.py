"""Draws what `memory.py --output` has measured: `memory_plot.py RESULT.json...`, with matplotlib.

One bar for each server: the memory of all its processes after one full collection in each worker;
a mark for what it had before. Two SVGs beside each result, for light and dark pages.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from memory import OURS
from plots import THEMES


def draw(result: dict[str, Any], theme: dict[str, str]) -> Any:
    """The figure, best on top."""
    rows = sorted(result["results"], key=lambda row: -row["after"]["total_mb"])
    names = [("myserver, " if r["server"] in OURS else "") + r["server"] for r in rows]
    after = [row["after"]["total_mb"] for row in rows]
    before = [row["before"]["total_mb"] for row in rows]
    colours = [theme["ours" if row["server"] in OURS else "bar"] for row in rows]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(rows) + 1.2), facecolor=theme["page"])
    axes.set_facecolor(theme["page"])
    axes.barh(names, after, color=colours, height=0.66)
    axes.scatter(before, names, marker="|", s=160, color=theme["text"], zorder=3)
    for place, value in enumerate(after):
        text = f" {value:.0f}"
        axes.text(max(value, before[place]), place, text, va="center", color=theme["text"])
    axes.set_title(
        f"{result['project']}, {rows[0]['workers']} workers, CPython {result['python']}: MB of all "
        "processes (PSS)\nafter a full collection in each worker; |: before it",
        color=theme["text"],
        fontsize=10,
        loc="left",
    )
    axes.tick_params(colors=theme["text"], length=0)
    axes.xaxis.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.tight_layout()
    return figure


def main() -> None:
    """The command line."""
    for path in map(Path, sys.argv[1:]):
        result = json.loads(path.read_text())
        for name, theme in THEMES.items():
            figure = draw(result, theme)
            figure.savefig(path.with_name(f"{path.stem}-{name}.svg"))
            plt.close(figure)


if __name__ == "__main__":
    main()
