"""The virtualenv of the benchmarks: the peers and what the applications need; run, it prints where.

Its interpreter is the one that the program is built with, and each has its own. A requirement that cannot be installed
does not stop the others; `failures()` has the reasons. Debian packages are not installed here:
`make bench-deps` does that, and says what it installs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from model import HERE, ROOT

REQUIREMENTS = HERE / "requirements.txt"
VENV = ROOT / f".venv-bench-{platform.python_version()}"
STAMP = VENV / "installed.json"


def wanted(more: Path | None) -> list[str]:
    """The requirements, one each."""
    text = REQUIREMENTS.read_text() + (more.read_text() if more else "")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def pip(*requirements: str) -> str:
    """Installs; returns why not, or nothing."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--upgrade", *requirements]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines()]
    telling = [line for line in lines if re.search(r"(?i)error|not found|missing", line)]
    return " / ".join((telling or lines)[-3:])[-300:] or "pip failed"


def install(interpreter: str, more: Path | None = None) -> Path:
    """Makes the virtualenv what the requirements say; quick when it is that already."""
    requirements = wanted(more)
    text = "\n".join([interpreter, *requirements])
    digest = hashlib.sha256(text.encode()).hexdigest()
    if STAMP.exists() and json.loads(STAMP.read_text())["digest"] == digest:
        return VENV
    print(f"installing the peers into {VENV.name}, once ...", file=sys.stderr)
    subprocess.run([interpreter, "-m", "venv", "--clear", str(VENV)], check=True)
    failed = {}
    if pip(*requirements):
        for requirement in requirements:
            if reason := pip(requirement):
                failed[requirement] = reason
                print(f"  {requirement}: {reason}", file=sys.stderr)
    STAMP.write_text(json.dumps({"digest": digest, "failed": failed}))
    return VENV


def failures() -> dict[str, str]:
    """Requirement to reason."""
    failed: dict[str, str] = json.loads(STAMP.read_text())["failed"]
    return failed


def program_python() -> str:
    """The interpreter that runs this, outside of any virtualenv."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def versions() -> dict[str, str]:
    """What is installed."""
    script = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
    )
    done = subprocess.run(
        [VENV / "bin" / "python", "-c", script], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


if __name__ == "__main__":
    print(install(program_python()))
