"""The rules on the lease, on going alone and on in_sync, each by its name: R4, R5, R9, R10, R17."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from failover.core import plans, speak
from failover.core.evidence import Worth
from failover.core.lease import Lease
from failover.core.model import Durable, Health, Mode, Role
from failover.core.plans import Step
from failover.core.rules import Decision
from failover.core.timing import LAN
from failover.node.memory import Memory
from tests.core.scenes import (
    LONG_AGO_S,
    NOW_S,
    STANDBY,
    WENT_ALONE,
    beat,
    decision,
    follower,
    heard,
    judged,
    leader,
    order,
    refused,
    silent,
    status,
)

# ---- R4 lease --------------------------------------------------------------------------------------------------


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


# ---- R9 reload -------------------------------------------------------------------------------------------------


def test_r09_in_sync_is_recorded_when_commits_wait_and_the_follower_has_all_before() -> None:
    assert plans.ENTER_SYNC.steps == (Step.CATCH_UP, Step.WAITS_ON, Step.DRAIN_STANDBY, Step.RECORD_SYNCED)
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
