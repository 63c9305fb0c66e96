"""The simulated outside world of two nodes: Postgres, Kine, disks, clocks and the network between them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from failover.core.model import DataState, Durable, Kind, LineageEntry
from tests.simulation import virtual_loop
from tests.simulation.rows import Gone, Ledger, name_of, newest_of_each, read, superfluous

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import Heartbeat
    from failover.ports import Target

STREAM_TICK_S = 0.004
KEEPALIVE_S = 0.05
PATHS = ("a", "b")  # heartbeats and probes take both, SQL and replication only the first
BUSY_S = 2.0  # clients are quick for so long after anything has happened
DRIFT = 2e-4  # how much faster or slower a clock may be than another
INSERT_S = 0.008
CHANGES_COUNTED = 200
CLIENT_PATIENCE_S = 0.2
ENDING_S = 0.002  # between the end of the first session and of the last
CONNECT_S = 0.05  # until Postgres has let a new session in or refused it, at most; 12 clients at once (tests/facts)


class Crashed(BaseException):
    """The supervisor that made this call does not exist any more."""


class Change(msgspec.Struct, frozen=True):
    """One entry of a WAL."""

    id: int
    key: str  # "" where no row is added
    entry: LineageEntry | None = None
    compacted: int = 0  # the row `compact_rev_key`, raised in the same transaction
    gone: tuple[Gone, ...] = ()  # rows that a compaction deletes


@dataclass(slots=True)
class Subscription:
    """A follower's end of the stream."""

    name: str
    heard_s: float
    applied: int  # position in the leader's WAL


class Wait(msgspec.Struct, frozen=True):
    """A commit that waits for the follower: durable here and streamed, but nobody sees it before the wait ends."""

    id: int
    position: int


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
    top: int = 0  # the highest id in `rows`
    heads: dict[str, int] = field(default_factory=dict)  # the newest row of each key, deleted ones included
    sequence: int = 0
    compacted: int = 0
    compacted_before: int = 0  # the WAL began
    fenced: int = 0  # as far as a full fence has compacted
    wal: list[Change] = field(default_factory=list)
    waits_for: str = ""
    waits_taken: str = ""  # by the checkpointer
    synced_at: int = 0  # how much of the own WAL is on the disk; a loss of power takes the rest
    slots: dict[str, int] = field(default_factory=dict)  # name -> how much of the WAL has been flushed there
    streaming: str | None = None
    heard_s: float = float("-inf")  # standby's last word
    subscription: Subscription | None = None
    stuck: bool = False  # the apply worker hangs
    stuck_since: tuple[int, float] | None = None
    sessions: dict[asyncio.Future[bool], Wait] = field(default_factory=dict)  # commits that wait
    changed_s: float = 0.0  # when a client's write was last committed here
    began_s: float = 0.0  # this run
    under_way: dict[int, Kine] = field(default_factory=dict)  # revisions that inserts have taken and not committed yet
    locking: bool = False  # a leadership that begins waits for the table
    inserting: dict[asyncio.Future[bool], None] = field(
        default_factory=dict
    )  # inserts under way, in the order of their sessions
    readable_until_s: float = 0.0  # sessions are being ended, and one to read through is left
    lost: list[Callable[[], None]] = field(default_factory=list)
    stir: Callable[[], None] = lambda: None  # there is something to stream
    _counted: tuple[Change | None, int, int] = (
        None,
        0,
        0,
    )  # the newest and how many there were, and what `changes` said then

    def admits(self) -> bool:
        """Whether Kine's role may have a session."""
        return self.up and self.login and self.lifted

    def commit(self, change: Change) -> int:
        """Append to the WAL and return the position."""
        self.wal.append(change)
        self.stir()
        if change.entry is not None:
            self.lineage = (*self.lineage, change.entry)
            return len(self.wal)
        self.compacted = max(self.compacted, change.compacted)
        if change.key:
            self.rows[change.id] = change.key
            self.heads[name_of(change.key)] = change.id
            self.sequence = max(self.sequence, change.id)
            self.fenced = max(self.fenced, change.compacted)
            self.top = max(self.top, change.id)
        for one in change.gone:
            self.rows.pop(one.id, None)
            if self.heads.get(name := name_of(one.text)) == one.id:
                del self.heads[name]
        return len(self.wal)

    def hidden(self) -> set[int]:
        """Ids of the rows whose commits wait."""
        return {wait.id for wait in self.sessions.values()}

    def newest(self) -> int:
        """Return the newest id that a reader sees, 0 for none."""
        hidden, id_ = self.hidden() if self.sessions else (), self.top
        while id_ and (id_ in hidden or id_ not in self.rows):
            id_ -= 1
        return id_

    def changes(self) -> int:
        """Return how many of the newest changes are rows."""
        newest = self.wal[-1] if self.wal else None
        if self._counted[0] is not newest or self._counted[1] != len(self.wal):
            keys = [change.key for change in self.wal[-CHANGES_COUNTED:]]
            self._counted = newest, len(self.wal), len(keys) - keys.count("")
        return self._counted[2]

    def replace(self, rows: dict[int, str]) -> None:
        """Have other rows from now on."""
        self.rows, self.top, self.heads = rows, max(rows, default=0), newest_of_each(rows)


