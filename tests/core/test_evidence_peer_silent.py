"""A peer that is not heard: from when on its silence or its resets prove what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from failover.core.evidence import LOST, Peer, Policy, read
from failover.core.lease import NEVER, Lease
from failover.core.model import Answer, PeerProbe, Role
from tests.core.exact import EXACT, TICK_S, look
from tests.core.scenes import LONG_AGO_S, NOW_S, WENT_ALONE, beat, follower, heard, leader, silent, starting

if TYPE_CHECKING:
    from failover.core.observation import Observation


def alive(seen: Observation, for_s: float) -> Observation:
    """Its supervisor has been silent for so long, and its Postgres was seen just now."""
    return replace(silent(seen, for_s), peer_postgres_seen_s=NOW_S)


# ---- the peer, not heard ---------------------------------------------------------------------------------------

SINCE = {
    "follower in sync": (follower(), EXACT.promote_after_s),
    "follower whose lease was voided": (follower(lease=Lease("b", NEVER, LONG_AGO_S)), EXACT.promote_after_s),
    "follower without a lease": (follower(lease=Lease()), EXACT.long_wait_s),
    "promoting": (replace(follower(), role=Role.PROMOTING), EXACT.promote_after_s),
    "leader": (leader(), EXACT.degrade_after_s),
    "leader alone": (leader(WENT_ALONE), EXACT.degrade_after_s),
    "starting, led alone": (starting(0, WENT_ALONE), EXACT.boot_wait_s),
    "starting, led in sync": (starting(0), EXACT.long_wait_s),
    "starting, followed": (starting(1), EXACT.long_wait_s),
}


@pytest.mark.parametrize(("seen", "patience_s"), SINCE.values(), ids=SINCE)
def test_silence_is_taken_for_a_loss_at_its_deadline_and_not_before(seen: Observation, patience_s: float) -> None:
    heard_before = seen if seen.heard is not None else replace(seen, heard=heard(beat(1 - seen.me, Role.STARTING)))
    assert look(silent(heard_before, patience_s)).peer is Peer.SILENT
    assert look(silent(heard_before, patience_s - TICK_S)).peer not in LOST


@pytest.mark.parametrize(("seen", "patience_s"), SINCE.values(), ids=SINCE)
@pytest.mark.parametrize("name", ["started_s", "stalled_s", "isolated_s"])
def test_a_deadline_begins_again_when_the_node_starts_wakes_from_a_stall_or_was_cut_off(
    seen: Observation, patience_s: float, name: str
) -> None:
    gone = replace(silent(seen, 256.0), heard=None)
    assert look(replace(gone, **{name: NOW_S - patience_s})).peer is Peer.SILENT
    again = look(replace(gone, **{name: NOW_S - patience_s + TICK_S})).peer not in LOST
    # A leader's writes wait meanwhile, and it may lead on where it is cut off.
    assert again is not (seen.role is Role.LEADER and name == "isolated_s")


def test_the_deadline_of_a_follower_whose_lease_was_voided_begins_there() -> None:
    seen = silent(follower(), EXACT.promote_after_s)
    voided = replace(seen, lease=Lease("b", NEVER, NOW_S - EXACT.promote_after_s + TICK_S))
    assert look(voided).peer is Peer.UNSURE
    assert look(replace(voided, lease=Lease("b", NEVER, NOW_S - EXACT.promote_after_s))).peer is Peer.SILENT
    extended = Lease("b", NOW_S + TICK_S, NOW_S - TICK_S)  # a message sent since then was echoed
    assert look(replace(seen, lease=extended)).peer is Peer.SILENT


def test_a_starting_nodes_long_wait_is_never_shorter_than_the_time_after_which_a_leader_goes_alone() -> None:
    hasty = replace(EXACT, long_wait_s=1.0)
    seen = replace(starting(1), heard=None)
    assert read(replace(seen, started_s=NOW_S - 2.0), hasty, Policy()).peer is Peer.SILENT
    assert read(replace(seen, started_s=NOW_S - 2.0 + TICK_S), hasty, Policy()).peer is Peer.UNSURE


GRACE = {
    "follower in sync": (follower(), EXACT.grace_s),
    "follower whose lease was voided": (follower(lease=Lease("b", NEVER, LONG_AGO_S)), EXACT.grace_s),
    "follower without a lease": (follower(lease=Lease()), EXACT.long_wait_s),
    "promoting": (replace(follower(), role=Role.PROMOTING), EXACT.grace_s),
    "leader": (leader(), EXACT.degrade_after_s),
    "starting, led alone": (starting(0, WENT_ALONE), EXACT.grace_s),  # longer than boot_wait
    "starting, led in sync": (starting(0), EXACT.long_wait_s),
}


@pytest.mark.parametrize(("seen", "grace_s"), GRACE.values(), ids=GRACE)
def test_a_peer_whose_postgres_lives_gets_a_grace(seen: Observation, grace_s: float) -> None:
    heard_before = seen if seen.heard is not None else replace(seen, heard=heard(beat(1 - seen.me, Role.STARTING)))
    assert look(alive(heard_before, grace_s)).peer is Peer.HALF
    assert look(alive(heard_before, grace_s - TICK_S)).peer is Peer.UNSURE
    begun = replace(alive(seen, 256.0), started_s=NOW_S - grace_s)
    assert look(begun).peer is Peer.HALF
    assert look(replace(begun, started_s=NOW_S - grace_s + TICK_S)).peer is Peer.UNSURE


def test_the_grace_of_a_starting_node_is_as_long_as_its_patience_where_that_is_longer() -> None:
    patient = replace(EXACT, boot_wait_s=16.0)
    seen = replace(alive(starting(0, WENT_ALONE), 256.0), started_s=NOW_S - 16.0)
    assert read(seen, patient, Policy()).peer is Peer.HALF
    assert read(replace(seen, started_s=NOW_S - 16.0 + TICK_S), patient, Policy()).peer is Peer.UNSURE


def test_a_postgres_lives_until_nothing_was_seen_of_it_for_promote_after() -> None:
    seen = silent(follower(lease=Lease()), 64.0)
    edge_s = NOW_S - EXACT.promote_after_s
    assert look(replace(seen, peer_postgres_seen_s=edge_s + TICK_S)).peer is Peer.HALF
    assert look(replace(seen, peer_postgres_seen_s=edge_s)).peer is Peer.UNSURE  # gone, and not yet for long enough


# ---- refused ---------------------------------------------------------------------------------------------------

RESET, DEAF, LISTENS = Answer.REFUSED, Answer.SILENT, Answer.OPEN
APART_S = 0.75 * EXACT.probe_gap_s


def probes(*ages_s: float, agent: tuple[Answer, ...] = (RESET,), postgres: tuple[Answer, ...] = (RESET,)) -> Any:
    return tuple(PeerProbe(NOW_S - age_s, agent, postgres) for age_s in ages_s)


NO = PeerProbe(NOW_S, (RESET,), (RESET,))


@pytest.mark.parametrize(
    ("rounds", "refused"),
    [
        (probes(APART_S, 0.0), True),
        (probes(APART_S - TICK_S, 0.0), False),  # one moment is not two
        (probes(0.0), False),
        ((), False),
        (probes(0.5 - TICK_S, 0.0), True),
        (probes(0.5, 0.0), False),  # the first round is not after the last message
        (probes(APART_S, 0.0, agent=(RESET, RESET), postgres=(RESET, DEAF)), False),
        (probes(APART_S, 0.0, agent=(RESET, LISTENS)), False),
        (probes(APART_S, 0.0, agent=(), postgres=()), False),  # no path, no answer
        (probes(APART_S, 0.0, agent=()), True),
        ((replace(probes(APART_S)[0], agent=(DEAF,)), NO), False),
        ((*probes(APART_S), replace(NO, postgres=(DEAF,))), False),
    ],
)
def test_a_peer_has_refused_when_two_rounds_were_answered_with_nothing_but_resets(rounds: Any, refused: bool) -> None:
    for seen in (follower(), leader(), leader(WENT_ALONE)):
        peer = look(replace(silent(seen, 0.5), probes=rounds)).peer
        assert peer is (Peer.REFUSED if refused else Peer.UNSURE)


@pytest.mark.parametrize(
    "seen",
    [
        follower(lease=Lease()),
        follower(lease=Lease("b", NEVER, LONG_AGO_S)),
        starting(0, WENT_ALONE, heard=heard(beat(1, Role.FOLLOWER, WENT_ALONE))),
        starting(0, heard=heard(beat(1, Role.FOLLOWER))),
    ],
)
def test_resets_shorten_no_wait_of_data_that_may_be_old_nor_of_a_node_that_starts(seen: Observation) -> None:
    assert look(replace(silent(seen, 0.5), probes=probes(APART_S, 0.0))).peer is Peer.UNSURE


def test_resets_say_nothing_of_a_peer_that_was_never_heard() -> None:
    assert (
        look(replace(silent(leader(heard=None), 0.5), stalled_s=NOW_S, probes=probes(APART_S, 0.0))).peer is Peer.UNSURE
    )
