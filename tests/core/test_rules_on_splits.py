"""The rules on who has a claim and which side of a split goes on, each by its name: R1, R2, R3, R7, R8."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from failover.core import evidence, plans, resolve, verdict
from failover.core.evidence import Worth
from failover.core.model import Acceptance, Choice, Durable, Health, LastChange, Mode, Role, Verdict
from failover.core.plans import Step
from failover.core.rules import Decision
from failover.core.timing import LAN
from failover.core.verdict import ClockOffset, SplitPolicy, Summary
from failover.node.memory import Memory
from tests.core.scenes import (
    IN_SYNC,
    NOW_S,
    PROMOTED,
    TOP,
    WENT_ALONE,
    beat,
    decision,
    heard,
    judged,
    leader,
    order,
    row,
    starting,
    status,
)

# ---- R1 claim --------------------------------------------------------------------------------------------------


def test_r01_who_acknowledged_alone_beyond_the_leaders_beginning_is_a_side_and_not_a_follower() -> None:
    led_on = (
        *WENT_ALONE,
        row("e", 1, term=3, parent=TOP - 1),
    )  # knows of the node's going alone, not of its last write
    seen = starting(0, WENT_ALONE, heard=heard(beat(1, Role.LEADER, led_on)))
    assert decision(seen) is Decision.RESOLVE
    with_all = (*WENT_ALONE, row("e", 1, term=3, parent=TOP))
    assert (
        decision(replace(seen, heard=heard(beat(1, Role.LEADER, with_all)), peer_lineage=with_all)) is Decision.REJOIN
    )


def test_r01_nothing_is_thrown_away_before_the_own_data_can_be_looked_at() -> None:
    seen = starting(0, WENT_ALONE, heard=heard(beat(1, Role.LEADER, PROMOTED)), health=Health.DOWN)
    assert decision(seen) is Decision.WAIT
    unknown = starting(0, WENT_ALONE, heard=heard(replace(beat(1, Role.LEADER, PROMOTED), lineage=())))
    assert decision(unknown) is Decision.WAIT


def test_r01_a_peer_whose_database_answers_and_is_empty_has_no_history_any_more() -> None:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    memory.postgres = status(WENT_ALONE)
    memory.hear(beat(0, Role.LEADER, WENT_ALONE, seq=1), 0.1, 100, LAN, Mode.ZERO_LOSS)
    assert memory.peer_lineage == WENT_ALONE
    memory.hear(beat(0, Role.STARTING, (), seq=2, postgres_ok=False), 0.2, 200, LAN, Mode.ZERO_LOSS)
    assert memory.peer_lineage == WENT_ALONE  # it has not looked yet
    memory.hear(beat(0, Role.STARTING, (), seq=3), 0.3, 300, LAN, Mode.ZERO_LOSS)
    assert len(memory.peer_lineage) == 0


# ---- R2 archive ------------------------------------------------------------------------------------------------


def test_r02_the_loser_archives_what_its_fence_has_made_final() -> None:
    assert order(plans.LOSE, Step.FREEZE_KINE, Step.CLOSE, Step.KILL_KINE, Step.FINAL_REVISION, Step.ARCHIVE)
    assert Step.COPY not in plans.LOSE.steps


def test_r02_nothing_is_absorbed_before_it_is_in_an_archive() -> None:
    told = Verdict(0, "c", "d", Choice.LATEST_CHANGE, "")
    yes = Acceptance(told, final_revision=TOP)
    seen = leader(WENT_ALONE, heard=heard(beat(1, Role.STARTING, PROMOTED, acceptance=yes)))
    assert resolve.next_move(seen, None) == (resolve.Move.WAIT, told)
    done = replace(yes, archive="split-d")
    seen = replace(seen, heard=heard(beat(1, Role.STARTING, PROMOTED, acceptance=done)))
    assert resolve.next_move(seen, None) == (resolve.Move.WIN, told)


# ---- R3 claim --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("me", [0, 1])
def test_r03_who_was_in_sync_may_have_been_left_behind_and_waits_long(me: int) -> None:
    seen = starting(me, IN_SYNC, started_s=NOW_S - LAN.long_wait_s + 0.1)
    assert decision(seen) is Decision.WAIT
    assert decision(replace(seen, started_s=NOW_S - LAN.long_wait_s)) is Decision.PROMOTE


def test_r03_only_who_was_durably_alone_leads_after_boot_wait() -> None:
    assert decision(starting(0, WENT_ALONE, started_s=NOW_S - LAN.boot_wait_s)) is Decision.PROMOTE
    assert decision(starting(0, WENT_ALONE, started_s=NOW_S - LAN.boot_wait_s + 0.1)) is Decision.WAIT


@pytest.mark.parametrize("worth", [Worth.STALE, Worth.VOIDED])
def test_r03_data_that_may_be_old_leads_provisionally_with_a_full_fence(worth: Worth) -> None:
    fence = judged(starting(1), worth)
    assert (fence.provisional, fence.full) == (True, True)


def test_r03_a_provisional_side_loses_whatever_the_times_say() -> None:
    provisional = (*IN_SYNC, row("d", 1, term=3, parent=100, provisional=True))
    sides = (Summary(0, WENT_ALONE, LastChange(TOP, 1, None), 1), Summary(1, provisional, LastChange(TOP, 9, None), 1))
    made = verdict.decide_split(sides, EXACT, SplitPolicy.NEWEST)
    assert made is not None
    assert (made.winner, made.choice) == (0, Choice.PROVISIONAL)


# ---- R7 acceptance ---------------------------------------------------------------------------------------------


def test_r07_node_0_loses_only_by_what_node_1_has_repeated_to_this_run() -> None:
    told = Verdict(1, "d", "c", Choice.LATEST_CHANGE, "")
    consents = replace(heard(beat(1, Role.LEADER, PROMOTED, verdict=told)), echoes_this_run=True)
    seen = leader(WENT_ALONE, heard=consents)
    assert resolve.next_move(seen, told)[0] is resolve.Move.LOSE
    other = replace(told, reason="another")
    for answer in (
        replace(consents, echoes_this_run=False),
        replace(consents, heartbeat=replace(consents.heartbeat, verdict=None)),
        replace(consents, heartbeat=replace(consents.heartbeat, verdict=other)),
    ):
        assert resolve.next_move(replace(seen, heard=answer), told)[0] is resolve.Move.WAIT


def test_r07_who_has_accepted_can_never_win() -> None:
    told = Verdict(1, "d", "c", Choice.LATEST_CHANGE, "")
    accepted = Durable("shop", 0, "id-0", acceptance=Acceptance(told))
    seen = leader(WENT_ALONE, durable=accepted, heard=heard(beat(1, Role.LEADER, PROMOTED)))
    assert resolve.next_move(seen, Verdict(0, "c", "d", Choice.LATEST_CHANGE, "")) == (resolve.Move.LOSE, told)
    assert evidence.own_worth(starting(0, WENT_ALONE, durable=accepted), LAN) is Worth.UNFIT
    assert decision(starting(0, WENT_ALONE, durable=accepted)) is Decision.WAIT


def test_r07_the_winner_waits_for_the_losers_last_revision() -> None:
    told = Verdict(0, "c", "d", Choice.LATEST_CHANGE, "")
    yes = Acceptance(told, archive="split-d")
    seen = leader(WENT_ALONE, heard=heard(beat(1, Role.STARTING, PROMOTED, acceptance=yes)))
    assert resolve.next_move(seen, None)[0] is resolve.Move.WAIT


def test_r07_the_acceptance_is_durable_before_anything_else() -> None:
    assert plans.LOSE.steps[0] is Step.ACCEPT


EXACT = ClockOffset(0, 0)


# ---- R8 clocks -------------------------------------------------------------------------------------------------


def decided(first: LastChange | None, second: LastChange | None, clocks: ClockOffset = EXACT) -> tuple[int, Choice]:
    made = verdict.decide_split(
        (Summary(0, WENT_ALONE, first, 1), Summary(1, PROMOTED, second, 1)), clocks, SplitPolicy.NEWEST
    )
    assert made is not None
    return made.winner, made.choice


def test_r08_ages_decide_and_not_what_the_wall_clocks_say() -> None:
    assert decided(LastChange(TOP, 10**9, 5.0), LastChange(TOP, 1, 1.0)) == (1, Choice.LATEST_CHANGE)
    assert decided(LastChange(TOP, 1, 1.0), LastChange(TOP, 10**9, 5.0)) == (0, Choice.LATEST_CHANGE)


def test_r08_commit_times_are_corrected_by_the_offset_of_the_clocks() -> None:
    first, second = LastChange(TOP, 1_000_000, None), LastChange(TOP, 3_000_000, None)
    assert decided(first, second, ClockOffset(0, 1000))[0] == 1
    assert decided(first, second, ClockOffset(2_500_000, 1000))[0] == 0


def test_r08_within_the_uncertainty_the_node_that_led_before_goes_on() -> None:
    first, second = LastChange(TOP, 1_000_000, None), LastChange(TOP, 1_000_500, None)
    assert decided(first, second, ClockOffset(0, 500)) == (0, Choice.LED_BEFORE)
    assert decided(first, second, ClockOffset(0, 499)) == (1, Choice.LATEST_CHANGE)


def test_r08_what_was_measured_before_a_clock_was_set_is_forgotten() -> None:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    memory.remember_sent(1, 0.0, 0, follows=True)
    memory.hear(beat(0, Role.LEADER, echo_boot="run", echo_seq=1), 0.1, 100, LAN, Mode.ZERO_LOSS)
    assert memory.samples
    memory.stalled(1.0, clock_jumped=True)
    assert not memory.samples
