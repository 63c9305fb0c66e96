"""The meeting of two sides of a split: who moves next (design, section 9; R7).

Nothing here is remembered but the loser's acceptance. Each node looks at what both say and makes the one move that is
its own; a lost message or a crash only means that the same look is taken again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from failover.core.clocks import UNKNOWN_US
from failover.core.verdict import ClockOffset, SplitPolicy, Summary, decide_split

if TYPE_CHECKING:
    from failover.core.model import Verdict
    from failover.core.observation import Observation


class Move(StrEnum):
    """What this node does at the meeting."""

    WAIT = "wait"
    LOSE = "lose"  # accept, fence, archive
    WIN = "win"  # absorb: the loser has accepted, fenced and archived


def propose(seen: Observation, policy: SplitPolicy, preferred_node: int) -> Verdict | None:
    """Return the verdict to put into the own heartbeats: node 0 computes it, node 1 consents to what it hears.

    Both histories are known, as they are where a row of the table says RESOLVE. None while the offset of the clocks is not,
    and from the moment that a verdict is accepted. The caller keeps what was proposed for as long as it concerns the two
    sides that meet, so that one run of node 0 never proposes two.
    """
    assert seen.heard is not None
    assert seen.postgres is not None
    theirs = seen.heard.heartbeat
    if seen.durable.acceptance is not None or theirs.acceptance is not None:
        return None
    if seen.me == 1:
        return theirs.verdict if theirs.verdict is not None and concerns(theirs.verdict, seen) else None
    if seen.clock_uncertainty_us >= UNKNOWN_US:
        return None
    mine = Summary(0, seen.postgres.lineage, seen.postgres.last_change, seen.postgres.changes)
    peer = Summary(1, seen.peer_lineage, theirs.last_change, theirs.changes)
    clocks = ClockOffset(seen.clock_offset_us, seen.clock_uncertainty_us)
    return decide_split((mine, peer), clocks, policy, preferred_node)


def next_move(seen: Observation, verdict: Verdict | None) -> tuple[Move, Verdict | None]:
    """Return the move and the verdict that it is made under; `verdict` is what this node proposes or consents to.

    Node 0 loses only by a verdict to which node 1 has consented in this run: an earlier run may have proposed another,
    and node 1 may have accepted that one. A consent says that it has not, and only node 0 could propose again.
    """
    assert seen.heard is not None
    assert seen.postgres is not None
    theirs = seen.heard.heartbeat
    own = seen.durable.acceptance
    if own is not None:
        done = own.final_revision is not None and own.archive is not None
        return (Move.WAIT if done else Move.LOSE), own.verdict
    yes = theirs.acceptance
    if yes is not None:
        known = any(entry.id == yes.verdict.winner_head for entry in seen.postgres.lineage)
        ready = yes.verdict.winner == seen.me and known and yes.final_revision is not None and yes.archive is not None
        return (Move.WIN if ready else Move.WAIT), yes.verdict
    if verdict is not None and verdict.loser == seen.me and concerns(verdict, seen):
        agreed = seen.me == 1 or (seen.heard.echoes_this_run and theirs.verdict == verdict)
        return (Move.LOSE if agreed else Move.WAIT), verdict
    return Move.WAIT, verdict


def concerns(verdict: Verdict, seen: Observation) -> bool:
    """Whether the verdict speaks of the two heads that meet here, not of an earlier meeting."""
    assert seen.postgres is not None
    assert seen.heard is not None
    heads = (seen.postgres.lineage[-1].id, seen.heard.heartbeat.head)
    told = (verdict.winner_head, verdict.loser_head)
    return heads == (told if verdict.winner == seen.me else told[::-1])
