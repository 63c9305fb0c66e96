"""The port through which a supervisor has its simulated Kine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from failover.ports import KineStatus, PortError, Target
from tests.simulation.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

KINE_START_S = 0.07
ASKED_S = 0.5  # between two questions to Kine
MISSED = 3  # answers in a row: it is replaced
HOLD_S = 3.0  # clients of one that is given up wait so long for the next
SILENT_S = 2.0  # for so long: it never runs again, as more may have been compacted than it has told


class SimKine(Part):
    """As `adapters/kine.py`."""

    def __init__(self, world: World, node: int, run: list[bool]) -> None:
        super().__init__(world, node, run)
        self._lock = asyncio.Lock()
        self._missed = 0
        self._held_until_s = float("-inf")
        self._answered_s = float("-inf")  # one that is adopted may have been silent for any time

    def status(self) -> KineStatus:
        kine = self.machine.kine
        waited_for = kine.frozen or self.world.now_s() < self._held_until_s
        return KineStatus(kine.target, kine.key, kine.frozen, waited_for, 1 if kine.target else None, kine.revision)

    def watch(self, ended: Callable[[], None]) -> None:
        del ended
        self.world.later(ASKED_S, self._ask)

    def _ask(self) -> None:
        if not self.run[0]:
            return
        kine, now_s = self.machine.kine, self.world.now_s()
        if not self.machine.stalled and kine.target is not None and not kine.frozen:
            if self.world.database_of(self.node) is not None:
                self._missed, self._answered_s = 0, now_s
            else:
                self._missed += 1
                if self._missed >= MISSED and now_s - self._answered_s > SILENT_S:
                    self._give_up()
        self.world.later(ASKED_S, self._ask)

    def _give_up(self) -> None:
        self.world.say(f"node {self.node}: Kine has not answered for too long")
        kine = self.machine.kine
        kine.target, kine.run = None, kine.run + 1

    async def serve(self, target: Target, key: str) -> None:
        async with self._lock:
            kine = self.machine.kine
            if (kine.target, kine.key, kine.frozen) == (target, key, False) and self._missed < MISSED:
                return
            self._stop_start = False
            await self.pause(KINE_START_S)
            owner = self.node if target is Target.OWN else 1 - self.node
            reachable = self.world.is_open(owner) and self.world.reachable(self.node, owner)
            if self._stop_start or not reachable:
                raise PortError("the new Kine does not answer")
            kine.target, kine.key, kine.frozen, kine.run = target, key, False, kine.run + 1
            self._missed, self._answered_s, self._held_until_s = 0, self.world.now_s(), float("-inf")
            self.world.say(f"node {self.node}: Kine serves from {target}")

    _stop_start = False

    def freeze(self) -> None:
        self.here()
        self._stop_start = True
        self.machine.kine.frozen = True

    async def kill(self) -> None:
        self._stop_start = True
        await self.pause()
        kine = self.machine.kine
        if kine.target is not None:
            self._held_until_s = self.world.now_s() + HOLD_S
        kine.target, kine.frozen, kine.run = None, False, kine.run + 1

    async def release(self) -> None:
        pass
