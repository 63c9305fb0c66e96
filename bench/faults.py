"""Gaps: the longest time without an acknowledged write, seen by a writer on the surviving node."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import psycopg

from lab import checker
from lab.clients import Clients
from lab.pair import Pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from lab.pair import NodeProcesses

RATE = 100.0
WRITES_BEFORE = 60
WRITES_AFTER = 60
ROWS = 300_000  # 139 MB, as in the rejoin that the target was taken from
DIVERGED = 5_000


class Bench:
    """A pair under load, broken and mended again and again."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.clients = Clients(pair, rate=RATE)
        self.lost = 0

    async def f0(self) -> float:
        """The leader's Postgres is killed."""
        leader, other = await self._ready()
        began_s = time.monotonic()
        leader.postgres.kill()
        gap = await self._gap(other, began_s)
        leader.postgres.start()
        return gap

    async def f1(self) -> float:
        """Everything on the leader is killed; its kernel answers with resets."""
        leader, other = await self._ready()
        began_s = time.monotonic()
        leader.kill()
        gap = await self._gap(other, began_s)
        leader.start()
        return gap

    async def f2(self) -> float:
        """Power loss: from one moment to the next nothing answers."""
        leader, other = await self._ready()
        began_s = time.monotonic()
        self.pair.network.cut()
        leader.freeze()
        gap = await self._gap(other, began_s)
        leader.kill()
        self.pair.network.heal()
        leader.start()
        return gap

    async def f3(self) -> float:
        """A partition, seen from the follower's side; it heals without help."""
        _, other = await self._ready()
        began_s = time.monotonic()
        self.pair.network.cut()
        gap = await self._gap(other, began_s)
        await self.pair.until("both to lead", lambda both: all((one or {}).get("role") == "leader" for one in both))
        self.pair.network.heal()
        await self.pair.until_in_sync()
        return gap

    async def switchover(self) -> float:
        """A planned switchover, seen through either node."""
        leader, _ = await self._ready()
        began_s = time.monotonic()
        await leader.post("switchover")
        return max(await asyncio.gather(*(self._gap(node, began_s) for node in self.pair.nodes)))

    async def reboot(self) -> float:
        """An orderly reboot of the leader: it hands over, then everything on it ends."""
        leader, other = await self._ready()
        began_s = time.monotonic()
        await asyncio.to_thread(leader.command, "leave")
        leader.stop_supervisor()
        leader.kill_kine()
        await asyncio.to_thread(leader.postgres.stop)
        gap = await self._gap(other, began_s)
        leader.start()
        return gap

    async def rejoin(self, *, diverged: int) -> float:
        """How long a node that lost power, or a split, takes from the beginning of its rejoin to streaming on."""
        leader, other = await self._ready()
        before = {node.number: len(node.history()) for node in self.pair.nodes}
        self.pair.network.cut()
        if diverged:
            await self.pair.until("both to lead alone", _both_alone)
            await asyncio.gather(*(asyncio.to_thread(fill, node, diverged, "diverged") for node in self.pair.nodes))
            self.pair.network.heal()
        else:
            leader.freeze()
            await self._gap(other, time.monotonic())
            leader.kill()
            self.pair.network.heal()
            leader.start()
        await self.pair.until_in_sync()
        events = [event for node in self.pair.nodes for event in node.history()[before[node.number] :]]
        return float(next(event["seconds"] for event in reversed(events) if event["kind"] == "rejoined"))

    async def _ready(self) -> tuple[NodeProcesses, NodeProcesses]:
        await self.pair.until_in_sync()
        await self.clients.until_writing(WRITES_BEFORE)
        leader = await self.pair.leader()
        return leader, self.pair.other(leader)

    async def _gap(self, node: NodeProcesses, since_s: float) -> float:
        writer = self.clients.writers[node.number]
        await writer.until_acknowledged(WRITES_AFTER)
        return writer.longest_gap(since_s).seconds

    async def count_lost(self) -> None:
        """Compare what was acknowledged with what is there."""
        await self.pair.until_in_sync()
        for writer in self.clients.writers:
            await writer.stop()
        rows = await self.pair.until_equal()
        self.lost += len(checker.lost(self.clients.writes, rows, self.clients.archived()))


@contextlib.asynccontextmanager
async def bench(*, extra: Mapping[str, str] | None = None, rows: int = 0) -> AsyncIterator[Bench]:
    """A pair in sync under load, with `rows` rows of half a kilobyte in it."""
    pair = Pair(extra=extra)
    try:
        await pair.create()
        await pair.start()
        if rows:
            await asyncio.to_thread(fill, await pair.leader(), rows, "filler")
            await pair.until("the follower to have it", _equal_revisions)
            await asyncio.to_thread(tend, pair)
            await pair.until_in_sync()
        made = Bench(pair)
        async with made.clients:
            yield made
    finally:
        await pair.stop()


def _both_alone(both: Sequence[dict[str, Any] | None]) -> bool:
    """Whether both lead and neither waits for the other: what is written now is acknowledged on each side."""
    return all((one or {}).get("role") == "leader" and (one or {}).get("sync") == "alone" for one in both)


def _equal_revisions(both: Sequence[dict[str, Any] | None]) -> bool:
    revisions = {(one or {}).get("postgres", {}).get("revision", node) for node, one in enumerate(both)}
    return len(revisions) == 1 and max(revisions) >= ROWS


def tend(pair: Pair) -> None:
    """Do on both nodes what autovacuum does as a table grows: without statistics each poll of Kine's reads all of it."""
    for node in pair.nodes:
        with psycopg.connect(node.postgres.conninfo(), autocommit=True) as session:
            session.execute("VACUUM (ANALYZE) public.kine")


def fill(node: NodeProcesses, rows: int, name: str) -> None:
    """Write rows directly, much faster than through the API."""
    with psycopg.connect(node.postgres.conninfo(), options="-c synchronous_commit=local") as session:
        # Else a write of Kine's commits a higher id first, and on a busy machine Kine fills the hole below it.
        session.execute("LOCK TABLE public.kine IN EXCLUSIVE MODE")
        session.execute(
            "INSERT INTO public.kine (name, created, deleted, create_revision, prev_revision, lease, value) "
            "SELECT '/bench/' || %s || '/' || i, 1, 0, 0, 0, 0, convert_to(repeat(md5(i::text), 13), 'UTF8') "
            "FROM generate_series(1, %s::int) AS i",
            [f"{name}-{time.time_ns()}", rows],
        )
