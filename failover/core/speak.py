"""What a node says of itself: the heartbeat, composed from what it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from failover.core.evidence import stream_flows
from failover.core.model import DataState, HandOver, Health, Heartbeat, Role, SwitchPhase, Sync, Verdict

if TYPE_CHECKING:
    from failover.core.model import Lineage
    from failover.core.observation import Observation


class Words(msgspec.Struct, frozen=True):
    """What a node says beside what it observes."""

    boot: str
    seq: int
    echo_boot: str
    echo_seq: int
    echo_wall_us: int
    asks_renounce: bool = False
    own_pause_s: float = 0.0
    hand_over: HandOver | None = None
    switching: SwitchPhase | None = None
    frozen: bool = False
    wish: str | None = None
    verdict: Verdict | None = None
    uses_peer: bool = False


NEWEST_ROWS = 32


def excerpt(lineage: Lineage, known_head: str) -> Lineage:
    """Return the rows that let the peer compare: the founding one, its own head with what came after, the newest.

    What is left out are only rows between these, so a common row is found whenever there is one.
    """
    keep = {0, *range(len(lineage) - NEWEST_ROWS, len(lineage))}
    for index, entry in enumerate(lineage):
        if known_head in (entry.id, entry.absorbs):
            keep |= {index, index + 1}
    return tuple(entry for index, entry in enumerate(lineage) if index in keep)


def compose(seen: Observation, words: Words) -> Heartbeat:
    """Compose the heartbeat of this moment. The peer's lineage is asked for by showing a head that differs."""
    status, durable = seen.postgres, seen.durable
    lineage = status.lineage if status is not None else ()
    head = lineage[-1].id if lineage else ""
    their_head = seen.heard.heartbeat.head if seen.heard is not None else ""
    return Heartbeat(
        cluster=durable.cluster,
        node=seen.me,
        node_id=durable.node_id,
        boot=words.boot,
        seq=words.seq,
        wall_us=seen.wall_us,
        echo_boot=words.echo_boot,
        echo_seq=words.echo_seq,
        echo_wall_us=words.echo_wall_us,
        term=durable.highest_term,
        role=seen.role,
        sync=seen.sync,
        provisional=bool(lineage) and lineage[-1].provisional,
        data=status.data if status is not None else DataState.EMPTY,
        postgres_ok=seen.health is Health.UP and status is not None,
        visible_revision=status.visible_revision if status is not None else 0,
        head=head,
        length=len(lineage),
        lineage=excerpt(lineage, their_head) if head != their_head else (),
        last_change=status.last_change if status is not None else None,
        changes=status.changes if status is not None else 0,
        renounced=durable.renounced,
        ready_for=head if ready(seen) else None,
        asks_renounce=words.asks_renounce,
        paused_for_s=words.own_pause_s,
        hand_over=words.hand_over,
        switching=words.switching,
        frozen=words.frozen,
        uses_peer=words.uses_peer,
        wish=words.wish,
        verdict=words.verdict,
        acceptance=durable.acceptance,
        is_open=status is not None and status.is_open and seen.health is not Health.DOWN,
        lag_bytes=max(0, status.wal_lsn - status.standby.flush_lsn)
        if status is not None and status.standby is not None and seen.role is Role.LEADER
        else None,
        ghosts_under=durable.ghosts_under,
    )


def ready(seen: Observation) -> bool:
    """Whether a follower can be waited for: it streams from this leader, applies, and nothing ails it."""
    status = seen.postgres
    return (
        seen.role is Role.FOLLOWER
        and seen.health is Health.UP
        and status is not None
        and status.subscription is not None
        and status.subscription.worker_alive
        and status.subscription.tables_ready
        and stream_flows(seen)
        and why_renounce(seen) is None
    )


def why_renounce(seen: Observation) -> str | None:
    """Say why this node must give in_sync up by itself, None while it need not (R5)."""
    heard = seen.heard.heartbeat if seen.heard is not None else None
    if seen.role is Role.LEADER or heard is None or heard.role is not Role.LEADER:
        return None
    if seen.health is not Health.UP:
        return "own Postgres is down"
    if heard.sync is Sync.IN_SYNC and heard.asks_renounce:
        return "the leader asks for it: its writes wait for too long"
    if seen.role is Role.FOLLOWER and not stream_flows(seen):
        return "the stream is broken"
    if seen.paused:
        return "paused"
    if seen.disk_nearly_full:
        return "the disk is nearly full"
    if seen.leaving:
        return "this machine is about to shut down"
    return "this node is cut off" if seen.isolated else None
