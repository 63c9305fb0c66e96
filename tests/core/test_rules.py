"""The rule table as a whole: each cell that `evidence.read` can give lies in one row, and what no row may ever do."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from failover.core.evidence import HEARD, LOST, Cell, Peer, Policy, Postgres, Stream, Worth, read
from failover.core.lease import NEVER, Lease
from failover.core.lineage import Relation
from failover.core.model import Acceptance, Choice, DataState, Durable, Health, Kind, Mode, Role, Sync, Verdict
from failover.core.rules import RULES, Decision, decide
from failover.core.timing import LAN
from tests.core.scenes import (
    FOUNDED,
    IN_SYNC,
    NOW_S,
    PROMOTED,
    STANDBY,
    STREAM,
    TERM,
    WENT_ALONE,
    WORD,
    beat,
    heard,
    refused,
    row,
    starting,
    status,
)

OF_LEADERS = {Stream.STUCK, Stream.UNANSWERED, Stream.RENOUNCED, Stream.CRAMPED, Stream.GHOSTS, Stream.READY}
WORTHS = {
    Role.STARTING: set(Worth) - {Worth.VOIDED},
    Role.FOLLOWER: set(Worth) - {Worth.SOLE},
    Role.PROMOTING: set(Worth) - {Worth.SOLE},
    Role.LEADER: {Worth.SYNCED, Worth.SOLE, Worth.UNFIT},
}


def reachable(cell: Cell) -> bool:
    """Whether the axes can have these values together; `test_what_is_read_is_reachable` shows that others never come."""
    if cell.isolated and cell.peer in (HEARD if cell.role is Role.LEADER else HEARD | LOST):
        return False
    if cell.worth not in WORTHS.get(cell.role, set(Worth)):
        return False
    if cell.role is not Role.LEADER:
        return cell.stream not in OF_LEADERS
    if cell.stream in {Stream.STUCK, Stream.UNANSWERED, Stream.RENOUNCED, Stream.CRAMPED}:
        return cell.worth in {Worth.SYNCED, Worth.UNFIT}
    return not (cell.worth is Worth.SYNCED and cell.stream is Stream.READY)


AGES_S = st.sampled_from([0.0, 0.1, 0.3, 1.0, 1.3, 2.0, 11.0, 61.0, 500.0])
LINEAGES = st.sampled_from([(), (FOUNDED,), IN_SYNC, WENT_ALONE, PROMOTED, (row("x", 1, Kind.SYNCED),)])
HEADS = st.sampled_from([None, "a", "b", "c", "d"])
ACCEPTANCES = st.sampled_from([None, None, Acceptance(Verdict(1, "d", "c", Choice.LATEST_CHANGE, ""))])
TIMES_S = AGES_S.map(lambda age_s: NOW_S - age_s) | st.just(NEVER)


@st.composite
def observations(draw: Any) -> Any:
    """Anything that a node may see, sensible or not."""
    me, lineage, theirs = draw(st.sampled_from([0, 1])), draw(LINEAGES), draw(LINEAGES)
    postgres = status(
        lineage, is_open=draw(st.booleans()), fence_term=draw(st.sampled_from([-1, TERM, 9])),
        waits_for=draw(st.sampled_from(["", "kf"])), data=draw(st.sampled_from(DataState)),
        oldest_wait_s=draw(AGES_S), standby=draw(st.sampled_from([None, STANDBY])),
        subscription=draw(st.sampled_from([None, STREAM])),
    )  # fmt: skip
    said = beat(
        1 - me, draw(st.sampled_from(Role)), theirs, postgres_ok=draw(st.booleans()), renounced=draw(HEADS),
        ready_for=draw(HEADS), ghosts_under=draw(HEADS), acceptance=draw(ACCEPTANCES),
        hand_over=draw(st.sampled_from([None, WORD, replace(WORD, drained=True)])),
    )  # fmt: skip
    durable = Durable(
        "shop", me, "id", role=draw(st.sampled_from(Role)), synced_head=draw(HEADS), handed_over=draw(HEADS),
        acceptance=draw(ACCEPTANCES),
    )  # fmt: skip
    return replace(
        starting(me),
        role=draw(st.sampled_from(Role)), sync=draw(st.sampled_from(Sync)), health=draw(st.sampled_from(Health)),
        postgres=draw(st.sampled_from([None, postgres])), durable=durable, started_s=NOW_S - draw(AGES_S),
        heard=draw(st.sampled_from([None, heard(said, draw(AGES_S))])), peer_lineage=draw(st.sampled_from([(), theirs])),
        peer_served_s=draw(TIMES_S), peer_postgres_seen_s=draw(TIMES_S), stalled_s=draw(TIMES_S), isolated_s=draw(TIMES_S),
        granted_s=draw(TIMES_S), lease=Lease(draw(HEADS), draw(TIMES_S), draw(TIMES_S)),
        probes=draw(st.sampled_from([(), refused(0.1), refused(0.1, 0.0)])),
        **{name: draw(st.booleans()) for name in FLAGS},
    )  # fmt: skip


FLAGS = ("stream_failed", "fenced_fully", "isolated", "paused", "ordered", "disk_nearly_full", "asks_renounce")
POLICIES = st.builds(Policy, st.sampled_from(Mode), st.booleans())


@given(observations(), POLICIES)
def test_what_is_read_is_reachable(seen: Any, policy: Policy) -> None:
    cell = read(seen, LAN, policy)
    assert reachable(cell)
    assert decide(cell).role is seen.role


@cache
def cells(role: Role) -> tuple[Cell, ...]:
    axes = itertools.product(Peer, Relation, Worth, Postgres, Stream, (False, True), (False, True))
    return tuple(cell for cell in (Cell(role, *values) for values in axes) if reachable(cell))


@cache
def decided(role: Role) -> tuple[tuple[Cell, Decision], ...]:
    return tuple((cell, decide(cell).decision) for cell in cells(role))


@pytest.mark.parametrize("role", Role)
def test_every_reachable_cell_lies_in_exactly_one_row(role: Role) -> None:
    rules = [rule for rule in RULES if rule.role is role]
    wrong: dict[tuple[str, ...], Cell] = {}
    for cell in cells(role):
        rows = tuple(rule.name for rule in rules if rule.matches(cell))
        if len(rows) != 1:
            wrong.setdefault(rows, cell)
    assert not wrong


@pytest.mark.parametrize("role", Role)
def test_every_row_can_be_reached(role: Role) -> None:
    reached = {decide(cell).name for cell in cells(role)}
    assert reached == {rule.name for rule in RULES if rule.role is role}


def test_names_are_unique_and_every_row_says_why() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.why for rule in RULES)


LEADING = {Decision.PROMOTE, Decision.REOPEN, Decision.RESUME, Decision.ENTER_SYNC}


@pytest.mark.parametrize("role", Role)
def test_data_that_is_not_whole_is_never_promoted(role: Role) -> None:
    unfit = [cell for cell in cells(role) if cell.worth is Worth.UNFIT and role is not Role.LEADER]
    assert not [cell for cell in unfit if decide(cell).decision in LEADING]


def test_a_paused_follower_or_starting_node_is_never_promoted_for_a_lost_peer() -> None:
    lost = {Peer.SILENT, Peer.REFUSED, Peer.HALF}
    paused = [cell for role in (Role.FOLLOWER, Role.STARTING) for cell in cells(role) if cell.paused]
    assert not [c for c in paused if c.peer in lost and decide(c).decision is Decision.PROMOTE]


def test_a_paused_node_never_hands_over_and_never_resolves() -> None:
    stopped = {Decision.HAND_OVER, Decision.RESOLVE}
    assert not [c for role in Role for c, made in decided(role) if c.paused and made in stopped]


def test_a_follower_never_promotes_while_it_hears_a_leader_except_on_its_word() -> None:
    heard = {Peer.LEADS, Peer.PROMOTES, Peer.FOLLOWS, Peer.STARTS}
    assert not [c for c, made in decided(Role.FOLLOWER) if c.peer in heard and made is Decision.PROMOTE]


def test_an_isolated_node_never_promotes() -> None:
    assert not [c for role in Role for c, made in decided(role) if c.isolated and made is Decision.PROMOTE]


def test_nothing_is_thrown_away_before_the_leaders_history_is_known_to_contain_it() -> None:
    contained = {Relation.BEHIND, Relation.EQUAL_MINE, Relation.EQUAL_THEIRS}
    rejoining = [c for role in Role for c, made in decided(role) if made is Decision.REJOIN]
    assert rejoining
    assert all(c.relation in contained and c.peer is Peer.LEADS for c in rejoining)
