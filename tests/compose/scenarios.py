"""What can happen to a machine of the compose pair, each as a fault and its end, judged by clients on 127.0.0.1.

The engine is asked in threads: clients write and watch meanwhile, or a gap would be the harness's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.clients import Clients
from tests.compose.pair import NETWORKS, PARTS, ContainerNode, ContainerPair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RATE = 50.0
BOUNDED_MIB = 2048
FILLER = "/var/lib/postgresql/data/filler"
LEFT_MIB = 100  # below probes.free_min_mib


class NotHereError(Exception):
    """A scenario asks for something that this project does not have; the message says what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario came to. The gap is the longest one of a client of the machine that was not touched."""

    scenario: str
    gap_ms: float
    seconds: float
    acknowledged: int
    rows: int
    lost: int
    wrong: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing was lost and nothing else is wrong."""
        return self.lost == 0 and not self.wrong

    def line(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "scenario": self.scenario, "gap_ms": self.gap_ms, "seconds": self.seconds,
            "acknowledged": self.acknowledged, "rows": self.rows, "lost": self.lost,
            "wrong": list(self.wrong),
        }  # fmt: skip


class ContainerClients(Clients):
    """Clients of both machines, and what the nodes have in their archives."""

    def __init__(self, pair: ContainerPair) -> None:
        super().__init__(pair, rate=RATE)
        self.containers = pair

    def archived(self) -> frozenset[str]:
        """Return the keys of every row in an archive of either node."""
        for node in self.containers.nodes:
            node.fetch_archives()
        return super().archived()


@dataclass(slots=True)
class Run:
    """One scenario under way."""

    pair: ContainerPair
    clients: ContainerClients
    leader: ContainerNode
    follower: ContainerNode
    split: bool = False

    async def taken_over(self) -> None:
        """Return when the other machine leads and takes writes."""
        await self.pair.until_leads(self.follower)
        await self.clients.until_writing(50, (self.follower.number,))


async def kill(run: Run) -> None:
    """SIGKILL to everything on the leader's machine; it comes back later."""
    await asyncio.to_thread(run.leader.kill, *PARTS)
    await run.taken_over()
    await asyncio.to_thread(run.leader.start)


async def kill_postgres(run: Run) -> None:
    """SIGKILL to the leader's Postgres; it comes back later."""
    await asyncio.to_thread(run.leader.kill, "postgres")
    await run.taken_over()
    await asyncio.to_thread(run.leader.container("postgres").start)


async def kill_follower(run: Run) -> None:
    """SIGKILL to everything on the follower's machine: the leader goes on alone."""
    await asyncio.to_thread(run.follower.kill, *PARTS)
    await run.clients.until_writing(50, (run.leader.number,))
    await asyncio.to_thread(run.follower.start)


async def stop(run: Run) -> None:
    """The leader's machine shuts down in order: it gives leadership away first."""
    await asyncio.to_thread(run.leader.stop)
    await run.taken_over()
    await asyncio.to_thread(run.leader.start)


async def power_loss(run: Run) -> None:
    """The leader's machine falls silent on every network, and all its processes are gone; it boots later.

    They are frozen first: the engine takes longer for the networks than a leader waits before it goes on alone.
    """
    await asyncio.to_thread(run.leader.pause)
    await asyncio.to_thread(run.leader.disconnect, *NETWORKS)
    await asyncio.to_thread(run.leader.kill, *PARTS)
    await run.taken_over()
    await asyncio.to_thread(run.leader.reconnect)
    await asyncio.to_thread(run.leader.start)


async def pause(run: Run) -> None:
    """Every process of the leader's machine is frozen, and thawed when the other one leads.

    Its kernel still takes connections, which is no silence: the follower gives it `grace_s`.
    """
    await asyncio.to_thread(run.leader.pause)
    await run.taken_over()
    await asyncio.to_thread(run.leader.unpause)


async def disconnect(run: Run) -> None:
    """The follower's machine loses the network that replication takes; heartbeats go on over the other one."""
    await asyncio.to_thread(run.follower.disconnect, "link")
    await run.pair.until(
        "the leader to go alone", lambda both: (both[run.leader.number] or {}).get("sync") not in ("in_sync", None)
    )
    await run.clients.until_writing(50, (run.leader.number,))
    await asyncio.to_thread(run.follower.reconnect)


async def partition(run: Run) -> None:
    """The leader's machine loses every network to the other: both lead, until they meet again."""
    run.split = True
    await asyncio.to_thread(run.leader.disconnect, *NETWORKS)
    await run.pair.until("both to lead", lambda both: all((one or {}).get("role") == "leader" for one in both))
    await run.clients.until_writing(50)
    await asyncio.to_thread(run.leader.reconnect)


async def fill_disk(run: Run) -> None:
    """The leader's disk fills up: it gives leadership away before anything fails."""
    megabytes = await asyncio.to_thread(_free_mib, run.leader) - LEFT_MIB
    fill = ("dd", "if=/dev/zero", f"of={FILLER}", "bs=1M", f"count={megabytes}")
    await asyncio.to_thread(run.leader.execute, "postgres", *fill)
    await run.taken_over()
    await asyncio.to_thread(run.leader.execute, "postgres", "rm", FILLER)


def _free_mib(node: ContainerNode) -> int:
    total, free = node.execute("machine", "df", "--block-size=1M", "--output=size,avail", "/disk").split()[2:]
    if int(total) > BOUNDED_MIB:
        raise NotHereError(
            "Postgres is on the host's own disk, which is not filled up; start the pair with "
            "`docker compose -f docker-compose.yml -f compose/small-disks.yml up --detach`"
        )
    return int(free)


SCENARIOS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "kill": kill,
    "kill-postgres": kill_postgres,
    "kill-follower": kill_follower,
    "power-loss": power_loss,
    "stop": stop,
    "pause": pause,
    "disconnect": disconnect,
    "partition": partition,
    "fill-disk": fill_disk,
}


async def play(pair: ContainerPair, name: str) -> Outcome:
    """Run a scenario on a pair that is up, and judge it.

    Raises TimeoutError where the pair does not come to rest: in sync, and both databases equal.
    """
    began_s = time.monotonic()
    await pair.until_in_sync()
    with _without_workload(pair):
        leader = await pair.leader()
        async with ContainerClients(pair) as clients:
            await clients.until_writing(50)
            run = Run(pair, clients, leader, pair.other(leader))
            fault_s = time.monotonic()
            try:
                await SCENARIOS[name](run)
            finally:
                await asyncio.to_thread(_mend, pair)
            found = await clients.judge(split=run.split)
            untouched = leader if name in ("kill-follower", "disconnect") else run.follower
            gap = clients.writers[untouched.number].longest_gap(fault_s).seconds
            acknowledged = sum(len(writer.acknowledged) for writer in clients.writers)
    return Outcome(
        name, round(gap * 1000, 1), round(time.monotonic() - began_s, 1), acknowledged, len(found.rows),
        len(found.lost), tuple(found.report.complaints[:20]),
    )  # fmt: skip


@contextlib.contextmanager
def _without_workload(pair: ContainerPair) -> Any:
    """Hold the project's own workload: what it writes would never let the databases rest."""
    workload = pair.service("workload")
    workload.reload()
    held = workload.status == "running"
    if held:
        workload.pause()
    try:
        yield
    finally:
        if held:
            workload.unpause()


def _mend(pair: ContainerPair) -> None:
    """End whatever a scenario that broke off has begun."""
    for node in pair.nodes:
        node.unpause()
        node.reconnect()
        for part in reversed(PARTS):
            node.container(part).start()
        node.execute("postgres", "rm", "-f", FILLER)
