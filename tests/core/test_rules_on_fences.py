"""The rules on fences and on Kine, each by its name: R11, R12, R13, R14, R19, R20."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from failover.core import plans, rules
from failover.core.evidence import Policy, Postgres, Worth
from failover.core.model import Durable, Health, Kind, Role
from failover.core.plans import Step
from failover.core.rules import Decision
from failover.core.timing import LAN
from failover.node.memory import Memory
from failover.node.steps import Steps
from tests.core.scenes import (
    IN_SYNC,
    PROMOTED,
    STANDBY,
    TERM,
    TOP,
    WENT_ALONE,
    beat,
    cell,
    decision,
    follower,
    heard,
    judged,
    leader,
    order,
    row,
    silent,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.ports import Ports


# ---- R11 Postgres starts fenced --------------------------------------------------------------------------------


def test_r11_a_leader_whose_postgres_came_back_opens_it_by_a_plan_and_waits_first() -> None:
    back = leader(postgres=status(waits_for="kf_1", standby=STANDBY))
    assert cell(back).postgres is Postgres.CLOSED
    assert decision(back) is Decision.REOPEN
    assert order(plans.REOPEN, Step.ALIGN_WAITS, Step.OPEN, Step.SERVE)


def test_r11_what_is_open_under_another_ones_leadership_is_closed_before_anything_else() -> None:
    opened = status(PROMOTED, is_open=True)
    assert (
        decision(starting(0, PROMOTED, postgres=opened, heard=heard(beat(1, Role.LEADER, PROMOTED)))) is Decision.YIELD
    )
    assert decision(starting(0, PROMOTED, postgres=opened)) is Decision.YIELD


# ---- R12 stop, then say ----------------------------------------------------------------------------------------


def test_r12_kine_is_dead_before_take_over_is_said() -> None:
    assert order(plans.HAND_OVER, Step.KILL_KINE, Step.HAND_OVER)
    assert order(plans.SWITCHOVER, Step.FREEZE_BOTH, Step.CLOSE_QUIETLY, Step.DRAIN_SWITCH, Step.HAND_OVER)


def test_r12_who_promotes_freezes_its_old_kine_first() -> None:
    assert plans.PROMOTE.steps[0] is Step.FREEZE_KINE


# ---- R13 witness, late fence -----------------------------------------------------------------------------------


def test_r13_light_only_where_nothing_that_was_seen_is_missing() -> None:
    assert not judged(follower(), Worth.SYNCED, served=TOP).full
    assert judged(follower(), Worth.SYNCED, served=TOP + 1).full
    told = judged(follower(heard=heard(beat(0, Role.LEADER, visible_revision=TOP + 9))), Worth.SYNCED)
    assert (told.full, told.clear_revision) == (True, TOP + 9)


def test_r13_rows_that_only_the_old_leader_had_are_fenced_late() -> None:
    ghosts = heard(beat(1, Role.FOLLOWER, WENT_ALONE, ghosts_under="a"))
    assert decision(leader(WENT_ALONE, heard=ghosts)) is Decision.LATE_FENCE
    assert decision(leader(WENT_ALONE, heard=ghosts, fenced_fully=True)) is Decision.CARRY_ON
    earlier = heard(beat(1, Role.FOLLOWER, WENT_ALONE, ghosts_under="x"))
    assert decision(leader(WENT_ALONE, heard=earlier)) is Decision.CARRY_ON
    assert order(plans.LATE_FENCE, Step.FREEZE_KINE, Step.TAKE_TERM, Step.LEAD, Step.SERVE)
    assert Step.CLOSE not in plans.LATE_FENCE.steps  # the follower's Kine runs on it (R20)


# ---- R14 a full fence is one on both nodes ---------------------------------------------------------------------


def test_r14_both_nodes_serve_under_a_key_that_each_leadership_changes() -> None:
    keys = []
    for history in (IN_SYNC, WENT_ALONE, (*WENT_ALONE, row("v", 0, Kind.VERDICT, term=4))):
        both = set()
        for role, memory in ((Role.LEADER, remembers(0, history)), (Role.FOLLOWER, remembers(1, history))):
            memory.role = role
            both.add(steps_of(memory).fence_key())
        assert len(both) == 1  # the follower's Kine is replaced as the leader's is
        keys.append(both.pop())
    assert keys == ["a", "a", "v"]  # a verdict fences, going alone does not


def remembers(me: int, history: tuple[Any, ...]) -> Memory:
    memory = Memory(Durable("shop", me, f"id-{me}"), "run", 0.0)
    memory.postgres, memory.peer_lineage = status(history), history
    return memory


def steps_of(memory: Memory) -> Steps:
    unused: Any = None
    ports = cast("Ports", SimpleNamespace())
    return Steps(ports, memory, LAN, Policy(), observe=unused, look=unused, say=unused, heard=unused)


# ---- R19 the fence has a memory --------------------------------------------------------------------------------


def test_r19_a_database_fenced_by_a_term_that_is_not_below_is_not_opened_again_for_the_old_one() -> None:
    for fenced, seen_as in ((TERM - 1, Postgres.CLOSED), (TERM, Postgres.OUTRANKED), (TERM + 1, Postgres.OUTRANKED)):
        assert cell(leader(postgres=status(fence_term=fenced))).postgres is seen_as
    assert decision(leader(postgres=status(fence_term=TERM + 1))) is Decision.YIELD
    outranked = starting(0, WENT_ALONE, postgres=status(WENT_ALONE, fence_term=TERM + 1))
    assert decision(outranked) is Decision.PROMOTE  # in another term


def test_r19_an_outranked_database_is_opened_by_no_plan_without_a_new_term() -> None:
    for rule in rules.RULES:
        if Postgres.OUTRANKED in rule.when.get("postgres", ()) and rule.role in (Role.STARTING, Role.LEADER):
            assert rule.decision not in (Decision.REOPEN, Decision.RESUME), rule.name
    assert order(plans.PROMOTE, Step.TAKE_TERM, Step.FENCE_PEER, Step.LEAD, Step.OPEN)


# ---- R20 freeze ------------------------------------------------------------------------------------------------


def test_r20_kine_is_frozen_or_dead_before_its_role_its_sessions_or_its_sequence_are_touched() -> None:
    for plan in plans.PLANS:
        for touched in {Step.CLOSE, Step.LEAD, Step.ABSORB} & set(plan.steps) - (
            {Step.CLOSE} if plan is plans.REJOIN else set()
        ):
            stopped = {Step.FREEZE_KINE, Step.KILL_KINE, Step.FREEZE_BOTH} & set(
                plan.steps[: plan.steps.index(touched)]
            )
            assert stopped, f"{plan.name}: {touched} under a running Kine"
    assert order(plans.SWITCHOVER, Step.FREEZE_BOTH, Step.CLOSE_QUIETLY)


def test_r20_a_leader_without_its_postgres_has_no_kine() -> None:
    for seen in (
        leader(WENT_ALONE, health=Health.DOWN),
        silent(leader(health=Health.DOWN), 0.5),
        silent(leader(health=Health.HUNG), 60.0),
        leader(WENT_ALONE, health=Health.DOWN, heard=heard(beat(1, Role.LEADER, PROMOTED))),
        leader(WENT_ALONE, health=Health.DOWN, heard=heard(beat(1, Role.PROMOTING, WENT_ALONE))),
    ):
        assert decision(seen) is Decision.SUSPEND
    assert plans.SUSPEND.steps == (Step.FREEZE_KINE,)


def test_r20_a_leader_hands_over_before_its_disk_is_full() -> None:
    assert decision(leader(disk_nearly_full=True)) is Decision.SWITCH
