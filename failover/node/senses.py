"""The senses of a node: what its tasks find out goes into the memory, and what is worth a decision wakes the loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from failover.core.lease import NEVER
from failover.core.model import Health
from failover.ports import PostgresDownError, PostgresHungError

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import PostgresStatus
    from failover.node.memory import Memory
    from failover.node.settings import NodeSettings
    from failover.ports import Ports, Timer

log = structlog.get_logger()

TIME_OUTS_SLEPT_MAX = 2  # looks at the own Postgres in a row that a stall of this node may excuse
CLOCK_JUMP_US = 500_000
IDLE_S = 60.0  # a task that waits for an event alone looks up so often
SOON_S = 0.001  # too soon to be another moment
LATE = 1.2  # heartbeats: what has not come by then is missing


class Senses:
    """Looks at the own Postgres, listens for silence, asks the peer's ports and the world, and notices stalls."""

    def __init__(self, ports: Ports, settings: NodeSettings, memory: Memory, wake: Callable[[], None]) -> None:
        self._ports = ports
        self._settings = settings
        self._memory = memory
        self._wake = wake
        self._look_now = asyncio.Event()
        self._silence = asyncio.Event()  # heartbeats are missing
        self._silence.set()
        self._missing: Timer | None = None  # until the next heartbeat is missing
        self._wall_minus_boot_us: int | None = None
        self._time_outs_slept = 0  # in a row
        self.ticked_s = NEVER  # when the loop last came round

    # ---- what comes in by itself ---------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether a heartbeat is missing."""
        return self._silence.is_set()

    def heard(self) -> None:
        """A heartbeat has come: silence begins where the next one does not."""
        self._silence.clear()
        if self._missing is not None:
            self._missing.cancel()
        self._missing = self._ports.clock.later(LATE * self._settings.timing.heartbeat_s, self._fall_silent)

    def _fall_silent(self) -> None:
        self._silence.set()
        self._wake()

    def path_closed(self) -> None:
        """A connection of the peer's has ended: it is looked for at once."""
        self._silence.set()
        self._look_now.set()

    def postgres_lost(self) -> None:
        """The own Postgres has closed its sessions."""
        self._memory.health = Health.DOWN
        self._look_now.set()

    def tick(self) -> None:
        """The loop comes round: note whether it did not for a while."""
        memory, clock = self._memory, self._ports.clock
        now_s, wall_us = clock.now_s(), clock.wall_us()
        offset = wall_us - int(now_s * 1e6)
        jumped = self._wall_minus_boot_us is not None and abs(offset - self._wall_minus_boot_us) > CLOCK_JUMP_US
        late = now_s - self.ticked_s > self._settings.timing.stall_s and self.ticked_s != NEVER
        self._wall_minus_boot_us, self.ticked_s = offset, now_s
        if late or jumped:
            memory.stalled(now_s, clock_jumped=jumped)
            log.warning("this node did not run for a while, or its clock was set", late=late, clock_jumped=jumped)

    def pause_s(self, every_s: float) -> float:
        """Return how long to wait for the next of the moments that are `every_s` apart in this run, seconds.

        Tasks that keep to them wake together. Where a machine has little else to do, waking is what costs.
        """
        rest_s = every_s - (self._ports.clock.now_s() - self._memory.started_s) % every_s
        return rest_s if rest_s > SOON_S else rest_s + every_s

    # ---- the own Postgres ------------------------------------------------------------------------------------------

    async def look(self) -> PostgresStatus:
        """Look at the own Postgres now. Raises PostgresDownError or PostgresHungError."""
        began_s = self._ports.clock.now_s()
        try:
            status = await self._ports.postgres.status()
        except PostgresDownError:
            self._memory.health = Health.DOWN
            self._wake()
            raise
        except PostgresHungError:
            # A time-out that this node slept through itself says nothing of Postgres; but not for ever.
            if self._slept_since(began_s) and self._time_outs_slept < TIME_OUTS_SLEPT_MAX:
                self._time_outs_slept += 1
            else:
                self._memory.health = Health.HUNG
                self._wake()
            raise
        self._time_outs_slept = 0
        self._memory.looked(status, self._ports.clock.now_s())
        return status

    def _slept_since(self, moment_s: float) -> bool:
        """Whether this node did not run for a while since then, noticed already or not."""
        asleep_s = self._ports.clock.now_s() - self.ticked_s
        late = self.ticked_s != NEVER and asleep_s > self._settings.timing.stall_s
        return late or self._memory.stalled_s >= moment_s

    async def look_on(self) -> None:
        """Look again and again, and have what was seen decided on."""
        memory, settings = self._memory, self._settings
        while True:
            self._look_now.clear()
            with contextlib.suppress(PostgresDownError, PostgresHungError):  # noted in the memory by look()
                await self.look()
            self._wake()
            up = memory.health is Health.UP
            wait_s = self.pause_s(settings.look_s) if up else settings.look_trouble_s
            await self._ports.clock.sleep_or(self._look_now, wait_s)

    # ---- the world outside -----------------------------------------------------------------------------------------

    async def probe_peer(self) -> None:
        """Ask the peer's ports while its heartbeats are missing; a closed connection starts the questions at once."""
        clock = self._ports.clock
        while True:
            await clock.sleep_or(self._silence, IDLE_S)
            if self.silent:
                self._memory.probed(await self._ports.probes.peer())
                self._wake()
                await clock.sleep(self._settings.timing.probe_gap_s)

    async def probe_witnesses(self) -> None:
        """Ask whether this node is the one that is cut off: now and then, and all the time while heartbeats are missing.

        An answer from before the silence says nothing about it, and a follower would promote on it.
        """
        clock, settings = self._ports.clock, self._settings
        while True:
            before, began_s = self._memory.isolated, clock.now_s()
            unanswered = await self._ports.probes.isolated()
            # Who hears the peer is not cut off, and a time-out that this node slept through says nothing of its witnesses.
            self._memory.isolated = unanswered and self.silent and not self._slept_since(began_s)
            if before or self._memory.isolated:
                self._memory.isolated_s = clock.now_s()
            if self._memory.isolated is not before:
                self._wake()
            if self.silent:
                await clock.sleep(settings.timing.probe_gap_s)
            else:
                await clock.sleep_or(self._silence, self.pause_s(settings.probe_world_s))

    async def probe_world(self) -> None:
        """Look at the disk, and at what Kine has served."""
        memory = self._memory
        while True:
            memory.disk_nearly_full = await self._ports.probes.disk_nearly_full()
            memory.served_revision = max(memory.served_revision, self._ports.kine.status().revision)
            await self._ports.clock.sleep(self.pause_s(self._settings.probe_world_s))
