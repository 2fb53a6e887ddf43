"""No request is lost while a server under load is deployed to, scaled, recycled, killed, stopped."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

import deploys
import harness
import soak

SMALL = "--hups=3 --broken=2 --recycled=6 --scales=1 --kills=4 --quiet=1 --stopped=0"
SMALL += " --connections=10 --max-requests=60"


@pytest.mark.parametrize(
    "more", ["--threads=1 --stopped=6", "--threads=4", "--shop --hups=2 --recycled=0"]
)
def test_deploys(more: str) -> None:
    assert deploys.run([*SMALL.split(), *more.split()]) == []


NOTHING = "--hups=0 --broken=0 --recycled=0 --scales=0 --upgrades=0 --kills=0 --quiet=0 --stopped=0"
RUNS = {
    "deploys": lambda: deploys.run(NOTHING.split()),
    "soak": lambda: soak.soak(0.1, good=1, bad=0, workers=2, threads=2, seed=1),
}


@pytest.mark.parametrize("name", RUNS)
def test_what_the_log_says_counts(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The long runs look for what every test looks for."""
    monkeypatch.setattr(harness, "PROBLEMS", [re.compile(r"\bready: ")])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert any("ready: " in fault for fault in RUNS[name]())
