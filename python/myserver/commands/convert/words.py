"""Reads a command line of another server by the table of its options."""

from collections.abc import Sequence

from .result import Cannot, Given
from .tables import Spelling, Table


class _Reader:
    def __init__(self, table: Table, words: Sequence[str], place: str, shorten: bool) -> None:
        self.table = table
        self.words = list(words)
        self.place = place
        self.shorten = shorten  # whether --work is --workers
        self.given: list[Given] = []
        self.rest: list[str] = []

    def read(self) -> None:
        while self.words:
            word = self.words.pop(0)
            if word == "--":
                self.rest += self.words
                return
            if word.startswith("--"):
                self._long(word[2:])
            elif word.startswith("-") and len(word) > 1:
                self._short(word[1:])
            else:
                self.rest.append(word)

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        self._take(self._find(name), value if equals else None)

    def _find(self, name: str) -> Spelling:
        found = self.table.on_line.get(name)
        if found:
            return found
        if self.shorten:
            longer = [s for n, s in self.table.on_line.items() if n.startswith(name)]
            if len({s.row.name for s in longer}) == 1:
                return longer[0]
        near = self.table.nearest(name, self.table.on_line)
        hint = f"did you mean --{near}?" if near else f"{self.table.server} --help lists them"
        raise Cannot(f"{self.place}: {self.table.server} has no option --{name}; {hint}")

    def _short(self, letters: str) -> None:
        while letters:
            spelling = self.table.flags.get(letters[0])
            if not spelling:
                raise Cannot(
                    f"{self.place}: {self.table.server} has no option -{letters[0]}; "
                    f"{self.table.server} --help lists them"
                )
            letters = letters[1:]
            if spelling.values:
                self._take(spelling, letters.removeprefix("=") or None)
                return
            self._take(spelling, None)

    def _take(self, spelling: Spelling, value: str | None) -> None:
        if spelling.values == 0 and value is not None and self.table.server != "uWSGI":
            raise Cannot(f"{self.place}: --{spelling.name} takes no value; write --{spelling.name}")
        taken = [] if value is None else [value]
        if spelling.may_lack:
            if not taken and self.words and not self.words[0].startswith("-"):
                if self.table.server != "uWSGI":
                    taken.append(self.words.pop(0))
        else:
            while len(taken) < spelling.values:
                if not self.words:
                    raise Cannot(f"{self.place}: --{spelling.name} needs a value")
                taken.append(self.words.pop(0))
        self.given.append(Given(spelling.name, "\0".join(taken), self.place, " ".join(taken)))


def read_words(
    table: Table, words: Sequence[str], place: str = "command line", shorten: bool = True
) -> tuple[list[Given], list[str]]:
    """The options in their order, and the other words. Two values of one option have a NUL between.

    Cannot: a name that the server does not have, or a value that is missing.
    """
    reader = _Reader(table, words, place, shorten)
    reader.read()
    return reader.given, reader.rest
