"""The outside world as the node loop sees it. Adapters implement these protocols; the simulator implements them too.

Every coroutine here is bounded by a time-out of its adapter and raises one of the errors below; none retries by itself
unless it says so. All of them are idempotent: after a crash or an error the same call is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from failover.core.model import Acceptance, Durable, Heartbeat, LineageEntry, PeerProbe, PostgresStatus


class PortError(Exception):
    """Something outside did not do what it was asked; the message says what, where, and what to do."""


class PostgresDownError(PortError):
    """The own Postgres refused or closed the connection."""


class PostgresHungError(PortError):
    """The own Postgres did not answer within its time-out."""


class PeerPostgresError(PortError):
    """The peer's Postgres cannot be reached or refused the statement."""


class FencedError(PortError):
    """The database carries a fence of a term that is not below the own one (R19)."""


class PreconditionError(PortError):
    """The database is no longer what the step was decided on; nothing was changed."""


@dataclass(frozen=True, slots=True)
class LeadOrder:
    """The one transaction that makes a database lead (design, section 7, step 4).

    `entry.first_revision` and `entry.parent_revision` are filled in by the transaction from what the table holds:
    the gap row gets id `max(own max id, clear_revision) + margin`, bounded where ids are int4.
    """

    entry: LineageEntry
    clear_revision: int  # the highest revision that any client may have seen anywhere
    margin: int  # further revisions to leave out
    full_fence: bool  # raise the compaction revision too


@dataclass(frozen=True, slots=True)
class RejoinOrder:
    """Make the own data equal to the leader's, archive what only this node has, and stream on from there.

    One mechanism for every case: a node that was away, a node that lost a split, an empty node. What is common is
    found by comparison, what differs is archived, deleted and copied in one transaction.
    """

    # The leader's newest lineage id that was decided on. It may have gone on since, alone or in sync; a leader whose
    # history lacks it raises PreconditionError.
    leader_head: str
    parting_revision: int  # contents of every id from here on are compared, not only their presence; 0 compares all
    subscription: str  # name of the new subscription, its slot and the standby name, unless the archive has made one
    reason: str
    archived: str | None = None  # the archive that holds what only this node has, made after its fence


