"""The meeting of two sides of a split: who moves next (design, section 9; R7).

Nothing here is remembered but the loser's acceptance. Each node looks at what both say and makes the one move that is
its own; a lost message or a crash only means that the same look is taken again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

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
    """Compute the verdict that node 0 puts into its heartbeats; None for node 1, and while nothing can be compared."""
    if seen.me != 0 or seen.heard is None or seen.postgres is None or not seen.peer_lineage:
        return None
    theirs = seen.heard.heartbeat
    if seen.durable.acceptance is not None or theirs.acceptance is not None:
        return None
    mine = Summary(0, seen.postgres.lineage, seen.postgres.last_change, seen.postgres.changes)
    peer = Summary(1, seen.peer_lineage, theirs.last_change, theirs.changes)
    clocks = ClockOffset(seen.clock_offset_us, seen.clock_uncertainty_us)
    return decide_split((mine, peer), clocks, policy, preferred_node)


def next_move(seen: Observation, proposal: Verdict | None) -> tuple[Move, Verdict | None]:
    """Return the move and the verdict that it is made under."""
    assert seen.heard is not None
    assert seen.postgres is not None
    theirs = seen.heard.heartbeat
    head = seen.postgres.lineage[-1].id
    own = seen.durable.acceptance
    if own is not None:
        done = own.final_revision is not None and own.archive is not None
        return (Move.WAIT if done else Move.LOSE), own.verdict
    yes = theirs.acceptance
    if yes is not None:
        known = any(entry.id == yes.verdict.winner_head for entry in seen.postgres.lineage)
        ready = yes.verdict.winner == seen.me and known and yes.final_revision is not None and yes.archive is not None
        return (Move.WIN if ready else Move.WAIT), yes.verdict
    verdict = proposal or theirs.verdict
    if verdict is not None and verdict.loser == seen.me and _is_of_now(verdict, head, theirs.head):
        return Move.LOSE, verdict
    return Move.WAIT, verdict


def _is_of_now(verdict: Verdict, own_head: str, their_head: str) -> bool:
    """Whether the verdict speaks of the two heads that meet here, not of an earlier meeting."""
    return verdict.loser_head == own_head and verdict.winner_head == their_head
