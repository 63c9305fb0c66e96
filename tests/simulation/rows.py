"""What a row of the simulated kine table says, as the text that the databases hold, and what a compaction deletes of them.

A text without marks is a key that was created and never changed, so most rows cost nothing to write or to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.world import Postgres

GAP = "gap-"
MARK = "|"


class Row(msgspec.Struct, frozen=True):
    """One row; `prev` is the revision of the key's row before it, 0 for none."""

    name: str
    value: str = ""  # tells two changes of a key apart
    prev: int = 0
    deleted: bool = False
    lease: int = 0  # seconds

    def text(self) -> str:
        """Return it as the databases hold it."""
        if not (self.value or self.prev or self.deleted):
            return self.name
        gone = "deleted" if self.deleted else ""
        return MARK.join((self.name, self.value, str(self.prev), gone, str(self.lease)))


class Gone(NamedTuple):
    """A row that a compaction deletes, and the text of what made it superfluous: its own where it says that a key is gone."""

    id: int
    text: str
    because: str


@lru_cache(maxsize=1 << 16)
def read(text: str) -> Row:
    """Return what a text says."""
    name, *rest = text.split(MARK)
    if not rest:
        return Row(name, deleted=name.startswith(GAP))
    value, prev, deleted, lease = rest
    return Row(name, value, int(prev), bool(deleted), int(lease))


def name_of(text: str) -> str:
    """Return the key."""
    return text.partition(MARK)[0]


def of_a_client(text: str) -> bool:
    """Whether a client wrote it, rather than Kine or a fence."""
    return not text.startswith(GAP)


def newest_of_each(rows: dict[int, str]) -> dict[str, int]:
    """Return the newest revision of every key, deleted ones included."""
    return {name_of(rows[id_]): id_ for id_ in sorted(rows)}


def live(rows: dict[int, str]) -> dict[str, int]:
    """Return the newest revision of every key that is there."""
    return {name: id_ for name, id_ in newest_of_each(rows).items() if not read(rows[id_]).deleted}


def superfluous(postgres: Postgres, upto: int) -> tuple[Gone, ...]:
    """Return the rows that a compaction up to a revision deletes, as Kine's CompactSQL does.

    It looks from the last compaction on: at what was replaced there, and what says that a key is gone. It sees no row whose
    commit waits.
    """
    hidden, gone = postgres.hidden(), {}
    for id_ in range(postgres.compacted + 1, upto + 1):
        text = postgres.rows.get(id_)
        if text is None or id_ in hidden:
            continue
        row = read(text)
        if row.prev in postgres.rows:
            gone[row.prev] = Gone(row.prev, postgres.rows[row.prev], text)
        if row.deleted and id_ not in gone:
            gone[id_] = Gone(id_, text, text)
    return tuple(gone.values())


class Ledger:
    """The judge's own book of what compactions have deleted, on whatever node, and because of what."""

    def __init__(self) -> None:
        self._because: dict[str, set[str]] = {}

    def note(self, gone: Iterable[Gone]) -> None:
        """Take in a compaction. Both sides of a split may delete the same row, each because of another."""
        for one in gone:
            self._because.setdefault(one.text, set()).add(one.because)

    def has(self, text: str) -> bool:
        """Whether a compaction has deleted it."""
        return text in self._because

    def accounts_for(self, text: str, rows: dict[int, str], held: Held) -> bool:
        """Whether a change is there, or rightly gone: compacted because of one that is accounted for in turn."""
        left, seen = [text], {text}
        while left:
            one = left.pop()
            because = self._because.get(one, set())
            if one in held.texts or (one in because and held.is_gone(read(one), rows)):
                return True
            left += because - seen
            seen |= because
        return False


@dataclass(frozen=True, slots=True)
class Held:
    """Where a change may be found: in the table, and in archives where those count."""

    texts: frozenset[str]
    live: dict[str, int]

    def is_gone(self, row: Row, rows: dict[int, str]) -> bool:
        """Whether a key that was deleted is not back with what it had been, or an archive says what became of it."""
        back = self.live.get(row.name)
        if back is None or row.prev not in (back, read(rows[back]).prev) or deletion(row.name) in self.texts:
            return True
        return any(name_of(text) == row.name and read(text).prev > row.prev for text in self.texts)


def deletion(name: str) -> str:
    """Return what an archive says of a key that only its side had deleted."""
    return f"deleted {name}"
