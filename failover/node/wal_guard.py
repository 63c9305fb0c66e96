"""The WAL that a leader keeps for a follower that is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from failover.core.model import Health, Role, Sync
from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.core.model import PostgresStatus
    from failover.node.memory import Memory
    from failover.node.settings import NodeSettings
    from failover.ports import Ports

log = structlog.get_logger()

SLOT_WARN = 0.8  # of max_slot_wal_keep_size
SLOT_SMALL_BYTES = 64 << 20  # less is not worth giving up for a disk that is nearly full


class WalGuard:
    """A follower that is away must never fill the leader's disk: it comes back by comparison without its slot."""

    def __init__(
        self, ports: Ports, settings: NodeSettings, memory: Memory,
        *, look: Callable[[], Awaitable[PostgresStatus]], pause_s: Callable[[float], float], busy: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._ports = ports
        self._settings = settings
        self._memory = memory
        self._look = look
        self._pause_s = pause_s  # common moments
        self._busy = busy

    async def run(self) -> None:
        """Guard until cancelled."""
        while True:
            try:
                await self._guard()
            except PortError as error:
                log.warning("the slot that keeps too much WAL is still there", error=str(error))
            await self._ports.clock.sleep(self._pause_s(self._settings.probe_world_s))

    async def _guard(self) -> None:
        """A slot that commits wait for is left alone: it moves, or the leader goes alone first."""
        memory, status, history = self._memory, self._memory.postgres, self._ports.history
        if status is None or memory.health is not Health.UP:
            return
        limit, kept = status.slot_limit_bytes, status.slot_bytes
        near = memory.role is Role.LEADER and limit is not None and kept > SLOT_WARN * limit
        if near and not memory.slot_near:
            history.append(
                "slot_near_limit", "the WAL kept for the follower nears max_slot_wal_keep_size; past it the follower "
                "comes back by comparison", slot_bytes=kept, limit_bytes=limit,
            )  # fmt: skip
        memory.slot_near = near
        too_much = kept > self._settings.slot_keep_bytes or (memory.disk_nearly_full and kept > SLOT_SMALL_BYTES)
        waited_for = memory.sync is Sync.IN_SYNC or bool(status.waits_for)
        if memory.role is Role.LEADER and too_much and not waited_for and not self._busy():
            await self._ports.postgres.drop_slots(None)
            history.append(
                "slot_dropped", "the slot of the follower that is away is given up: it kept too much WAL, and the "
                "follower comes back by comparison", slot_bytes=kept, disk_nearly_full=memory.disk_nearly_full,
            )  # fmt: skip
            await self._look()
