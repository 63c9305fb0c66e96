"""What a peer that is heard says, and from when on it cannot prove it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from failover.core.evidence import Peer
from failover.core.lease import NEVER, Lease
from failover.core.model import Role
from tests.core.exact import EXACT, TICK_S, durable, look
from tests.core.scenes import (
    ALONE,
    FOUNDED,
    IN_SYNC,
    NOW_S,
    STREAM,
    SYNCED,
    WENT_ALONE,
    WORD,
    beat,
    follower,
    heard,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.observation import Observation

SAID = [
    ({"role": Role.LEADER}, Peer.LEADS),
    ({"role": Role.LEADER, "postgres_ok": False}, Peer.UNSURE),
    ({"role": Role.PROMOTING}, Peer.PROMOTES),
    ({"role": Role.PROMOTING, "postgres_ok": False}, Peer.PROMOTES),
    ({"role": Role.FOLLOWER}, Peer.FOLLOWS),
    ({"role": Role.FOLLOWER, "postgres_ok": False}, Peer.FOLLOWS),
    ({"role": Role.STARTING}, Peer.STARTS),
    ({"role": Role.STARTING, "postgres_ok": False}, Peer.UNSURE),
    ({"role": Role.DEMOTING}, Peer.STARTS),
    ({"role": Role.RESYNCING}, Peer.STARTS),
    ({"role": Role.HALTED}, Peer.STARTS),
    ({"role": Role.STARTING, "hand_over": WORD}, Peer.HANDS_OVER),
    ({"role": Role.STARTING, "hand_over": WORD, "postgres_ok": False}, Peer.HANDS_OVER),
]


@pytest.mark.parametrize(("said", "peer"), SAID)
def test_a_peer_is_what_it_says_as_long_as_it_can_prove_it(said: dict[str, Any], peer: Peer) -> None:
    made = heard(replace(beat(0, Role.STARTING), **said), age_s=2 * EXACT.heartbeat_s - TICK_S)
    assert look(follower(heard=made, peer_served_s=NOW_S)).peer is peer
    late = replace(made, at_s=NOW_S - 2 * EXACT.heartbeat_s)
    assert look(follower(heard=late)).peer is Peer.UNSURE  # two heartbeats are missing


@pytest.mark.parametrize(
    ("known", "peer"),
    [
        ({}, Peer.PROMOTES),
        ({"heard": heard(beat(1, Role.STARTING))}, Peer.PROMOTES),
        ({"heard": heard(beat(1, Role.LEADER))}, Peer.LEADS),
        ({"started_s": NOW_S - EXACT.degrade_after_s + TICK_S}, Peer.PROMOTES),
        ({"started_s": NOW_S - EXACT.degrade_after_s}, Peer.FOLLOWS),
        ({"durable": durable()}, Peer.FOLLOWS),
        ({"durable": durable(handed_over="a")}, Peer.FOLLOWS),
        ({"postgres": None}, Peer.FOLLOWS),
        ({"postgres": status(())}, Peer.FOLLOWS),
        ({"role": Role.FOLLOWER}, Peer.FOLLOWS),
    ],
)
def test_whoever_was_told_to_take_over_has_degrade_after_to_do_so(known: dict[str, Any], peer: Peer) -> None:
    seen = starting(0, durable=durable(handed_over="b"), heard=heard(beat(1, Role.FOLLOWER)), started_s=NOW_S - 1.0)
    assert look(replace(seen, **known)).peer is peer


def told(**known: Any) -> Observation:
    """A follower without a lease hears the word of the leader under whose in_sync head its data ends."""
    seen = follower(lease=Lease(), heard=heard(beat(0, Role.STARTING, hand_over=WORD)))
    return replace(seen, **known)


@pytest.mark.parametrize(
    ("seen", "peer"),
    [
        (told(), Peer.HANDS_OVER),
        # of a leadership that had gone alone, and of one that this data does not end with
        (follower(WENT_ALONE, lease=Lease(), heard=told().heard), Peer.UNSURE),
        (follower((FOUNDED,), lease=Lease(), heard=told().heard), Peer.UNSURE),
        (follower((FOUNDED, replace(SYNCED, id="z")), lease=Lease(), heard=told().heard), Peer.UNSURE),
        (follower((*IN_SYNC, replace(ALONE, id="b")), lease=Lease(), heard=told().heard), Peer.UNSURE),
        (told(postgres=None), Peer.UNSURE),
        (told(postgres=status((), subscription=STREAM)), Peer.HANDS_OVER),  # unfit: no row promotes it
        # drained: the word says that the follower has everything
        (
            follower(
                WENT_ALONE,
                lease=Lease(),
                heard=heard(beat(0, Role.STARTING, hand_over=replace(WORD, drained=True))),
            ),
            Peer.HANDS_OVER,
        ),
        # with a lease under another kind of head, as an asynchronous pair has it
        (follower(WENT_ALONE, heard=told().heard), Peer.HANDS_OVER),
        (follower(WENT_ALONE, lease=Lease("c", NEVER, NOW_S), heard=told().heard), Peer.HANDS_OVER),
        (replace(follower(WENT_ALONE, lease=Lease(), heard=told().heard), role=Role.PROMOTING), Peer.HANDS_OVER),
        (starting(1, WENT_ALONE, heard=told().heard), Peer.HANDS_OVER),
    ],
)
def test_a_follower_without_a_lease_takes_a_word_only_if_nothing_can_have_been_acknowledged_without_it(
    seen: Observation, peer: Peer
) -> None:
    assert look(seen).peer is peer


NO_USE = heard(beat(0, Role.STARTING, postgres_ok=False))
LONG_SINCE_S = NOW_S - EXACT.promote_after_s


@pytest.mark.parametrize("sign", ["peer_served_s", "started_s", "stalled_s", "peer_postgres_seen_s"])
def test_a_peer_that_speaks_and_cannot_serve_is_given_up_when_every_sign_of_it_is_old(sign: str) -> None:
    signs: dict[str, Any] = dict.fromkeys(
        ("peer_served_s", "started_s", "stalled_s", "peer_postgres_seen_s"), LONG_SINCE_S
    )
    assert look(follower(heard=NO_USE, **signs)).peer is Peer.SILENT
    assert look(follower(heard=NO_USE, **{**signs, sign: LONG_SINCE_S + TICK_S})).peer is Peer.UNSURE
