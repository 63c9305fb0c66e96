"""The loop sleeps until the next deadline: before it, time alone must not change what an observation says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from failover.core.evidence import Peer, Policy, next_change_s, read
from failover.core.lease import NEVER, Lease
from failover.core.model import Health, Role
from failover.core.timing import FAST, LAN, WAN
from tests.core.scenes import IN_SYNC, NOW_S, beat, follower, heard, leader, refused, starting, status

if TYPE_CHECKING:
    from failover.core.observation import Observation
    from failover.core.timing import Timing

POLICY = Policy()
ages = st.floats(0.0, 70.0)
moments = st.one_of(st.just(NEVER), ages.map(lambda age_s: NOW_S - age_s))
ROLES = (Role.STARTING, Role.FOLLOWER, Role.LEADER)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """A pair of which each moment may be any."""
    seen = draw(
        st.sampled_from((leader(), follower(), starting(0), starting(1), replace(follower(), role=Role.PROMOTING)))
    )
    head = draw(st.sampled_from((None, "b", "c")))
    handed_over = draw(st.sampled_from((None, head)))
    peer = replace(beat(1 - seen.me, draw(st.sampled_from(ROLES))), postgres_ok=draw(st.booleans()))
    return replace(
        seen,
        heard=draw(st.one_of(st.none(), ages.map(lambda age_s: heard(peer, age_s)))),
        durable=replace(seen.durable, role=draw(st.sampled_from(ROLES)), synced_head=head, handed_over=handed_over),
        health=draw(st.sampled_from(list(Health))),
        postgres=draw(st.sampled_from((None, seen.postgres, status(IN_SYNC, oldest_wait_s=100.0)))),
        lease=Lease(head, draw(st.sampled_from((NEVER, NOW_S + 1.0))), draw(moments)),
        probes=draw(st.sampled_from(((), refused(0.2, 0.1)))),
        isolated=draw(st.booleans()), asks_renounce=draw(st.booleans()),
        started_s=NOW_S - draw(ages), stalled_s=draw(moments), isolated_s=draw(moments), granted_s=draw(moments),
        peer_served_s=draw(moments), peer_postgres_seen_s=draw(moments),
    )  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(observations(), st.sampled_from((LAN, FAST, WAN)), st.floats(0.0, 1.0))
def test_nothing_changes_by_time_alone_before_the_next_deadline(seen: Observation, timing: Timing, part: float) -> None:
    due_s = min(next_change_s(seen, timing, silent=True), NOW_S + 200.0)
    assert due_s >= NOW_S
    later_s = max(NOW_S, NOW_S + part * (due_s - NOW_S) - 1e-6)
    assert read(replace(seen, now_s=later_s), timing, POLICY) == read(seen, timing, POLICY)


def test_the_deadlines_of_a_follower_whose_leader_falls_silent() -> None:
    seen = follower(heard=heard(beat(0, Role.LEADER), 0.0), peer_served_s=NOW_S, peer_postgres_seen_s=NOW_S)
    seen = replace(seen, started_s=0.0)
    views = []
    while seen.now_s < NOW_S + LAN.promote_after_s:
        seen = replace(seen, now_s=next_change_s(seen, LAN, silent=True) + 1e-3)
        views.append((round(seen.now_s - NOW_S, 2), str(read(seen, LAN, POLICY).peer)))
    assert views == [(0.2, "unsure"), (1.2, "silent")]


def test_a_deadline_that_is_just_now_has_not_passed_yet() -> None:
    """What is left of a sum may be less than its part: `read` subtracts."""
    patience_s = LAN.promote_after_s
    at_s = next(at for at in (k / 1000 for k in range(1, 1000)) if at + patience_s - at < patience_s)
    seen = follower(heard=replace(heard(beat(0, Role.LEADER)), at_s=at_s))
    seen = replace(seen, started_s=NEVER, peer_served_s=NEVER, peer_postgres_seen_s=NEVER, now_s=at_s + patience_s)
    assert read(seen, LAN, POLICY).peer is Peer.UNSURE
    assert next_change_s(seen, LAN, silent=True) == seen.now_s
