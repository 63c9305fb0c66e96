"""What an operator may ask of which node: each thing that is in the way, alone, is named."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from failover.core.evidence import Cell, Peer, Postgres, Stream, Worth
from failover.core.lineage import Relation
from failover.core.model import Role
from failover.core.observation import Request
from failover.core.requests import refusal

LEADS = Cell(Role.LEADER, Peer.FOLLOWS, Relation.EQUAL_MINE, Worth.SYNCED, Postgres.OPEN, Stream.FLOWING, False, False)
FOLLOWS = Cell(
    Role.FOLLOWER, Peer.LEADS, Relation.EQUAL_THEIRS, Worth.SYNCED, Postgres.CLOSED, Stream.FLOWING, False, False
)
ALONE = replace(FOLLOWS, peer=Peer.SILENT, worth=Worth.STALE)

GRANTED: list[tuple[Request, Cell, dict[str, Any]]] = [
    (Request.SWITCHOVER, LEADS, {}),
    (Request.SWITCHOVER, LEADS, {"stream": Stream.CRAMPED}),
    (Request.LEAD_HERE, FOLLOWS, {}),
    (Request.RESYNC, FOLLOWS, {}),
    (Request.RESYNC, FOLLOWS, {"role": Role.STARTING}),
    (Request.RESYNC, FOLLOWS, {"worth": Worth.UNFIT}),
    (Request.RESYNC, FOLLOWS, {"stream": Stream.BROKEN}),
    (Request.RESYNC, FOLLOWS, {"relation": Relation.BEHIND}),
    (Request.RESYNC, FOLLOWS, {"relation": Relation.AHEAD}),
    (Request.RESYNC, FOLLOWS, {"paused": True}),
    (Request.FAILOVER, ALONE, {}),
    (Request.FAILOVER, ALONE, {"role": Role.STARTING}),
    (Request.FAILOVER, ALONE, {"peer": Peer.STARTS}),
    (Request.FAILOVER, ALONE, {"paused": True, "isolated": True}),
]


@pytest.mark.parametrize(("request_", "seen", "change"), GRANTED)
def test_what_is_granted(request_: Request, seen: Cell, change: dict[str, Any]) -> None:
    assert refusal(request_, replace(seen, **change)) is None


REFUSED: list[tuple[Request, Cell, dict[str, Any], str]] = [
    (Request.SWITCHOVER, LEADS, {"role": Role.FOLLOWER}, "ask the leader"),
    (Request.SWITCHOVER, LEADS, {"paused": True}, "resume first"),
    (Request.SWITCHOVER, LEADS, {"peer": Peer.STARTS}, "it must follow"),
    (Request.SWITCHOVER, LEADS, {"peer": Peer.SILENT}, "it must follow"),
    (Request.SWITCHOVER, LEADS, {"worth": Worth.SOLE}, "not in sync yet"),
    (Request.SWITCHOVER, LEADS, {"stream": Stream.STUCK}, "not in sync yet"),
    (Request.SWITCHOVER, LEADS, {"stream": Stream.GHOSTS}, "not in sync yet"),
    (Request.SWITCHOVER, LEADS, {"postgres": Postgres.DOWN}, "not serving"),
    (Request.SWITCHOVER, LEADS, {"postgres": Postgres.CLOSED}, "not serving"),
    (Request.LEAD_HERE, FOLLOWS, {"role": Role.STARTING}, "a follower of a leader that is heard"),
    (Request.LEAD_HERE, FOLLOWS, {"peer": Peer.UNSURE}, "a follower of a leader that is heard"),
    (Request.LEAD_HERE, LEADS, {}, "a follower of a leader that is heard"),
    (Request.LEAD_HERE, FOLLOWS, {"paused": True}, "resume first"),
    (Request.LEAD_HERE, FOLLOWS, {"worth": Worth.VOIDED}, "not in sync yet"),
    (Request.FAILOVER, LEADS, {}, "the node that is to lead"),
    (Request.FAILOVER, ALONE, {"role": Role.RESYNCING}, "the node that is to lead"),
    (Request.FAILOVER, ALONE, {"postgres": Postgres.DOWN}, "start it first"),
    (Request.FAILOVER, ALONE, {"worth": Worth.UNFIT}, "not whole"),
    (Request.FAILOVER, ALONE, {"peer": Peer.LEADS}, "switchover"),
    (Request.RESYNC, LEADS, {}, "the node that is to give up its data"),
    (Request.RESYNC, FOLLOWS, {"role": Role.RESYNCING}, "the node that is to give up its data"),
    (Request.RESYNC, FOLLOWS, {"postgres": Postgres.DOWN}, "start it first"),
    (Request.RESYNC, FOLLOWS, {"peer": Peer.SILENT}, "no leader is heard"),
    (Request.RESYNC, FOLLOWS, {"peer": Peer.FOLLOWS}, "no leader is heard"),
    (Request.RESYNC, FOLLOWS, {"relation": Relation.PARTED}, "a verdict must come first"),
    (Request.RESYNC, FOLLOWS, {"relation": Relation.STRANGER}, "a verdict must come first"),
    (Request.RESYNC, FOLLOWS, {"relation": Relation.UNKNOWN}, "a verdict must come first"),
]


@pytest.mark.parametrize(("request_", "seen", "change", "said"), REFUSED)
def test_what_is_refused_and_what_to_do_instead(
    request_: Request, seen: Cell, change: dict[str, Any], said: str
) -> None:
    assert said in str(refusal(request_, replace(seen, **change)))