@dataclass(slots=True)
class Kine:
    """The Kine of one node; it outlives its supervisor."""

    target: Target | None = None
    key: str = ""
    run: int = 0  # another one is another process: its watches begin anew
    frozen: bool = False  # by the supervisor
    stopped: bool = False  # with everything on the machine
    revision: int = 0  # the newest that it has answered with
    told: dict[str, int] = field(default_factory=dict)  # how far each of its watches is

    def answers(self) -> bool:
        """Whether a client gets anything out of it."""
        return self.target is not None and not self.frozen and not self.stopped


@dataclass(slots=True)
class Machine:
    """One node's parts."""

    postgres: Postgres = field(default_factory=Postgres)
    kine: Kine = field(default_factory=Kine)
    state: Durable | None = None  # the state file as the disk has it
    renamed: Durable | None = None  # as the file system shows it, its folder not yet synced
    powered: bool = True
    alive: bool = False  # its supervisor
    stalled: bool = False
    received: Callable[[Heartbeat, str], None] | None = None
    closed: Callable[[str], None] | None = None
    archive: set[str] = field(default_factory=set)
    wall_offset_s: float = 0.0
    rate: float = 1.0  # of its clocks
    disk_full: bool = False
    checkpoint_stalled: bool = False  # the checkpointer sits in an fsync
    disk_stalled: bool = False  # nothing that is synced comes back
    state_sync_s: float = 0.0  # what a sync of the state file's disk takes; Postgres has another
    isolated: bool = False  # its gateway and broker, which worked, are gone
    wire: Callable[[Heartbeat], bytes] | None = None  # another version of the supervisor

    def unattended(self) -> bool:
        """Whether it has a Kine that nobody would replace now."""
        kine = self.kine
        return kine.target is not None and (kine.frozen or kine.stopped or self.stalled or not self.alive)


