"""A pair under stress and without a fault: whatever fails over here does so falsely."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

from chaos.faults import FAULTS, end_stress, stress
from chaos.judge import judge
from chaos.machine import stress_program
from chaos.play import Play, Result
from chaos.scenarios import Effect, Scenario
from chaos.site import Site

if TYPE_CHECKING:
    from chaos.enclosure import DiskKeeper

TIMING = 'preset = "lan"'
STRESSES = (
    ("--cpu", "2"),
    ("--vm", "1", "--vm-bytes", "128m"),
    ("--hdd", "1", "--hdd-bytes", "32m", "--hdd-opts", "fsync"),
    ("--io", "1"),
)
PHASE_S = 20.0  # each stress in turn on both nodes, then all of them, and so on
FLAPPING = "a false failover: leadership changed"


class SoakPlay(Play):
    """As any play, with stress and loss for as long as asked in place of faults."""

    def __init__(self, site: Site, minutes: float) -> None:
        super().__init__(site, Scenario(f"soak-{minutes:g}-minutes", (), Effect.KEPT), "")
        self._minutes = minutes

    async def play(self) -> None:
        """Stress, then judge."""
        await self.traffic()
        self.leader = await self.site.leader()
        until_s = time.monotonic() + self._minutes * 60
        await FAULTS["loss-4-percent"].strike(self.site, self.leader)
        phase = 0
        while time.monotonic() < until_s:
            turn = phase % (len(STRESSES) + 1)
            chosen = STRESSES if turn == len(STRESSES) else (STRESSES[turn],)
            self.mark("all" if len(chosen) > 1 else chosen[0][0].removeprefix("--"))
            for node in self.site.nodes:
                for arguments in chosen:
                    await stress(*arguments)(self.site, node)
            await asyncio.sleep(min(PHASE_S, max(0.0, until_s - time.monotonic())))  # how long a phase lasts
            for node in self.site.nodes:
                await end_stress(self.site, node)
            phase += 1
        self.mark("end of stress")
        await asyncio.to_thread(self.site.mend)
        await judge(self)


async def soak(keeper: DiskKeeper, minutes: float) -> list[Result]:
    """Return the one result: its complaints name every false failover, its counts how often in_sync was given up."""
    if stress_program() is None:
        return [Result("soak", "", skipped="stress-ng is not installed")]
    site = Site(keeper, timing=TIMING)
    try:
        await site.create()
        await site.start()
        playing = SoakPlay(site, minutes)
        result = await playing.run()
        alone = [sample.sync != "in_sync" for sample in result.samples if sample.sync is not None]
        result.counts["times_not_in_sync"] = sum(after and not before for before, after in itertools.pairwise(alone))
        result.counts["false_failovers"] = result.leadership_changes
        if result.leadership_changes:
            result.complaints.append(f"{FLAPPING} {result.leadership_changes} times")
        for line in result.complaints:
            print(f"        {line[:1500]}", flush=True)
        print(" ".join(f"{name}={count}" for name, count in result.counts.items()), flush=True)
        return [result]
    finally:
        site.remove()
