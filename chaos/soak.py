"""A pair under stress and without a fault: whatever fails over here does so falsely."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING

from chaos.faults import FAULTS, end_stress, stress
from chaos.judge import judge
from chaos.machine import stress_program
from chaos.play import FALSE, Band, Pace, Play, Result
from chaos.report import keep_logs
from chaos.scenarios import Effect, Scenario
from chaos.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.enclosure import DiskKeeper

TIMING = 'preset = "lan"'
DISK_MIB = 3072  # an hour's rows, which nobody compacts: the checker wants to see all of them
# A client that waits as an API server does: what stress makes slow is not what is counted here.
PACE = Pace(writes_s=20.0, swaps_s=2.0, timeout_s=2.0)
STRESSES = {
    "CPU": ("--cpu", "2"),
    "memory": ("--vm", "1", "--vm-bytes", "128m"),
    "fsync": ("--hdd", "1", "--hdd-bytes", "32m", "--hdd-opts", "fsync"),
    "I/O": ("--io", "1"),
}
STALL_S, STALL_EVERY_S = 0.4, 2.0  # every write to a disk waits; one node's, then the other's
STALLS = "stalls of fsync"
ALL = "all of it"
PHASES = (*STRESSES, STALLS, ALL)
PHASE_S = 20.0
REPORT_EVERY_S = 60.0


class SoakPlay(Play):
    """As any play, with stress and loss for as long as asked in place of faults."""

    def __init__(self, site: Site, minutes: float, report: Callable[[Result], None]) -> None:
        super().__init__(site, Scenario(f"soak-{minutes:g}-minutes", (), Effect.KEPT), "", PACE)
        self._minutes = minutes
        self._report = report

    async def play(self) -> None:
        """Stress, then judge."""
        await self.traffic()
        self.leader = await self.site.leader()
        until_s = time.monotonic() + self._minutes * 60
        await FAULTS["loss-4-percent"].strike(self.site, self.leader)
        self.result.bands.append(Band(self.now_s(), "4 % of all packets lost"))
        reporting = asyncio.create_task(self._report_on())
        try:
            for phase in itertools.cycle(PHASES):
                if time.monotonic() >= until_s:
                    break
                await self._phase(phase, min(PHASE_S, until_s - time.monotonic()))
        finally:
            reporting.cancel()
        await self.mend()
        await judge(self)

    async def _phase(self, phase: str, seconds: float) -> None:
        self.result.bands.append(Band(self.now_s(), phase))
        chosen = [arguments for name, arguments in STRESSES.items() if phase in (name, ALL)]
        for node in self.site.nodes:
            for arguments in chosen:
                await stress(*arguments)(self.site, node)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if phase in (STALLS, ALL):
                    await self._stall()
                else:
                    await asyncio.sleep(seconds)  # how long a phase lasts
        for node in self.site.nodes:
            await end_stress(self.site, node)
        self.end_bands(phase)

    async def _stall(self) -> None:
        for node in itertools.cycle(self.site.nodes):
            node.disk.freeze()
            try:
                await asyncio.sleep(STALL_S)
            finally:
                node.disk.thaw()
            await asyncio.sleep(STALL_EVERY_S - STALL_S)

    async def _report_on(self) -> None:
        """What an interrupted soak has shown so far is worth reading too."""
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            self.collect()
            count(self.result)
            self._report(self.result)


def count(result: Result) -> None:
    """Count what was not asked for: promotions are false failovers, and going alone is counted apart."""
    alone = [sample.sync != "in_sync" for sample in result.samples if sample.sync is not None]
    result.counts["times_not_in_sync"] = sum(after and not before for before, after in itertools.pairwise(alone))
    result.counts["false_failovers"] = max(result.leadership_changes, result.counts["promotions"])


async def soak(keeper: DiskKeeper, minutes: float, report: Callable[[Result], None]) -> list[Result]:
    """Return the one result: its complaints name every false failover. `report` is told what there is every minute."""
    if stress_program() is None:
        return [Result("soak", "", skipped="stress-ng is not installed")]
    site = Site(keeper, timing=TIMING, disk_mib=DISK_MIB)
    try:
        await site.create()
        await site.start()
        result = await SoakPlay(site, minutes, report).run()
        count(result)
        if result.counts["false_failovers"] and not any(FALSE in line for line in result.complaints):
            result.complaints.append(f"{FALSE}: {result.counts['promotions']} promotions that nobody asked for")
        for line in result.complaints:
            print(f"        {line[:1500]}", flush=True)
        print(" ".join(f"{name}={count}" for name, count in result.counts.items()), flush=True)
        print(
            f"load average: mean {sum(result.load) / len(result.load):.1f}, highest {max(result.load):.1f}", flush=True
        )
        if result.counts["went_alone"] or result.complaints:
            keep_logs(site, result)
        return [result]
    finally:
        site.remove()
