"""workers-min: the number of workers follows the load, and nobody loses a request by it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness import SLOWNESS, Server, wait_for

Start = Callable[..., Server]


class Client(threading.Thread):
    """Requests one after the other, on one connection or on new ones, until told to stop; between two it
    waits for `pause_s`."""

    def __init__(self, s: Server, path: str, keeps: bool, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.s, self.path, self.keeps, self.pause_s = s, path, keeps, pause_s
        self.over = threading.Event()
        self.answers = 0
        self.errors: list[str] = []
        self.start()

    def run(self) -> None:
        """Ask, and count."""
        while not self.over.is_set():
            client = http.client.HTTPConnection("localhost", timeout=30 * SLOWNESS)
            try:
                client.sock = self.s.connect()
                self.use(client)
            except Exception as error:
                self.errors.append(repr(error))
            finally:
                client.close()

    def use(self, client: http.client.HTTPConnection) -> None:
        """Until the server closes the connection, which it says."""
        while not self.over.is_set():
            client.request("GET", self.path)
            response = client.getresponse()
            response.read()
            if response.status != 200:
                self.errors.append(f"status {response.status}")
            self.answers += 1
            self.over.wait(self.pause_s)
            if response.will_close or not self.keeps:
                return


@contextmanager
def clients(
    s: Server, count: int, path: str = "/0.03", pause_s: float = 0
) -> Iterator[list[Client]]:
    """So many, half of them on connections that they keep; they have stopped at the end, and lost
    nothing."""
    all_of_them = [Client(s, path, i % 2 == 0, pause_s) for i in range(count)]
    try:
        yield all_of_them
    finally:
        for client in all_of_them:
            client.over.set()
        for client in all_of_them:
            client.join()
    assert [client.errors for client in all_of_them] == [[]] * count
    assert all(client.answers for client in all_of_them)


def has_workers(s: Server, count: int) -> bool:
    """Whether exactly so many serve, and none ends."""
    return len(s.workers()) == count and not s.ending_workers()


@pytest.mark.parametrize(("threads", "preload"), [(1, True), (2, False)])
def test_up_and_down_without_a_lost_request(server: Start, threads: int, preload: bool) -> None:
    """Down while some requests still come, on new connections and on kept ones."""
    s = server("slow", workers=3, workers_min=1, threads=threads, preload=preload)
    assert "serves slow with 1 worker of" in s.log and has_workers(s, 1)
    with clients(s, 8) as load:
        wait_for(lambda: has_workers(s, 3), 30, "three workers")
        answered = [client.answers for client in load]
        wait_for(lambda: all(c.answers > n for c, n in zip(load, answered, strict=True)))
    with clients(s, 4, "/", pause_s=0.05):
        wait_for(lambda: has_workers(s, 1), 90, "one worker")
    # One more or one less each time; in between, too, where the machine lets all wait.
    steps = re.findall(
        r"(all workers are busy|few requests come): (\d) (?:workers? )?instead of (\d)", s.log
    )
    number = 1
    for why, now, before in steps:
        assert int(before) == number
        number += 1 if why == "all workers are busy" else -1
        assert int(now) == number
    assert steps[0][1] == "2" and number == 1 and any(now == "3" for _, now, _ in steps)


def test_the_number_stays_within_what_signals_and_settings_say(server: Start) -> None:
    s = server("slow", start=False, workers=None)
    (s.dir / "it.ini").write_text("[myserver]\nworkers = 2\nworkers-min = 1\n")
    s.command += ["-c", "it.ini"]
    s.start()
    with clients(s, 8):
        wait_for(lambda: has_workers(s, 2), 30)
        s.signal(signal.SIGTTIN)
        wait_for(lambda: has_workers(s, 3), 30)
        assert "now 1 to 3 workers" in s.log
        s.signal(signal.SIGTTOU)
        wait_for(lambda: has_workers(s, 2), 30)
        (s.dir / "it.ini").write_text("[myserver]\nworkers = 4\nworkers-min = 3\n")
        s.signal(signal.SIGHUP)
        assert s.log_contains("reloaded: all workers")
        wait_for(lambda: has_workers(s, 4), 30)
        s.signal(signal.SIGWINCH)
        wait_for(lambda: has_workers(s, 0), 30)
        s.signal(signal.SIGTTIN)
        wait_for(lambda: has_workers(s, 4), 30)
    wait_for(lambda: has_workers(s, 3), 90)
    (s.dir / "it.ini").write_text("[myserver]\nworkers = 2\n")
    s.signal(signal.SIGHUP)
    assert s.log_contains("now 2 workers")
    wait_for(lambda: has_workers(s, 2), 30)


def test_a_worker_that_dies_says_nothing_about_the_load(server: Start) -> None:
    s = server("slow", workers=4, workers_min=2, expect_deaths=True)
    first = s.workers()
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: has_workers(s, 2) and s.workers() != first)
    assert not re.search("all workers are busy|few requests come", s.log)


@pytest.mark.parametrize(
    "options", [{"workers": 2, "workers_min": 2}, {"workers": 1}, {"workers": 2, "workers_min": 0}]
)
def test_a_number_that_is_fixed(server: Start, options: dict[str, Any]) -> None:
    """The master then does not look at the load at all."""
    s = server("slow", **options)
    assert has_workers(s, options["workers"])
    with clients(s, 4) as load:
        wait_for(lambda: all(client.answers > 20 for client in load), 60)
    assert has_workers(s, options["workers"]) and "busy" not in s.log
