"""How the applications of the tests talk with them: by files and by lines in the log."""

from __future__ import annotations

import os
import time

DEADLINE_S = 100.0


def event(text: str) -> None:
    """Say in the log that something happened."""
    os.write(1, f"event: {text}\n".encode())


def is_let(name: str) -> bool:
    """Whether the test has said so."""
    return os.path.exists(f"let-{name}")


def wait_until_let(name: str) -> None:
    """Wait until the test says so."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_let(name):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody said {name}")
        time.sleep(0.005)


class Body:
    """An iterable body that says when it is closed."""

    def __init__(self, name, pieces):
        self.name = name
        self.pieces = pieces

    def __iter__(self):
        return iter(self.pieces)

    def close(self):
        """What the server must call, once."""
        event(f"closed {self.name}.")