class World:
    """Everything outside the supervisors."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.machines = (Machine(), Machine())
        for machine in self.machines:
            machine.postgres.stir = self.stir
            machine.rate = 1.0 + self.random.uniform(-DRIFT, DRIFT)
        self.cut = {path: [False, False] for path in PATHS}  # what this node sends on the path is lost
        self.delay_s = 0.003
        self.loss = 0.0
        self.late = 0.0  # share of messages that come again, seconds later, as a relay may deliver them
        self.log: list[str] = []
        self.busy_until_s = 0.0
        self.ledger = Ledger()
        self.idle_ends_first = True  # the order in which a fence ends sessions (sql/end_sessions.sql)
        self._ids = 0
        self._stirred = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.sleep = virtual_loop.sleeper(self._loop)

    def now_s(self) -> float:
        """Virtual time."""
        return self._loop.time()

    def say(self, line: str) -> None:
        """Add to the timeline."""
        self.busy_until_s = self.now_s() + BUSY_S
        self.log.append(f"{self.now_s():9.3f} {line}")

    def later(self, seconds: float, call: Callable[..., None], *args: object) -> None:
        """Have something happen after a while."""
        self._loop.call_later(seconds, call, *args)

    def new_id(self) -> str:
        """An id as random as a seed allows."""
        self._ids += 1
        return f"{self.random.getrandbits(96):024x}{self._ids:08x}"

    def reachable(self, source: int, target: int) -> bool:
        """Whether a connection from one node to the other works."""
        both = self.machines[source].powered and self.machines[target].powered
        return both and (source == target or not any(self.cut[PATHS[0]]))

    def is_open(self, node: int) -> bool:
        """Whether Kine may use this node's Postgres."""
        postgres = self.machines[node].postgres
        return not postgres.hung and postgres.admits()

    def found(self) -> None:
        """`init` on node 0, `join` on node 1."""
        first = LineageEntry(self.new_id(), 2, 0, Kind.LEAD, "init", 0, 1, 0)
        self.machines[0].postgres.lineage = (first,)
        self.machines[0].postgres.data = DataState.COMPLETE
        for node, machine in enumerate(self.machines):
            machine.state = Durable("sim", node, f"node-{node}", highest_term=2 if node == 0 else 0)

    # ---- replication -------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """Something was committed."""
        self._stirred.set()

    async def stream(self) -> None:
        """Move what has been committed to whoever streams it, for ever."""
        while True:
            moved = [self._stream_from(node) for node in (0, 1)]
            if not any(moved):
                self._stirred.clear()
                late = self._loop.call_later(KEEPALIVE_S, self._stirred.set)
                await self._stirred.wait()
                late.cancel()
            await self.sleep(STREAM_TICK_S)

    def _stream_from(self, node: int) -> bool:
        """Move one tick's worth; whether there may be more."""
        source, target = self.machines[node].postgres, self.machines[1 - node].postgres
        subscription = target.subscription
        working = source.up and not source.hung and target.up and not target.hung and not target.stuck
        if subscription is None or not working or not self.reachable(1 - node, node):
            if source.streaming is not None and not (target.up and self.reachable(1 - node, node)):
                source.streaming = None
            return False
        if subscription.name not in source.slots:
            source.streaming = None
            return False
        source.streaming, source.heard_s, subscription.heard_s = subscription.name, self.now_s(), self.now_s()
        if not self.machines[1 - node].disk_stalled:
            # What was applied at the last tick has been flushed by now; only then the leader hears of it.
            target.synced_at = len(target.wal)
            source.slots[subscription.name] = subscription.applied
        for change in source.wal[subscription.applied :]:
            target.commit(published(change))
        subscription.applied = len(source.wal)
        self.release_waiters(node)
        return source.slots[subscription.name] < subscription.applied

    def release_waiters(self, node: int) -> None:
        """Acknowledge what no longer waits: the follower has it, or nobody is waited for."""
        postgres = self.machines[node].postgres
        flushed = postgres.slots.get(postgres.waits_taken, 0)
        for waiting, wait in list(postgres.sessions.items()):
            if not postgres.waits_taken or flushed >= wait.position:
                del postgres.sessions[waiting]
                if not waiting.done():
                    waiting.set_result(True)

    def end_sessions(self, node: int) -> None:
        """Commits that wait are there, and nobody is told; inserts under way fail, and Kine reads next."""
        postgres = self.machines[node].postgres
        if not self.idle_ends_first:
            postgres.readable_until_s = self.now_s() + ENDING_S
        for waiting in list(postgres.sessions):
            if not waiting.done():
                waiting.set_result(False)
        postgres.sessions.clear()
        for inserting in list(postgres.inserting):
            if not inserting.done():
                inserting.set_result(True)
        postgres.inserting.clear()

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

    def lose_power(self, node: int) -> None:
        """What was not synced may be gone: what a follower had applied, and the newest state file. A leader's commits
        flush before they are visible."""
        machine, postgres = self.machines[node], self.machines[node].postgres
        if machine.renamed is not None and self.random.random() < 0.5:
            machine.state = machine.renamed
        machine.renamed = None
        subscription = postgres.subscription
        if subscription is None:
            return
        gone = postgres.wal[postgres.synced_at :]
        del postgres.wal[postgres.synced_at :]
        for change in reversed(gone):
            if change.entry is not None:
                postgres.lineage = tuple(entry for entry in postgres.lineage if entry.id != change.entry.id)
            else:
                postgres.rows.pop(change.id, None)
                postgres.rows.update((one.id, one.text) for one in change.gone)
        postgres.compacted = max((change.compacted for change in postgres.wal), default=0)
        postgres.compacted = max(postgres.compacted, postgres.compacted_before)
        postgres.replace(postgres.rows)
        subscription.applied -= len(gone)

    def start_postgres(self, node: int) -> None:
        """It starts fenced (R11)."""
        self.say(f"node {node}: Postgres starts")
        postgres = self.machines[node].postgres
        postgres.up, postgres.lifted, postgres.hung = True, False, False
        postgres.runs += 1
        postgres.began_s = self.now_s()
        postgres.waits_taken = ""  # until the checkpointer has read it, commits don't wait (R9)

    # ---- clients -----------------------------------------------------------------------------------------------

    async def write(self, node: int, key: str) -> int | None:
        """A client of this node's Kine writes. Returns the revision when it is acknowledged, None when it isn't."""
        kine = self.machines[node].kine
        if not kine.answers() or not self.machines[node].powered:
            return None
        owner = node if kine.target == "own" else 1 - node
        if not self.reachable(node, owner) or self.machines[owner].postgres.hung:
            return None
        id_ = await (self._insert if self.is_open(owner) else self._refused)(kine, node, owner, key)
        if id_ is None or not kine.answers() or not self.machines[node].powered or not self.reachable(node, owner):
            return None
        kine.revision = max(kine.revision, id_)
        return id_

    async def _insert(self, kine: Kine, node: int, owner: int, key: str) -> int | None:
        """Take an id, commit a moment later and not in the order of the ids, and wait for the follower."""
        machine, run = self.machines[owner], self.machines[owner].postgres.runs
        postgres = machine.postgres
        while postgres.locking and postgres.admits():
            await self.sleep(INSERT_S)  # behind whoever waits for the table
        postgres.sequence += 1
        id_, kine_run = postgres.sequence, kine.run
        postgres.under_way[id_] = kine
        ended = await self._ended_in(postgres, self.random.uniform(0.0, INSERT_S))
        while not ended and postgres.runs == run and postgres.admits() and (postgres.hung or machine.disk_stalled):
            await self.sleep(INSERT_S)  # whatever becomes of Kine: an insert is a statement of its own
        del postgres.under_way[id_]
        if ended:
            return await self._read_after(kine, node, owner, key)
        orphaned = kine.run != kine_run
        if orphaned and self.random.random() < 0.5:
            return None
        if postgres.runs != run or not postgres.admits():
            return None if orphaned else await self._read_after(kine, node, owner, key)
        if postgres.heads.get(name_of(key), 0) != read(key).prev or id_ in postgres.rows:
            return None  # another change of the key came first
        position = postgres.commit(Change(id_, key))
        postgres.changed_s = self.now_s()
        if not (postgres.waits_for and postgres.waits_taken):
            return None if orphaned else id_
        waiting: asyncio.Future[bool] = self._loop.create_future()
        postgres.sessions[waiting] = Wait(id_, position)
        patience = self._loop.call_later(CLIENT_PATIENCE_S, self._give_up, postgres, waiting)
        served = await waiting
        patience.cancel()
        return id_ if served and not orphaned else None

    async def _ended_in(self, postgres: Postgres, seconds: float) -> bool:
        """Whether the session of an insert is ended before it gets to its commit."""
        session: asyncio.Future[bool] = self._loop.create_future()
        postgres.inserting[session] = None
        timer = self._loop.call_later(seconds, _settle, session)
        try:
            return await session
        finally:
            timer.cancel()
            postgres.inserting.pop(session, None)

    async def _refused(self, kine: Kine, node: int, owner: int, key: str) -> int | None:
        """No transaction can be begun: to Kine that is an insert that failed."""
        await self.sleep(self.random.uniform(0.0, CONNECT_S))
        return await self._read_after(kine, node, owner, key)

    async def _read_after(self, kine: Kine, node: int, owner: int, key: str) -> int | None:
        """The insert failed. A Kine that runs reads next, and acknowledges when the read finds nothing (H14, R20).

        It reads through a session that is left, or else through a new one: where the database is opened before that is refused,
        it gets in.
        """
        run, postgres = kine.run, self.machines[owner].postgres
        await self._until_it_runs(kine, run)
        reads = postgres.up and self.now_s() < postgres.readable_until_s
        if not reads:
            await self.sleep(self.random.uniform(0.0, CONNECT_S))
            while postgres.up and postgres.hung:
                await self.sleep(INSERT_S)
            reads = self.is_open(owner) and self.reachable(node, owner)
            await self._until_it_runs(kine, run)
        # Who changes or deletes a key is told what is there.
        lied = kine.run == run and reads and key == name_of(key) and key not in postgres.heads
        return postgres.newest() if lied else None

    async def _until_it_runs(self, kine: Kine, run: int) -> None:
        while kine.run == run and not kine.answers():
            await self.sleep(INSERT_S)

    def _give_up(self, postgres: Postgres, waiting: asyncio.Future[bool]) -> None:
        """A client cancels its wait: what it wrote is visible here, and not replicated yet."""
        postgres.sessions.pop(waiting, None)
        if not waiting.done():
            waiting.set_result(False)

    def database_of(self, node: int) -> Postgres | None:
        """Return what this node's Kine answers from, None while it does not answer."""
        machine = self.machines[node]
        owner = node if machine.kine.target == "own" else 1 - node
        answers = machine.kine.answers() and machine.powered
        return (
            self.machines[owner].postgres if answers and self.is_open(owner) and self.reachable(node, owner) else None
        )

    def deposed(self, postgres: Postgres) -> bool:
        """Whether another node has led since this one's database heard of it."""
        terms = [max(row.term for row in one.postgres.lineage) for one in self.machines if one.postgres.lineage]
        return max(row.term for row in postgres.lineage) < max(terms)

    def compact(self, node: int, upto: int) -> None:
        """Have this node's Kine compact up to a revision, never the newest ones.

        Never what a Kine has not told yet that nobody attends to, or that fills holes: API servers keep the last five minutes,
        which is longer than a machine or a supervisor stands still here, and than a Kine that answers is ever behind.
        """
        postgres = self.database_of(node)
        if postgres is None:
            return
        reading = [
            one for other, one in enumerate(self.machines) if one.unattended() or self.database_of(other) is not None
        ]
        told = [at for one in reading for at in one.kine.told.values()]
        upto = min(upto, postgres.newest() - COMPACT_KEEPS, *told)
        if upto > postgres.compacted:
            gone = superfluous(postgres, upto)
            self.ledger.note(gone)
            postgres.commit(Change(0, "", compacted=upto, gone=gone))


def published(change: Change) -> Change:
    """Return what the publication sends of a change: everything, deletions as well."""
    return change


COMPACT_KEEPS = 100  # revisions


def _settle(session: asyncio.Future[bool]) -> None:
    """Nobody ended it."""
    if not session.done():
        session.set_result(False)


def without(entry: LineageEntry, **changes: object) -> LineageEntry:
    """Return a changed copy."""
    return msgspec.structs.replace(entry, **changes)
