"""The ports of a node, on the simulated world."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from failover.core.model import (
    Answer,
    DataState,
    LastChange,
    LineageEntry,
    PeerProbe,
    PostgresStatus,
    Standby,
)
from failover.core.model import Subscription as SubscriptionStatus
from failover.ports import (
    FencedError,
    KineStatus,
    LeadOrder,
    PathState,
    PeerPostgresError,
    PortError,
    Ports,
    PostgresDownError,
    PostgresHungError,
    PreconditionError,
    Progress,
    RejoinOrder,
    RejoinReport,
    Target,
)
from tests.simulation.world import Change, Crashed, Subscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from failover.core.model import Acceptance, Durable, Heartbeat
    from tests.simulation.world import Machine, Postgres, World

QUICK_S = 0.002
KINE_START_S = 0.07
CHECKPOINT_S = 0.02
COPY_S = 0.2
HUNG_S = 2.0


class Part:
    """Belongs to one run of one supervisor: dead when that run is."""

    def __init__(self, world: World, node: int, run: list[bool]) -> None:
        self.world = world
        self.node = node
        self.run = run  # [alive]

    @property
    def machine(self) -> Machine:
        return self.world.machines[self.node]

    @property
    def peer(self) -> Machine:
        return self.world.machines[1 - self.node]

    def here(self) -> None:
        if not self.run[0]:
            raise Crashed

    async def pause(self, seconds: float = QUICK_S) -> None:
        self.here()
        await asyncio.sleep(seconds * self.world.random.uniform(0.7, 1.5))
        while self.machine.stalled and self.run[0]:
            await asyncio.sleep(0.05)
        self.here()


class SimPostgres(Part):
    async def _server(self) -> Postgres:
        await self.pause()
        postgres = self.machine.postgres
        if not postgres.up:
            raise PostgresDownError("down")
        if postgres.hung:
            await self.pause(HUNG_S)
            raise PostgresHungError("hung")
        return postgres

    async def status(self) -> PostgresStatus:
        postgres, now_s = await self._server(), self.world.now_s()
        subscription = postgres.subscription
        flushed = postgres.slots.get(postgres.waits_taken, 0)
        if postgres.stuck_since is not None and flushed > postgres.stuck_since[0]:
            postgres.stuck_since = None
        if postgres.stuck_since is None and postgres.sessions:
            postgres.stuck_since = (flushed, now_s)
        return PostgresStatus(
            started_at_us=postgres.runs,
            system_identifier=str(self.node),
            data=postgres.data,
            lineage=postgres.lineage,
            visible_revision=max(postgres.rows, default=0),
            wal_lsn=len(postgres.wal),
            is_open=postgres.login and postgres.lifted,
            fence_term=postgres.fence_term,
            waits_for=postgres.waits_for,
            standby=None
            if postgres.streaming is None
            else Standby(postgres.streaming, True, postgres.slots.get(postgres.streaming, 0), now_s - postgres.heard_s),
            oldest_wait_s=now_s - postgres.stuck_since[1] if postgres.stuck_since is not None else 0.0,
            subscription=None
            if subscription is None
            else SubscriptionStatus(subscription.name, True, True, now_s - subscription.heard_s, True, 0),
            last_change=LastChange(max(postgres.rows), int(postgres.changed_s * 1e6), now_s - postgres.changed_s)
            if postgres.rows
            else None,
        )

    def watch(self, lost: Callable[[], None]) -> None:
        self.machine.postgres.lost[:] = [lambda: lost() if self.run[0] else None]

    async def open_to_kine(self, term: int) -> None:
        postgres = await self._server()
        if postgres.fence_term >= term:
            raise FencedError("fenced")
        postgres.login = postgres.lifted = True

    async def close_to_kine(self, term: int) -> None:
        postgres = await self._server()
        postgres.login, postgres.fence_term = False, max(term, postgres.fence_term)
        self.world.end_sessions(self.node)

    async def close_quietly(self, term: int) -> int:
        del term
        postgres = await self._server()
        postgres.login = False
        await self.pause()
        return len(postgres.wal)

    async def lead(self, order: LeadOrder) -> LineageEntry:
        postgres = await self._server()
        if postgres.data is not DataState.COMPLETE or not postgres.lineage:
            raise PreconditionError("not complete")
        parent = max(postgres.rows, default=0)
        gap = max(parent, order.clear_revision) + order.margin
        postgres.commit(Change(gap, f"gap-{gap}"))
        if order.full_fence:
            postgres.compacted = gap - 1
        entry = replace(order.entry, first_revision=gap, parent_revision=parent)
        postgres.commit(Change(0, "", entry))
        return entry

    async def record(self, entry: LineageEntry) -> LineageEntry:
        postgres = await self._server()
        parent = max(postgres.rows, default=0)
        entry = replace(entry, first_revision=parent + 1, parent_revision=parent)
        postgres.commit(Change(0, "", entry))
        return entry

    async def found(self, entry: LineageEntry) -> None:
        raise AssertionError(entry)

    async def prepare(self) -> None:
        await self._server()

    async def waits_on(self, standby: str) -> None:
        postgres = await self._server()
        postgres.waits_for = standby
        await self.pause(CHECKPOINT_S)
        if not postgres.up:
            raise PostgresDownError("down")
        postgres.waits_taken, postgres.stuck_since = standby, None

    async def waits_off(self) -> None:
        postgres = await self._server()
        postgres.waits_for = postgres.waits_taken = ""
        postgres.stuck_since = None
        self.world.release_waiters(self.node)

    async def flushed(self, standby: str, lsn: int) -> None:
        for _ in range(1000):
            postgres = await self._server()
            if postgres.streaming == standby and postgres.slots.get(standby, 0) >= lsn:
                return
            await self.pause(0.005)
        raise PortError("the follower did not get there in time")

    async def detach(self) -> None:
        (await self._server()).subscription = None

    async def drop_slots(self, keep: str | None) -> None:
        postgres = await self._server()
        postgres.slots = {name: at for name, at in postgres.slots.items() if name == keep}
        postgres.streaming = None

    async def close(self) -> None:
        self.here()


class SimPeerPostgres(Part):
    async def _server(self) -> Postgres:
        await self.pause()
        if not self.world.reachable(self.node, 1 - self.node):
            await self.pause(1.0)
            raise PeerPostgresError("silent")
        if not self.peer.postgres.up or self.peer.postgres.hung:
            raise PeerPostgresError("refused")
        return self.peer.postgres

    async def fence(self, term: int) -> None:
        postgres = await self._server()
        postgres.login, postgres.fence_term = False, max(term, postgres.fence_term)
        self.world.end_sessions(1 - self.node)

    async def drain(self) -> None:
        own = self.machine.postgres.subscription
        if own is None:
            raise PeerPostgresError("no stream")
        for _ in range(500):
            postgres = await self._server()
            if postgres.slots.get(own.name, 0) >= len(postgres.wal):
                return
            await self.pause(0.005)
        raise PeerPostgresError("not drained in time")

    async def close(self) -> None:
        self.here()


class SimRejoin(Part):
    def _leader(self) -> Postgres:
        self.here()
        postgres = self.peer.postgres
        if not self.world.reachable(self.node, 1 - self.node) or not postgres.up or postgres.hung:
            raise PeerPostgresError("the leader's Postgres cannot be reached")
        if not self.machine.postgres.up:
            raise PostgresDownError("down")
        return postgres

    async def rejoin(self, order: RejoinOrder, progress: Callable[[Progress], None]) -> RejoinReport:
        await self.pause(0.02)
        leader, own = self._leader(), self.machine.postgres
        own.subscription = None
        if not leader.lineage or leader.lineage[-1].id != order.leader_head:
            raise PreconditionError("the leader has moved on")
        leader.slots = {order.subscription: len(leader.wal)}
        rows, lineage = dict(leader.rows), leader.lineage
        extra = {key for id_, key in own.rows.items() if rows.get(id_) != key and not key.startswith("gap-")}
        await self.pause(0.02)
        if order.archived is None:
            self.machine.archive |= extra
        progress(Progress(0, len(rows), 0, 0.0))
        await self.pause(COPY_S)
        self._leader()
        missing = extra - self.machine.archive
        assert not missing, f"rows are dropped that are in no archive: {missing}"
        own.rows, own.lineage, own.data = rows, lineage, DataState.COMPLETE
        own.sequence, own.wal = leader.sequence, []
        await self.pause()
        own.subscription = Subscription(order.subscription, self.world.now_s())
        return RejoinReport(
            "copy", len(rows), len(extra), len(rows), 0, COPY_S, None, 0 if order.archived else len(extra)
        )

    async def archive(self, acceptance: Acceptance) -> str:
        await self.pause(0.03)
        leader, own = self._leader(), self.machine.postgres
        self.machine.archive |= {key for id_, key in own.rows.items() if leader.rows.get(id_) != key}
        return f"split-{acceptance.verdict.loser_head[:8]}"


class SimKine(Part):
    def __init__(self, world: World, node: int, run: list[bool]) -> None:
        super().__init__(world, node, run)
        self._lock = asyncio.Lock()

    def status(self) -> KineStatus:
        kine = self.machine.kine
        return KineStatus(kine.target, kine.key, kine.frozen, 1 if kine.target else None, kine.revision)

    def watch(self, ended: Callable[[], None]) -> None:
        pass

    async def serve(self, target: Target, key: str) -> None:
        async with self._lock:
            kine = self.machine.kine
            if (kine.target, kine.key, kine.frozen) == (target, key, False):
                return
            self._stop_start = False
            await self.pause(KINE_START_S)
            owner = self.node if target is Target.OWN else 1 - self.node
            reachable = self.world.is_open(owner) and self.world.reachable(self.node, owner)
            if self._stop_start or not reachable:
                raise PortError("the new Kine does not answer")
            kine.target, kine.key, kine.frozen = target, key, False
            self.world.say(f"node {self.node}: Kine serves from {target}")

    _stop_start = False

    def freeze(self) -> None:
        self.here()
        self._stop_start = True
        self.machine.kine.frozen = True

    def thaw(self) -> None:
        self.here()
        self.machine.kine.frozen = False

    async def kill(self) -> None:
        self._stop_start = True
        await self.pause()
        self.machine.kine.target, self.machine.kine.frozen = None, False

    async def release(self) -> None:
        pass


class SimLink(Part):
    async def start(self, received: Callable[[Heartbeat, str], None], closed: Callable[[str], None]) -> None:
        self.machine.received = lambda beat, path: received(beat, path) if self.run[0] else None
        self.machine.closed = lambda path: closed(path) if self.run[0] else None

    def send(self, heartbeat: Heartbeat) -> None:
        self.here()
        world = self.world
        if not self.machine.powered or world.cut[self.node] or world.random.random() < world.loss:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(world.delay_s * world.random.uniform(0.5, 2.0), self._arrive, heartbeat)

    def _arrive(self, heartbeat: Heartbeat) -> None:
        peer = self.peer
        if (
            peer.powered
            and peer.alive
            and not peer.stalled
            and peer.received is not None
            and not self.world.cut[self.node]
        ):
            peer.received(heartbeat, "path")

    def paths(self) -> tuple[PathState, ...]:
        return (PathState("path", True, 0.0, None, None),)

    async def stop(self) -> None:
        pass


class SimProbes(Part):
    async def peer(self) -> PeerProbe:  # type: ignore[override]
        await self.pause(0.01)
        world, peer = self.world, self.world.machines[1 - self.node]
        if not peer.powered or any(world.cut):
            await self.pause(0.3)
            silent = (Answer.SILENT,)
            return PeerProbe(world.now_s(), silent, silent)
        agent = Answer.OPEN if peer.alive else Answer.REFUSED
        postgres = Answer.OPEN if peer.postgres.up else Answer.REFUSED
        return PeerProbe(world.now_s(), (agent,), (postgres,))

    async def isolated(self) -> bool:
        await self.pause()
        return False

    async def disk_nearly_full(self) -> bool:
        await self.pause()
        return self.machine.disk_full


class SimState(Part):
    def load(self) -> Durable | None:
        return self.machine.state

    async def save(self, durable: Durable) -> None:
        await self.pause(0.003)  # a crash before the rename leaves the old one
        before = self.machine.state
        assert before is not None
        assert durable.highest_term >= before.highest_term, "a term went back (I2)"
        if before.acceptance is not None and durable.acceptance is not None:
            assert before.acceptance.verdict == durable.acceptance.verdict, "an accepted verdict changed (I9)"
        self.machine.state = durable


class SimClock(Part):
    def now_s(self) -> float:
        return self.world.now_s() + 1000.0

    def wall_us(self) -> int:
        return int((self.world.now_s() + self.machine.wall_offset_s) * 1e6) + 10**12

    def new_id(self) -> str:
        return self.world.new_id()

    async def sleep(self, seconds: float) -> None:
        self.here()
        await asyncio.sleep(seconds)
        while self.machine.stalled and self.run[0]:
            await asyncio.sleep(0.05)
        self.here()


class SimAddress(Part):
    async def acquire(self) -> None:
        await self.pause()

    async def release(self) -> None:
        await self.pause()


class SimHistory(Part):
    def append(self, kind: str, message: str, **evidence: object) -> None:
        del evidence
        self.world.say(f"node {self.node}: {kind}: {message}")

    def newest(self, count: int) -> list[dict[str, object]]:
        del count
        return []

    async def follow(self) -> AsyncIterator[dict[str, object]]:
        for event in self.newest(0):
            yield event


def ports(world: World, node: int, run: list[bool]) -> Ports:
    """Return a new supervisor's ports."""
    return Ports(
        postgres=SimPostgres(world, node, run),
        peer_postgres=SimPeerPostgres(world, node, run),
        rejoin=SimRejoin(world, node, run),
        kine=SimKine(world, node, run),
        link=SimLink(world, node, run),
        probes=SimProbes(world, node, run),
        state=SimState(world, node, run),
        clock=SimClock(world, node, run),
        address=SimAddress(world, node, run),
        history=SimHistory(world, node, run),
    )
