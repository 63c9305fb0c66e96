"""What the stream between the two shows, at the follower and at the leader."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from failover.core.evidence import Policy, Stream
from failover.core.model import Mode, Role
from tests.core.exact import EXACT, TICK_S, look
from tests.core.scenes import NOW_S, STANDBY, STREAM, WENT_ALONE, beat, follower, heard, leader, status


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.STARTING, Role.PROMOTING])
@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({}, Stream.FLOWING),
        ({"postgres": None}, Stream.BROKEN),
        ({"postgres": status()}, Stream.BROKEN),
        ({"postgres": status(subscription=replace(STREAM, enabled=False))}, Stream.BROKEN),
        ({"stream_failed": True}, Stream.BROKEN),
    ],
)
def test_a_followers_stream(role: Role, known: dict[str, Any], state: Stream) -> None:
    assert look(replace(follower(), role=role, **known)).stream is state


WAITS = status(is_open=True, waits_for="kf_1", standby=STANDBY)
STUCK = replace(WAITS, oldest_wait_s=EXACT.degrade_after_s + TICK_S)
ASKED = {"postgres": STUCK, "asks_renounce": True, "granted_s": NOW_S - EXACT.degrade_after_s}


@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({}, Stream.FLOWING),
        ({"heard": None}, Stream.FLOWING),
        ({"postgres": None}, Stream.BROKEN),
        ({"postgres": replace(WAITS, oldest_wait_s=EXACT.degrade_after_s)}, Stream.FLOWING),
        ({"postgres": STUCK}, Stream.STUCK),
        (ASKED, Stream.UNANSWERED),
        ({**ASKED, "granted_s": NOW_S - EXACT.degrade_after_s + TICK_S}, Stream.STUCK),
        ({**ASKED, "started_s": NOW_S - EXACT.degrade_after_s + TICK_S}, Stream.STUCK),
        ({**ASKED, "started_s": NOW_S - EXACT.degrade_after_s}, Stream.UNANSWERED),
        ({**ASKED, "asks_renounce": False}, Stream.STUCK),
        ({**ASKED, "heard": heard(beat(1, Role.FOLLOWER, renounced="b"))}, Stream.RENOUNCED),
        ({"heard": heard(beat(1, Role.FOLLOWER, renounced="a"))}, Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, ghosts_under="a", renounced="b"))}, Stream.GHOSTS),
        (
            {"heard": heard(beat(1, Role.FOLLOWER, ghosts_under="b"))},
            Stream.FLOWING,
        ),  # not a row that begins a leadership
        ({"heard": heard(beat(1, Role.FOLLOWER, ghosts_under="a")), "fenced_fully": True}, Stream.FLOWING),
        ({"disk_nearly_full": True}, Stream.CRAMPED),
        ({"disk_nearly_full": True, "postgres": STUCK}, Stream.STUCK),
    ],
)
def test_the_stream_of_a_leader_in_sync(known: dict[str, Any], state: Stream) -> None:
    assert look(leader(**known)).stream is state


READY = heard(beat(1, Role.FOLLOWER, WENT_ALONE, ready_for="c"))


@pytest.mark.parametrize(
    ("known", "policy", "state"),
    [
        ({}, Policy(), Stream.READY),
        ({"heard": None}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, WENT_ALONE))}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, WENT_ALONE, ready_for="b"))}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.STARTING, WENT_ALONE, ready_for="c"))}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, WENT_ALONE, renounced="c"))}, Policy(), Stream.FLOWING),
        ({"postgres": status(WENT_ALONE, is_open=True)}, Policy(), Stream.FLOWING),
        ({"disk_nearly_full": True, "heard": None}, Policy(), Stream.FLOWING),
        ({}, Policy(mode=Mode.ASYNC), Stream.FLOWING),
        ({"postgres": replace(STUCK, lineage=WENT_ALONE), "heard": None}, Policy(), Stream.FLOWING),
    ],
)
def test_the_stream_of_a_leader_that_is_alone(known: dict[str, Any], policy: Policy, state: Stream) -> None:
    assert look(leader(WENT_ALONE, **{"heard": READY, **known}), policy).stream is state
