"""Whose history contains whose: the question behind every meeting of two nodes."""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from failover.core.model import Kind, Lineage

if TYPE_CHECKING:
    from failover.core.model import LineageEntry


class Relation(StrEnum):
    """My history beside the peer's."""

    UNKNOWN = "unknown"  # one of them has not been seen yet
    EQUAL_MINE = "equal_mine"  # the same, and I led last
    EQUAL_THEIRS = "equal_theirs"  # the same, and the peer led last
    AHEAD = "ahead"  # mine contains the peer's
    BEHIND = "behind"  # the peer's contains mine
    PARTED = "parted"  # common up to a point, then both went on
    STRANGER = "stranger"  # nothing in common


class Side(msgspec.Struct, frozen=True):
    """What one node shows at a meeting."""

    node: int
    lineage: Lineage
    visible_revision: int
    may_lead: bool = True  # data complete, nothing handed over, no verdict accepted


def relate(mine: Side, theirs: Side) -> Relation:
    """Compare two histories by the random ids of their rows.

    A history that ends in a row under which its node acknowledged writes alone is contained in the other only if its
    data is not longer than what the other had when it went on (R1).
    """
    if not mine.lineage and not theirs.lineage:
        return Relation.UNKNOWN
    if not mine.lineage:
        return Relation.BEHIND
    if not theirs.lineage:
        return Relation.AHEAD
    if mine.lineage[-1].id == theirs.lineage[-1].id:
        if mine.may_lead != theirs.may_lead:
            return Relation.AHEAD if mine.may_lead else Relation.BEHIND
        return Relation.EQUAL_MINE if mine.lineage[-1].node == mine.node else Relation.EQUAL_THEIRS
    if (after := _successor(mine, theirs.lineage)) is not None:
        return Relation.PARTED if _went_on(mine, after) else Relation.BEHIND
    if (after := _successor(theirs, mine.lineage)) is not None:
        return Relation.PARTED if _went_on(theirs, after) else Relation.AHEAD
    return Relation.PARTED if common_head(mine.lineage, theirs.lineage) else Relation.STRANGER


def fence_row(lineage: Lineage) -> str:
    """Return the row whose fence these data are served under, "" for an empty history: the newest that began a leadership."""
    return next((row.id for row in reversed(lineage) if row.kind in (Kind.LEAD, Kind.VERDICT)), "")


def common_head(mine: Lineage, theirs: Lineage) -> LineageEntry | None:
    """Return the newest row that both histories hold or have absorbed, whichever of them is asked first.

    A side that was absorbed is common up to its head, whose row only that side has.
    """
    by_id = {entry.id: entry for entry in theirs}
    absorbed = {entry.absorbs for entry in theirs}
    for entry in reversed(mine):
        if entry.id in by_id or entry.id in absorbed:
            return entry
        if entry.absorbs in by_id:
            return by_id[entry.absorbs]
    return None


def parting_revision(mine: Lineage, theirs: Lineage) -> int:
    """Return the first revision whose content may differ between the two, 0 where nothing is known to be common.

    That is where the newest row ends that both hold themselves: to absorb a side takes none of its rows over.
    Rows of different writers do not commit in the order of their ids, so a margin below it is compared too.
    """
    held = {entry.id for entry in theirs}
    common = next((entry for entry in reversed(mine) if entry.id in held), None)
    if common is None:
        return 0
    parents = [
        following.parent_revision
        for lineage in (mine, theirs)
        for entry, following in itertools.pairwise(lineage)
        if entry.id == common.id
    ]
    return max(0, min(parents, default=common.parent_revision) - MARGIN)


MARGIN = 1000  # revisions; more than commits can overlap: Kine holds far fewer sessions


def _successor(side: Side, other: Lineage) -> LineageEntry | None:
    """Return the row with which `other` went on after `side`'s head, None when it does not hold that head.

    A verdict that absorbs it counts before the row that parted from it: a leader that was alone from the beginning, or
    asynchronous, has no row of its own side, and loses with the very head that both hold.
    """
    head = side.lineage[-1].id
    for entry in other:
        if entry.absorbs == head:
            return entry
    for entry, following in itertools.pairwise(other):
        if entry.id == head:
            return following
    return None


def _went_on(side: Side, after: LineageEntry) -> bool:
    """Whether `side` may hold acknowledged writes that the other went on without."""
    head = side.lineage[-1]
    alone = head.kind is not Kind.SYNCED and head.node == side.node
    absorbed = after.absorbs == head.id
    return alone and not absorbed and after.node != side.node and side.visible_revision > after.parent_revision
