"""What a node says of itself to people and programs: one value, ready for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from failover import __version__
from failover.core.evidence import Stream
from failover.core.model import Kind, Role, Sync

if TYPE_CHECKING:
    from failover.node.loop import Node

BIG_S = 1e9


def status(node: Node) -> dict[str, Any]:
    """Return the status of this node, and of its peer as it was heard. Durations are seconds, LSNs bytes."""
    memory, durable = node.memory, node.memory.durable
    seen = node.observe()
    postgres = memory.postgres
    head = postgres.lineage[-1] if postgres is not None and postgres.lineage else None
    kine = node.ports.kine.status()
    clock = memory.clock
    return {
        "version": __version__,
        "cluster": durable.cluster,
        "node": durable.node,
        "role": str(memory.role),
        "term": head.term if head is not None else durable.highest_term,
        "sync": str(memory.sync) if memory.role is Role.LEADER else None,
        "in_sync": in_sync(node),
        "provisional": bool(head is not None and head.provisional),
        "paused_s": max(0.0, (durable.paused_until_us - seen.wall_us) / 1e6),
        "pair_paused": seen.paused,
        "halted": memory.halted if memory.role is Role.HALTED else None,
        "rule": node.rule.name if node.rule is not None else None,
        "why": node.rule.why if node.rule is not None else None,
        "plan": _plan(node),
        "step": node.step,
        "stream": str(node.cell.stream) if node.cell is not None else None,
        "worth": str(node.cell.worth) if node.cell is not None else None,
        "lag_bytes": lag_bytes(node),
        "lag_rows": lag_rows(node),
        "lag_s": lag_s(node),
        "writes_at_risk": writes_at_risk(node),
        "decided_age_s": node.decided_age_s,
        "postgres": _postgres(node),
        "kine": {
            "target": str(kine.target) if kine.target is not None else None,
            "frozen": kine.frozen,
            "pid": kine.pid,
            "revision": kine.revision,
            "restarts": kine.restarts,
            "answer_s": kine.answer_s,
            "watch_s": kine.watch_s,
            "watch_age_s": kine.watch_age_s,
        },
        "peer": _peer(node),
        "paths": [
            {"name": one.name, "connected": one.connected, "error": one.error} for one in node.ports.link.paths()
        ],
        "mqtt": _broker(node),
        "address": [
            {"name": one.name, "wanted": one.wanted, "held": one.held, "error": one.error}
            for one in node.ports.address.status()
        ],
        "lease_s": _finite(max(0.0, memory.lease.ends_s - seen.now_s)) if memory.lease.head else None,
        "isolated": memory.isolated,
        "leaving": memory.leaving,
        "disk_nearly_full": memory.disk_nearly_full,
        "clock": {"offset_us": clock.offset_us, "uncertainty_us": clock.uncertainty_us},
        "progress": None
        if memory.progress is None
        else {
            "rows": memory.progress.rows,
            "total": memory.progress.total,
            "bytes": memory.progress.bytes,
            "seconds": memory.progress.seconds,
        },
        "last_verdict": last_verdict(node),
        "at_risk": at_risk(node),
    }


def in_sync(node: Node) -> bool:
    """Whether no write is acknowledged without the follower, as far as this node knows."""
    memory, heard = node.memory, node.memory.heard
    if memory.role is Role.LEADER:
        return memory.sync is Sync.IN_SYNC
    beat = heard.heartbeat if heard is not None else None
    follows = memory.role is Role.FOLLOWER and beat is not None and beat.head != memory.durable.renounced
    return follows and beat is not None and beat.role is Role.LEADER and beat.sync is Sync.IN_SYNC


def lag_bytes(node: Node) -> int | None:
    """Return how much of the leader's WAL the follower has not flushed; a follower has it from its leader."""
    memory = node.memory
    if memory.role is Role.LEADER:
        status = memory.postgres
        return max(0, status.wal_lsn - status.standby.flush_lsn) if status is not None and status.standby else None
    return memory.heard.heartbeat.lag_bytes if memory.heard is not None and memory.role is Role.FOLLOWER else None


def lag_rows(node: Node) -> int | None:
    """Return how many revisions the follower has not shown yet, as of the newest heartbeat."""
    memory = node.memory
    if memory.postgres is None or memory.heard is None or memory.role not in (Role.LEADER, Role.FOLLOWER):
        return None
    ahead = memory.postgres.visible_revision - memory.heard.heartbeat.visible_revision
    return max(0, ahead if memory.role is Role.LEADER else -ahead)


