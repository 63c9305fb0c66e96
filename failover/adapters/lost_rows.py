"""Which of the rows that only a returning node has were lost, and which ones the leader has had and compacted.

A leader that leads for longer than API servers keep of history has compacted rows that the other node still holds. Taken
for lost, they would cost a late full fence each time a node comes back (R13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest row of a key in one table."""

    id: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """What is known of both: the newest row of each key in question, and how far the leader has compacted."""

    mine: Mapping[str, Newest]
    theirs: Mapping[str, Newest]
    compacted: int


def lost(rows: Mapping[int, str], extra: Collection[int], tables: Tables) -> tuple[set[int], set[int]]:
    """Return which of the rows, key by id, are to be archived, and in which of those somebody may still believe.

    `extra` are the ids of all rows that only this node has. Changes arrive in the order of their commits: where the leader holds
    this node's newest row of a key, it has had all those before. Of any other key the rows may have been lost.
    """
    kept = {id_ for id_, key in rows.items() if tables.mine[key].id in extra}
    return kept, {id_ for id_ in kept if _believed(tables, rows[id_])}


def _believed(tables: Tables, key: str) -> bool:
    """Whether a client that saw this node's newest row of a key, and then all that the leader tells, may be left with it."""
    mine, theirs = tables.mine[key], tables.theirs.get(key)
    if mine.id > tables.compacted:
        return True  # no compaction took it away
    if theirs is None or (theirs.id < mine.id and theirs.deleted):
        return not mine.deleted
    return theirs.id < mine.id  # else it is told of a later one
