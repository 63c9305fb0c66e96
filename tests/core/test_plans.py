"""What is true of every plan."""

from __future__ import annotations

import pytest

from failover.core import plans
from failover.core.model import Role
from failover.core.plans import Plan, Step

ALL = [plan.name for plan in plans.PLANS]


def named(name: str) -> Plan:
    return next(plan for plan in plans.PLANS if plan.name == name)


def before(plan: Plan, step: Step) -> set[Step]:
    return set(plan.steps[: plan.steps.index(step)])


@pytest.mark.parametrize("name", ALL)
def test_whoever_opens_its_database_waits_as_it_must_serves_and_takes_the_address(name: str) -> None:
    plan = named(name)
    if Step.OPEN in plan.steps:
        assert plan.steps[-4:] == (Step.ALIGN_WAITS, Step.OPEN, Step.SERVE, Step.ACQUIRE_ADDRESS)
        assert name == "resume" or plan.steps[0] is Step.FREEZE_KINE  # R20: none that ran while it was closed
        assert plan.then is Role.LEADER
    else:
        assert not {Step.SERVE, Step.ACQUIRE_ADDRESS} & set(plan.steps)


@pytest.mark.parametrize("name", ["hand_over", "switchover", "yield", "lose"])
def test_whoever_stops_leading_gives_the_address_away_when_nothing_is_served_any_more(name: str) -> None:
    plan = named(name)
    assert plan.then is Role.STARTING
    assert before(plan, Step.RELEASE_ADDRESS) & {Step.KILL_KINE, Step.FREEZE_BOTH}


@pytest.mark.parametrize("name", ["yield", "lose"])
def test_whoever_yields_to_another_closes_its_database_under_a_frozen_kine_and_kills_it(name: str) -> None:
    plan = named(name)
    assert Step.FREEZE_KINE in before(plan, Step.CLOSE)
    assert Step.CLOSE in before(plan, Step.KILL_KINE)


@pytest.mark.parametrize("name", ["promote", "win", "late_fence"])
def test_a_leadership_begins_with_a_term_of_its_own_under_a_frozen_kine(name: str) -> None:
    plan = named(name)
    row = Step.ABSORB if name == "win" else Step.LEAD
    assert {Step.FREEZE_KINE, Step.TAKE_TERM} <= before(plan, row)
    assert row in before(plan, Step.OPEN)


def test_no_other_plan_takes_a_term_or_writes_the_row_of_a_leadership() -> None:
    for plan in plans.PLANS:
        if plan.name not in ("promote", "win", "late_fence"):
            assert not {Step.TAKE_TERM, Step.LEAD, Step.ABSORB} & set(plan.steps)


def test_a_promotion_fences_the_peer_and_lets_go_of_its_stream_first() -> None:
    assert {Step.FENCE_PEER, Step.DETACH} <= before(named("promote"), Step.LEAD)
    assert named("promote").point_of_no_return is Step.LEAD


def test_a_copy_goes_into_a_database_that_nobody_else_writes_and_that_keeps_no_wal_for_the_peer() -> None:
    assert {Step.CLOSE, Step.WAITS_OFF, Step.DROP_SLOTS} <= before(named("rejoin"), Step.COPY)


def test_the_word_of_a_switchover_is_drained_and_its_failure_opens_the_database_again() -> None:
    plan = named("switchover")
    assert {Step.CLOSE_QUIETLY, Step.DRAIN_SWITCH} <= before(plan, Step.HAND_OVER)
    assert plan.undo == plans.REOPENING
    assert plan.failed is Role.LEADER


@pytest.mark.parametrize("name", ALL)
def test_what_a_step_needs_is_said_of_steps_that_the_plan_has(name: str) -> None:
    plan = named(name)
    assert {step for step, _ in plan.needs} <= set(plan.steps)
    assert len(set(plan.steps)) == len(plan.steps)
