"""Whose history contains whose, where a follower's stream and its leader's heartbeat tell different moments."""

from __future__ import annotations

import pytest

from failover.core.lineage import Relation, Side, relate
from failover.core.model import Kind, Role
from failover.core.rules import Decision
from tests.core.scenes import ALONE, FOUNDED, IN_SYNC, SYNCED, beat, cell, decision, follower, heard, row


@pytest.mark.parametrize("newest", [SYNCED, ALONE])
def test_a_row_of_the_leader_that_the_stream_brought_before_its_heartbeat_disturbs_no_follower(newest: object) -> None:
    before = (FOUNDED,) if newest is SYNCED else IN_SYNC
    after = (*before, newest)
    seen = follower(after, heard=heard(beat(0, Role.LEADER, before)), peer_lineage=before)
    assert cell(seen).relation is Relation.EQUAL_THEIRS
    assert decision(seen) is Decision.CARRY_ON


def test_rows_of_its_own_are_never_taken_for_the_leaders() -> None:
    mine = (*IN_SYNC, row("d", 1, Kind.LEAD, term=3, parent=100))
    seen = follower(mine, heard=heard(beat(0, Role.LEADER, IN_SYNC)), peer_lineage=IN_SYNC)
    assert cell(seen).relation is Relation.AHEAD
    assert decision(seen) is Decision.START_OVER


def test_a_leader_that_starts_with_less_than_it_once_had_is_behind() -> None:
    seen = follower((*IN_SYNC, ALONE), heard=heard(beat(0, Role.STARTING, IN_SYNC)), peer_lineage=IN_SYNC)
    assert cell(seen).relation is Relation.AHEAD


def test_a_side_that_lost_with_the_head_that_both_hold_is_contained_in_the_winners_history() -> None:
    """Else the winner absorbs it again and again, a full fence each time."""
    led = row("led", 1, Kind.LEAD, term=3, parent=50)
    absorbed = row("verdict", 1, Kind.VERDICT, term=5, parent=10_050, absorbs=FOUNDED.id)
    loser = Side(0, (FOUNDED,), visible_revision=70)
    assert relate(loser, Side(1, (FOUNDED, led), visible_revision=80)) is Relation.PARTED
    winner = Side(1, (FOUNDED, led, absorbed), visible_revision=10_060)
    assert relate(loser, winner) is Relation.BEHIND
    assert relate(winner, loser) is Relation.AHEAD
