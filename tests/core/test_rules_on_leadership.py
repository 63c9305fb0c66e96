"""The rules on who is heard, who yields, who gives leadership away and who pauses, each by its name: R6, R15, R16, R18."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from msgspec.structs import replace

from failover.core import terms
from failover.core.model import Durable, Health, Mode, Role
from failover.core.rules import Decision
from failover.core.timing import LAN
from failover.node.memory import Memory
from tests.core.scenes import (
    NOW_S,
    PROMOTED,
    WENT_ALONE,
    WORD,
    beat,
    decision,
    follower,
    heard,
    leader,
    name,
    silent,
    starting,
)

if TYPE_CHECKING:
    from failover.core.model import Heartbeat


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
