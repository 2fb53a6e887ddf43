"""Collects a profile from a running server: asks for samples, and reads them while they come."""

import time
from collections.abc import Callable
from typing import Any

from myserver.asking import AskError, Control
from myserver.profiles.profile import Area, Profile, add_records

# How often is read, and for how long each time is asked: when this command ends early, so does the
# profile. The last records are whole half a second after the end.
POLL_S = 0.4
LEASE_MS = 3000
SETTLE_S = 0.7


class _Reader:
    """Reads the samples of all workers, also of those that come meanwhile."""

    def __init__(self, control: Control, profile: Profile) -> None:
        self.control = control
        self.profile = profile
        self.areas: dict[tuple[int, int], Area] = {}  # by worker and pid
        self.first = True

    def read(self, workers: list[dict[str, Any]]) -> None:
        """Reads what is there by now."""
        for worker in workers:
            number, pid = worker["worker"], worker["sampled_pid"]
            if pid != worker["pid"]:
                continue  # its sampler has not begun
            area = self.areas.get((number, pid))
            if area is None:
                # of a worker that was there before, only what comes now; else all
                area = self.areas[number, pid] = Area(next=-1 if self.first else 0)
            answer = self.control.ask(f"/samples?worker={number}&kind=fast&{area.query()}")
            if answer["sampler"]["sampled_pid"] != pid:
                continue  # another worker has the slot since
            begins = area.next < 0
            add_records(self.profile, area, area.take(answer), number)
            self.profile.lost += 0 if begins else answer.get("lost", 0)
            self.profile.slowed |= worker["slowed"] > 0
        self.first = False


def live(
    control: Control, seconds: float, hz: int, progress: Callable[[float], None] = lambda s: None
) -> Profile:
    """A profile of all workers from now on. `hz`: samples in a second. AskError: no answer."""
    profile = Profile(title=f"{seconds:g} s at {hz} Hz")
    reader = _Reader(control, profile)
    reader.read(_ask(control, hz))
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        progress(passed)
        time.sleep(min(POLL_S, seconds - passed))
        reader.read(_ask(control, hz))
    profile.seconds = time.monotonic() - begin
    time.sleep(SETTLE_S)
    reader.read(control.ask("/profile")["workers"])
    return profile


def _ask(control: Control, hz: int) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = control.ask(f"/profile?hz={hz}&ms={LEASE_MS}", "POST")[
        "workers"
    ]
    if not workers:
        raise AskError("no worker serves")
    return workers


def recent(control: Control) -> Profile:
    """What the always-on samplers have seen and still know: at most the last minutes."""
    profile = Profile(title="the last minutes")
    for worker in control.ask("/profile")["workers"]:
        area = Area()
        answer = control.ask(f"/samples?worker={worker['worker']}&all=1")
        records = area.take(answer)
        add_records(profile, area, records, worker["worker"])
        if records:
            span = (answer["now_ms"] - records[0][0]) / 1000
            profile.seconds = max(profile.seconds, span)
    return profile
