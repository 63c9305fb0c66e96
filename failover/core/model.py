"""The words of the protocol: every value that a decision reads or makes.

Times are seconds on the node's own suspend-counting clock (`_s`, float) unless the name ends in `_us` (microseconds
since the Unix epoch, wall clock). A revision is an id of the kine table. An LSN is a byte position in a node's own WAL.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a node is. A node in PROMOTING, DEMOTING or RESYNCING executes the plan of that name."""

    STARTING = "starting"
    LEADER = "leader"
    FOLLOWER = "follower"
    PROMOTING = "promoting"
    DEMOTING = "demoting"
    RESYNCING = "resyncing"
    HALTED = "halted"


class Sync(StrEnum):
    """Who must have a write before a leader's client hears that it is there."""

    ALONE = "alone"
    CATCHING_UP = "catching_up"
    IN_SYNC = "in_sync"


class Mode(StrEnum):
    """Whether an acknowledged write must be on both nodes (`zero_loss`), or may be on one (`async`)."""

    ZERO_LOSS = "zero_loss"
    ASYNC = "async"


class Kind(StrEnum):
    """Why a lineage row was written."""

    LEAD = "lead"  # a leadership begins
    ALONE = "alone"  # from here on writes are acknowledged without the follower
    SYNCED = "synced"  # from here on no write is acknowledged without the follower
    VERDICT = "verdict"  # a leadership that absorbs the other side of a split


class DataState(StrEnum):
    """What the data in a node's Postgres is; changed only in the transaction that changes the data."""

    EMPTY = "empty"  # never held the cluster's data
    COMPLETE = "complete"


class LineageEntry(msgspec.Struct, frozen=True):
    """One row of the lineage table. Two histories are common as far as their ids agree, in order."""

    id: str  # 32 hex digits, random
    term: int
    node: int  # 0 or 1
    kind: Kind
    reason: str
    started_at_us: int
    first_revision: int  # the first revision that may belong to this entry
    parent_revision: int  # the highest revision that its predecessor's data had where this entry was written
    provisional: bool = False
    absorbs: str | None = None  # VERDICT: the head of the side that lost


Lineage = tuple[LineageEntry, ...]


class LastChange(msgspec.Struct, frozen=True):
    """The newest change on a side, keys that beat by themselves left out; it decides a verdict."""

    revision: int
    commit_us: int  # commit timestamp on the clock of the node that took the write
    age_s: float | None  # age on that node's suspend-counting clock, None when older than its boot


class Choice(StrEnum):
    """Which rule of a verdict decided."""

    PROVISIONAL = "provisional"
    LATEST_CHANGE = "latest_change"
    LED_BEFORE = "led_before"
    MOST_CHANGES = "most_changes"
    PREFERRED_NODE = "preferred_node"


class Verdict(msgspec.Struct, frozen=True):
    """Who wins a split, over one pinned pair of heads. It exists from the moment that the loser has stored it (R7)."""

    winner: int
    winner_head: str
    loser_head: str
    choice: Choice
    reason: str

    @property
    def loser(self) -> int:
        """Return the other node's number."""
        return 1 - self.winner


class Acceptance(msgspec.Struct, frozen=True):
    """The loser's durable yes. `final_revision` and `archive` are filled in as the loser fences and archives."""

    verdict: Verdict
    final_revision: int | None = None  # highest id of the loser, read after its fence
    archive: str | None = None  # name of the archive that holds what it had


class HandOver(msgspec.Struct, frozen=True):
    """A leader's word that it will not write again. `drained`: the follower has everything up to `revision`."""

    reason: str
    drained: bool
    revision: int


class SwitchPhase(StrEnum):
    """How far a planned switchover is: both Kines frozen first, then everything drained, then the word is given."""

    FREEZE = "freeze"
    DRAIN = "drain"


