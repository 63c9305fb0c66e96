"""Who belongs to the pair: two random ids, and those whose place somebody else has taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from failover.core.model import DataState

if TYPE_CHECKING:
    from failover.core.model import Durable, Heartbeat


class Membership(msgspec.Struct, frozen=True):
    """What becomes of a heartbeat's sender: `refusal` is None where it is heard."""

    peer_id: str | None
    replaced: tuple[str, ...]
    refusal: str | None = None


def meet(durable: Durable, heartbeat: Heartbeat) -> Membership:
    """Judge a sender. An empty node, its Postgres up, takes the place of the peer that is known; nobody else does."""
    known, sender = durable.peer_id, heartbeat.node_id
    if sender in durable.replaced:
        return Membership(
            known,
            durable.replaced,
            f"node id {sender} was replaced; this machine comes back with `join --replace` only",
        )
    if known in (None, sender):
        return Membership(sender, durable.replaced)
    if heartbeat.data is DataState.EMPTY and heartbeat.postgres_ok:
        assert known is not None
        return Membership(sender, (*durable.replaced, known))
    return Membership(
        known,
        durable.replaced,
        f"node id {sender} is not the peer that this node knows ({known}) and its data is not empty",
    )
