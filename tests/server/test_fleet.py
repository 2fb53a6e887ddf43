"""Three hosts behind a HAProxy and an nginx: what deploys, deaths and scaling cost the clients.

Each host is a network namespace, so these tests are for root; elsewhere they are skipped.
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet import HAPROXY, Fleet, Host, Impossible, fleet_of, stream_from
from harness import Server, wait_for
from wire import let

Start = Callable[..., Server]

TARGET = 0.6  # as averageValue of the HorizontalPodAutoscaler in deploy/kubernetes


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path, server: Start) -> Iterator[Fleet]:
    """Three hosts, none of which serves yet; the proxies repeat nothing, unless the parameter says so."""
    try:
        with fleet_of(tmp_path, server, getattr(request, "param", False)) as made:
            yield made
    except Impossible as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_rolling_update_loses_nothing(fleet: Fleet, method: str) -> None:
    """One host after the other gets the new version under load, and no proxy repeats a request."""
    for host in fleet.hosts:
        fleet.start(host)
    with fleet.load(method=method) as load:
        load.wait_for_more(100)
        for host in fleet.hosts:
            fleet.stop(host)
            load.wait_for_more(20)
            fleet.start(host, version=2)
        before = len(load.answers)
        load.wait_for_more(100)
    assert load.lost == {}
    hosts = {host.name for host in fleet.hosts}
    assert {answer.split()[0] for answer in load.answers[:before]} == hosts
    assert {answer.split()[1] for answer in load.answers[:before]} == {"1", "2"}
    # Those that were under way when the last one began to serve are of the new version, too.
    assert {tuple(answer.split()[:2]) for answer in load.answers[before:]} == {
        (name, "2") for name in hosts
    }


@pytest.mark.parametrize("fleet", [True], indirect=True, ids=["retries"])
def test_a_host_that_dies_takes_only_what_runs_there(fleet: Fleet) -> None:
    """Streams that had begun; of all others only such as the host itself had begun."""
    for host in fleet.hosts:
        fleet.start(host)
    dead = fleet.hosts[1]
    with ExitStack() as stack:
        streams: dict[str, Callable[[], bytes]] = {}
        while len(streams) < len(fleet.hosts):
            name, rest = stack.enter_context(stream_from(HAPROXY, next(fleet.numbers)))
            streams.setdefault(name, rest)
        with fleet.load() as load:
            load.wait_for_more(100)
            assert dead.server
            died = dead.server
            dead.die()
            fleet.wait_until_seen(dead, False)
            load.wait_for_more(100)
        for host in fleet.hosts:
            if host.server:
                let(host.server, "stream")
                assert streams[host.name]() == b" end"
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            streams[dead.name]()
    begun = [line for line in died.log.splitlines() if line.startswith("event: begun ")]
    assert begun
    for number, error in load.lost.items():
        assert f"event: begun {number}." in begun, error
    assert len(load.lost) <= died_threads(died)


def died_threads(server: Server) -> int:
    """How many requests it could run at once."""
    return 2 if "--threads=2" in server.command else 0


def desired(running: list[Host]) -> int:
    """What a HorizontalPodAutoscaler would want, with the policies of deploy/kubernetes."""
    ratio = sum(host.saturation() for host in running) / len(running) / TARGET
    wanted = len(running) if abs(ratio - 1) <= 0.1 else math.ceil(len(running) * ratio)
    return max(1, min(3, wanted, 2 * len(running)), len(running) - 1)


def scale_to(fleet: Fleet, count: int) -> list[int]:
    """Play the autoscaler until `count` hosts serve; how many there were, step by step."""
    steps = [sum(host.server is not None for host in fleet.hosts)]

    def look() -> bool:
        running = [host for host in fleet.hosts if host.server]
        wanted = desired(running)
        for host in [host for host in fleet.hosts if not host.server][: wanted - len(running)]:
            fleet.start(host)
        for host in running[wanted:]:
            fleet.stop(host)
        if wanted != len(running):
            steps.append(wanted)
        return steps[-1] == count

    wait_for(look, what=f"{count} hosts")
    return steps


def test_scaling_by_saturation(fleet: Fleet) -> None:
    """From one host to three while requests wait, and back when there is little to do.

    A look is a moment, and no mean of many, so that a step between may go back.
    """
    first, *others = fleet.hosts
    fleet.start(first)
    for host in others:
        fleet.wait_until_seen(host, False)
    with fleet.load("/slow", clients=10, nginx=False) as busy:
        steps = scale_to(fleet, 3)
        assert steps[0] == 1 and steps[-1] == 3
        busy.wait_for_more(100)
        assert {answer.split()[0] for answer in busy.answers[-60:]} == {
            host.name for host in fleet.hosts
        }
    with fleet.load(clients=1, nginx=False) as quiet:
        steps = scale_to(fleet, 1)
        assert steps[0] == 3 and steps[-1] == 1
        quiet.wait_for_more(20)
    assert busy.lost == {} and quiet.lost == {}
    assert first.server is not None
