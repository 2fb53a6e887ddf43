"""What /proc says of processes: of their memory, in bytes, and which belong together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Usage:
    """The memory of one process; `pss` counts a page shared by n processes as its n-th part."""

    pss: int
    private: int
    shared: int


def usage(pid: int) -> Usage:
    """From smaps_rollup; ProcessLookupError when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        raise ProcessLookupError(pid) from None
    fields = {line.partition(":")[0]: line.split() for line in text.splitlines()[1:]}
    size = {name: int(words[1]) * 1024 for name, words in fields.items()}
    return Usage(
        pss=size["Pss"],
        private=size["Private_Clean"] + size["Private_Dirty"],
        shared=size["Shared_Clean"] + size["Shared_Dirty"],
    )


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, group, session..."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def name(pid: int) -> str:
    """What it is called, at most 15 bytes; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def session(leader: int) -> list[int]:
    """The processes of a session, which re-parenting does not change."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = _stat(int(name))
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(name))
    return found


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ends the leader of a session by SIGTERM, and after that time all that is left of it."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    for pid in session(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def cpu_ticks(pids: list[int]) -> int:
    """The processor time that they have used."""
    total = 0
    for pid in pids:
        try:
            fields = _stat(pid)
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total


def total_pss(pids: list[int]) -> int:
    """The memory that would be free without them."""
    total = 0
    for pid in pids:
        try:
            total += usage(pid).pss
        except ProcessLookupError:
            continue
    return total
