"""No request is lost while a server under load is deployed to, scaled, recycled, killed, stopped."""

from __future__ import annotations

import deploys
import pytest

SMALL = "--hups=3 --broken=2 --recycled=6 --scales=1 --kills=4 --quiet=1 --stopped=6"
SMALL += " --connections=10 --max-requests=60"


@pytest.mark.parametrize("more", ["--threads=1", "--threads=4", "--shop --hups=2 --recycled=0"])
def test_deploys(more: str) -> None:
    assert deploys.run([*SMALL.split(), *more.split()]) == []
