"""All that a decision may read, at one moment."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from failover.core.lease import NEVER, VOID, Lease
from failover.core.model import (
    Durable,
    Health,
    Heard,
    Lineage,
    PeerProbe,
    PostgresStatus,
    Role,
    SwitchPhase,
    Sync,
)


class Request(StrEnum):
    """What an operator, or the machine that shuts down, asks for."""

    SWITCHOVER = "switchover"
    FAILOVER = "failover"
    RESYNC = "resync"
    LEAD_HERE = "lead_here"  # of a follower: the leader is asked for a switchover


class Observation(msgspec.Struct, frozen=True):
    """What this node knows of itself, its peer, its paths and its time."""

    now_s: float
    wall_us: int
    me: int
    started_s: float  # when this run of the supervisor began
    durable: Durable
    role: Role
    sync: Sync
    health: Health
    postgres: PostgresStatus | None = None  # the newest look, None before the first
    heard: Heard | None = None
    peer_lineage: Lineage = ()  # as far as it was sent; kept while its head stays the same
    peer_served_s: float = NEVER  # when the peer was last heard leading, or about to, with its Postgres up
    peer_postgres_seen_s: float = NEVER  # last sign of life of the peer's Postgres: stream or probe
    probes: tuple[PeerProbe, ...] = ()  # the newest two
    stalled_s: float = NEVER  # when this node last woke from a stall: deadlines start again there
    lease: Lease = VOID
    stream_failed: bool = False  # the subscription cannot go on: slot lost, or an error that repeats
    fenced_fully: bool = False  # leader: the fence that began this leadership was a full one
    isolated: bool = False  # the witnesses that worked lately are gone
    isolated_s: float = NEVER  # when that was last so
    paused: bool = False
    ordered: bool = False  # by an operator, who takes the responsibility: the promotion under way
    request: Request | None = None
    switching: SwitchPhase | None = None
    disk_nearly_full: bool = False
    asks_renounce: bool = False  # leader: every message says so, from the last decision on
    granted_s: float = NEVER  # when this node last sent a message that may extend the follower's lease
    leaving: bool = False  # the machine is about to shut down
    clock_offset_us: int = 0  # node 1's wall clock minus node 0's
    clock_uncertainty_us: int = 0
