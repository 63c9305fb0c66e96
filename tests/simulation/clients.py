"""Clients of a pair: on each node one that writes, one that watches and an API server that compacts; and one that moves."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.leases import RENEWED_S, Holder, Worker
from tests.simulation.watch import Watch
from tests.simulation.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.simulation.pair import SimPair

WRITE_GAP_S = 0.02
WATCH_GAP_S = 0.015
IDLE = 8  # so much slower are clients while nothing happens
COMPACTED_S = 4.0  # an API server has all compacted that was there so long ago
MOVES = 0.05  # share of its looks before which the client that knows both nodes goes to the other one
LEAVES = 0.4  # the same where the one that it is at does not answer
SLOWER = 2  # so much slower than the others is the client that moves


class Acked(msgspec.Struct, frozen=True):
    """A write that a client was told of."""

    key: str
    id: int
    node: int  # through whose Kine
    at_s: float
    split: bool  # both nodes led, or might have: its write may be in an archive instead


@dataclass(slots=True)
class Mover:
    """A client that knows both nodes, as an etcd client with two endpoints: it resumes at the other one where it was."""

    drawn: random.Random
    writer: Writer
    watch: Watch = field(default_factory=lambda: Watch("the client that moves"))
    node: int = 0

    def may_move(self, *, answers: bool) -> None:
        """Go to the other node, now and then also from one that is well."""
        if self.drawn.random() < (MOVES if answers else LEAVES):
            self.node = 1 - self.node


class Clients:
    """All of them, with what they saw."""

    def __init__(self, pair: SimPair, seed: int) -> None:
        self._pair = pair
        self.watches = (Watch("the client of node 0"), Watch("the client of node 1"))
        drawn = [random.Random(f"{seed}/{name}") for name in ("0", "1", "mover")]  # noqa: S311 - reproducible on purpose
        self.writers = (Writer("/n0", drawn[0]), Writer("/n1", drawn[1]))
        self.mover = Mover(drawn[2], Writer("/m", drawn[2], moves=True))
        self.workers = (Worker(0), Worker(1))
        self.holders = (Holder(0), Holder(1))
        self._moving = False
        self._watching: list[asyncio.Task[None]] = []
        self._writing: list[asyncio.Task[None]] = []

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """Return everything that runs."""
        return self._watching + self._writing

    def everybody(self) -> tuple[Watch, ...]:
        """Return everybody who watches."""
        return (*self.watches, self.mover.watch) if self._moving else self.watches

    def stale(self) -> list[str]:
        """Return reads that showed less than had been acknowledged."""
        return [told for writer in (*self.writers, self.mover.writer) for told in writer.stale]

    def complaints(self, rows: dict[int, str]) -> list[str]:
        """Return what anybody believes wrongly of a leader's table."""
        told = ((one.name, one.complaint(rows, self._pair.world.ledger)) for one in self.everybody())
        return [f"{name} {complaint}" for name, complaint in told if complaint is not None]

    def begin(self) -> None:
        """Start those of each node."""
        self._watching = _started(self._follow(0), self._follow(1))
        self._writing = _started(self._write(0), self._write(1), self._compact(0), self._compact(1))

    def begin_moving(self) -> None:
        """Start the one that moves: in what seeds draw, and in scenarios about it. Others rest on when who writes what."""
        self._moving = True
        self._watching += _started(self._follow_anywhere())
        self._writing += _started(self._write_anywhere())

    def begin_leases(self) -> None:
        """Start those that hold keys under a lease, as `begin_moving`."""
        self._writing += _started(self._hold(self.holders[0]), self._hold(self.holders[1]))

    def stop_writing(self) -> None:
        """From now on nothing changes."""
        for task in self._writing:
            task.cancel()

    async def _gap(self, seconds: float, *, behind: bool = False) -> None:
        """Clients are quick while things happen, and take their time while nothing does; a Kine that fills holes never does."""
        world = self._pair.world
        idle = not behind and world.now_s() > world.busy_until_s
        await world.sleep(seconds * IDLE if idle else seconds * world.random.uniform(0.3, 1.7))

    async def _follow(self, node: int) -> None:
        world, watch, worker = self._pair.world, self.watches[node], self.workers[node]
        while True:
            await self._gap(WATCH_GAP_S, behind=watch.hole_s is not None)
            postgres = world.database_of(node)
            if postgres is not None:
                self._look(node, watch)
                for name, id_ in worker.look(watch, postgres, world.now_s()):
                    self._pair.pressed += _started(worker.end(world, name, id_))

    async def _follow_anywhere(self) -> None:
        mover = self.mover
        while True:
            await self._gap(WATCH_GAP_S * SLOWER, behind=mover.watch.hole_s is not None)
            mover.may_move(answers=self._look(mover.node, mover.watch))

    def _look(self, node: int, watch: Watch) -> bool:
        """Watch through this node's Kine. Returns whether it answers."""
        world = self._pair.world
        postgres = world.database_of(node)
        if postgres is None:
            return False
        world.machines[1 - node].kine.told.pop(watch.name, None)
        watch.follow(node, world.machines[node].kine, postgres, world.now_s())
        return True

    async def _write(self, node: int) -> None:
        while True:
            await self._write_once(node, self.writers[node])
            await self._gap(WRITE_GAP_S)

    async def _write_anywhere(self) -> None:
        while True:
            await self._write_once(self.mover.node, self.mover.writer)
            await self._gap(WRITE_GAP_S * SLOWER)

    async def _write_once(self, node: int, writer: Writer) -> None:
        pair = self._pair
        while node in pair.muted:
            await self._gap(WRITE_GAP_S)
        row = writer.next(pair.world, node)
        id_ = await pair.world.write(node, row.text())
        writer.learn(row, id_, split=pair.split)
        if id_ is not None:
            pair.acked.append(Acked(row.text(), id_, node, pair.world.now_s(), pair.split))

    async def _hold(self, holder: Holder) -> None:
        pair = self._pair
        while True:
            row, sent_s = holder.next(pair.world), pair.world.now_s()
            if row is not None:
                id_ = await pair.world.write(holder.node, row.text())
                holder.learn(row, id_, sent_s, split=pair.split)
            await pair.world.sleep(RENEWED_S)

    async def _compact(self, node: int) -> None:
        """This node's API server: what was the newest revision when it looked last, it has compacted now."""
        before, world = 0, self._pair.world
        while True:
            await world.sleep(COMPACTED_S)
            postgres = world.database_of(node)
            if postgres is not None:
                world.compact(node, before)
                before = postgres.newest()


def _started(*work: Coroutine[None, None, None]) -> list[asyncio.Task[None]]:
    return [asyncio.get_running_loop().create_task(one) for one in work]