class Heartbeat(msgspec.Struct, frozen=True):
    """All that a node says of itself, many times a second, on every path. Level-triggered: a lost one costs nothing."""

    cluster: str
    node: int
    node_id: str
    boot: str  # id of this run of the supervisor
    seq: int
    wall_us: int  # sender's wall clock when it was sent
    echo_boot: str  # run and newest sequence number heard from the peer, and the sender's wall clock then
    echo_seq: int
    echo_wall_us: int
    term: int  # highest term ever seen
    role: Role
    sync: Sync
    provisional: bool
    data: DataState
    postgres_ok: bool
    visible_revision: int  # highest id that a client of the sender's Postgres can see
    head: str  # id of the newest lineage row, "" without data
    length: int  # rows in the lineage
    lineage: Lineage = ()  # newest rows, sent only while the peer's head differs
    last_change: LastChange | None = None
    changes: int = 0  # changes since the parting point, for the policy "most changes"
    renounced: str | None = None  # head whose in_sync the sender has durably given up
    ready_for: str | None = None  # follower: it streams, applies and is healthy under this head
    asks_renounce: bool = False
    paused_for_s: float = 0.0  # remaining time of the sender's own pause
    hand_over: HandOver | None = None
    switching: SwitchPhase | None = None
    frozen: bool = False  # its Kine is frozen
    uses_peer: bool = False  # its Kine runs, on the receiver's Postgres
    wish: str | None = None  # follower: an operator there asks for a switchover; another id is another wish
    verdict: Verdict | None = None  # node 0's proposal, and node 1's consent to it
    acceptance: Acceptance | None = None
    is_open: bool = False  # Kine may use the sender's Postgres
    lag_bytes: int | None = None  # leader: WAL that its follower has not flushed
    ghosts_under: str | None = None  # fence row of the leader that lacked rows of the sender's leadership (R13)


class Standby(msgspec.Struct, frozen=True):
    """The follower as the leader's Postgres sees it."""

    name: str
    streaming: bool
    flush_lsn: int
    heard_age_s: float  # since its last reply
    flush_lag_s: float = 0.0  # from a write of late to its flush over there, 0.0 when there was none


class Subscription(msgspec.Struct, frozen=True):
    """The follower's end of the stream."""

    name: str
    enabled: bool
    worker_alive: bool  # an apply worker runs
    heard_age_s: float  # since the worker last received anything from the leader, inf before the first
    tables_ready: bool
    apply_errors: int


class PostgresStatus(msgspec.Struct, frozen=True):
    """One look at a node's own Postgres, taken in one statement."""

    started_at_us: int  # start of the postmaster: another value is another run
    data: DataState
    lineage: Lineage
    visible_revision: int
    wal_lsn: int
    is_open: bool  # Kine's role may log in, and this run of Postgres has been opened
    fence_term: int
    waits_for: str  # synchronous_standby_names as the server runs with it
    standby: Standby | None
    oldest_wait_s: float  # age of the oldest commit that waits for the follower, 0.0 when none does
    subscription: Subscription | None
    last_change: LastChange | None
    changes: int = 0  # rows since the newest lineage row, beats left out; bounded scan, for the policy "most changes"
    slot_bytes: int = 0  # WAL that is kept for the follower
    slot_limit_bytes: int | None = None  # where Postgres gives it up, None for never


class Health(StrEnum):
    """How a node's own Postgres answers."""

    UP = "up"
    DOWN = "down"  # refused or closed: its process is gone
    HUNG = "hung"  # no answer within its time-out


class Answer(StrEnum):
    """What a connection attempt to one port found."""

    OPEN = "open"
    REFUSED = "refused"  # the peer's kernel answers, and nothing listens
    SILENT = "silent"  # nothing answers


class PeerProbe(msgspec.Struct, frozen=True):
    """One round of probes of the peer, the same question on every path."""

    at_s: float
    agent: tuple[Answer, ...] = ()  # one answer a path
    postgres: tuple[Answer, ...] = ()


class Heard(msgspec.Struct, frozen=True):
    """What this node has received from its peer: the newest heartbeat and when life was last seen."""

    heartbeat: Heartbeat
    at_s: float  # when the newest heartbeat arrived
    echoed_sent_s: float | None  # own send time of the newest heartbeat that the peer has echoed, this run's only
    echoes_this_run: bool = False  # the peer had heard this run when it sent it


class Durable(msgspec.Struct, frozen=True):
    """The state file. What the data is stands in the database; what can be derived from there is not stored here."""

    cluster: str
    node: int
    node_id: str
    peer_id: str | None = None  # the peer that this node knows
    replaced: tuple[str, ...] = ()  # peers whose place another one has taken: refused for ever
    highest_term: int = 0
    role: Role = Role.STARTING  # the last role: only a hint while the own Postgres cannot be asked
    synced_head: str | None = None  # head under which it led in sync: a hint as well
    renounced: str | None = None
    handed_over: str | None = None  # head under which leadership was given away
    acceptance: Acceptance | None = None
    ghosts_under: str | None = None  # fence row of the leader that lacked rows of this node's leadership (R13)
    doubted: bool = False  # an operator ordered a copy that has not got through: rows of common history may differ
    paused_until_us: int = 0
