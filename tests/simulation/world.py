"""The simulated outside world of two nodes: Postgres, Kine, disks, clocks and the network between them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from failover.core.model import DataState, Durable, Kind, LineageEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import Heartbeat
    from failover.ports import Target

STREAM_TICK_S = 0.004
DELAY_S = 0.0005


class Crashed(BaseException):
    """The supervisor that made this call does not exist any more."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a WAL."""

    id: int
    key: str  # "" for a lineage row
    entry: LineageEntry | None = None


@dataclass(slots=True)
class Subscription:
    """A follower's end of the stream."""

    name: str
    heard_s: float


@dataclass(slots=True)
class Postgres:
    """One server; what it has acknowledged locally is durable."""

    up: bool = True
    hung: bool = False
    runs: int = 1
    lifted: bool = False  # the start fence of this run
    login: bool = False
    fence_term: int = -1
    data: DataState = DataState.EMPTY
    rows: dict[int, str] = field(default_factory=dict)
    lineage: tuple[LineageEntry, ...] = ()
    sequence: int = 0
    compacted: int = 0
    wal: list[Change] = field(default_factory=list)
    waits_for: str = ""
    waits_taken: str = ""  # by the checkpointer
    slots: dict[str, int] = field(default_factory=dict)  # name -> how much of the WAL has been flushed there
    streaming: str | None = None
    heard_s: float = float("-inf")  # standby's last word
    subscription: Subscription | None = None
    stuck: bool = False  # the apply worker hangs
    stuck_since: tuple[int, float] | None = None
    sessions: dict[asyncio.Future[bool], int] = field(default_factory=dict)  # commits that wait, and their positions
    changed_s: float = 0.0
    lost: list[Callable[[], None]] = field(default_factory=list)

    def commit(self, change: Change) -> int:
        """Append to the WAL and return the position."""
        self.wal.append(change)
        if change.entry is not None:
            self.lineage = (*self.lineage, change.entry)
        else:
            self.rows[change.id] = change.key
            self.sequence = max(self.sequence, change.id)
        return len(self.wal)


@dataclass(slots=True)
class Kine:
    """The Kine of one node; it outlives its supervisor."""

    target: Target | None = None
    key: str = ""
    frozen: bool = False
    revision: int = 0


@dataclass(slots=True)
class Machine:
    """One node's parts."""

    postgres: Postgres = field(default_factory=Postgres)
    kine: Kine = field(default_factory=Kine)
    state: Durable | None = None
    powered: bool = True
    alive: bool = False  # its supervisor
    stalled: bool = False
    received: Callable[[Heartbeat, str], None] | None = None
    closed: Callable[[str], None] | None = None
    archive: set[str] = field(default_factory=set)
    wall_offset_s: float = 0.0
    disk_full: bool = False
    roles: list[tuple[float, str]] = field(default_factory=list)


