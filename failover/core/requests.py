"""What an operator may ask of which node, and why not otherwise."""

from __future__ import annotations

from failover.core.evidence import Cell, Peer, Postgres, Stream, Worth
from failover.core.lineage import Relation
from failover.core.model import Role
from failover.core.observation import Request


def refusal(request: Request, cell: Cell) -> str | None:
    """Say why the request cannot be granted now and what to do instead; None when it can."""
    if request is Request.SWITCHOVER:
        return _refuse_switchover(cell)
    if request is Request.LEAD_HERE:
        return _refuse_to_ask(cell)
    if cell.role not in (Role.FOLLOWER, Role.STARTING):
        return (
            f"this node is {cell.role}; ask the node that is to give up its data"
            if (request is Request.RESYNC)
            else f"this node is {cell.role}; ask the node that is to lead"
        )
    if cell.postgres is Postgres.DOWN:
        return "this node's Postgres is down; start it first"
    if request is Request.FAILOVER:
        if cell.worth is Worth.UNFIT:
            return "this node's data is not whole; it can only follow"
        return "the peer leads; ask it for a switchover" if cell.peer is Peer.LEADS else None
    if cell.peer is not Peer.LEADS:
        return "no leader is heard to copy from"
    if cell.relation in (Relation.PARTED, Relation.STRANGER, Relation.UNKNOWN):
        return f"the leader's history is {cell.relation} from here; a verdict must come first"
    return None


def _refuse_to_ask(cell: Cell) -> str | None:
    if cell.role is not Role.FOLLOWER or cell.peer is not Peer.LEADS:
        return f"this node is {cell.role} and its peer {cell.peer}; a follower of a leader that is heard can ask it"
    if cell.paused:
        return "the pair is paused; resume first"
    if cell.worth is not Worth.SYNCED:
        return "this node is not in sync yet; see `kine-failover status`"
    return None


def _refuse_switchover(cell: Cell) -> str | None:
    if cell.role is not Role.LEADER:
        return f"this node is {cell.role}; ask the leader"
    if cell.paused:
        return "the pair is paused; resume first"
    if cell.peer is not Peer.FOLLOWS:
        return f"the peer is {cell.peer}; it must follow"
    if cell.worth is not Worth.SYNCED or cell.stream not in (Stream.FLOWING, Stream.CRAMPED):
        return "the follower is not in sync yet; see `kine-failover status`"
    if cell.postgres is not Postgres.OPEN:
        return "this node's Postgres is not serving"
    return None
