"""What of this worker's memory grows: by view and line, by type, and who keeps a type alive.

Called by the C side (tracer.c), on a thread of its own, only while somebody traces the memory of this
worker; applications never import this module. Nothing here is imported for it: what a request has not
imported stays so. All results are plain data that `myserver memory --trace` shows.
"""

import _tracemalloc
import gc
import json
import sys
from collections import Counter, defaultdict, deque
from types import FrameType, FunctionType, ModuleType
from typing import Any

import _myserver
from myserver.stacks import is_of_application, shown_path

_FRAMES = 8  # of a block, from the innermost: enough to reach the application through a library
_PIECE = 2000  # blocks that are read at once: other threads run in between
_VIEWS, _LINES, _TYPES = 50, 100, 100  # so many are told
_LINES_OF_VIEW = 10
_OWNED = 20  # objects of the suspect type whose owners are looked for
_NAME_MOST = 200
_OF_NO_REQUEST, _OF_RUNNING_REQUEST = -2, -1

_Line = tuple[str, int]
_Place = tuple[int, _Line, _Line]  # view; the line of the application, and that of the block
_Sizes = dict[_Place, list[int]]  # bytes, blocks

_was_tracing = False
_half: _Sizes = {}
_half_requests: dict[int, int] = {}
_types: Counter[int] = Counter()


def begin() -> None:
    """Begins to trace. RuntimeError: that cannot be done in this process."""
    global _was_tracing, _types
    _collect()
    _was_tracing = _tracemalloc.is_tracing()
    _tracemalloc.start(_FRAMES)
    try:
        _myserver.blocks_start()
    except BaseException:
        if not _was_tracing:
            _tracemalloc.stop()
        raise
    _types = _count_types(gc.get_objects())


def stop() -> None:
    """Ends what begin() has begun, if it has."""
    _myserver.blocks_stop()
    if not _was_tracing:
        _tracemalloc.stop()
    for known in (_half, _half_requests, _types):
        known.clear()


def mark() -> None:
    """Takes the first snapshot: what grows after it as well is no cache that fills."""
    _check()
    _collect()
    _myserver.blocks_copy()
    _half_requests.update(_myserver.blocks_requests())
    _half.update(_read())


def finish(suspect: str, pages: int) -> bytes:
    """Takes the second snapshot, and returns the result as JSON.

    `suspect` is the name of a type whose owners are to be found, or empty. With `pages`, which types
    lie on pages of the mold that were copied. RuntimeError: the trace was stopped by the application.
    """
    _check()
    _collect()
    _myserver.blocks_copy()
    ended = dict(_myserver.blocks_requests())
    objects = gc.get_objects()
    types, kinds = _count_types(objects), {id(type(found)): type(found) for found in objects}
    now = _read()
    result: dict[str, Any] = {
        "bytes": sum(size for size, _ in now.values()),
        "blocks": sum(count for _, count in now.values()),
        "bytes_half": sum(size for size, _ in _half.values()),
        "requests": sum(ended.values()),
        "traced": _tracemalloc.get_traced_memory()[0],
        "views": _views(now, ended),
        "lines": _lines(now, lambda place: (place[1], place[2]))[:_LINES],
        "types": _grown_types(types, kinds),
    }
    if pages:
        result["copied"] = _copied(objects)
    if suspect:
        result["suspect"] = _suspect(suspect, objects, kinds)
    return json.dumps(result).encode()


def _check() -> None:
    if not _tracemalloc.is_tracing():
        raise RuntimeError("the application has stopped tracemalloc meanwhile")


def _collect() -> None:
    """Garbage in cycles is no growth."""
    if gc.isenabled():
        gc.collect()


# ---- blocks


def _read() -> _Sizes:
    """The blocks that were copied, as far as they are still there."""
    sizes: _Sizes = defaultdict(lambda: [0, 0])
    places: dict[object, tuple[_Line, _Line]] = {}
    left = True
    while left:
        pieces = _myserver.blocks_read(_PIECE)
        left = len(pieces) > 0
        for view, size, lines in pieces:
            if lines not in places:
                places[lines] = _place(lines)
            entry = sizes[view, *places[lines]]
            entry[0] += size
            entry[1] += 1
    return sizes


def _place(lines: tuple[_Line, ...] | None) -> tuple[_Line, _Line]:
    if not lines:
        return ("", 0), ("", 0)
    ours = next((line for line in lines if is_of_application(line[0])), lines[0])
    return ours, lines[0]


def _view_name(view: int) -> str:
    if view == _OF_NO_REQUEST:
        return "(no request)"
    return "(still running)" if view == _OF_RUNNING_REQUEST else _myserver.view_name(view)


def _lines(sizes: _Sizes, key: Any) -> list[dict[str, Any]]:
    """The places by `key` that takes most, first those that have grown most."""
    total: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for place, (size, count) in sizes.items():
        entry = total[key(place)]
        entry[0] += size
        entry[1] += count
        entry[2] += _half.get(place, (0, 0))[0]
    ordered = sorted(total.items(), key=lambda item: -item[1][0])
    return [
        {
            "line": _shown(ours),
            "inner": _shown(inner) if inner != ours else "",
            "bytes": size,
            "bytes_half": half,
            "blocks": count,
        }
        for (ours, inner), (size, count, half) in ordered
    ]


