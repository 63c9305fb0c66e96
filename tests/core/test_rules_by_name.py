"""Each rule R1-R20 of the protocol by its name. `left_out.py` leaves each out, and its test must fail then."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from failover.core import evidence, fences, plans, resolve, rules, speak, terms, verdict
from failover.core.evidence import Policy, Postgres, Worth
from failover.core.lease import Lease
from failover.core.model import (
    Acceptance,
    Choice,
    Durable,
    Health,
    Kind,
    LastChange,
    Mode,
    Role,
    Verdict,
)
from failover.core.plans import Step
from failover.core.rules import Decision
from failover.core.timing import LAN
from failover.core.verdict import ClockOffset, SplitPolicy, Summary
from failover.node.memory import Memory
from failover.node.steps import Steps
from tests.core import left_out
from tests.core.scenes import (
    IN_SYNC,
    LONG_AGO_S,
    NOW_S,
    PROMOTED,
    STANDBY,
    TERM,
    TOP,
    WENT_ALONE,
    WORD,
    beat,
    cell,
    decision,
    follower,
    heard,
    leader,
    name,
    refused,
    row,
    silent,
    starting,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import Heartbeat
    from failover.ports import Ports

EXACT = ClockOffset(0, 0)


def order(plan: plans.Plan, *steps: Step) -> bool:
    """Whether the plan has these steps, in this order."""
    places = [plan.steps.index(step) for step in steps if step in plan.steps]
    return len(places) == len(steps) and places == sorted(places)


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


# ---- R4 lease --------------------------------------------------------------------------------------------------


def judged(seen: Any, worth: Worth, mode: Mode = Mode.ZERO_LOSS, served: int = 0, **options: bool) -> fences.Fence:
    told = {"drained": False, "ordered": False, **options}
    return fences.fence_at_transaction(
        seen, worth, mode, drained=told["drained"], ordered=told["ordered"], served_revision=served
    )


def test_r04_the_fence_is_light_only_while_the_lease_runs_at_the_transaction() -> None:
    seen = follower()
    assert not judged(seen, Worth.SYNCED).full
    assert judged(replace(seen, lease=Lease("b", NOW_S)), Worth.SYNCED).full
    assert judged(replace(seen, lease=Lease()), Worth.SYNCED).full
    assert judged(seen, Worth.VOIDED).full


def test_r04_the_lease_counts_from_what_the_follower_sent_and_the_leader_has_echoed() -> None:
    says = beat(0, Role.LEADER)
    lease = Lease().extend(says, 10.0, "b", LAN.degrade_after_s, mode=Mode.ZERO_LOSS)
    assert (lease.head, lease.ends_s) == ("b", 10.0 + LAN.degrade_after_s)
    assert lease.extend(says, 9.0, "b", LAN.degrade_after_s, mode=Mode.ZERO_LOSS) == lease
    assert Lease().extend(says, None, "b", LAN.degrade_after_s, mode=Mode.ZERO_LOSS).head is None
    assert Lease().extend(says, 10.0, "other", LAN.degrade_after_s, mode=Mode.ZERO_LOSS).head is None


def test_r04_a_new_run_and_a_clock_that_jumped_have_no_lease() -> None:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    assert not memory.lease.runs(0.0)
    memory.lease = Lease("b", 9.0)
    memory.stalled(5.0, clock_jumped=True)
    assert not memory.lease.runs(5.0)
    says = beat(0, Role.LEADER)
    assert not memory.lease.extend(says, 5.0, "b", 1.0, mode=Mode.ZERO_LOSS).runs(5.0)  # sent before it woke
    assert memory.lease.extend(says, 5.1, "b", 1.0, mode=Mode.ZERO_LOSS).runs(6.0)


def test_r04_a_leader_that_says_that_it_is_alone_ends_it() -> None:
    lease = Lease("b", 9.0).extend(beat(0, Role.LEADER, WENT_ALONE), 8.0, "b", 1.0, mode=Mode.ZERO_LOSS)
    assert not lease.runs(0.0)


# ---- R5 revoke -------------------------------------------------------------------------------------------------


def test_r05_the_leader_goes_alone_when_the_lease_has_ended_and_not_before() -> None:
    assert decision(silent(leader(), LAN.degrade_after_s - 0.01)) is Decision.CARRY_ON
    assert decision(silent(leader(), LAN.degrade_after_s)) is Decision.GO_ALONE
    assert decision(replace(silent(leader(), 0.3), probes=refused(0.07, 0.0))) is Decision.GO_ALONE


def test_r05_or_when_the_follower_has_renounced() -> None:
    assert decision(leader(heard=heard(beat(1, Role.FOLLOWER, renounced="b")))) is Decision.GO_ALONE
    assert decision(leader(heard=heard(beat(1, Role.FOLLOWER, renounced="a")))) is Decision.CARRY_ON


def test_r05_the_row_says_alone_before_a_write_is_acknowledged_alone() -> None:
    assert order(plans.GO_ALONE, Step.RECORD_ALONE, Step.WAITS_OFF)


@pytest.mark.parametrize(
    ("ill", "said"),
    [
        ({"health": Health.DOWN}, "Postgres"),
        ({"stream_failed": True}, "stream"),
        ({"paused": True}, "paused"),
        ({"disk_nearly_full": True}, "disk"),
        ({"leaving": True}, "shut down"),
        ({"isolated": True}, "cut off"),
        ({"heard": heard(beat(0, Role.LEADER, asks_renounce=True))}, "asks"),
    ],
)
def test_r05_a_follower_that_anything_ails_renounces_by_itself(ill: dict[str, Any], said: str) -> None:
    assert speak.why_renounce(follower()) is None
    assert said in str(speak.why_renounce(follower(**ill)))


# ---- R6 older messages -----------------------------------------------------------------------------------------


def hears(*beats: Heartbeat) -> list[bool]:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    return [memory.hear(one, float(at), 0, LAN, Mode.ZERO_LOSS) for at, one in enumerate(beats)]


def test_r06_only_what_is_newer_than_all_that_was_heard_is_taken_in() -> None:
    first, second = beat(0, Role.LEADER, seq=7), beat(0, Role.LEADER, seq=8)
    assert hears(second, first, second) == [True, False, False]


def test_r06_an_earlier_run_that_a_relay_delivers_late_is_not_taken_in() -> None:
    late = beat(0, Role.LEADER, boot="before", seq=99, wall_us=1_000_000)
    assert hears(beat(0, Role.LEADER, wall_us=60_000_000), late) == [True, False]
    assert hears(late, beat(0, Role.LEADER, wall_us=60_000_000)) == [True, True]


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


def test_r01_a_peer_whose_database_answers_and_is_empty_has_no_history_any_more() -> None:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    memory.postgres = status(WENT_ALONE)
    memory.hear(beat(0, Role.LEADER, WENT_ALONE, seq=1), 0.1, 100, LAN, Mode.ZERO_LOSS)
    assert memory.peer_lineage == WENT_ALONE
    memory.hear(beat(0, Role.STARTING, (), seq=2, postgres_ok=False), 0.2, 200, LAN, Mode.ZERO_LOSS)
    assert memory.peer_lineage == WENT_ALONE  # it has not looked yet
    memory.hear(beat(0, Role.STARTING, (), seq=3), 0.3, 300, LAN, Mode.ZERO_LOSS)
    assert len(memory.peer_lineage) == 0


def test_r08_what_was_measured_before_a_clock_was_set_is_forgotten() -> None:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    memory.remember_sent(1, 0.0, 0, follows=True)
    memory.hear(beat(0, Role.LEADER, echo_boot="run", echo_seq=1), 0.1, 100, LAN, Mode.ZERO_LOSS)
    assert memory.samples
    memory.stalled(1.0, clock_jumped=True)
    assert not memory.samples


# ---- R9 reload -------------------------------------------------------------------------------------------------


def test_r09_in_sync_is_recorded_when_commits_wait_and_the_follower_has_all_before() -> None:
    assert plans.ENTER_SYNC.steps == (Step.WAITS_ON, Step.DRAIN_STANDBY, Step.RECORD_SYNCED)
    assert plans.ENTER_SYNC.undo == (Step.WAITS_OFF,)


def test_r09_only_for_a_follower_that_says_that_it_is_ready_under_this_head() -> None:
    for said, wanted in (("c", Decision.ENTER_SYNC), ("b", Decision.CARRY_ON), (None, Decision.CARRY_ON)):
        assert decision(leader(WENT_ALONE, heard=heard(beat(1, Role.FOLLOWER, WENT_ALONE, ready_for=said)))) is wanted
    gone = status(WENT_ALONE, is_open=True, standby=replace(STANDBY, streaming=False))
    ready = heard(beat(1, Role.FOLLOWER, WENT_ALONE, ready_for="c"))
    assert decision(leader(WENT_ALONE, heard=ready, postgres=gone)) is Decision.CARRY_ON


def test_r09_a_database_is_opened_with_the_waits_that_its_lineage_names() -> None:
    for plan in (plans.PROMOTE, plans.REOPEN, plans.RESUME, plans.WIN, plans.LATE_FENCE):
        assert order(plan, Step.ALIGN_WAITS, Step.OPEN)
    forgot = status(is_open=True, waits_for="", standby=STANDBY)
    assert decision(leader(postgres=forgot)) is Decision.REOPEN  # in sync, and nobody waits


# ---- R10 inequality --------------------------------------------------------------------------------------------


def test_r10_deadlines_that_break_the_inequality_are_refused_with_the_numbers() -> None:
    least = (LAN.losses_tolerated + 2) * LAN.heartbeat_s + 2 * LAN.one_way_delay_s + LAN.granularity_s + LAN.promotion_s
    assert LAN.slack_s() == pytest.approx(least)
    near = replace(LAN, promote_after_s=LAN.degrade_after_s - least - 0.001)
    assert near.complaint() is None
    broken = replace(LAN, promote_after_s=LAN.degrade_after_s - least + 0.001)
    assert f"{LAN.degrade_after_s:g}" in str(broken.complaint())


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


# ---- R15 established -------------------------------------------------------------------------------------------


def test_r15_a_higher_number_with_nobody_behind_it_demotes_nobody() -> None:
    for role in (Role.FOLLOWER, Role.STARTING, Role.RESYNCING, Role.DEMOTING):
        assert decision(leader(heard=heard(beat(1, role, term=99)))) is Decision.CARRY_ON


def test_r15_a_leader_yields_to_an_established_one_that_has_all_of_its_history() -> None:
    assert decision(leader(heard=heard(beat(1, Role.LEADER, PROMOTED)))) is Decision.YIELD
    assert decision(leader(heard=heard(beat(1, Role.PROMOTING)))) is Decision.YIELD


def test_r15_who_went_alone_is_a_side_of_a_split_and_yields_to_nobody_who_lacks_its_writes() -> None:
    assert decision(leader(WENT_ALONE, heard=heard(beat(1, Role.PROMOTING)))) is Decision.CARRY_ON
    assert decision(leader(WENT_ALONE, heard=heard(beat(1, Role.LEADER, PROMOTED)))) is Decision.RESOLVE


def test_r15_a_new_term_is_above_every_term_ever_seen_and_of_the_own_parity() -> None:
    for highest, node in itertools.product(range(20), (0, 1)):
        term = terms.next_term(highest, node)
        assert highest < term <= highest + 2
        assert term % 2 == node


# ---- R16 a starting leader says take over ----------------------------------------------------------------------


def test_r16_a_starting_node_that_led_in_sync_gives_leadership_away_when_its_postgres_does_not_come() -> None:
    led = Durable("shop", 0, "id-0", role=Role.LEADER, synced_head="b")
    seen = starting(0, durable=led, health=Health.DOWN, postgres=None, heard=heard(beat(1, Role.FOLLOWER)))
    assert decision(seen) is Decision.HAND_OVER
    assert decision(replace(seen, started_s=NOW_S - LAN.promote_after_s + 0.1)) is Decision.WAIT  # it gets its time
    for hint in (replace(led, synced_head=None), replace(led, role=Role.FOLLOWER), replace(led, handed_over="b")):
        assert decision(replace(seen, durable=hint)) is Decision.WAIT


# ---- R17 replication that hangs --------------------------------------------------------------------------------


def test_r17_a_leader_whose_writes_wait_for_too_long_asks_the_follower_to_renounce() -> None:
    waits = status(is_open=True, waits_for="kf_1", standby=STANDBY, oldest_wait_s=LAN.degrade_after_s + 0.1)
    assert decision(leader(postgres=waits)) is Decision.ASK_RENOUNCE
    assert decision(leader(postgres=replace(waits, oldest_wait_s=LAN.degrade_after_s))) is Decision.CARRY_ON
    assert decision(leader(postgres=waits, heard=heard(beat(1, Role.FOLLOWER, renounced="b")))) is Decision.GO_ALONE
    assert decision(silent(leader(postgres=waits), LAN.degrade_after_s)) is Decision.GO_ALONE


def test_r17_a_follower_never_promotes_while_it_hears_a_leader() -> None:
    assert decision(follower(stream_failed=True)) is not Decision.PROMOTE
    assert decision(follower(peer_postgres_seen_s=LONG_AGO_S)) is not Decision.PROMOTE


# ---- R18 pause -------------------------------------------------------------------------------------------------


def test_r18_a_pause_stops_promotion_switchover_and_verdicts() -> None:
    assert decision(silent(follower(paused=True), 60.0)) is Decision.WAIT
    assert decision(follower(paused=True, heard=heard(beat(0, Role.STARTING, hand_over=WORD)))) is Decision.WAIT
    assert decision(starting(0, WENT_ALONE, paused=True)) is Decision.WAIT
    parted = heard(beat(1, Role.LEADER, PROMOTED))
    assert decision(leader(WENT_ALONE, paused=True, heard=parted)) is Decision.CARRY_ON
    assert decision(starting(0, WENT_ALONE, paused=True, heard=parted)) is Decision.WAIT
    assert decision(leader(paused=True, disk_nearly_full=True)) is Decision.CARRY_ON
    promoting = replace(silent(follower(paused=True), 60.0), role=Role.PROMOTING)
    assert decision(promoting) is Decision.START_OVER
    assert decision(replace(promoting, ordered=True)) is Decision.CARRY_ON


def test_r18_a_paused_leader_never_says_take_over() -> None:
    assert decision(leader(health=Health.DOWN)) is Decision.HAND_OVER
    assert decision(leader(health=Health.DOWN, paused=True)) is Decision.SUSPEND


def test_r18_a_pause_never_stops_yielding_going_alone_or_streaming_on() -> None:
    assert decision(leader(paused=True, heard=heard(beat(1, Role.LEADER, PROMOTED)))) is Decision.YIELD
    assert decision(silent(leader(paused=True), 60.0)) is Decision.GO_ALONE
    assert name(follower(paused=True)) == "follow/stream-on"


def test_r18_either_nodes_pause_binds_both() -> None:
    memory = Memory(Durable("shop", 1, "id-1"), "run", 0.0)
    assert not memory.observe(1.0, 0).paused
    memory.hear(beat(0, Role.LEADER, paused_for_s=5.0), 1.0, 0, LAN, Mode.ZERO_LOSS)
    assert memory.observe(5.9, 0).paused
    assert not memory.observe(6.1, 0).paused
    memory.durable = replace(memory.durable, paused_until_us=10)
    assert memory.observe(9.0, 9).paused


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


# ---- the proof -------------------------------------------------------------------------------------------------

BY_RULE: dict[str, list[Callable[..., None]]] = {}
for _name, _test in list(globals().items()):
    if _name.startswith("test_r") and _name[6:8].isdigit():
        BY_RULE.setdefault(f"R{int(_name[6:8])}", []).append(_test)


def test_every_rule_has_a_test_by_its_name() -> None:
    assert set(BY_RULE) == {f"R{number}" for number in range(1, 21)}
    assert {rule for rule, _, _ in left_out.WAYS} == set(BY_RULE)


@pytest.mark.parametrize(
    ("rule", "what", "without"), left_out.WAYS, ids=[f"{rule}-{what}" for rule, what, _ in left_out.WAYS]
)
def test_the_test_of_a_rule_fails_without_it(rule: str, what: str, without: left_out.Patch) -> None:
    del what
    with without():
        assert any(fails(test) for test in BY_RULE[rule])


def fails(test: Callable[..., None]) -> bool:
    """Whether the test fails for some of its parameters."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    cases: list[dict[str, Any]] = [{}]
    for mark in marks:
        names = [mark.args[0]] if isinstance(mark.args[0], str) else list(mark.args[0])
        values = [one if len(names) > 1 else (one,) for one in mark.args[1]]
        cases = [dict(zip(names, one, strict=True)) for one in values]
    for case in cases:
        try:
            test(**case)
        except AssertionError:
            return True
    return False
