"""A writer and a watcher on each node, and the verdict over what they were told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from failover.adapters.archive import Archive
from lab import checker
from lab.workload import Watcher, Write, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE = 50.0
TIMEOUT_S = 0.05
PATIENT_RATE = 20.0
PATIENCE_S = 30.0  # an API server waits as long and longer
QUIET_S = 0.5  # longer than a write that nobody waits for any more can take


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a run: the rows of both databases, acknowledged writes that are in none, what else is wrong."""

    rows: list[tuple[Any, ...]]
    lost: list[Write]
    report: checker.Report


class ServingNode(Protocol):
    """A node as its clients know it."""

    @property
    def number(self) -> int:
        """0 or 1."""

    @property
    def kine_target(self) -> str:
        """What an etcd client connects to."""

    @property
    def state_dir(self) -> Path:
        """Where its archives are."""


class ServingPair(Protocol):
    """A pair of any kind: processes on loopback, containers."""

    @property
    def nodes(self) -> Sequence[ServingNode]:
        """Node 0 and node 1."""

    async def until_in_sync(self) -> object:
        """Return when one leads in sync and the other follows."""

    async def until_equal(self) -> list[tuple[Any, ...]]:
        """Return the rows once both hold the same ones."""


class Clients:
    """Writes and watches through the Kine of both nodes, all the time."""

    def __init__(
        self, pair: ServingPair, *, rate: float = RATE, timeout_s: float = TIMEOUT_S, patient: int = 0
    ) -> None:
        self.pair = pair
        self.writers = [
            Writer(node.kine_target, f"node-{node.number}", rate=rate, timeout_s=timeout_s) for node in pair.nodes
        ]
        self.patient = [
            Writer(node.kine_target, f"patient-{node.number}-{number}", rate=PATIENT_RATE, timeout_s=PATIENCE_S)
            for node in pair.nodes
            for number in range(patient)
        ]
        self.watchers = [Watcher(node.kine_target) for node in pair.nodes]
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for watcher in self.watchers:
            await self._stack.enter_async_context(watcher)
        for writer in (*self.writers, *self.patient):
            await self._stack.enter_async_context(writer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def until_writing(self, count: int = 20, nodes: tuple[int, ...] = (0, 1)) -> None:
        """Return when writes are acknowledged through these nodes."""
        await asyncio.gather(*(self.writers[node].until_acknowledged(count) for node in nodes))

    async def until_told(self, nodes: tuple[int, ...] = (0, 1)) -> None:
        """Return when each of these nodes' watchers has been told of all that is acknowledged there by now."""
        newest = {node: max(write.revision or 0 for write in self.writers[node].writes) for node in nodes}
        await asyncio.gather(*(self.watchers[node].until_seen(newest[node]) for node in nodes))

    @property
    def writes(self) -> list[Write]:
        """Return all writes of all writers."""
        return [write for writer in (*self.writers, *self.patient) for write in writer.writes]

    def archived(self) -> frozenset[str]:
        """Return the keys of every row in an archive of either node."""
        return frozenset(key for key, _ in self.archived_rows())

    def archived_rows(self) -> frozenset[tuple[str, bytes]]:
        """Return key and value of every row in an archive of either node."""
        rows = set()
        for node in self.pair.nodes:
            archive = Archive(node.state_dir / "archives")
            for name in archive.names():
                rows |= {
                    (line["key"], base64.b64decode(line["value"] or b""))
                    for line in archive.read(name)
                    if line["type"] == "row"
                }
        return frozenset(rows)

    async def until_quiet(self) -> list[tuple[Any, ...]]:
        """Return the rows once they stay as they are: a write whose client has given up may still arrive."""
        rows = await self.pair.until_equal()
        while True:
            await asyncio.sleep(QUIET_S)
            before, rows = rows, await self.pair.until_equal()
            if before == rows:
                return rows

    async def verify(self, *, split: bool = False) -> list[tuple[Any, ...]]:
        """Wait for quiet, then check everything: nothing lost, watches right, both databases equal. Returns the rows.

        After a split what one side acknowledged may be in an archive instead. Raises AssertionError with what is wrong.
        """
        found = await self.judge(split=split)
        assert not found.lost, f"{len(found.lost)} acknowledged writes are lost, first {found.lost[0]}"
        assert found.report.good, str(found.report)
        return found.rows

    async def judge(self, *, split: bool = False) -> Judgement:
        """Wait for quiet and for both databases to be equal, then return what is to be said. Raises TimeoutError."""
        await self.pair.until_in_sync()
        await self.until_writing()
        for writer in (*self.writers, *self.patient):
            await writer.stop()
        rows = await self.until_quiet()
        newest = max(row[checker.ID] for row in rows if row[checker.NAME].startswith("/registry/lab/"))
        await asyncio.gather(*(watcher.until_seen(newest) for watcher in self.watchers))
        lost = checker.lost(self.writes, rows, self.archived() if split else frozenset())
        return Judgement(rows, lost, checker.check([] if split else self.writes, self.watchers, rows))
