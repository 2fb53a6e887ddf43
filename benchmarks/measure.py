"""Numbers: what the kernel says of a server's processes, and what the load generators say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from model import HERE, ROOT, Load

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOOLS = ROOT / "build" / "bench"
SETTLED_S, SETTLED_CPU_S, SETTLE_MOST_S = 0.05, 0.005, 3.0
WRK_REPORT = HERE / "load" / "report.lua"

# Key of a sample: heading, format, whether less is better.
METRICS: dict[str, tuple[str, str, bool]] = {
    "start_ms": ("first answer ms", ",.0f", True),
    "idle_ms": ("all ready ms", ",.0f", True),
    "rps": ("requests/s", ",.0f", False),
    "p50_ms": ("p50 ms", ",.2f", True),
    "p99_ms": ("p99 ms", ",.2f", True),
    "max_ms": ("max ms", ",.1f", True),
    "cpu_s_per_1000": ("CPU s / 1,000", ",.3f", True),
    "proxy_cpu_s_per_1000": ("nginx CPU s / 1,000", ",.3f", True),
    "cpu_total_s": ("CPU s", ",.2f", True),
    "memory_mb": ("memory MB", ",.1f", True),
    "idle_kb": ("kB an idle connection", ",.2f", True),
}


class LoadFailed(Exception):
    """A load generator did not do its work."""


def processes_of(roots: list[int]) -> list[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], list(roots)
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return [pid for pid in found if Path(f"/proc/{pid}").exists()]


def cpu_s(roots: list[int]) -> float:
    """Seconds used by the processes, and by those of their children that have ended."""
    used_s = 0.0
    for pid in processes_of(roots):
        try:
            # The CPU clock of a process, to the nanosecond; /proc has it in hundredths of a second.
            used_s += time.clock_gettime((~pid << 3) | 2)
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            continue
        ended = sum(int(field) for field in stat.rpartition(")")[2].split()[13:15])
        used_s += ended / TICKS_PER_S
    return used_s


def want_cpu(roots: list[int]) -> bool:
    """Whether a thread of the processes computes, waits for a CPU, or for the disk."""
    for pid in processes_of(roots):
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            try:
                state = stat.read_text(errors="replace").rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state in ("R", "D"):
                return True
    return False


def settle(roots: list[int], most_s: float = SETTLE_MOST_S, quiet_s: float = SETTLED_S) -> None:
    """Waits until the processes do nothing for `quiet_s`: a load that ends leaves as many requests
    behind as it has connections, and a server that goes on with them would pay for that in the next
    load. Who gets no CPU because of other processes has something to do."""
    deadline, used_s = time.monotonic() + most_s, cpu_s(roots)
    while time.monotonic() < deadline:
        time.sleep(quiet_s)
        before_s, used_s = used_s, cpu_s(roots)
        if used_s - before_s < SETTLED_CPU_S and not want_cpu(roots):
            return


def memory_mb(roots: list[int]) -> float:
    """Proportional set size, so that what processes share is counted once."""
    total_kb = 0
    for pid in processes_of(roots):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total_kb += sum(int(row.split()[1]) for row in rollup.splitlines() if row[:4] == "Pss:")
    return total_kb / 1024


def slab_kb() -> int:
    """What the kernel has allocated for itself, of all processes of the machine."""
    found = re.search(r"^Slab:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return int(found[1]) if found else 0


class CpuWatch(threading.Thread):
    """What the processes use from `before_s` on, for so many seconds."""

    def __init__(self, roots: list[int], before_s: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self.roots = roots
        self.before_s = before_s
        self.seconds = seconds
        self.used_s = 0.0

    def run(self) -> None:
        """Reads the clocks twice."""
        time.sleep(self.before_s)
        begun_s = cpu_s(self.roots)
        time.sleep(self.seconds)
        self.used_s = cpu_s(self.roots) - begun_s

    def end(self) -> float:
        """Seconds of CPU."""
        self.join()
        return self.used_s


class MemoryWatch(threading.Thread):
    """The peak of memory_mb, looked at five times a second."""

    def __init__(self, roots: list[int]) -> None:
        super().__init__(daemon=True)
        self.roots = roots
        self.peak_mb = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Looks until it is told to end."""
        while not self.ended.wait(0.2):
            self.peak_mb = max(self.peak_mb, memory_mb(self.roots))

    def end(self) -> float:
        """The peak."""
        self.ended.set()
        self.join()
        return self.peak_mb


