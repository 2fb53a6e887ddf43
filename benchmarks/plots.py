"""Draws the plots that a result asks for: `plots.py RESULT.json...`, with matplotlib.

Horizontal bars, best on top, ours in colour, the value at the end of each bar, a whisker from the
least to the most of the rounds. Curves of cost against work beside each other in one figure. SVG,
for light and dark pages.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import curves
from measure import METRICS

OURS = "myserver"
LIMITS = ("ceiling", "in-process")  # no servers: what could be reached
THEMES = {
    "light": {"page": "#ffffff", "text": "#1f2328", "quiet": "#6b7280", "bar": "#c9ced6",
              "ours": "#0f766e", "limit": "#eceff3"},
    "dark": {"page": "#0d1117", "text": "#e6edf3", "quiet": "#8b949e", "bar": "#3d444d",
             "ours": "#2dd4bf", "limit": "#21262d"},
}  # fmt: skip
UNITS = {
    "rps": "requests per second, more is better",
    "p50_ms": "milliseconds, median; less is better",
    "p99_ms": "milliseconds, 99th percentile; less is better",
    "max_ms": "milliseconds, slowest; less is better",
    "cpu_s_per_1000": "CPU seconds of all its processes per 1,000 requests, less is better",
    "proxy_cpu_s_per_1000": "CPU seconds of nginx per 1,000 requests, less is better",
    "idle_kb": "kB of all its processes for an idle connection, less is better",
    "start_ms": "milliseconds from exec to the first answer, less is better",
    "idle_ms": "milliseconds from exec until all workers are ready, less is better",
    "cpu_total_s": "CPU seconds of all its processes, less is better",
    "memory_mb": "MB of all its processes (PSS), less is better",
}


def slug(text: str) -> str:
    """For file names."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def rows_of(result: dict[str, Any], plot: dict[str, str]) -> list[dict[str, Any]]:
    """The bars, worst first, for matplotlib counts from below."""
    metric = plot["metric"]
    rows = [
        row
        for row in result["results"]
        if (row["case"], row["load"]) == (plot["case"], plot["load"]) and metric in row
    ]
    less_is_better = METRICS[metric][2]
    return sorted(rows, key=lambda row: row[metric]["median"], reverse=less_is_better)


def colour_of(server: str, theme: dict[str, str]) -> str:
    """Ours stands out, limits stand back."""
    return theme["ours" if server == OURS else "limit" if server in LIMITS else "bar"]


