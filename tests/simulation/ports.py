"""The ports of a node, on the simulated world."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from failover.core.heartbeat import RefusedError, decode, encode
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
    LeadOrder,
    PathState,
    PeerPostgresError,
    PortError,
    Ports,
    PostgresDownError,
    PostgresHungError,
    PreconditionError,
)
from tests.simulation.kine import SimKine
from tests.simulation.part import Part
from tests.simulation.rejoin import SimRejoin
from tests.simulation.rows import superfluous
from tests.simulation.world import PATHS, Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import Durable, Heartbeat
    from failover.ports import AddressStatus, Timer
    from tests.simulation.world import Postgres, World

CHECKPOINT_S = 0.02
HUNG_S = 2.0
LOCK_S = 5.0
ALIKE = 0.9  # share of second copies that are left out


class SimPostgres(Part):
    async def _server(self) -> Postgres:
        await self.pause()
        postgres = self.machine.postgres
        if not postgres.up:
            raise PostgresDownError("down")
        deadline_s = self.world.now_s() + HUNG_S
        while postgres.hung:
            if self.world.now_s() > deadline_s:
                raise PostgresHungError("hung")
            await self.pause(0.05)
            if not postgres.up:
                raise PostgresDownError("down")
        return postgres

    async def _commits(self, postgres: Postgres) -> None:
        """A statement that writes takes as long as the disk, within its time-out."""
        run, deadline_s = postgres.runs, self.world.now_s() + HUNG_S
        while self.machine.disk_stalled:
            if self.world.now_s() > deadline_s:
                raise PostgresHungError("the disk does not answer")
            await self.pause(0.02)
        if not postgres.up or postgres.runs != run:
            raise PostgresDownError("down")

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
            data=postgres.data,
            lineage=postgres.lineage,
            visible_revision=postgres.newest(),
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
            last_change=self._last_change(postgres, now_s),
            changes=postgres.changes(),
        )

    def _last_change(self, postgres: Postgres, now_s: float) -> LastChange | None:
        """As a node sees it: by its own wall clock, and by age where it has happened since Postgres began."""
        if not postgres.changed_s:
            return None
        seen = postgres.changed_s >= postgres.began_s
        commit_us = self.wall_us_at(postgres.changed_s)
        return LastChange(postgres.newest(), commit_us, now_s - postgres.changed_s if seen else None)

    def watch(self, lost: Callable[[], None]) -> None:
        self.machine.postgres.lost[:] = [lambda: lost() if self.run[0] else None]

    async def open_to_kine(self, term: int) -> None:
        postgres = await self._server()
        await self._commits(postgres)
        if postgres.fence_term >= term:
            raise FencedError("fenced")
        postgres.login = postgres.lifted = True

    async def close_to_kine(self, term: int) -> None:
        postgres = await self._server()
        await self._commits(postgres)
        postgres.login, postgres.fence_term = False, max(term, postgres.fence_term)
        self.world.end_sessions(self.node)

    async def close_quietly(self) -> int:
        postgres = await self._server()
        postgres.login = False
        await self.pause()
        return len(postgres.wal)

    async def lead(self, order: LeadOrder) -> LineageEntry:
        postgres = await self._server()
        if postgres.data is not DataState.COMPLETE or not postgres.lineage:
            raise PreconditionError("not complete")
        await self._commits(postgres)
        await self._lock(postgres)
        parent = postgres.newest()
        gap = max(parent, order.clear_revision) + order.margin
        gone = superfluous(postgres, parent) if order.full_fence else ()
        self.world.ledger.note(gone)
        postgres.commit(Change(gap, f"gap-{gap}", compacted=gap - 1 if order.full_fence else 0, gone=gone))
        entry = replace(order.entry, first_revision=gap, parent_revision=parent)
        postgres.commit(Change(0, "", entry))
        return entry

    async def _lock(self, postgres: Postgres) -> None:
        """Have every insert come to its end, commits that wait for the follower too; those that begin meanwhile wait for this."""
        deadline_s, postgres.locking = self.world.now_s() + LOCK_S, True
        try:
            while postgres.under_way or postgres.sessions:
                if self.world.now_s() > deadline_s:
                    raise PortError("the table could not be locked in time")
                await self.pause()
        finally:
            postgres.locking = False

    async def record(self, entry: LineageEntry) -> LineageEntry:
        postgres = await self._server()
        await self._commits(postgres)
        parent = postgres.newest()
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
        while self.machine.checkpoint_stalled and postgres.up:
            await self.pause(CHECKPOINT_S)
        await self._commits(postgres)  # the checkpointer takes the setting once the disk has let it go
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
        while self.peer.disk_stalled:
            await self.pause(0.02)
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


class SimLink(Part):
    async def start(self, received: Callable[[Heartbeat, str], None], closed: Callable[[str], None]) -> None:
        self.machine.received = lambda beat, path: received(beat, path) if self.run[0] else None
        self.machine.closed = lambda path: closed(path) if self.run[0] else None

    def send(self, heartbeat: Heartbeat) -> None:
        """On each path, with its own delay; what comes second is dropped by the node, so most of it is left out."""
        self.here()
        world = self.world
        if not self.machine.powered:
            return
        drawn, sent = world.random, False
        for path in PATHS:
            if world.cut[path][self.node] or drawn.random() < world.loss or (sent and drawn.random() < ALIKE):
                continue
            sent = True
            delay_s = world.delay_s * drawn.uniform(0.5, 2.0)
            world.later(delay_s, self._arrive, heartbeat, path)
            if drawn.random() < world.late:
                world.later(drawn.uniform(0.1, 4.0), self._arrive, heartbeat, path)

    def _arrive(self, heartbeat: Heartbeat, path: str) -> None:
        peer = self.peer
        if (
            not (peer.powered and peer.alive)
            or peer.stalled
            or peer.received is None
            or self.world.cut[path][self.node]
        ):
            return
        if self.machine.wire is None and peer.wire is None:
            peer.received(heartbeat, path)
            return
        try:
            taken = decode((self.machine.wire or encode)(heartbeat), cluster="sim", own_node=1 - self.node)
        except RefusedError as refused:
            self.world.say(f"node {1 - self.node}: refuses a message: {refused}")
        else:
            peer.received(taken, path)

    def paths(self) -> tuple[PathState, ...]:
        return tuple(PathState(path, True, 0.0, None) for path in PATHS)

    async def stop(self) -> None:
        pass


class SimProbes(Part):
    async def peer(self) -> PeerProbe:  # type: ignore[override]
        await self.pause(0.01)
        world, peer = self.world, self.world.machines[1 - self.node]
        if not peer.powered or all(any(world.cut[path]) for path in PATHS):
            await self.pause(0.3)
        agent, postgres = [], []
        for path in PATHS:
            silent = not peer.powered or any(world.cut[path])
            agent.append(Answer.SILENT if silent else Answer.OPEN if peer.alive else Answer.REFUSED)
            postgres.append(Answer.SILENT if silent else Answer.OPEN if peer.postgres.up else Answer.REFUSED)
        return PeerProbe(world.now_s() * self.machine.rate + 1000.0 * (1 + self.node), tuple(agent), tuple(postgres))

    async def isolated(self) -> bool:
        isolated = self.machine.isolated
        await self.pause(0.3 if isolated else 0.001)  # silence takes as long as a knock may last
        return isolated

    async def disk_nearly_full(self) -> bool:
        await self.pause()
        return self.machine.disk_full


class SimState(Part):
    """Written, synced, renamed, the folder synced: a crash shows the old file or the new one, a loss of power before the
    end either of them."""

    def load(self) -> Durable | None:
        return self.machine.renamed or self.machine.state

    async def save(self, durable: Durable) -> None:
        await self.pause()
        await self.synced()
        before = self.load()
        assert before is not None
        assert durable.highest_term >= before.highest_term, "a term went back (I2)"
        if before.acceptance is not None and durable.acceptance is not None:
            assert before.acceptance.verdict == durable.acceptance.verdict, "an accepted verdict changed (I9)"
        if self.machine.state_sync_s:
            await self.pause(self.machine.state_sync_s)
        self.machine.renamed = durable
        await self.pause()
        await self.synced()
        if self.machine.renamed is durable:
            self.machine.state, self.machine.renamed = durable, None


class SimClock(Part):
    def now_s(self) -> float:
        return self.world.now_s() * self.machine.rate + 1000.0 * (1 + self.node)

    def wall_us(self) -> int:
        return self.wall_us_at(self.world.now_s())

    def new_id(self) -> str:
        return self.world.new_id()

    async def sleep(self, seconds: float) -> None:
        self.here()
        await self.world.sleep(seconds)
        await self.on_cpu()

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        self.here()
        if not event.is_set():
            either = self.world.sleep(seconds)
            event._waiters.append(either)  # as event.wait() does, without the price of asyncio.timeout
            try:
                await either
            finally:
                event._waiters.remove(either)
        await self.on_cpu()

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.here()
        return asyncio.get_running_loop().call_later(seconds, lambda: call() if self.run[0] else None)


class SimAddress(Part):
    async def acquire(self) -> None:
        await self.pause()

    async def release(self) -> None:
        await self.pause()

    def status(self) -> tuple[AddressStatus, ...]:
        return ()


class SimHistory(Part):
    def append(self, kind: str, message: str, **evidence: object) -> None:
        del evidence
        self.world.say(f"node {self.node}: {kind}: {message}")

    def newest(self, count: int) -> list[dict[str, object]]:
        del count
        return []

    async def newer(self, than: int, wait_s: float) -> list[dict[str, object]]:
        del than, wait_s
        return []


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
