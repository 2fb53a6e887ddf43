"""Holds the private pages of a worker against the mold's: which differ, where, and whose words.

A page is private when the kernel maps it once. Identical ones were written and written back, as
reference counts are. For the others each word that differs is attributed to the object before
it: the nearest address whose second word points to a type.
"""

from __future__ import annotations

import bisect
import os
import re
import struct
import subprocess
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = 4096
PRESENT, EXCLUSIVE = 1 << 63, 1 << 56
WORDS = struct.Struct(f"<{PAGE // 8}Q")
LOOK_BACK = 64  # words: the longest object of pymalloc
TP_BASICSIZE, TP_FLAGS = 32, 168  # offsets in PyTypeObject
TYPE_IS_READY = 1 << 12
MOST_REFERENCES = 1 << 33  # more is no count: a freed object has a pointer there


@dataclass
class Region:
    """A mapping."""

    start: int
    end: int
    name: str


class Process:
    """The memory of another process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self.pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)

    def regions(self) -> Iterator[Region]:
        """What it may write to."""
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            found = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", line)
            assert found
            start, end, mode, path = found.groups()
            if mode[1] == "w" and mode[3] == "p":
                yield Region(int(start, 16), int(end, 16), _region_name(path))

    def pages(self, region: Region) -> Iterator[tuple[int, int]]:
        """Address and pagemap entry of each page."""
        count = (region.end - region.start) // PAGE
        raw = os.pread(self.pagemap, count * 8, region.start // PAGE * 8)
        for index, entry in enumerate(struct.unpack(f"<{count}Q", raw)):
            yield region.start + index * PAGE, entry

    def is_present(self, address: int) -> bool:
        """Whether it has a page there."""
        raw = os.pread(self.pagemap, 8, address // PAGE * 8)
        return len(raw) == 8 and bool(struct.unpack("<Q", raw)[0] & PRESENT)

    def read(self, address: int, size: int = PAGE) -> bytes:
        """Bytes of it; b"" where nothing is mapped."""
        try:
            return os.pread(self.memory, size, address)
        except (OSError, OverflowError):
            return b""

    def word(self, address: int) -> int:
        """A word of it; 0 where nothing is mapped."""
        raw = self.read(address, 8)
        return int(struct.unpack("<Q", raw)[0]) if len(raw) == 8 else 0


def _region_name(path: str) -> str:
    """Anonymous mappings are pymalloc's arenas, mostly."""
    if not path or path.startswith("[anon"):
        return "anonymous"
    return path if path.startswith("[") else Path(path).name


