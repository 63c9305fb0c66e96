"""Questions about the world outside, asked side by side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failover.core.model import Answer, PeerProbe
from probes import disk, tcp

if TYPE_CHECKING:
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

    def __init__(self, settings: ProbeSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._worked_s: dict[Endpoint, float] = {}

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
        settings, now_s = self._settings, self._clock.now_s()
        answers = await asyncio.gather(*(tcp.knock(*one, settings.timeout_s) for one in settings.witnesses))
        lately = [one for one, at_s in self._worked_s.items() if now_s - at_s < settings.witness_memory_s]
        for one, answer in zip(settings.witnesses, answers, strict=True):
            if answer is not Answer.SILENT:
                self._worked_s[one] = now_s
        return bool(lately) and all(answer is Answer.SILENT for answer in answers)

    async def disk_nearly_full(self) -> bool:
        """Whether there is too little room left."""
        return await disk.nearly_full(self._settings.folders, self._settings.free_min_bytes)
