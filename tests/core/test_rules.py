from __future__ import annotations

import itertools
from functools import cache

import pytest

from failover.core.evidence import Cell, Peer, Postgres, Stream, Worth
from failover.core.lineage import Relation
from failover.core.model import Role
from failover.core.rules import RULES, Decision, decide, reachable


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