@dataclass(frozen=True, slots=True)
class RejoinReport:
    """What a rejoin did."""

    kind: str  # "incremental" or "copy"
    rows_compared: int
    rows_deleted: int
    rows_copied: int
    bytes_copied: int
    seconds: float
    archive: str | None  # name of the archive, None when this node had nothing of its own
    only_here: int  # rows that the leader has never had, and in which somebody may still believe


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is; `total` may be an estimate."""

    rows: int
    total: int
    bytes: int
    seconds: float


class LocalPostgres(Protocol):
    """The node's own Postgres. Every session runs with synchronous_commit = local and time-outs of its own."""

    async def status(self) -> PostgresStatus:
        """One look, in one statement. Raises PostgresDownError or PostgresHungError."""

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost` at once, from the event loop, whenever an established session to this Postgres is closed."""

    async def open_to_kine(self, term: int) -> None:
        """Let Kine's role in: LOGIN and the start fence lifted, in this order, if `term` > fence term (else FencedError)."""

    async def close_to_kine(self, term: int) -> None:
        """Fence: role closed and fence term raised to `term` in one transaction, then Kine's sessions ended: idle and
        reading ones first, those that wait for the follower last; returns when all are gone. The local Kine is frozen
        before (R20).
        """

    async def close_quietly(self) -> int:
        """For a switchover: role closed, running statements awaited instead of ended. Returns the WAL position after, bytes.

        The fence's term is not raised: this leader may still have to resume.
        """

    async def lead(self, order: LeadOrder) -> LineageEntry:
        """The transaction of LeadOrder; refuses (PreconditionError) data that is not complete. Returns the row written."""

    async def record(self, entry: LineageEntry) -> LineageEntry:
        """Write a lineage row (ALONE, SYNCED) with the revisions filled in, as LeadOrder says, without a gap row."""

    async def found(self, entry: LineageEntry) -> None:
        """Create the schema and the first lineage row of a new cluster. Refuses existing cluster data."""

    async def prepare(self) -> None:
        """Create the schema (kine table, lineage, local state, publication, roles) where it is missing; no data."""

    async def waits_on(self, standby: str) -> None:
        """Set synchronous_standby_names and reload, then return when a CHECKPOINT has returned (R9)."""

    async def waits_off(self) -> None:
        """Empty synchronous_standby_names and reload: waiting commits are released."""

    async def flushed(self, standby: str, lsn: int) -> None:
        """Return when `standby` has flushed past `lsn`. Raises PortError when its time-out passes first."""

    async def detach(self) -> None:
        """Disable and drop the subscription, leaving the remote slot alone. No subscription is success."""

    async def drop_slots(self, keep: str | None) -> None:
        """Drop every replication slot of this product except `keep`; active ones are ended first."""

    async def close(self) -> None:
        """Close all sessions."""


class PeerPostgres(Protocol):
    """The peer's Postgres, over the paths between the nodes."""

    async def fence(self, term: int) -> None:
        """As LocalPostgres.close_to_kine, on the peer. Raises PeerPostgresError when it cannot be reached in time."""

    async def drain(self) -> None:
        """After `fence`: return when the own subscription has applied all that the peer's Postgres had at the fence."""

    async def close(self) -> None:
        """Close all sessions."""


class Rejoin(Protocol):
    """Comparison and copy between the own Postgres and the leader's."""

    async def rejoin(
        self, order: RejoinOrder, progress: Callable[[Progress], None], before_loss: Callable[[], Awaitable[None]]
    ) -> RejoinReport:
        """Execute the order; see RejoinOrder. A crash at any moment leaves the old data or the new, never half. When it
        returns, the row `leader_head` is in the own history.

        `before_loss` is awaited once rows that only this node has are archived, and before they are deleted; not where there
        are none, or where the order says that they are archived.
        """

    async def archive(self, acceptance: Acceptance) -> str:
        """Archive every object that differs from the winner's, and every own row past the parting point; durable
        (fsync of file and directory) before it returns. Returns the archive's name. Needs both Postgres. A rejoin whose
        order names it may go on from its comparison.
        """


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a scrub found. Ids of rows; the lists are bounded, and a scrub ends where they are full."""

    rows: int  # of the leader, compared
    compared_again: int  # chunks that were in flight at first
    missing: tuple[int, ...]  # on the leader, not on the follower
    extra: tuple[int, ...]  # on the follower, not on the leader
    changed: tuple[int, ...]  # on both, with different contents
    unsettled: int  # rows that changed with every look; the next scrub looks at them again
    seconds: float

    @property
    def different(self) -> int:
        """Return how many rows differ."""
        return len(self.missing) + len(self.extra) + len(self.changed)


class Scrub(Protocol):
    """Whether leader and follower hold the same rows, asked while writes flow."""

    async def scrub(self, *, leads: bool, share: float) -> ScrubReport:
        """Compare every row that the leader shows now. `leads`: the own Postgres is the leader's; `share`: the part of
        the time, above 0 and at most 1, in which Postgres is asked. Raises PortError where it does not get through.
        """


class Target(StrEnum):
    """Which Postgres a Kine works on."""

    OWN = "own"
    PEER = "peer"


class KineStatus(msgspec.Struct, frozen=True):
    """The Kine behind the symlink."""

    target: Target | None  # None: none runs
    key: str  # the fence that it was started under: another fence, another Kine
    frozen: bool
    waited_for: bool  # clients of a frozen one, or of one that was given up, wait for the next
    pid: int | None
    revision: int  # newest revision that it answered with, 0 before
    restarts: int = 0
    answer_s: float | None = None  # how long its newest answer took, None before the first
    watch_s: float | None = None  # from a write to a watch's word of it, the newest time
    watch_age_s: float | None = None  # how long ago that was


class Kine(Protocol):
    """The node's Kine, blue/green behind one symlink, adopted after a restart of the supervisor."""

    def status(self) -> KineStatus:
        """What runs behind the symlink."""

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended` at once when the process behind the symlink ends without having been told to."""

    async def serve(self, target: Target, key: str) -> None:
        """Have a Kine on `target` started under `key` behind the symlink: new one beside the old one, wait for its
        answer, flip, kill the old one (frozen or not). Nothing to do when it is there already, answers and isn't frozen.
        Raises PortError, with the old one left as it was, when the new one does not answer in time.
        """

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open and nothing is refused. It never runs again; `serve` replaces it. No Kine is success."""

    async def kill(self) -> None:
        """Give up every Kine of this node: return when none of them answers any more, or ever will."""

    async def release(self) -> None:
        """The supervisor ends, Kine goes on."""


