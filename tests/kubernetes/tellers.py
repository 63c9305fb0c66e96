"""The clients as processes that tell what they see, and a writer of configmaps that remembers what it was told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from lab import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.kubernetes.server import ApiServer

NAMESPACE = "lab"
PREFIX = f"/registry/configmaps/{NAMESPACE}/"
LINE_MAX = 16 << 20
WAIT_S = 120.0  # generous bounds on a hang, never a measurement
END_S = 10.0
ANSWER_S = 5.0  # what a request may take
UNDER_WAY_MAX = 64  # requests of one writer
Line = dict[str, Any]


class Teller:
    """One of the clients of `clients/`; `lines` is what it has said."""

    def __init__(self, program: Path, log: Path, *arguments: str) -> None:
        self.lines: list[Line] = []
        self._argv = [str(program), *arguments]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                limit=LINE_MAX,
            )
        self._reader = asyncio.create_task(self._read_on())

    async def stop(self) -> None:
        """End it and take in what it still says."""
        if self._process is not None and self._reader is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            async with asyncio.timeout(END_S):
                await self._process.wait()
                await self._reader

    def said(self, *what: str, since_s: float = 0.0) -> list[Line]:
        """Return its lines of these kinds from a moment on."""
        return [line for line in self.lines if line["what"] in what and line["at"] >= since_s]

    async def until_said(self, what: str) -> None:
        """Return when it has said this. Raises TimeoutError."""
        async with asyncio.timeout(WAIT_S):
            while not self.said(what):
                await asyncio.sleep(0.02)

    async def _read_on(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(json.loads(line))


@dataclass(slots=True)
class Act:
    """One request. Unknown, where no answer came, is `acked_s` None. The revision is known of creates and changes."""

    kind: str  # create, change, delete
    name: str
    sent_s: float
    acked_s: float | None = None
    revision: int | None = None


class Writer:
    """Creates configmaps, changes and deletes some of its own, `rate` a second, without waiting for earlier ones."""

    def __init__(self, server: ApiServer, name: str, *, rate: float = 15.0) -> None:
        self.acts: list[Act] = []
        self._server = server
        self._name = f"{name}-{secrets.token_hex(3)}"
        self._rate = rate
        self._numbers = itertools.count()
        self._mine: list[str] = []  # created, acknowledged, with no request under way
        self._random = random.Random(self._name)  # noqa: S311 - a workload
        self._task: asyncio.Task[None] | None = None
        self._acked = asyncio.Event()

    def start(self) -> None:
        """Begin, also after a stop."""
        self._task = asyncio.create_task(self._write_on())

    async def stop(self) -> None:
        """End it; requests under way stay unknown."""
        await tasks.end(self._task)
        self._task = None

    @property
    def acknowledged(self) -> list[Act]:
        """Return what was acknowledged, in the order in which it was sent."""
        return [act for act in self.acts if act.acked_s is not None]

    async def until_acknowledged(self, count: int = 1, *, sent_after_s: float | None = None) -> None:
        """Return when `count` more requests, sent from now or the given moment on, have been acknowledged."""
        since_s = time.monotonic() if sent_after_s is None else sent_after_s
        async with asyncio.timeout(WAIT_S):
            while sum(act.sent_s >= since_s for act in self.acknowledged) < count:
                self._acked.clear()
                await self._acked.wait()

    async def _write_on(self) -> None:
        due_s = time.monotonic()
        async with self._server.session(timeout_s=ANSWER_S) as session, asyncio.TaskGroup() as group:
            under_way: set[asyncio.Task[None]] = set()
            while True:
                due_s = max(due_s + 1 / self._rate, time.monotonic())
                if len(under_way) < UNDER_WAY_MAX:
                    task = group.create_task(self._act(session))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _act(self, session: aiohttp.ClientSession) -> None:
        kind = self._random.choices(("create", "change", "delete"), (2, 1, 1))[0] if len(self._mine) > 20 else "create"
        name = (
            f"{self._name}-{next(self._numbers):06d}"
            if kind == "create"
            else self._mine.pop(self._random.randrange(len(self._mine)))
        )
        act = Act(kind, name, time.monotonic())
        self.acts.append(act)
        try:
            async with _request(session, kind, name) as answer:
                told = await answer.json()
                if answer.status not in {200, 201}:
                    return
        except (aiohttp.ClientError, TimeoutError):
            return
        act.acked_s = time.monotonic()
        if kind != "delete":
            act.revision = int(told["metadata"]["resourceVersion"])
            self._mine.append(name)
        self._acked.set()


def _request(session: aiohttp.ClientSession, kind: str, name: str) -> Any:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    value = {"value": secrets.token_hex(8)}
    if kind == "create":
        return session.post(path, json={"metadata": {"name": name}, "data": value})
    if kind == "change":
        headers = {"Content-Type": "application/merge-patch+json"}
        return session.patch(f"{path}/{name}", json={"data": value}, headers=headers)
    return session.delete(f"{path}/{name}")


def longest_gap_s(acts: Iterable[Act], since_s: float) -> float:
    """Return the longest time between two answers, one of them after this moment."""
    times = sorted(act.acked_s for act in acts if act.acked_s is not None)
    gaps = [after - before for before, after in itertools.pairwise(times) if after >= since_s]
    return max(gaps, default=float("inf"))
