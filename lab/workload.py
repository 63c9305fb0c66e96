"""Clients on the etcd API that remember what they were told: a paced writer and a watcher."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from dataclasses import dataclass, field
from typing import Self

from failover.etcd.client import Change, CompactedError, EtcdClient, EtcdError
from lab import tasks

PREFIX = "/registry/lab/"


@dataclass(slots=True)
class Write:
    """One write. Times are seconds of the monotonic clock; unknown means that no answer came."""

    key: str
    value: bytes
    sent_s: float
    acked_s: float | None = None
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time between two acknowledged writes that follow each other."""

    seconds: float
    began_s: float
    ended_s: float


class Writer:
    """Creates unique keys, `rate` a second, through one target; what is not answered in `timeout_s` stays unknown."""

    def __init__(
        self, target: str, name: str, *, rate: float = 100.0, timeout_s: float = 0.05, size: int = 100
    ) -> None:
        self.target = target
        self.name = name
        self.writes: list[Write] = []
        self._rate = rate
        self._timeout_s = timeout_s
        self._size = size
        self._run = secrets.token_hex(4)
        self._client: EtcdClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._acked = asyncio.Event()
        self._count = 0  # of what was acknowledged

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Begin, also after a stop."""
        self._task = asyncio.create_task(self._write_on())

    async def stop(self) -> None:
        """End it; a write under way stays unknown."""
        await tasks.end(self._task)
        self._task = None
        self._drop()

    @property
    def acknowledged(self) -> list[Write]:
        """Return the writes that were acknowledged, in the order in which they were sent."""
        return [write for write in self.writes if write.acked_s is not None]

    async def until_acknowledged(self, count: int = 1, timeout_s: float = 60.0) -> None:
        """Return when `count` more writes have been acknowledged. Raises TimeoutError."""
        wanted = self._count + count
        async with asyncio.timeout(timeout_s):
            while self._count < wanted:
                self._acked.clear()
                await self._acked.wait()

    def longest_gap(self, since_s: float, until_s: float | None = None) -> Gap:
        """Return the longest gap that ended after `since_s`."""
        times = [write.acked_s for write in self.acknowledged if write.acked_s is not None]
        pairs = [
            Gap(after - before, before, after)
            for before, after in itertools.pairwise(times)
            if after >= since_s and (until_s is None or before <= until_s)
        ]
        return max(pairs, key=lambda gap: gap.seconds, default=Gap(float("inf"), since_s, float("inf")))

    def latencies_s(self) -> list[float]:
        """Return how long each acknowledged write took."""
        return [write.acked_s - write.sent_s for write in self.writes if write.acked_s is not None]

    async def _write_on(self) -> None:
        number, due_s = len(self.writes), time.monotonic()  # no key twice, also after a stop
        while True:
            number += 1
            due_s = max(due_s + 1 / self._rate, time.monotonic() - 1 / self._rate)
            await self._write(f"{PREFIX}{self.name}/{self._run}/{number:08d}")
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _write(self, key: str) -> None:
        write = Write(key, secrets.token_bytes(self._size // 2).hex().encode(), time.monotonic())
        self.writes.append(write)
        if self._client is None:
            self._client = EtcdClient(self.target)
        try:
            answer = await self._client.create(key, write.value, timeout_s=self._timeout_s)
        except EtcdError:
            self._drop()
            return
        if answer.succeeded:
            write.acked_s, write.revision = time.monotonic(), answer.revision
            self._count += 1
            self._acked.set()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as it came; the life is the number of lists before it."""

    change: Change
    at_s: float
    life: int


@dataclass(slots=True)
class Life:
    """From one list to the next: what a client believes."""

    revision: int  # of the list
    keys: dict[str, int] = field(default_factory=dict)  # key -> mod revision


class Watcher:
    """Lists, watches, resumes after what it has seen; lists anew only where it is told that the rest is compacted."""

    def __init__(self, target: str, prefix: str = PREFIX) -> None:
        self.target = target
        self.prefix = prefix
        self.seen: list[Seen] = []
        self.lives: list[Life] = []
        self._next = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        await tasks.end(self._task)

    async def until_seen(self, revision: int, timeout_s: float = 60.0) -> None:
        """Return when everything up to `revision` has been seen. Raises TimeoutError, saying what has not."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._next <= revision:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimeoutError(
                f"a watch of {self.target} has told up to revision {self._next - 1}, not up to {revision}, in {timeout_s:g} s"
            ) from None

    def believes(self) -> dict[str, int]:
        """Return the keys that this client believes to be there, with their revisions."""
        return dict(self.lives[-1].keys) if self.lives else {}

    async def _watch_on(self) -> None:
        while True:
            client = EtcdClient(self.target)
            try:
                if not self.lives:
                    await self._list(client)
                await self._follow(client)
            except CompactedError:
                with contextlib.suppress(EtcdError):
                    await self._list(client)
            except EtcdError:
                pass
            finally:
                client.close()
            await asyncio.sleep(0.02)

    async def _list(self, client: EtcdClient) -> None:
        listed = await client.list(self.prefix)
        self.lives.append(Life(listed.revision, {kv.key: kv.mod_revision for kv in listed.kvs}))
        self._next = listed.revision + 1

    async def _follow(self, client: EtcdClient) -> None:
        async for batch in client.watch(self.prefix, self._next):
            life = self.lives[-1]
            for change in batch.changes:
                self.seen.append(Seen(change, time.monotonic(), len(self.lives)))
                if change.deleted:
                    life.keys.pop(change.key, None)
                else:
                    life.keys[change.key] = change.mod_revision
                self._next = max(self._next, change.mod_revision + 1)
            if not batch.changes:
                self._next = max(self._next, batch.revision + 1)
