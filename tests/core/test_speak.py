"""What a node says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from failover.core.lineage import Side, common_head, relate
from failover.core.model import (
    Acceptance,
    Choice,
    DataState,
    Durable,
    HandOver,
    Health,
    LastChange,
    Lineage,
    Role,
    SwitchPhase,
    Sync,
    Verdict,
)
from failover.core.speak import NEWEST_ROWS, Words, compose, excerpt, ready, why_renounce
from tests.core.scenes import (
    FOUNDED,
    IN_SYNC,
    PROMOTED,
    STANDBY,
    STREAM,
    SYNCED,
    TOP,
    WENT_ALONE,
    beat,
    follower,
    heard,
    leader,
    row,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.model import Heartbeat
    from failover.core.observation import Observation

WORDS = Words("run", 9, "peer-run", 7, 123)


def says(seen: Observation, words: Words = WORDS) -> Heartbeat:
    return compose(seen, words)


# ---- the heartbeat ---------------------------------------------------------------------------------------------


def test_what_a_leader_says_is_what_it_sees_and_what_it_is_told_to_say() -> None:
    told = Verdict(0, "b", "d", Choice.LATEST_CHANGE, "")
    words = Words(
        "run", 9, "peer-run", 7, 123, True, 2.5, HandOver("", True, 1), SwitchPhase.DRAIN, True, "wish", told, True
    )
    durable = Durable("shop", 0, "id-0", highest_term=8, renounced="a", acceptance=Acceptance(told), ghosts_under="g")
    seen = leader(durable=durable)
    assert seen.postgres is not None
    latest = LastChange(TOP, 1, None)
    seen = replace(seen, postgres=replace(seen.postgres, last_change=latest, changes=4, visible_revision=444))
    made = says(seen, words)
    assert (made.cluster, made.node, made.node_id, made.term) == ("shop", 0, "id-0", 8)
    assert (made.boot, made.seq, made.wall_us) == ("run", 9, seen.wall_us)
    assert (made.echo_boot, made.echo_seq, made.echo_wall_us) == ("peer-run", 7, 123)
    assert (made.role, made.sync, made.data, made.postgres_ok, made.is_open) == (
        Role.LEADER, Sync.IN_SYNC, DataState.COMPLETE, True, True,
    )  # fmt: skip
    assert (made.visible_revision, made.head, made.length, made.lineage) == (444, "b", 2, ())
    assert (made.last_change, made.changes, made.renounced, made.ready_for) == (latest, 4, "a", None)
    assert (made.asks_renounce, made.paused_for_s, made.hand_over, made.switching) == (
        True, 2.5, words.hand_over, SwitchPhase.DRAIN,
    )  # fmt: skip
    assert (made.frozen, made.uses_peer, made.wish, made.verdict) == (True, True, "wish", told)
    assert made.acceptance == durable.acceptance
    assert (made.ghosts_under, made.lag_bytes, made.provisional) == ("g", 0, False)


def test_a_node_that_never_saw_its_postgres_says_that_it_has_nothing() -> None:
    made = says(starting(0, postgres=None, health=Health.UP))
    assert (made.postgres_ok, made.data, made.is_open) == (False, DataState.EMPTY, False)
    assert (made.visible_revision, made.head, made.length, made.lineage) == (0, "", 0, ())
    assert (made.last_change, made.changes, made.provisional) == (None, 0, False)
    assert (made.ready_for, made.lag_bytes) == (None, None)


def test_a_node_says_whether_kine_may_use_its_postgres() -> None:
    assert says(leader()).is_open
    assert not says(follower()).is_open


def test_a_node_whose_postgres_went_away_says_what_it_last_saw_and_that_it_is_away() -> None:
    for health in (Health.DOWN, Health.HUNG):
        made = says(leader(health=health))
        assert (made.postgres_ok, made.head, made.is_open) == (False, "b", health is Health.HUNG)


def test_the_newest_row_says_whether_a_leadership_is_provisional() -> None:
    provisional = row("d", 0, term=4, parent=100, provisional=True)
    assert says(leader((*IN_SYNC, provisional))).provisional
    assert not says(leader((*IN_SYNC, provisional, row("e", 0, term=6, parent=200)))).provisional
    assert not says(starting(0, ())).provisional


def test_the_lineage_is_sent_as_long_as_the_peer_shows_another_head() -> None:
    assert says(leader(WENT_ALONE, heard=heard(beat(1, Role.FOLLOWER)))).lineage == WENT_ALONE
    assert says(leader(WENT_ALONE, heard=None)).lineage == WENT_ALONE
    assert says(leader(WENT_ALONE)).lineage == ()


@pytest.mark.parametrize(
    ("seen", "lag"),
    [
        (leader(), 0),
        (leader(postgres=status(wal_lsn=9500, standby=STANDBY)), 500),
        (leader(postgres=status(wal_lsn=8000, standby=STANDBY)), 0),  # its reply came after the look
        (leader(postgres=status()), None),
        (follower(postgres=status(standby=STANDBY)), None),
    ],
)
def test_a_leader_says_how_far_its_follower_is_behind(seen: Observation, lag: int | None) -> None:
    assert says(seen).lag_bytes == lag


# ---- the excerpt of the lineage --------------------------------------------------------------------------------


def rows(count: int) -> Lineage:
    return tuple(row(f"r{index}", index % 2, term=index, parent=10 * index) for index in range(count))


def kept(lineage: Lineage, known: str) -> list[str]:
    return [entry.id for entry in excerpt(lineage, known)]


def test_a_short_lineage_is_sent_whole() -> None:
    for count in (0, 1, 2, NEWEST_ROWS, NEWEST_ROWS + 1):
        assert excerpt(rows(count), "") == rows(count)


def test_of_a_long_lineage_the_founding_row_and_the_newest_are_sent_and_the_peers_head_with_what_came_after() -> None:
    lineage = rows(100)
    newest = [f"r{index}" for index in range(100 - NEWEST_ROWS, 100)]
    assert kept(lineage, "elsewhere") == ["r0", *newest]
    assert kept(lineage, "r40") == ["r0", "r40", "r41", *newest]
    absorbing = (*lineage[:50], replace(lineage[50], absorbs="x"), *lineage[51:])
    assert kept(absorbing, "x") == ["r0", "r50", "r51", *newest]


@given(st.integers(1, 120), st.integers(0, 119), st.integers(0, 3))
def test_an_excerpt_compares_as_the_whole_lineage_does(length: int, known: int, own: int) -> None:
    theirs = rows(length)
    mine = (*theirs[: known % length + 1], *(row(f"own{index}", 0, term=200 + index) for index in range(own)))
    sent = excerpt(theirs, theirs[known % length].id)
    side = Side(0, mine, TOP)
    assert relate(side, Side(1, sent, TOP)) is relate(side, Side(1, theirs, TOP))
    assert common_head(mine, sent) == common_head(mine, theirs)


def test_the_excerpt_that_is_sent_is_the_one_for_the_peers_head() -> None:
    lineage = rows(100)
    made = says(leader(lineage, heard=heard(beat(1, Role.FOLLOWER, lineage[:41])), peer_lineage=lineage[:41]))
    assert made.lineage == excerpt(lineage, "r40")


# ---- ready and renounced ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ill",
    [
        {"role": Role.STARTING},
        {"role": Role.PROMOTING},
        {"health": Health.HUNG},
        {"health": Health.HUNG, "heard": None},
        {"postgres": None},
        {"postgres": status()},
        {"postgres": status(subscription=replace(STREAM, worker_alive=False))},
        {"postgres": status(subscription=replace(STREAM, tables_ready=False))},
        {"postgres": status(subscription=replace(STREAM, enabled=False)), "heard": None},
        {"stream_failed": True},
        {"paused": True},
        {"disk_nearly_full": True},
        {"leaving": True},
        {"isolated": True},
    ],
)
def test_a_follower_is_ready_as_long_as_nothing_ails_it(ill: dict[str, Any]) -> None:
    assert ready(follower())
    assert says(follower()).ready_for == "b"
    seen = replace(follower(), **ill)
    assert not ready(seen)
    assert says(seen).ready_for is None


def test_a_leader_is_ready_for_nobody() -> None:
    assert not ready(leader(postgres=status(subscription=STREAM)))


def test_it_is_ready_under_the_head_that_its_data_has() -> None:
    assert says(follower(PROMOTED)).ready_for == "d"
    assert says(follower(WENT_ALONE)).ready_for == "c"
    assert says(follower((FOUNDED, SYNCED))).ready_for == "b"


ILL: dict[str, Any] = {"paused": True}


@pytest.mark.parametrize(
    ("seen", "renounces"),
    [
        (follower(**ILL), True),
        (replace(starting(1, heard=heard(beat(0, Role.LEADER))), **ILL), True),
        (starting(1, heard=heard(beat(0, Role.LEADER))), False),  # a stream that has not begun is not broken
        (leader(**ILL), False),
        (leader(heard=heard(beat(1, Role.LEADER)), **ILL), False),
        (follower(heard=None, **ILL), False),
        (follower(heard=heard(beat(0, Role.STARTING)), **ILL), False),
        (follower(heard=heard(beat(0, Role.LEADER, asks_renounce=True))), True),
        (follower(WENT_ALONE, heard=heard(beat(0, Role.LEADER, WENT_ALONE, asks_renounce=True))), False),
    ],
)
def test_only_a_node_that_hears_a_leader_has_anything_to_renounce(seen: Observation, renounces: bool) -> None:
    assert (why_renounce(seen) is not None) is renounces
