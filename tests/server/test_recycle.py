"""Workers that are replaced while they serve: by requests, age, memory."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable

from harness import Server, wait_for
from test_master import load, wait_for_workers

Start = Callable[..., Server]

REPLACING = r"replacing worker (\d+) \(pid (\d+)\): "


def test_max_requests_replaces_without_loss(server: Start) -> None:
    s = server("crash", workers=2, max_requests=50)
    first = wait_for_workers(s, 2)
    with load(s) as requests:
        wait_for(
            lambda: len(re.findall(REPLACING + "it has answered max-requests", s.log)) >= 6, 60
        )
        most = 0
        for _ in range(50):
            most = max(most, len(s.workers()))
            time.sleep(0.01)
    assert requests.errors == []
    assert most <= 3
    assert len({*requests.bodies}) >= 6  # pids
    wait_for(lambda: not set(first) & set(s.workers()), what="the first ones to leave")


def test_replacement_serves_before_the_old_worker_drains(server: Start) -> None:
    s = server("crash", max_requests=5)
    (first,) = s.workers()
    while not re.search(REPLACING, s.log):
        s.get("/")
    wait_for_workers(s, 1, without=first)
    assert s.log_contains("draining")
    lines = s.log
    replacing = lines.index("replacing worker")
    serves = lines.index("serves", replacing)
    assert replacing < serves < lines.index("draining", serves)


def test_without_jitter_the_number_is_exact(server: Start) -> None:
    s = server("crash", max_requests=10, max_requests_jitter=0)
    (first,) = s.workers()
    for _ in range(9):
        assert s.get("/").text == str(first)
    time.sleep(0.5)
    assert not re.search(REPLACING, s.log)
    s.get("/")
    assert s.log_contains(REPLACING + "it has answered max-requests")


def test_jitter_lets_it_answer_more(server: Start) -> None:
    """At random up to so many: with very many its age comes first."""
    s = server("crash", max_requests=5, max_requests_jitter=10**9, max_worker_lifetime="2s")
    answers: Counter[str] = Counter()

    def more_than_five() -> bool:
        answers[s.get("/").text] += 1
        return max(answers.values()) > 5

    wait_for(more_than_five, what="a worker that answers more")
    assert s.log_contains(REPLACING + "it has reached max-worker-lifetime")
    assert "max-requests" not in s.log


def test_jitter_is_not_more_than_it_says(server: Start) -> None:
    s = server("crash", max_requests=5, max_requests_jitter=5)
    for _ in range(10):
        s.get("/")
    assert s.log_contains(REPLACING + "it has answered max-requests")


def test_max_worker_lifetime(server: Start) -> None:
    s = server("crash", workers=2, max_worker_lifetime="1s")
    first = wait_for_workers(s, 2)
    with load(s) as requests:
        wait_for(lambda: not set(first) & set(s.workers()), what="other workers")
    assert s.log_contains(REPLACING + "it has reached max-worker-lifetime")
    assert requests.errors == []


def test_idle_workers_age_too(server: Start) -> None:
    s = server("crash", max_worker_lifetime="500ms")
    first = wait_for(s.workers)[0]
    wait_for(lambda: first not in s.workers(), what="another worker")


def test_max_worker_memory(server: Start) -> None:
    s = server("leak", workers=2, max_worker_memory="64m")
    first = wait_for_workers(s, 2)
    assert s.get("/shared").status == 200  # 100 MB from before the fork do not count
    time.sleep(0.2)
    (fat,) = {int(s.get("/leak").text)}
    assert fat in first
    wait_for(lambda: fat not in s.workers(), 20, "the fat worker to leave")
    assert s.log_contains(rf"worker \d \(pid {fat}\) has \d+\.\d MB of private memory")
    assert s.log_contains(rf"replacing worker \d \(pid {fat}\): it has more private memory")
    assert len(re.findall(REPLACING, s.log)) == 1
    assert len(wait_for_workers(s, 2)) == 2


def test_recycling_during_a_reload(server: Start) -> None:
    s = server("crash", workers=2, max_requests=20)
    with load(s) as requests:
        for generation in range(2, 5):
            s.signal(signal.SIGHUP)
            assert s.log_contains(rf"reloaded: all workers are of generation {generation}$")
    assert requests.errors == []
    assert s.get("/").status == 200