def _shown(line: _Line) -> str:
    return f"{shown_path(line[0])}:{line[1]}"[-_NAME_MOST:] if line[0] else "(not known)"


def _views(sizes: _Sizes, ended: dict[int, int]) -> list[dict[str, Any]]:
    of_view: dict[int, _Sizes] = defaultdict(dict)
    for place, entry in sizes.items():
        of_view[place[0]][place] = entry
    found = []
    for view, its in of_view.items():
        found.append(
            {
                "view": _view_name(view),
                "bytes": sum(size for size, _ in its.values()),
                "blocks": sum(count for _, count in its.values()),
                "bytes_half": sum(_half.get(place, (0, 0))[0] for place in its),
                "requests": ended.get(view, 0),
                "requests_half": _half_requests.get(view, 0),
                "lines": _lines(its, lambda place: (place[1], place[2]))[:_LINES_OF_VIEW],
            }
        )
    return sorted(found, key=_bytes, reverse=True)[:_VIEWS]


def _bytes(row: dict[str, Any]) -> int:
    return int(row["bytes"])


# ---- types


def _count_types(objects: list[Any]) -> Counter[int]:
    """By the id of the type: a metaclass may have a hash of its own.

    The collector does not list numbers and texts, nor what was there before the fork.
    """
    return Counter(map(id, map(type, objects)))


def _type_name(kind: type) -> str:
    """Read past what a metaclass may say."""
    module = type.__dict__["__module__"].__get__(kind)
    name = type.__dict__["__qualname__"].__get__(kind)
    return str(name if module == "builtins" else f"{module}.{name}")[:_NAME_MOST]


def _grown_types(now: Counter[int], kinds: dict[int, type]) -> list[dict[str, Any]]:
    grown = ((number, count, count - _types[number]) for number, count in now.items())
    most = sorted((g for g in grown if g[2] > 0), key=lambda g: -g[2])[:_TYPES]
    return [
        {"type": _type_name(kinds[n]), "count": count, "grown": grew} for n, count, grew in most
    ]


def _copied(objects: list[Any]) -> list[dict[str, Any]]:
    try:
        found = _myserver.copied_types([sys.modules, *objects])
    except OSError:
        return []
    most = sorted(found, key=lambda row: row[2], reverse=True)[:_TYPES]
    return [{"type": _type_name(kind), "all": total, "copied": n} for kind, total, n in most]


# ---- who owns a type


def _suspect(name: str, objects: list[Any], kinds: dict[int, type]) -> dict[str, Any]:
    numbers = {number for number, kind in kinds.items() if _is_named(kind, name)}
    wanted = [found for found in objects if id(type(found)) in numbers]
    count = len(wanted)
    del wanted[:-_OWNED]  # the youngest are at the end
    objects.insert(0, sys.modules)
    texts: dict[tuple[int, ...], str] = {}  # of the owners; they may grow meanwhile
    ways: Counter[str] = Counter()
    for chain in _myserver.chains_of(objects, wanted):
        key = tuple(map(id, chain[:-1]))
        if key not in texts:
            texts[key] = _way(chain)
        ways[texts[key]] += 1
    return {
        "type": name,
        "count": count,
        "looked_at": len(wanted),
        "owners": [{"way": way, "count": n} for way, n in ways.most_common()],
    }


def _is_named(kind: type, name: str) -> bool:
    full = _type_name(kind)
    return full == name or full.endswith("." + name)


def _way(chain: list[Any]) -> str:
    """How the last of the chain is reached; of a dictionary that is no namespace, no key is told."""
    if chain and chain[0] is sys.modules:
        chain = chain[1:]
        text = next((k for k, v in list(sys.modules.items()) if chain and v is chain[0]), "?")
    elif len(chain) < 2:
        return "a function that runs, or code in C"
    else:
        text = _described(chain[0])
    for i in range(1, len(chain)):
        before = chain[i - 2] if i > 1 else None
        text += _step(before, chain[i - 1], chain[i])
    return text[:1000]


def _described(found: Any) -> str:
    code = found.f_code if type(found) is FrameType else getattr(found, "__code__", None)
    kind = _type_name(type(found))
    if type(found) in (FrameType, FunctionType) and code:
        return f"{kind} {code.co_qualname} ({shown_path(code.co_filename)}:{code.co_firstlineno})"
    return f"a {kind}"


def _step(before: Any, owner: Any, owned: Any) -> str:
    """From `owner`, which is itself owned by `before`, to what it owns."""
    kind = type(owner)
    if issubclass(kind, dict):
        is_namespace = before is not None and _namespace(before) is owner
        name = _name_in(owner, owned) if is_namespace else ""
        return f".{name}" if name else f" > dict of {dict.__len__(owner)}"
    if kind in (list, tuple, set, frozenset, deque):
        return f" > {kind.__name__} of {len(owner)}"
    if _namespace(owner) is owned:
        return "" if kind is ModuleType else f" > {_described(owner)}"
    name = _name_in(_namespace(owner) or {}, owned)
    return f" > {_described(owner)}{'.' if name else ''}{name}"


def _namespace(owner: Any) -> Any:
    try:
        return object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return None


def _name_in(namespace: Any, owned: Any) -> str:
    if not isinstance(namespace, dict):
        return ""
    return next((k for k, v in list(dict.items(namespace)) if v is owned and type(k) is str), "")
