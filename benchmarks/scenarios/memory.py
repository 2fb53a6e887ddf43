"""memory: the short form of benchmarks/memory: 8 workers of a project of 300 models, one run each."""

import json
from pathlib import Path

import memory
from install import VENV

SERVERS = ("uwsgi-lazy", "uwsgi-prewarm", "gunicorn-freeze", "granian", "preload", "prewarm")
QUICK = ("prewarm",)
MEASURES = ("total_mb", "private_mb")
REQUESTS = 120  # of each page: 15 for each worker


def measure_alone(binary: Path, results: Path, quick: bool) -> str:
    """Measures, writes memory-short.json and .md into `results`, and returns the table."""
    path = results / "memory-short.json"
    arguments = ["--binary", str(binary), "--venv", str(VENV), "--output", str(path)]
    arguments += ["--workers", "8", "--repeats", "0", "--requests", str(REQUESTS), "--servers"]
    path.unlink(missing_ok=True)
    memory.main([*arguments, *(QUICK if quick else SERVERS)])
    text = markdown(json.loads(path.read_text()))
    path.with_suffix(".md").write_text(text)
    return text


def markdown(result: dict) -> str:
    """The table, largest first."""
    rows = sorted(result["results"], key=lambda row: -row["after"]["total_mb"])
    machine = result["machine"]
    lines = [
        f"## memory: {result['project']}, 8 workers",
        "",
        f"{machine['cpu']}, Linux {machine['kernel']}, Python {result['python']}, commit"
        f" {machine['commit']}, {machine['date']}; {result['requests_of_each']} requests of each"
        " page, then a full collection in each worker. MB of all processes (PSS), and of one worker"
        " alone. docs/memory.md has the long form.",
        "",
        "| server | before the collections | a worker | after them | a worker |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row[when][what] for when in ("before", "after") for what in MEASURES]
        ours = row["server"] in memory.OURS
        name = f"**myserver, {row['server']}**" if ours else row["server"]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