class Types:
    """Recognizes type objects of a process, and says their names."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.names: dict[int, str] = {}
        self.metatype = self._find("PyType_Type")
        self.code = self._find("PyCode_Type")
        self.code_head = process.word(self.code + TP_BASICSIZE)

    def _find(self, symbol: str) -> int:
        """The address of a symbol: of the program, where the linker may have put a copy of what
        libpython has, or of libpython."""
        for part in (os.readlink(f"/proc/{self.process.pid}/exe"), "libpython"):
            for line in Path(f"/proc/{self.process.pid}/maps").read_text().splitlines():
                words = line.split()
                if len(words) < 6 or part not in words[5] or words[2] != "00000000":
                    continue
                said = subprocess.run(["nm", "-D", words[5]], capture_output=True, text=True)
                found = re.search(rf"^(\w+) [A-TV-Z] {symbol}$", said.stdout, re.MULTILINE)
                if found:
                    return int(words[0].partition("-")[0], 16) + int(found[1], 16)
        raise RuntimeError(f"there is no {symbol} in it")

    def name(self, address: int) -> str:
        """The name of the type at an address; "" when there is none."""
        if address & 7 or not 1 << 16 < address < 1 << 47:
            return ""
        if address not in self.names:
            self.names[address] = self._read_name(address)
        return self.names[address]

    def _read_name(self, address: int) -> str:
        if not self.process.word(address + TP_FLAGS) & TYPE_IS_READY:
            return ""
        meta = self.process.word(address + 8)
        if meta != self.metatype and (not meta or self.process.word(meta + 8) != self.metatype):
            return ""
        text = self.process.read(self.process.word(address + 24), 60).partition(b"\0")[0]
        return text.decode("ascii", "replace")


class Instructions:
    """Where code objects have their instructions and inline caches: behind their head."""

    def __init__(self, process: Process, types: Types) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        for region in process.regions():
            if not region.name.startswith(("anonymous", "[heap]")):
                continue
            words = array("Q", process.read(region.start, region.end - region.start))
            for index, word in enumerate(words):
                if word == types.code and 0 < index < len(words) - 1:
                    self._add(
                        region.start + index * 8 - 8, words[index - 1], words[index + 1], types
                    )

    def _add(self, address: int, references: int, units: int, types: Types) -> None:
        if 0 < references < MOST_REFERENCES and 0 < units < 1 << 20:
            self.starts.append(address + types.code_head)
            self.ends.append(address + types.code_head + 2 * units)

    def have(self, address: int) -> bool:
        """Whether an address is one of them."""
        index = bisect.bisect_right(self.starts, address) - 1
        return index >= 0 and address < self.ends[index] + 8


@dataclass
class Findings:
    """What the private pages of a worker are."""

    identical: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    few: Counter[int] = field(default_factory=Counter)


def owner(types: Types, words: tuple[int, ...], index: int) -> str:
    """The object that word `index` of a page belongs to, and which word of it that is.

    Words 0 and 1 are the reference count and the type; -2 and -1 the collector's.
    """
    for back in range(-2, LOOK_BACK):
        place = index - back + 1
        if place < 0:
            break
        if place < len(words) and (name := types.name(words[place])):
            if not 0 < words[place - 1] & ~(1 << 63) < MOST_REFERENCES:
                return "freed object"
            return f"{name} [{back}]" if back < 24 else f"{name} [...]"
    return "no object"


def compare(mold: Process, worker: Process) -> Findings:
    """Every private page of the worker."""
    found = Findings()
    types = Types(mold)
    instructions = Instructions(mold, types)
    for region in worker.regions():
        for address, entry in worker.pages(region):
            if not entry & PRESENT or not entry & EXCLUSIVE:
                continue
            if not mold.is_present(address):
                found.new[region.name] += 1
                continue
            ours, theirs = worker.read(address), mold.read(address)
            if ours == theirs:
                found.identical[region.name] += 1
                continue
            found.different[region.name] += 1
            theirs_ours = WORDS.unpack(theirs), WORDS.unpack(ours)
            _attribute(found, types, instructions, address, *theirs_ours)
    return found


def _attribute(
    found: Findings,
    types: Types,
    instructions: Instructions,
    address: int,
    theirs: tuple[int, ...],
    ours: tuple[int, ...],
) -> None:
    """Whose words of one page differ."""
    indices = [i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
    owners = Counter(
        "inline caches" if instructions.have(address + i * 8) else owner(types, theirs, i)
        for i in indices
    )
    if len(owners) == 1:
        found.alone.update(owners.keys())
    found.words.update(owners)
    found.pages.update(owners.keys())
    found.few[min(len(indices).bit_length(), 9)] += 1


def print_findings(found: Findings) -> None:
    """As tables."""
    print(f"{'region':30}{'identical':>12}{'different':>12}{'new':>12}   MB")
    names = Counter(found.identical) + found.different + found.new
    for name, count in names.most_common():
        if count * PAGE < 20_000:
            continue
        row = [part[name] * PAGE / 1e6 for part in (found.identical, found.different, found.new)]
        print(f"{name:30}" + "".join(f"{value:12.2f}" for value in row))
    print("\npages by how many of their 512 words differ:")
    print("  " + ", ".join(f"<{1 << bits}: {n}" for bits, n in sorted(found.few.items())))
    print(f"\n{'owner [word]':44}{'pages':>8}{'alone':>8}{'words':>8}")
    for name, pages in found.pages.most_common(45):
        print(f"{name:44}{pages:8}{found.alone[name]:8}{found.words[name]:8}")


def report(bench: Any, command: Any) -> None:
    """Serves the usual requests, then compares the first worker with the mold."""
    import memory

    with memory.Running(bench, command, 2) as server:
        server.wait_for_answer(bench.pages[0])
        for page in bench.pages:
            server.drive(page, bench.requests // 4)
        server.collect()
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in server.pids()}
        mold = next(pid for pid, name in names.items() if name == "myserver:mold")
        worker = next(pid for pid, name in names.items() if name == "myserver:worker")
        print_findings(compare(Process(mold), Process(worker)))