@dataclass(frozen=True, slots=True)
class PathState:
    """One path to the peer."""

    name: str
    connected: bool
    last_heard_s: float  # on the own clock, -inf where nothing has been heard
    error: str | None


class PeerLink(Protocol):
    """Heartbeats both ways on every path; wrong clusters, versions and certificates are refused before they get here."""

    async def start(self, received: Callable[[Heartbeat, str], None], closed: Callable[[str], None]) -> None:
        """Serve and connect. `received(heartbeat, path)` for each heartbeat; `closed(path)` at once for a lost connection."""

    def send(self, heartbeat: Heartbeat) -> None:
        """On every path, never blocking: where a path is full the older heartbeat is dropped."""

    def paths(self) -> tuple[PathState, ...]:
        """How every path is."""

    async def stop(self) -> None:
        """Close everything."""


class Probes(Protocol):
    """Questions about the world outside."""

    async def peer(self) -> PeerProbe:
        """Agent's and Postgres's port of the peer on every path, at once, within the probe time-out."""

    async def isolated(self) -> bool:
        """Whether all witnesses that lately worked (gateway, broker, carrier) are gone. Without witnesses: False."""

    async def disk_nearly_full(self) -> bool:
        """Whether there is too little room where the data is."""


class StateStore(Protocol):
    """The state file."""

    def load(self) -> Durable | None:
        """None when there is none yet. Raises PortError when it is damaged, with what to do."""

    async def save(self, durable: Durable) -> None:
        """Write, fsync, rename, fsync the directory; returns when it is durable. The loop runs on meanwhile: a disk
        that stalls must not look like death.
        """


class Timer(Protocol):
    """Something that is to happen later."""

    def cancel(self) -> None:
        """Never have it happen; nothing where it has."""


class Clock(Protocol):
    """Time and chance."""

    def now_s(self) -> float:
        """Suspend-counting clock (CLOCK_BOOTTIME), seconds."""

    def wall_us(self) -> int:
        """Wall clock, microseconds since the epoch."""

    def new_id(self) -> str:
        """32 random hex digits."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most so long."""

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call from the event loop after so long."""


@dataclass(frozen=True, slots=True)
class AddressStatus:
    """One address that follows the leader."""

    name: str
    wanted: bool
    held: bool
    error: str | None


class Address(Protocol):
    """Virtual IPs or DNS names that follow the leader. What cannot be done now is kept in mind and done later."""

    async def acquire(self) -> None:
        """Have it here."""

    async def release(self) -> None:
        """Have it here no longer."""

    def status(self) -> tuple[AddressStatus, ...]:
        """How each is."""


class History(Protocol):
    """Bounded, durable list of events; each decision with its reason and evidence."""

    def append(self, kind: str, message: str, **evidence: object) -> None:
        """Add an event."""

    def newest(self, count: int) -> list[dict[str, object]]:
        """Return the newest events, oldest first."""

    async def newer(self, than: int, wait_s: float) -> list[dict[str, object]]:
        """Return the kept events whose `id` is above `than`, oldest first; wait for one at most so long."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The connection to the MQTT broker."""

    name: str  # host:port
    connected: bool
    error: str | None
    reconnects: int


class Broker(Protocol):
    """Where state and events are told to the world; nothing of the node waits for it."""

    def status(self) -> BrokerStatus:
        """How the connection is."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a node needs of the world."""

    postgres: LocalPostgres
    peer_postgres: PeerPostgres
    rejoin: Rejoin
    kine: Kine
    link: PeerLink
    probes: Probes
    state: StateStore
    clock: Clock
    address: Address
    history: History
    broker: Broker | None = None


__all__ = [
    "Address",
    "AddressStatus",
    "Broker",
    "BrokerStatus",
    "Clock",
    "FencedError",
    "History",
    "Kine",
    "KineStatus",
    "LeadOrder",
    "LocalPostgres",
    "PathState",
    "PeerLink",
    "PeerPostgres",
    "PeerPostgresError",
    "PortError",
    "Ports",
    "PostgresDownError",
    "PostgresHungError",
    "PreconditionError",
    "Probes",
    "Progress",
    "Rejoin",
    "RejoinOrder",
    "RejoinReport",
    "Scrub",
    "ScrubReport",
    "StateStore",
    "Target",
    "Timer",
]
