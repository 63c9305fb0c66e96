"""The heartbeat on the wire."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from failover.core.heartbeat import BYTES_MAX, RefusedError, decode, encode
from failover.core.membership import meet
from failover.core.model import DataState, Durable, Heartbeat, Role, Sync

BEAT = Heartbeat(
    "shop",
    1,
    "id-1",
    "boot",
    7,
    1,
    "",
    0,
    0,
    3,
    Role.FOLLOWER,
    Sync.ALONE,
    False,
    DataState.COMPLETE,
    True,
    5,
    "head",
    1,
)


def take(raw: bytes, *, cluster: str = "shop", own_node: int = 0) -> Heartbeat:
    return decode(raw, cluster=cluster, own_node=own_node)


def test_what_is_sent_is_what_arrives() -> None:
    assert take(encode(BEAT)) == BEAT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cluster": "other"}, "another cluster"),
        ({"own_node": 1}, "run `join` on one of them"),
    ],
)
def test_a_foreign_node_gets_one_clear_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        take(encode(BEAT), **options)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_either_node_takes_the_others_heartbeat() -> None:
    other = replace(BEAT, node=0)
    assert take(encode(other), own_node=1) == other
    with pytest.raises(RefusedError):
        take(encode(other), own_node=0)


def test_another_version_is_refused() -> None:
    with pytest.raises(RefusedError, match="version 2, and this node speaks 1"):
        take(encode(BEAT).replace(b'"v":1', b'"v":2'))


def test_another_version_is_named_whatever_else_it_sends() -> None:
    with pytest.raises(RefusedError, match="version 3, and this node speaks 1"):
        take(b'{"v": 3, "words": []}')


def test_a_field_that_is_not_known_is_ignored() -> None:
    envelope = json.loads(encode(BEAT))
    envelope["heartbeat"]["new"] = 1
    assert take(json.dumps(envelope).encode()) == BEAT


def test_a_huge_message_is_refused() -> None:
    with pytest.raises(RefusedError, match="bytes, more than"):
        take(b" " * (BYTES_MAX + 1))
    assert take(encode(BEAT).ljust(BYTES_MAX)) == BEAT


@given(st.binary(max_size=200))
def test_no_bytes_break_it(raw: bytes) -> None:
    with pytest.raises(RefusedError):
        take(raw)


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.floats(allow_nan=False)


@given(st.sampled_from(sorted(Heartbeat.__struct_fields__)), VALUES)
def test_no_value_of_a_field_breaks_it(name: str, value: object) -> None:
    envelope = json.loads(encode(BEAT))
    envelope["heartbeat"][name] = value
    try:
        take(json.dumps(envelope).encode())
    except RefusedError as refused:
        assert "\n" not in str(refused)  # noqa: PT017 - both outcomes are good


def test_an_empty_node_takes_the_peers_place_and_the_old_one_is_refused_for_ever() -> None:
    durable = Durable("shop", 0, "id-0", peer_id="id-1")
    assert meet(durable, BEAT).refusal is None
    stranger = replace(BEAT, node_id="id-2")
    assert "not the peer" in str(meet(durable, stranger).refusal)
    away = replace(stranger, data=DataState.EMPTY, postgres_ok=False)  # what it has is not known
    assert "not the peer" in str(meet(durable, away).refusal)
    joined = meet(durable, replace(stranger, data=DataState.EMPTY))
    assert (joined.peer_id, joined.replaced, joined.refusal) == ("id-2", ("id-1",), None)
    after = replace(durable, peer_id="id-2", replaced=("id-1",))
    for refused in (meet(durable, stranger), meet(durable, away)):
        assert (refused.peer_id, refused.replaced) == ("id-1", ())
    late = meet(after, BEAT)
    assert (late.peer_id, late.replaced, late.refusal is None) == ("id-2", ("id-1",), False)
    known = meet(after, stranger)
    assert (known.peer_id, known.replaced, known.refusal) == ("id-2", ("id-1",), None)
    assert meet(replace(durable, peer_id=None), BEAT).peer_id == "id-1"
    unlike = meet(after, replace(BEAT, node_id="id-3"))
    assert (unlike.peer_id, unlike.replaced) == ("id-2", ("id-1",))
    assert "was replaced" in str(meet(after, replace(BEAT, data=DataState.EMPTY)).refusal)