class World:
    """Everything outside the supervisors."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.machines = (Machine(), Machine())
        self.cut = [False, False]  # what this node sends is lost
        self.delay_s = 0.003
        self.loss = 0.0
        self.log: list[str] = []
        self._ids = 0

    def now_s(self) -> float:
        """Virtual time."""
        return asyncio.get_running_loop().time()

    def say(self, line: str) -> None:
        """Add to the timeline."""
        self.log.append(f"{self.now_s():9.3f} {line}")

    def new_id(self) -> str:
        """An id as random as a seed allows."""
        self._ids += 1
        return f"{self.random.getrandbits(96):024x}{self._ids:08x}"

    def reachable(self, source: int, target: int) -> bool:
        """Whether a connection from one node to the other works."""
        both = self.machines[source].powered and self.machines[target].powered
        return both and (source == target or not any(self.cut))

    def is_open(self, node: int) -> bool:
        """Whether Kine may use this node's Postgres."""
        postgres = self.machines[node].postgres
        return postgres.up and not postgres.hung and postgres.login and postgres.lifted

    def found(self) -> None:
        """`init` on node 0, `join` on node 1."""
        first = LineageEntry(self.new_id(), 2, 0, Kind.LEAD, "init", 0, 1, 0)
        self.machines[0].postgres.lineage = (first,)
        self.machines[0].postgres.data = DataState.COMPLETE
        for node, machine in enumerate(self.machines):
            machine.state = Durable("sim", node, f"node-{node}", highest_term=2 if node == 0 else 0)

    # ---- replication -------------------------------------------------------------------------------------------

    async def stream(self) -> None:
        """Move what has been committed to whoever streams it, for ever."""
        while True:
            for node in (0, 1):
                self._stream_from(node)
            await asyncio.sleep(STREAM_TICK_S)

    def _stream_from(self, node: int) -> None:
        source, target = self.machines[node].postgres, self.machines[1 - node].postgres
        subscription = target.subscription
        working = source.up and not source.hung and target.up and not target.hung and not target.stuck
        if subscription is None or not working or not self.reachable(1 - node, node):
            if source.streaming is not None and not (target.up and self.reachable(1 - node, node)):
                source.streaming = None
            return
        if subscription.name not in source.slots:
            source.streaming = None
            return
        source.streaming, source.heard_s, subscription.heard_s = subscription.name, self.now_s(), self.now_s()
        for change in source.wal[source.slots[subscription.name] :]:
            target.commit(change)
        source.slots[subscription.name] = len(source.wal)
        self.release_waiters(node)

    def release_waiters(self, node: int) -> None:
        """Acknowledge what no longer waits: the follower has it, or nobody is waited for."""
        postgres = self.machines[node].postgres
        flushed = postgres.slots.get(postgres.waits_taken, 0)
        for waiting, position in list(postgres.sessions.items()):
            if not postgres.waits_taken or flushed >= position:
                del postgres.sessions[waiting]
                if not waiting.done():
                    waiting.set_result(True)

    def end_sessions(self, node: int) -> None:
        """Commits that wait are there, and nobody is told."""
        for waiting in list(self.machines[node].postgres.sessions):
            if not waiting.done():
                waiting.set_result(False)
        self.machines[node].postgres.sessions.clear()

    # ---- faults ------------------------------------------------------------------------------------------------

    def kill_postgres(self, node: int) -> None:
        """Kill -9."""
        self.say(f"node {node}: Postgres killed")
        postgres = self.machines[node].postgres
        postgres.up, postgres.streaming = False, None
        self.machines[1 - node].postgres.streaming = None
        self.end_sessions(node)
        for lost in list(postgres.lost):
            asyncio.get_running_loop().call_soon(lost)

    def start_postgres(self, node: int) -> None:
        """It starts fenced (R11)."""
        self.say(f"node {node}: Postgres starts")
        postgres = self.machines[node].postgres
        postgres.up, postgres.lifted, postgres.hung = True, False, False
        postgres.runs += 1
        postgres.waits_taken = ""  # until the checkpointer has read it, commits don't wait (R9)

    # ---- clients -----------------------------------------------------------------------------------------------

    async def write(self, node: int, key: str) -> int | None:
        """A client of this node's Kine writes. Returns the revision when it is acknowledged, None when it isn't."""
        kine = self.machines[node].kine
        if kine.target is None or kine.frozen or not self.machines[node].powered:
            return None
        owner = node if kine.target == "own" else 1 - node
        if not (self.is_open(owner) and self.reachable(node, owner)):
            return None
        postgres = self.machines[owner].postgres
        id_ = postgres.sequence + 1
        position = postgres.commit(Change(id_, key))
        postgres.changed_s = self.now_s()
        if postgres.waits_for and postgres.waits_taken:
            waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            postgres.sessions[waiting] = position
            try:
                async with asyncio.timeout(0.2):
                    if not await waiting:
                        return None
            except TimeoutError:
                postgres.sessions.pop(waiting, None)
                return None  # cancelled: visible here, not replicated yet
        await asyncio.sleep(DELAY_S)
        if kine.frozen or not self.machines[node].powered or not self.reachable(node, owner):
            return None
        kine.revision = max(kine.revision, id_)
        return id_


def without(entry: LineageEntry, **changes: object) -> LineageEntry:
    """Return a changed copy."""
    return replace(entry, **changes)  # type: ignore[arg-type]
