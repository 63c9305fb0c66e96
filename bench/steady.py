"""What it costs while nothing happens: latency, memory, CPU."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from pathlib import Path

from lab.pair import Pair
from lab.workload import Writer

WRITES = 300
IDLE_S = 5.0
MIB = 1024


async def added_latency_ms(runs: int) -> list[float]:
    """Median latency in zero-loss mode minus that in mode async, both pairs side by side, run after run."""
    async with contextlib.AsyncExitStack() as stack:
        pairs = []
        for mode in ("zero_loss", "async"):
            pair = Pair(extra={"policy": f'mode = "{mode}"'})
            stack.push_async_callback(pair.stop)
            await pair.create()
            pairs.append(pair)
        await pairs[0].start()
        for node in pairs[1].nodes:
            node.start_supervisor()
        await pairs[1].until(
            "a leader and a follower",
            lambda both: (
                sorted((one or {}).get("role", "") for one in both) == ["follower", "leader"]
                and all((one or {})["kine"]["target"] for one in both)
            ),
        )
        return [await _one_difference(pairs) for _ in range(runs)]


async def _one_difference(pairs: list[Pair]) -> float:
    medians = []
    for pair in pairs:
        leader = await pair.leader()
        async with Writer(leader.kine_target, "latency", rate=200.0, timeout_s=1.0) as writer:
            await writer.until_acknowledged(WRITES)
        medians.append(statistics.median(writer.latencies_s()) * 1000)
    return medians[0] - medians[1]


async def idle(runs: int) -> tuple[list[float], list[float]]:
    """Memory (MiB) and CPU (percent of a core) of a leader's supervisor with nothing to do."""
    pair = Pair()
    try:
        await pair.create()
        await pair.start()
        pid = (await pair.leader()).supervisor_pid
        assert pid is not None
        memory, cpu = [], []
        for _ in range(runs):
            before = _cpu_s(pid)
            await asyncio.sleep(IDLE_S)  # the time over which it is measured, not a condition
            cpu.append((_cpu_s(pid) - before) / IDLE_S * 100)
            memory.append(_rss_mib(pid))
        return memory, cpu
    finally:
        await pair.stop()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / MIB