def run_json(command: list[str], timeout_s: float, **options: Any) -> dict[str, Any]:
    """The JSON on the last line a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, **options)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise LoadFailed(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()[-300:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def load_command(
    load: Load, where: str, seconds: float, warmup_s: float, seed: int = 0
) -> list[str]:
    """benchmarks/load for a load."""
    command = [str(TOOLS / "load"), "-c", str(load.connections), "-d", str(seconds)]
    command += ["-w", str(warmup_s), "-T", str(load.timeout_s), "-s", str(seed)]
    if load.rate:
        command += ["-r", str(load.rate)]
    if load.think_ms:
        command += ["-t", str(load.think_ms)]
    if load.new_connections:
        command += ["-n", str(load.new_connections)]
    if not load.keep_alive:
        command.append("-1")
    if load.parts:
        command.append("-p")
    return [*command, where, *load.paths]


def wrk_command(load: Load, where: str, seconds: float) -> list[str]:
    """wrk for a load."""
    threads = min(load.connections, 2)
    command = ["wrk", "-t", str(threads), "-c", str(load.connections), "-d", f"{seconds:g}s"]
    command += ["--latency", "--timeout", f"{load.timeout_s:g}s", "-s", str(WRK_REPORT)]
    return [*command, f"http://{where}{load.paths[0]}"]


def warm(load: Load, where: str) -> int:
    """Warms a server; how many of the connections it left without any answer meanwhile."""
    if load.steady_s or load.burst:
        return 0  # the measurement begins with that, and says so itself
    result = run_json(load_command(load, where, load.warmup_s, 0), load.warmup_s + 30)
    return starved(load, result, load.warmup_s)


def starved(load: Load, result: dict[str, Any], seconds: float) -> int:
    """Connections without any answer, when one has waited for twice as long as all would have needed
    for theirs, and for most of the measurement.
    """
    all_could_s = load.connections * seconds / max(result["count"], 1)
    neglected = result["unfinished_oldest_us"] > max(seconds * 0.9, 2 * all_could_s) * 1e6
    return int(result["starved"]) if neglected else 0


def apply_load(load: Load, where: str, seconds: float, seed: int) -> dict[str, Any]:
    """One measurement: a sample without CPU and memory."""
    # wrk takes whole seconds only.
    if load.for_wrk and not where.startswith("unix:") and seconds == int(seconds):
        result = run_json(wrk_command(load, where, seconds), seconds + 30)
        tool = "wrk"
    else:
        before_s = 0.0 if load.burst else load.steady_s or 0.1
        command = load_command(load, where, seconds, before_s, seed)
        result = run_json(command, seconds + before_s + load.timeout_s + 30)
        tool = "load"
    shown = result["urls"][load.percentiles_of] if load.percentiles_of else result
    errors = {kind: count for kind, count in result["errors"].items() if count}
    more: dict[str, Any] = {}
    if load.steady_s:
        more["starved"] = starved(load, result, seconds)
    if tool == "load":
        more |= {"passed": result["passed"], "p999_ms": shown["p999_us"] / 1000}
    if len(load.paths) > 1:
        more["p50_ms_of"] = {path: url["p50_us"] / 1000 for path, url in result["urls"].items()}
    return more | {
        "tool": tool,
        "requests": result["count"],
        "rps": result.get("rate", result["count"] / result["seconds"]),
        "p50_ms": shown["p50_us"] / 1000,
        "p99_ms": shown["p99_us"] / 1000,
        "max_ms": max(shown["max_us"], result.get("unfinished_oldest_us", 0)) / 1000,
        "errors": sum(errors.values()),
        "error_kinds": errors,
    }
