"""1,500 classes far from each other; a request asks an instance of each for its __dict__."""

from __future__ import annotations

from collections.abc import Callable, Iterable

PAGE_BYTES = 4096
CLASSES = 1500
NAMES = [f"attribute_{number}" for number in range(5)]


def set_all(thing: object) -> None:
    """All instances of a class share these names."""
    for name in NAMES:
        setattr(thing, name, None)


# The names of a class are a piece of memory of their own, which its first instance makes; what lies
# between them stays.
CLASSES_AND_GAPS = [
    (type(f"Class{number}", (), {"__init__": set_all}), bytes(PAGE_BYTES))
    for number in range(CLASSES)
]


def application(
    environ: dict[str, object], start_response: Callable[..., object]
) -> Iterable[bytes]:
    """How many names there are, in dictionaries that live until all are counted."""
    dictionaries = [vars(kind()) for kind, _ in CLASSES_AND_GAPS]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(sum(map(len, dictionaries))).encode()]