def lag_s(node: Node) -> float | None:
    """Return how long the follower takes to flush what the leader writes; only the leader measures it."""
    status = node.memory.postgres
    leads = node.memory.role is Role.LEADER and status is not None
    return status.standby.flush_lag_s if leads and status is not None and status.standby is not None else None


def writes_at_risk(node: Node) -> int:
    """Return how many revisions would be lost, or left to an archive, if this leader's machine were gone now."""
    memory, status = node.memory, node.memory.postgres
    if memory.role is not Role.LEADER or memory.sync is Sync.IN_SYNC or status is None or not status.lineage:
        return 0
    peer = memory.heard.heartbeat.visible_revision if memory.heard is not None else 0
    return max(0, status.visible_revision - max(peer, status.lineage[-1].parent_revision))


def last_verdict(node: Node) -> dict[str, Any] | None:
    """Return how the newest split was decided: its row is in the lineage of both nodes."""
    lineage = node.memory.postgres.lineage if node.memory.postgres is not None else ()
    row = next((row for row in reversed(lineage) if row.kind is Kind.VERDICT), None)
    if row is None:
        return None
    return {"winner": row.node, "term": row.term, "at_us": row.started_at_us, "reason": row.reason}


def at_risk(node: Node) -> list[str]:
    """Return what a person should know is not as safe as it could be, in plain words."""
    memory = node.memory
    said = []
    if memory.role is Role.LEADER and str(memory.sync) != "in_sync":
        said.append("writes are acknowledged on this node alone: losing it now loses them")
    if memory.role is Role.HALTED and memory.halted:
        said.append(memory.halted)
    if memory.disk_nearly_full:
        said.append("the disk is nearly full")
    if memory.slot_near:
        said.append("the WAL kept for the follower nears its limit: past it the follower comes back by comparison")
    if node.cell is not None and node.cell.stream is Stream.BROKEN and memory.role is Role.FOLLOWER:
        said.append("replication is broken")
    if not any(path.connected for path in node.ports.link.paths()):
        said.append("no path to the peer is connected")
    return said


def _plan(node: Node) -> str | None:
    """Return the plan under way, or else the request that the next decision takes up."""
    if node.running is not None and not node.running[2].done():
        return node.running[0].name
    return str(node.memory.request) if node.memory.request is not None else None


def _postgres(node: Node) -> dict[str, Any]:
    memory, status = node.memory, node.memory.postgres
    if status is None:
        return {"health": str(memory.health)}
    standby, subscription = status.standby, status.subscription
    return {
        "health": str(memory.health),
        "data": str(status.data),
        "open": status.is_open,
        "revision": status.visible_revision,
        "wal_lsn": status.wal_lsn,
        "waits_for": status.waits_for or None,
        "lag_bytes": max(0, status.wal_lsn - standby.flush_lsn) if standby is not None else None,
        "standby": standby.name if standby is not None else None,
        "subscription": subscription.name if subscription is not None else None,
        "stream_age_s": _finite(subscription.heard_age_s) if subscription is not None else None,
        "fence_term": status.fence_term,
        "slot_bytes": status.slot_bytes,
        "slot_limit_bytes": status.slot_limit_bytes,
        "lineage_rows": len(status.lineage),
    }


def _peer(node: Node) -> dict[str, Any]:
    heard = node.memory.heard
    view = str(node.cell.peer) if node.cell is not None else None
    if heard is None:
        return {"view": view, "heard_age_s": None}
    beat = heard.heartbeat
    return {
        "view": view,
        "heard_age_s": node.ports.clock.now_s() - heard.at_s,
        "node": beat.node,
        "role": str(beat.role),
        "sync": str(beat.sync),
        "term": _peer_term(node),
        "revision": beat.visible_revision,
        "postgres_ok": beat.postgres_ok,
        "relation": str(node.cell.relation) if node.cell is not None else None,
    }


def _peer_term(node: Node) -> int:
    """Return the term under which the peer stands. One that has just joined has seen none, and its history says it."""
    memory = node.memory
    assert memory.heard is not None
    beat, status = memory.heard.heartbeat, memory.postgres
    same = status is not None and status.lineage and beat.head == memory.head
    lineage = status.lineage if same and status is not None else beat.lineage
    return max(beat.term, lineage[-1].term if lineage else 0)


def _broker(node: Node) -> dict[str, Any] | None:
    if node.ports.broker is None:
        return None
    told = node.ports.broker.status()
    return {"broker": told.name, "connected": told.connected, "error": told.error, "reconnects": told.reconnects}


def _finite(seconds: float) -> float | None:
    return seconds if abs(seconds) < BIG_S else None
