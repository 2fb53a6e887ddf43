"""From samples to medians, JSON, a Markdown table and plots."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from install import VENV
from measure import METRICS
from model import HERE, ROOT
from servers import SERVERS

OURS = "myserver"


def first_line(*command: str) -> str:
    """What a program says of its version; empty where there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return ((done.stdout or done.stderr).strip().splitlines() or [""])[0].strip()


def git(*arguments: str) -> str:
    """The output of git in our tree."""
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True
    ).stdout.strip()


def machine() -> dict[str, Any]:
    """What the numbers are true for."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    release = {}
    if Path("/etc/os-release").exists():
        release = platform.freedesktop_os_release()
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory[1]) / 1024**2) if memory else None,
        "kernel": platform.release(),
        "system": release.get("PRETTY_NAME", platform.system()),
        "load_before": round(os.getloadavg()[2], 2),  # of the 15 minutes before
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short=12", "HEAD") or "unknown",
        "changed": bool(git("status", "--porcelain", "--", "src", "include", "python")),
    }


def versions(packages: dict[str, str]) -> dict[str, str]:
    """Ours, the peers', and the tools'."""
    return {
        "myserver": first_line(str(SERVERS[OURS].binary), "--version"),  # type: ignore[attr-defined]
        "Python": platform.python_version(),
        "nginx": first_line("/usr/sbin/nginx", "-v").partition(": ")[2],
        "wrk": first_line("wrk", "-v").partition(" Copyright")[0],
        "PostgreSQL": first_line("psql", "--version"),
        **packages,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most, with no more digits than are true."""
    digits = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in digits.items()}


def summarize(name: str, run: Any, duration_s: float) -> dict[str, Any]:
    """Medians per case, load and server, best first."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for sample in run.samples:
        groups[sample["case"], sample["load"], sample["server"]].append(sample)
    results = []
    for (case, load, server), samples in groups.items():
        row: dict[str, Any] = {"case": case, "load": load, "server": server}
        for metric in METRICS:
            values = [sample[metric] for sample in samples if metric in sample]
            if values:
                row[metric] = spread(values)
        row["errors"] = sum(sample["errors"] for sample in samples)
        row["requests"] = sum(sample["requests"] for sample in samples)
        row["error_kinds"] = sorted({kind for s in samples for kind in s["error_kinds"]})
        row["starved"] = max(sample.get("starved", 0) for sample in samples)
        row["tool"] = samples[0]["tool"]
        row["seconds"] = samples[0]["seconds"]
        row["rounds"] = len(samples)
        results.append(row)
    return {
        "scenario": name,
        "title": run.scenario.title,
        "rounds": max((row["rounds"] for row in results), default=0),
        "seconds": run.seconds or run.scenario.seconds,
        "duration_s": round(duration_s),
        "results": results,
        "failed": [[*key, reason] for key, reason in run.failures.items()],
        "unsupported": [[*key, reason] for key, reason in run.unsupported.items()],
        "notes": list(run.scenario.notes),
        "plots": [asdict(plot) for plot in run.scenario.plots],
        "curves": [asdict(curve) for curve in run.scenario.curves],
        "samples": run.samples,
    }


def as_json(result: dict[str, Any]) -> str:
    """With one row a line, so that differences can be read."""
    text = json.dumps(result | {"results": None, "samples": None}, indent=1)
    for key in ("results", "samples"):
        rows = ",\n  ".join(json.dumps(row) for row in result[key])
        text = text.replace(f'"{key}": null', f'"{key}": [\n  {rows}\n ]')
    return text


def cell(value: dict[str, float] | None, form: str, with_spread: bool) -> str:
    """A median, with its spread where it matters."""
    if value is None:
        return ""
    text = format(value["median"], form)
    if with_spread and value["min"] != value["max"]:
        low, high = format(value["min"], form), format(value["max"], form)
        text += f" ({low}–{high})"
    return text


def trouble(row: dict[str, Any]) -> str:
    """Errors, and connections that got no answer at all while the server was warmed."""
    parts = []
    if row["errors"]:
        parts.append(f"{row['errors']:,} ({', '.join(row['error_kinds'])})")
    if row["starved"]:
        parts.append(f"{row['starved']} connections starve")
    return ", ".join(parts) or "0"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """One load of one case, best first by the first of the metrics."""
    shown = [metric for metric in METRICS if any(metric in row for row in rows)]
    less_is_better = METRICS[shown[0]][2]
    rows = sorted(rows, key=lambda row: row[shown[0]]["median"], reverse=not less_is_better)
    headings = [METRICS[metric][0] for metric in shown]
    lines = [f"| server | {' | '.join(headings)} | errors |"]
    lines.append("|---|" + "---:|" * (len(headings) + 1))
    for row in rows:
        name = f"**{row['server']}**" if row["server"] == OURS else row["server"]
        note = SERVERS[row["server"]].note if row["server"] in SERVERS else "no server"
        cells = [
            cell(row.get(metric), METRICS[metric][1], with_spread=metric == shown[0])
            for metric in shown
        ]
        label = f"{name} ({note})" if note else name
        lines.append(f"| {label} | {' | '.join(cells)} | {trouble(row)} |")
    return lines


def group_lines(case: str, load: str, rows: list[dict[str, Any]]) -> list[str]:
    """Heading and table of one load of one case."""
    most = max(row["rounds"] for row in rows)
    fewer = [row["server"] for row in rows if row["rounds"] < most]
    rounds = f"{most} rounds" if most > 1 else "1 round"
    how = f"{rows[-1]['tool']}, {rounds} of {rows[-1]['seconds']:g} s"
    lines = ["", f"### {case}; {load} ({how})", "", *table(rows)]
    return lines + (["", f"Fewer rounds: {', '.join(fewer)}."] if fewer else [])


def markdown(result: dict[str, Any]) -> str:
    """The whole result for people."""
    m, lines = result["machine"], [f"## {result['scenario']}: {result['title']}", ""]
    changed = " with changes" if m["changed"] else ""
    lines.append(
        f"{m['cpus']} CPUs ({m['cpu']}), {m['memory_gb']} GB, {m['system']}, Linux {m['kernel']},"
        f" Python {result['versions']['Python']}, commit {m['commit']}{changed},"
        f" {m['when'][:10]};"
        " medians of the rounds, which the headings name."
    )
    if result["note"]:
        lines += ["", f"**{result['note']}**"]
    groups = defaultdict(list)
    for row in result["results"]:
        groups[row["case"], row["load"]].append(row)
    for (case, load), rows in groups.items():
        lines += group_lines(case, load, rows)
    lines.append("")
    lines += [f"- {note}" for note in result["notes"]]
    for requirement, reason in result["not_installed"].items():
        lines.append(f"- not installed: {requirement}: {reason}")
    lines += [
        f"- failed: {server} in {case}: {reason}" for case, server, reason in result["failed"]
    ]
    absent = defaultdict(list)
    for case, server, reason in result["unsupported"]:
        absent[server, reason].append(case)
    for (server, reason), cases in absent.items():
        lines.append(f"- not for {server} ({reason}): {'; '.join(cases)}")
    return "\n".join(lines) + "\n"


def write(result: dict[str, Any], directory: Path, plots: bool) -> None:
    """NAME.json, NAME.md, and the plots beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{result['scenario']}.json"
    path.write_text(as_json(result) + "\n")
    path.with_suffix(".md").write_text(markdown(result))
    if plots:
        python = VENV / "bin" / "python"
        done = subprocess.run([python, HERE / "plots.py", path], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"no plots: {done.stderr.strip()[-300:]}", file=sys.stderr)
