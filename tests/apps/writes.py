"""Has many objects of two kinds, and writes to those of one."""

from typing import Any


class Written:
    """Has something that can be dropped."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: list[int] | None = [1]


class Untouched(Written):
    """The same, for nobody to write to."""

    __slots__ = ()


WRITTEN = [Written() for _ in range(20_000)]
UNTOUCHED = [Untouched() for _ in range(20_000)]


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """/written writes to all objects of one kind."""
    if environ["PATH_INFO"] == "/written":
        for one in WRITTEN:
            one.number = None
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
