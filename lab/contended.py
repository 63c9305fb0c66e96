"""Keys that clients of both nodes change at once, by compare-and-swap: a register, a counting chain, an append list."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from failover.etcd.client import EtcdClient, EtcdError
from lab import tasks

if TYPE_CHECKING:
    from failover.etcd.client import KeyValue

CONTENDED = "/registry/contended/"
LIST_MAX = 400  # elements: a value stays well below what a row takes


class Kind(StrEnum):
    """What the value of a key means."""

    REGISTER = "register"  # any new value
    CHAIN = "chain"  # the number before, plus one
    LIST = "list"  # the list before, and one more element


class Outcome(StrEnum):
    """What a client was told."""

    DONE = "done"
    REFUSED = "refused"  # the comparison did not hold
    UNKNOWN = "unknown"  # no answer, or an error: it may have happened, and may still happen


@dataclass(slots=True)
class Operation:
    """A read or a write of one key as a client saw it. Times are seconds of the monotonic clock.

    `revision` is of the value: the one read, or the one written where the answer came. A key that is not there is at 0.
    """

    client: str
    key: str
    kind: Kind
    is_write: bool
    value: bytes
    began_s: float
    ended_s: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    revision: int | None = None
    before: int | None = None  # the revision that a write compared with
    token: str = ""  # what a write added: unique


class ContendedClient:
    """Reads a key and swaps it, `rate` times a second, over all kinds in turn; through one node."""

    def __init__(
        self, target: str, name: str, run: str, *, rate: float = 10.0, timeout_s: float = 0.5, until: int = 10**9
    ) -> None:
        self.target = target
        self.name = name
        self.operations: list[Operation] = []
        self._keys = [(f"{CONTENDED}{run}/{kind}", kind) for kind in Kind]
        self._rate = rate
        self._timeout_s = timeout_s
        self._until = until
        self._task: asyncio.Task[None] | None = None
        self._client: EtcdClient | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End it; what is under way stays unknown."""
        await tasks.end(self._task)
        self._task = None
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _work_on(self) -> None:
        number = 0
        while True:
            key, kind = self._keys[number % len(self._keys)]
            number += 1
            with contextlib.suppress(EtcdError):
                await self._swap(key, kind)
            await asyncio.sleep(1 / self._rate)

    async def _swap(self, key: str, kind: Kind) -> None:
        if self._client is None:
            self._client = EtcdClient(self.target)
        try:
            found = await self._read(self._client, key, kind)
            await self._write(self._client, key, kind, found)
        except EtcdError:
            self._drop()
            raise

    async def _read(self, client: EtcdClient, key: str, kind: Kind) -> KeyValue | None:
        read = Operation(self.name, key, kind, is_write=False, value=b"", began_s=time.monotonic())
        answer = await client.get(key, timeout_s=self._timeout_s)
        read.ended_s, read.outcome = time.monotonic(), Outcome.DONE
        read.revision = answer.kv.mod_revision if answer.kv is not None else 0
        read.value = answer.kv.value if answer.kv is not None else b""
        self.operations.append(read)
        return answer.kv

    async def _write(self, client: EtcdClient, key: str, kind: Kind, found: KeyValue | None) -> None:
        token = secrets.token_hex(6)
        value = next_value(kind, found.value if found is not None else b"", token)
        before = found.mod_revision if found is not None else 0
        write = Operation(self.name, key, kind, True, value, time.monotonic(), before=before, token=token)
        self.operations.append(write)
        if found is None:
            answer = await client.create(key, value, timeout_s=self._timeout_s)
        else:
            answer = await client.update(key, value, before, timeout_s=self._timeout_s)
        write.ended_s = time.monotonic()
        write.outcome = Outcome.DONE if answer.succeeded else Outcome.REFUSED
        write.revision = answer.revision if answer.succeeded else None


def next_value(kind: Kind, value: bytes, token: str) -> bytes:
    """Return what a client writes over `value`."""
    if kind is Kind.REGISTER or not value:
        return {Kind.REGISTER: token, Kind.CHAIN: f"1 {token}", Kind.LIST: token}[kind].encode()
    if kind is Kind.CHAIN:
        return f"{int(value.split()[0]) + 1} {token}".encode()
    elements = value.split()
    return b" ".join([*elements[-LIST_MAX:], token.encode()])