def footer(result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Where and when."""
    rounds = max(row["rounds"] for row in rows)
    m = result["machine"]
    note = f"; {result['note']}" if result["note"] else ""
    return (
        f"{m['cpus']} CPUs, load generator included; Python {result['versions']['Python']};"
        f" {rounds} {'round' if rounds == 1 else 'rounds'} of {rows[0]['seconds']:g} s;"
        f" commit {m['commit']}{note}"
    )


def annotate(axes: Any, rows: list[dict[str, Any]], metric: str, theme: dict[str, str]) -> None:
    """Values behind the bars; a mark where a server made errors or let connections starve."""
    form = METRICS[metric][1]
    widest = max(row[metric]["max"] for row in rows)
    for at, row in enumerate(rows):
        ours = row["server"] == OURS
        text = format(row[metric]["median"], form)
        failed = row["errors"] + row["starved"]
        axes.text(
            row[metric]["max"] + widest * 0.015,
            at,
            text
            + ("  with errors" if row["errors"] else "  some clients starve" if failed else ""),
            va="center",
            color=theme["text"] if ours else theme["quiet"],
            fontweight="bold" if ours else "normal",
            fontsize=10,
        )
    axes.set_xlim(0, widest * 1.22)


def draw(result: dict[str, Any], plot: dict[str, str], theme: dict[str, str]) -> Any:
    """One figure."""
    metric, rows = plot["metric"], rows_of(result, plot)
    figure, axes = plt.subplots(figsize=(8, 1.35 + 0.34 * len(rows)), facecolor=theme["page"])
    axes.set_facecolor(theme["page"])
    medians = [row[metric]["median"] for row in rows]
    below = [row[metric]["median"] - row[metric]["min"] for row in rows]
    above = [row[metric]["max"] - row[metric]["median"] for row in rows]
    whiskers = [below, above] if any(below) or any(above) else None
    axes.barh(
        range(len(rows)),
        medians,
        height=0.66,
        color=[colour_of(row["server"], theme) for row in rows],
        xerr=whiskers,
        error_kw={"ecolor": theme["quiet"], "elinewidth": 1, "capsize": 2},
    )
    annotate(axes, rows, metric, theme)
    axes.set_yticks(range(len(rows)), [row["server"] for row in rows], fontsize=10)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        ours = row["server"] == OURS
        label.set_color(theme["text"] if ours else theme["quiet"])
        label.set_fontweight("bold" if ours else "normal")
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.2 / height, plot["title"], color=theme["text"], fontsize=13,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(0.02, 1 - 0.46 / height, UNITS[metric], color=theme["quiet"], fontsize=9.5,
                va="center")  # fmt: skip
    figure.text(0.02, 0.16 / height, footer(result, rows), color=theme["quiet"], fontsize=7.5,
                va="center")  # fmt: skip
    figure.subplots_adjust(left=0.19, right=0.99, top=1 - 0.66 / height, bottom=0.34 / height)
    return figure


COLUMNS = 4


def draw_curve(axes: Any, result: dict[str, Any], curve: dict[str, Any], theme: Any) -> None:
    """One panel; logarithmic, so that what is linear rises evenly and each size has its place."""
    points = curves.points_of(result, curve)
    heading, form, _ = METRICS[curve["metric"]]
    kind = curves.verdict(points, form).kind
    axes.set_facecolor(theme["page"])
    sizes, values = zip(*points, strict=True)
    axes.plot(sizes, values, color=theme["ours"], marker="o", markersize=3, linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 3, max(values) * 3)
    axes.set_title(f"{curve['title']}\n{heading}: {kind}", color=theme["text"], fontsize=8)
    axes.tick_params(colors=theme["quiet"], labelsize=6)
    axes.minorticks_off()
    for side in axes.spines.values():
        side.set_color(theme["bar"])


def draw_curves(result: dict[str, Any], theme: dict[str, str]) -> Any:
    """All curves of a result that were measured."""
    measured = [c for c in result["curves"] if len(curves.points_of(result, c)) > 1]
    rows = -(-len(measured) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(10, 1.9 * rows), squeeze=False, facecolor=theme["page"]
    )
    for at, panel in enumerate(axes.flat):
        if at < len(measured):
            draw_curve(panel, result, measured[at], theme)
        else:
            panel.set_visible(False)
    figure.tight_layout()
    return figure


def save(figure: Any, target: Path) -> None:
    """The same numbers give the same file."""
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Writes beside each result."""
    plt.rcParams["font.family"] = "DejaVu Sans"
    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    plt.rcParams["svg.hashsalt"] = "myserver"  # the same numbers, the same file
    for name in sys.argv[1:]:
        path = Path(name)
        result = json.loads(path.read_text())
        for theme_name, theme in THEMES.items():
            for plot in result["plots"]:
                if not rows_of(result, plot):
                    continue
                base = slug(f"{result['scenario']} {plot['case']} {plot['load']} {plot['metric']}")
                save(draw(result, plot, theme), path.with_name(f"{base}-{theme_name}.svg"))
            if any(len(curves.points_of(result, curve)) > 1 for curve in result.get("curves", [])):
                target = path.with_name(f"{slug(result['scenario'])}-curves-{theme_name}.svg")
                save(draw_curves(result, theme), target)


if __name__ == "__main__":
    main()
