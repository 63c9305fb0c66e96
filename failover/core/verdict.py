"""Who wins a split: a pure function of one pinned pair of summaries (design, section 9; R3, R7, R8)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from failover.core.lineage import common_head
from failover.core.model import Choice, Kind, LastChange, Lineage, Verdict

if TYPE_CHECKING:
    from failover.core.model import LineageEntry


class SplitPolicy(StrEnum):
    """How a split is decided between two sides of equal claim."""

    NEWEST = "newest"  # the later last change wins
    MOST_CHANGES = "most_changes"
    PREFER_NODE = "prefer_node"
    PREFER_ORIGINAL = "prefer_original"
    WAIT = "wait"  # for an operator


class Summary(msgspec.Struct, frozen=True):
    """One side as the verdict sees it."""

    node: int
    lineage: Lineage
    last_change: LastChange | None
    changes: int


class ClockOffset(msgspec.Struct, frozen=True):
    """`offset_us` is node 1's wall clock minus node 0's."""

    offset_us: int
    uncertainty_us: int


def decide_split(
    sides: tuple[Summary, Summary], clocks: ClockOffset, policy: SplitPolicy, preferred_node: int = 0
) -> Verdict | None:
    """Compute the verdict over node 0's and node 1's summary; None under SplitPolicy.WAIT."""
    assert (sides[0].node, sides[1].node) == (0, 1)
    chosen = _choose(sides, clocks, policy, preferred_node)
    if chosen is None:
        return None
    winner, choice, reason = chosen
    return Verdict(winner, sides[winner].lineage[-1].id, sides[1 - winner].lineage[-1].id, choice, reason)


def _choose(
    sides: tuple[Summary, Summary], clocks: ClockOffset, policy: SplitPolicy, preferred_node: int
) -> tuple[int, Choice, str] | None:
    common = common_head(sides[0].lineage, sides[1].lineage)
    assert common is not None, "two histories without a common row are strangers, not a split"
    provisional = [_provisional_since(side.lineage, common.id) for side in sides]
    if provisional[0] != provisional[1]:
        winner = provisional.index(False)
        return winner, Choice.PROVISIONAL, f"node {1 - winner} led on data that may have been old"
    if policy is SplitPolicy.WAIT:
        return None  # an operator decides
    if policy is SplitPolicy.PREFER_NODE:
        return preferred_node, Choice.PREFERRED_NODE, f"the configuration prefers node {preferred_node}"
    if policy is SplitPolicy.MOST_CHANGES and sides[0].changes != sides[1].changes:
        winner = max(0, 1, key=lambda node: sides[node].changes)
        return winner, Choice.MOST_CHANGES, f"{sides[winner].changes} changes against {sides[1 - winner].changes}"
    if policy is SplitPolicy.NEWEST:
        changes = (_since(sides[0], common), _since(sides[1], common))
        later = _later(changes, clocks)
        if later is not None:
            return later, Choice.LATEST_CHANGE, _told(changes, clocks, later)
    return common.node, Choice.LED_BEFORE, f"node {common.node} led before the split"


def _after(lineage: Lineage, common: str) -> Lineage:
    """Return the rows with which a side went on after the common one, which it holds or has absorbed."""
    index, entry = next((place, one) for place, one in enumerate(lineage) if common in (one.id, one.absorbs))
    return lineage[index + 1 :] if entry.id == common else lineage[index:]


def _provisional_since(lineage: Lineage, common: str) -> bool:
    """Whether the side went on from the common row by leading provisionally first."""
    leads = [entry for entry in _after(lineage, common) if entry.kind in (Kind.LEAD, Kind.VERDICT)]
    return bool(leads) and leads[0].provisional


def _since(side: Summary, common: LineageEntry) -> LastChange | None:
    """Return the side's last change if it came after the parting."""
    after, change = _after(side.lineage, common.id), side.last_change
    floor = after[0].parent_revision if after else common.first_revision - 1
    return change if change is not None and change.revision > floor else None


def _later(changes: tuple[LastChange | None, LastChange | None], clocks: ClockOffset) -> int | None:
    """Return the node with the later change, None within the uncertainty or without any change."""
    first, second = changes
    if first is None or second is None:
        return None if first is second else int(first is None)
    if first.age_s is not None and second.age_s is not None:
        lead_us = int((first.age_s - second.age_s) * 1_000_000)  # > 0: node 1's change is younger
    else:
        lead_us = second.commit_us - clocks.offset_us - first.commit_us
    if lead_us > clocks.uncertainty_us:
        return 1
    return 0 if lead_us < -clocks.uncertainty_us else None


def _told(changes: tuple[LastChange | None, LastChange | None], clocks: ClockOffset, winner: int) -> str:
    def say(node: int) -> str:
        change = changes[node]
        return f"node {node}: " + (
            "no change" if change is None else f"{change.commit_us} us, revision {change.revision}"
        )

    return (
        f"the last change of node {winner} is the newer one ({say(0)}; {say(1)}; clock offset {clocks.offset_us} us, "
        f"uncertainty {clocks.uncertainty_us} us)"
    )
