"""What a node knows of itself: whether it is cut off or paused, what its data is worth, what its Postgres is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from failover.core.evidence import Policy, Postgres, Worth, led_term
from failover.core.lease import NEVER, Lease
from failover.core.model import DataState, Health, Kind, Role, Sync
from tests.core.exact import ACCEPTED, EXACT, TICK_S, durable, look
from tests.core.scenes import (
    FOUNDED,
    IN_SYNC,
    NOW_S,
    PROMOTED,
    TERM,
    TOP,
    WENT_ALONE,
    beat,
    follower,
    heard,
    leader,
    row,
    silent,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.observation import Observation

STEPS_DOWN = Policy(step_down_when_isolated=True)


# ---- paused, isolated, ordered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "policy", "cut_off"),
    [
        (silent(follower(isolated=True), 2.0), Policy(), True),
        (silent(follower(), 2.0), Policy(), False),
        (follower(isolated=True), Policy(), False),  # the peer is heard
        (silent(leader(isolated=True), 2.0), Policy(), False),  # a leader goes on
        (silent(leader(isolated=True), 2.0), STEPS_DOWN, True),
        (leader(isolated=True), STEPS_DOWN, False),
        (silent(starting(0, isolated=True), 64.0), Policy(), True),
        (silent(starting(0, isolated=True), 64.0), STEPS_DOWN, True),
        (replace(silent(follower(isolated=True), 2.0), role=Role.PROMOTING), Policy(), True),
        (replace(silent(follower(isolated=True), 2.0), role=Role.PROMOTING, ordered=True), Policy(), False),
        (silent(follower(isolated=True, ordered=True), 2.0), Policy(), True),
    ],
)
def test_a_node_is_cut_off_where_it_hears_nobody_unless_it_leads_or_an_operator_answers_for_it(
    seen: Observation, policy: Policy, cut_off: bool
) -> None:
    assert look(seen, policy).isolated is cut_off


def test_an_operators_order_overrules_a_pause_for_the_promotion_that_it_asked_for_alone() -> None:
    assert look(follower(paused=True)).paused
    assert look(follower(paused=True, ordered=True)).paused
    assert not look(replace(follower(paused=True, ordered=True), role=Role.PROMOTING)).paused
    assert not look(follower()).paused


# ---- worth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.STARTING, Role.FOLLOWER, Role.LEADER, Role.PROMOTING, Role.RESYNCING])
@pytest.mark.parametrize(
    "ill",
    [
        {"durable": durable(acceptance=ACCEPTED)},
        {"postgres": status(IN_SYNC, data=DataState.EMPTY)},
        {"postgres": status((), data=DataState.COMPLETE)},
    ],
)
def test_data_that_is_empty_without_history_or_lost_a_split_is_unfit_in_every_role(
    role: Role, ill: dict[str, Any]
) -> None:
    assert look(replace(starting(0), role=role)).worth is not Worth.UNFIT
    assert look(replace(starting(0), role=role, **ill)).worth is Worth.UNFIT


def test_a_leaders_worth_is_its_sync_state() -> None:
    assert look(leader()).worth is Worth.SYNCED
    assert look(leader(sync=Sync.CATCHING_UP)).worth is Worth.SOLE
    assert look(leader(sync=Sync.ALONE)).worth is Worth.SOLE


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PROMOTING])
@pytest.mark.parametrize(
    ("known", "worth"),
    [
        ({}, Worth.SYNCED),
        ({"lease": Lease("b", NOW_S - 60.0)}, Worth.SYNCED),  # ended: what counts is that it lapsed by itself
        ({"lease": Lease("b", NOW_S, NOW_S)}, Worth.VOIDED),
        ({"lease": Lease("b", NOW_S + TICK_S, NOW_S)}, Worth.SYNCED),
        ({"lease": Lease("b", NEVER, NOW_S)}, Worth.VOIDED),
        ({"lease": Lease("a", NOW_S + 1.0)}, Worth.STALE),  # of another head
        ({"lease": Lease()}, Worth.STALE),
        ({"postgres": None}, Worth.STALE),
    ],
)
def test_a_followers_worth_is_its_lease(role: Role, known: dict[str, Any], worth: Worth) -> None:
    assert look(replace(follower(), role=role, **known)).worth is worth


LED = durable(role=Role.LEADER, synced_head="b")
COMES_UP_S = NOW_S - EXACT.promote_after_s  # a Postgres that has not come since is not awaited any more


@pytest.mark.parametrize(
    ("known", "worth"),
    [
        ({}, Worth.SYNCED),
        ({"started_s": COMES_UP_S}, Worth.SYNCED),
        ({"started_s": COMES_UP_S + TICK_S}, Worth.STALE),
        ({"health": Health.HUNG}, Worth.SYNCED),
        ({"health": Health.UP}, Worth.SYNCED),  # up, and never looked at
        ({"postgres": status(WENT_ALONE)}, Worth.SYNCED),  # looked at long ago: the state file knows better
        ({"durable": replace(LED, role=Role.FOLLOWER)}, Worth.STALE),
        ({"durable": replace(LED, synced_head=None)}, Worth.STALE),
        ({"durable": replace(LED, handed_over="b")}, Worth.STALE),
    ],
)
def test_a_starting_node_without_its_postgres_is_worth_what_its_state_file_says(
    known: dict[str, Any], worth: Worth
) -> None:
    seen = starting(0, health=Health.DOWN, postgres=None, durable=LED)
    assert look(replace(seen, **known)).worth is worth


@pytest.mark.parametrize(
    ("me", "lineage", "known", "worth"),
    [
        (0, IN_SYNC, {}, Worth.SYNCED),
        (0, WENT_ALONE, {}, Worth.SOLE),
        (0, (FOUNDED,), {}, Worth.SOLE),
        (1, IN_SYNC, {}, Worth.STALE),
        (1, WENT_ALONE, {}, Worth.STALE),
        (1, PROMOTED, {}, Worth.SOLE),
        (0, IN_SYNC, {"durable": durable(handed_over="b")}, Worth.STALE),
        (0, WENT_ALONE, {"durable": durable(handed_over="b")}, Worth.SOLE),  # an earlier leadership was
    ],
)
def test_a_starting_nodes_worth_is_its_newest_row(
    me: int, lineage: tuple[Any, ...], known: dict[str, Any], worth: Worth
) -> None:
    assert look(starting(me, lineage, **known)).worth is worth


# ---- the own Postgres ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("me", "known", "state"),
    [
        (0, status(is_open=True, waits_for="kf_1"), Postgres.OPEN),
        (0, status(is_open=True), Postgres.CLOSED),  # in sync, and nobody waits (R9)
        (0, status(WENT_ALONE, is_open=True), Postgres.OPEN),
        (0, status(WENT_ALONE, is_open=True, waits_for="kf_1"), Postgres.CLOSED),  # alone, and commits wait
        (1, status(is_open=True), Postgres.OPEN),  # under another's leadership its waits say nothing
        (1, status(is_open=True, waits_for="kf_0"), Postgres.OPEN),
        (0, status((), is_open=True), Postgres.OPEN),
        (0, status(fence_term=TERM - 1), Postgres.CLOSED),
        (0, status(fence_term=TERM), Postgres.OUTRANKED),  # R19
        (1, status(fence_term=-1), Postgres.OUTRANKED),  # no leadership of its own to open it under
        (0, None, Postgres.DOWN),
    ],
)
def test_what_the_own_postgres_is(me: int, known: Any, state: Postgres) -> None:
    assert look(starting(me, postgres=known)).postgres is state


@pytest.mark.parametrize("health", [Health.DOWN, Health.HUNG])
def test_a_postgres_that_does_not_answer_is_down_whatever_the_last_look_showed(health: Health) -> None:
    assert look(leader(health=health)).postgres is Postgres.DOWN


def test_the_term_of_a_leadership_is_that_of_the_newest_row_if_it_is_the_nodes_own() -> None:
    lineage = (*IN_SYNC, row("d", 1, term=3, parent=100), row("e", 1, Kind.ALONE, term=5, parent=200))
    assert led_term(starting(1, lineage)) == 5
    assert led_term(starting(0, lineage)) == -1
    assert led_term(starting(0, ())) == -1
    assert led_term(starting(0, postgres=None)) == -1


def test_who_has_heard_of_a_history_that_contains_its_own_claims_nothing_by_having_been_alone() -> None:
    """Its disk is one of before: whoever went on from there may be unheard for a moment only."""
    contains = (*WENT_ALONE, row("e", 1, term=3, parent=TOP))
    assert look(starting(0, WENT_ALONE)).worth is Worth.SOLE
    assert look(starting(0, WENT_ALONE, heard=heard(beat(1, Role.LEADER, contains)))).worth is Worth.STALE
    assert (
        look(starting(0, WENT_ALONE, heard=heard(beat(1, Role.LEADER, PROMOTED)))).worth is Worth.SOLE
    )  # a side of a split
    assert look(starting(0, WENT_ALONE, heard=heard(beat(1, Role.FOLLOWER, WENT_ALONE)))).worth is Worth.SOLE
