"""Whose history contains whose, as far as both are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from failover.core.lineage import Relation
from failover.core.model import DataState, Kind, Role
from tests.core.exact import ACCEPTED, durable, look
from tests.core.scenes import (
    ALONE,
    IN_SYNC,
    PROMOTED,
    WENT_ALONE,
    WORD,
    beat,
    follower,
    heard,
    leader,
    row,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.observation import Observation


@pytest.mark.parametrize(
    ("seen", "relation"),
    [
        (leader(), Relation.EQUAL_MINE),
        (follower(), Relation.EQUAL_THEIRS),
        (leader(postgres=None), Relation.UNKNOWN),
        (leader(heard=None), Relation.UNKNOWN),
        # a peer without a history is behind, one that cannot say what it has is not known
        (leader(heard=heard(beat(1, Role.STARTING, ())), peer_lineage=()), Relation.AHEAD),
        (leader(heard=heard(beat(1, Role.STARTING, (), postgres_ok=False)), peer_lineage=()), Relation.UNKNOWN),
        (leader(heard=heard(beat(1, Role.LEADER, postgres_ok=False))), Relation.EQUAL_MINE),
        # its newest rows are still under way
        (leader(heard=heard(beat(1, Role.LEADER, head="d"))), Relation.UNKNOWN),
        (leader(heard=heard(beat(1, Role.LEADER, (), head="d")), peer_lineage=()), Relation.UNKNOWN),
        (starting(0, (), heard=heard(beat(1, Role.LEADER))), Relation.BEHIND),
        (starting(0, (), heard=heard(beat(1, Role.STARTING, ()))), Relation.UNKNOWN),
    ],
)
def test_histories_are_compared_as_far_as_both_are_known(seen: Observation, relation: Relation) -> None:
    assert look(seen).relation is relation


@pytest.mark.parametrize(("last", "relation"), [(400, Relation.AHEAD), (401, Relation.PARTED)])
def test_a_peer_that_wrote_alone_beyond_what_this_node_had_has_parted(last: int, relation: Relation) -> None:
    mine = (*WENT_ALONE, row("e", 1, term=3, parent=400))
    alone = heard(beat(0, Role.STARTING, WENT_ALONE, visible_revision=last))
    assert look(starting(1, mine, heard=alone)).relation is relation


@pytest.mark.parametrize(
    "ill",
    [
        {"durable": durable(acceptance=ACCEPTED)},
        {"durable": durable(handed_over="b")},
        {"postgres": status(IN_SYNC, data=DataState.EMPTY)},
    ],
)
def test_between_equals_the_one_that_may_not_lead_is_behind(ill: dict[str, Any]) -> None:
    seen = starting(0, heard=heard(beat(1, Role.STARTING)), **ill)
    assert look(seen).relation is Relation.BEHIND
    assert look(replace(seen, durable=durable(), postgres=status())).relation is Relation.EQUAL_MINE
    assert look(replace(seen, durable=durable(handed_over="a"), postgres=status())).relation is Relation.EQUAL_MINE


@pytest.mark.parametrize(
    ("said", "relation"),
    [
        ({}, Relation.EQUAL_MINE),
        ({"acceptance": ACCEPTED}, Relation.AHEAD),
        ({"hand_over": WORD}, Relation.AHEAD),
        ({"data": DataState.EMPTY}, Relation.AHEAD),
        ({"postgres_ok": False}, Relation.AHEAD),
        ({"postgres_ok": False, "role": Role.LEADER}, Relation.EQUAL_MINE),  # it leads, and its Postgres may come back
    ],
)
def test_between_equals_the_one_whose_peer_may_not_lead_is_ahead(said: dict[str, Any], relation: Relation) -> None:
    made = replace(beat(1, Role.STARTING), **said)
    assert look(starting(0, heard=heard(made))).relation is relation


TOOK_BACK = (*PROMOTED, row("e", 0, term=4, parent=200))


@pytest.mark.parametrize(
    ("mine", "theirs", "relation"),
    [
        (WENT_ALONE, IN_SYNC, Relation.EQUAL_THEIRS),  # the stream brought a row of the leader's before its word did
        ((*WENT_ALONE, row("e", 0, Kind.SYNCED, parent=200)), IN_SYNC, Relation.EQUAL_THEIRS),
        ((*WENT_ALONE, row("e", 1, term=3, parent=200)), IN_SYNC, Relation.AHEAD),  # one of them is the follower's own
        ((*TOOK_BACK, replace(ALONE, id="f", term=4)), TOOK_BACK, Relation.EQUAL_THEIRS),
        (IN_SYNC, IN_SYNC, Relation.EQUAL_THEIRS),
        (PROMOTED, PROMOTED, Relation.EQUAL_MINE),
        (PROMOTED, WENT_ALONE, Relation.PARTED),
        (IN_SYNC, (row("x", 0),), Relation.STRANGER),
    ],
)
def test_what_a_follower_has_beyond_its_leaders_word_is_the_leaders_or_another_way(
    mine: tuple[Any, ...], theirs: tuple[Any, ...], relation: Relation
) -> None:
    seen = follower(mine, heard=heard(beat(0, Role.LEADER, theirs)))
    assert look(seen).relation is relation


def test_only_a_followers_stream_brings_rows_of_a_leader_that_are_newer_than_its_word() -> None:
    starts = starting(1, WENT_ALONE, heard=heard(beat(0, Role.LEADER, IN_SYNC)))
    assert look(starts).relation is Relation.AHEAD
    no_leader = follower(WENT_ALONE, heard=heard(beat(0, Role.STARTING, IN_SYNC)))
    assert look(no_leader).relation is Relation.AHEAD
