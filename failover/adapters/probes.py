"""Questions about the world outside, asked side by side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from failover.core.model import Answer, PeerProbe
from probes import disk, tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from failover.ports import Clock

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Where to ask. Durations are seconds."""

    agent: tuple[Endpoint, ...]  # the peer's supervisor, one a path
    postgres: tuple[Endpoint, ...]  # the peer's Postgres, one a path
    witnesses: tuple[Endpoint, ...] = ()  # gateway, broker: anything that is there when this node is connected
    folders: tuple[Path, ...] = ()  # whose file systems must not fill up
    free_min_bytes: int = 200 << 20
    timeout_s: float = 0.3
    witness_memory_s: float = 300.0  # a witness counts as long after it last worked


class NetworkProbes:
    """Implements `ports.Probes`."""

    def __init__(
        self,
        settings: ProbeSettings,
        clock: Clock,
        witnesses: Mapping[str, Callable[[], Awaitable[Answer]]] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._witnesses = dict(witnesses or {})  # those that are asked in another way than by a connection
        for host, port in settings.witnesses:
            self._witnesses[f"{host}:{port}"] = partial(tcp.knock, host, port, settings.timeout_s)
        self._worked_s: dict[str, float] = {}

    async def peer(self) -> PeerProbe:
        """Ask the peer's ports on every path at once."""
        settings = self._settings
        answers = await asyncio.gather(
            *(tcp.knock(host, port, settings.timeout_s) for host, port in settings.agent + settings.postgres)
        )
        count = len(settings.agent)
        return PeerProbe(self._clock.now_s(), tuple(answers[:count]), tuple(answers[count:]))

    async def isolated(self) -> bool:
        """Whether every witness that worked lately is silent now; a reset is an answer."""
        now_s = self._clock.now_s()
        answers = await asyncio.gather(*(ask() for ask in self._witnesses.values()))
        lately = [at_s for at_s in self._worked_s.values() if now_s - at_s < self._settings.witness_memory_s]
        for one, answer in zip(self._witnesses, answers, strict=True):
            if answer is not Answer.SILENT:
                self._worked_s[one] = now_s
        return bool(lately) and all(answer is Answer.SILENT for answer in answers)

    async def disk_nearly_full(self) -> bool:
        """Whether there is too little room left."""
        return await disk.nearly_full(self._settings.folders, self._settings.free_min_bytes)
