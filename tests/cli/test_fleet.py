"""What a fleet is seen to be, from what its nodes say, or from what anybody says in their name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover.adapters.mqtt_topics import Topics, state
from failover.fleet import WORST_FIRST, Fleet

PREFIX = "kine-failover"


def say(fleet: Fleet, cluster: str, node: int, role: str, sync: str | None = None, *, online: bool = True) -> None:
    topics = Topics(PREFIX, cluster, node)
    status: dict[str, Any] = {
        "role": role, "sync": sync, "term": 4, "at_risk": [], "paths": [], "postgres": {"lag_bytes": 3}, "peer": {},
    }  # fmt: skip
    fleet.hear(topics.of("state"), state(status, 1), retained=True)
    fleet.hear(topics.of("availability"), b"online" if online else b"offline", retained=True)


@pytest.mark.parametrize(
    ("roles", "online", "wanted"),
    [
        ((("leader", "in_sync"), ("follower", None)), (True, True), "in sync"),
        ((("follower", None), ("leader", "alone")), (True, True), "alone"),
        ((("leader", "catching_up"), ("resyncing", None)), (True, True), "catching up"),
        ((("leader", "alone"), ("follower", None)), (True, False), "node offline"),
        ((("leader", "in_sync"), ("follower", None)), (False, True), "no leader"),
        ((("leader", "alone"), ("leader", "alone")), (True, True), "two leaders"),
        ((("halted", None), ("follower", None)), (True, True), "halted"),
    ],
)
def test_a_pair_is(roles: Any, online: Any, wanted: str) -> None:
    fleet = Fleet(PREFIX)
    for node in (0, 1):
        say(fleet, "shop", node, *roles[node], online=online[node])
    assert fleet.rows()[0]["condition"] == wanted
    assert wanted in WORST_FIRST


def test_those_first_that_need_somebody() -> None:
    fleet = Fleet(PREFIX)
    for cluster, role in (("a", "leader"), ("b", "starting"), ("c", "leader")):
        say(fleet, cluster, 0, role, "in_sync")
        say(fleet, cluster, 1, "follower")
    assert [row["cluster"] for row in fleet.rows()] == ["b", "a", "c"]


@given(topic=st.text(max_size=60), payload=st.binary(max_size=200) | st.just(b'{"postgres": [], "sync": 1}'))
def test_anything_is_taken_or_refused(topic: str, payload: bytes) -> None:
    fleet = Fleet(PREFIX)
    for one in (topic, f"{PREFIX}/a/0/state", f"{PREFIX}/a/7/state"):
        fleet.hear(one, payload, retained=False)
    assert fleet.refused == 3
    assert not fleet.rows()
