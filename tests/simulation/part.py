"""What every simulated port is: a part of one run of one supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.world import Crashed

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

QUICK_S = 0.002


class Part:
    """Belongs to one run of one supervisor: dead when that run is."""

    def __init__(self, world: World, node: int, run: list[bool]) -> None:
        self.world = world
        self.node = node
        self.run = run  # [alive]
        self.machine = world.machines[node]

    @property
    def peer(self) -> Machine:
        return self.world.machines[1 - self.node]

    def here(self) -> None:
        if not self.run[0]:
            raise Crashed

    async def pause(self, seconds: float = QUICK_S) -> None:
        self.here()
        await self.world.sleep(seconds * self.world.random.uniform(0.7, 1.5))
        await self.on_cpu()

    async def on_cpu(self) -> None:
        while self.machine.stalled and self.run[0]:
            await self.world.sleep(0.05)
        self.here()

    def wall_us_at(self, moment_s: float) -> int:
        """What this machine's wall clock says now of a moment."""
        return int((moment_s * self.machine.rate + self.machine.wall_offset_s) * 1e6) + 10**12

    async def synced(self) -> None:
        """Return when the disk has it."""
        while self.machine.disk_stalled and self.run[0] and self.machine.powered:
            await self.world.sleep(0.02)
        self.here()
