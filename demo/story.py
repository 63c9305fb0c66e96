"""The acts of the demo, each with what it has to show."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from failover.adapters.archive import Archive
from lab import checker
from lab.clients import Clients

if TYPE_CHECKING:
    from demo.display import Display
    from lab.pair import NodeProcesses, Pair

RATE = 100.0
ACTED = {"plan", "leads", "alone", "in_sync", "hands_over", "accepts", "archived", "rejoined", "renounces"}


@dataclass(slots=True)
class Summary:
    """The last line."""

    ok: bool = False
    gaps_ms: dict[str, float] = field(default_factory=dict)
    acknowledged: int = 0
    lost: int = 0
    archived: int = 0
    equal: bool = False


class Story:
    """Runs the acts on a pair."""

    def __init__(self, pair: Pair, display: Display) -> None:
        self.pair = pair
        self.display = display
        self.clients = Clients(pair, rate=RATE)
        self.summary = Summary()

    async def run(self) -> Summary:
        """Play everything. Raises TimeoutError where something does not happen."""
        watching = asyncio.create_task(self._watch())
        try:
            self.display.tell("two nodes: each a Postgres, a Kine and a supervisor; node 0 begins, node 1 joins")
            await self.pair.create()
            await self.pair.start()
            self.display.tell("in sync: no write is acknowledged that is not on both", style="green")
            async with self.clients:
                await self.clients.until_writing(100)
                await self._leader_killed()
                await self._switched_over()
                await self._partitioned()
                await self._compare()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return self.summary

    async def _leader_killed(self) -> None:
        leader = await self.pair.leader()
        other = self.pair.other(leader)
        self._act(f"kill -9 to everything on the leader, node {leader.number}: Postgres, Kine, supervisor")
        began_s = time.monotonic()
        leader.kill()
        await self.clients.until_writing(50, (other.number,))
        self._gap("leader_killed", other, began_s)
        self._act(f"node {leader.number} comes back: it compares, copies what it lacks, follows")
        leader.start()
        await self.pair.until_in_sync()
        self.display.tell("in sync again", style="green")

    async def _switched_over(self) -> None:
        leader = await self.pair.leader()
        other = self.pair.other(leader)
        await self.clients.until_writing(50)
        self._act(f"planned switchover from node {leader.number} to node {other.number}")
        began_s = time.monotonic()
        await leader.post("switchover")
        await self.pair.until(
            f"node {other.number} to lead", lambda both: (both[other.number] or {}).get("role") == "leader"
        )
        await self.clients.until_writing(50)
        gaps = [writer.longest_gap(began_s).seconds for writer in self.clients.writers]
        self.summary.gaps_ms["switchover"] = round(max(gaps) * 1000, 1)
        self.display.tell(f"longest gap in writes, through either node: {max(gaps) * 1000:.0f} ms", style="bold yellow")
        await self.pair.until_in_sync()
        self.display.tell("in sync again", style="green")

    async def _partitioned(self) -> None:
        leader = await self.pair.leader()
        other = self.pair.other(leader)
        await self.clients.until_writing(50)
        self._act("the network between the nodes is cut: nothing answers any more, on any path")
        began_s = time.monotonic()
        self.pair.network.cut()
        await self.pair.until("both to lead", lambda both: all((one or {}).get("role") == "leader" for one in both))
        await self.clients.until_writing(100)
        self.display.tell(
            "both lead, both take writes: availability first, and both know that they are alone", style="red"
        )
        self._gap("partition", other, began_s)
        quiet = self.clients.writers[leader.number]
        await quiet.stop()
        self.display.tell(f"nobody writes through node {leader.number} any more; node {other.number} goes on")
        await self.clients.until_writing(50, (other.number,))
        self._act("the network heals")
        healed_s = time.monotonic()
        self.pair.network.heal()
        await self.pair.until_in_sync()
        quiet.start()
        self._verdict(healed_s)

    def _verdict(self, healed_s: float) -> None:
        """Show who leads on and why: the last change of each side before the two met."""
        for node in self.pair.nodes:
            times = [write.acked_s for write in self.clients.writers[node.number].acknowledged]
            before = [at_s for at_s in times if at_s is not None and at_s < healed_s]
            at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=time.monotonic() - before[-1])
            self.display.tell(f"last acknowledged write of the side of node {node.number}: {at:%H:%M:%S.%f}")
        for node in self.pair.nodes:
            archive = Archive(node.state_dir / "archives")
            for one in archive.list():
                if one.header["why"] != "split":
                    continue
                verdict = one.header["verdict"]
                self.display.tell(f"verdict: node {verdict['winner']} leads on: {verdict['reason']}", style="bold")
                self.display.tell(
                    f"archive {one.name} on node {node.number}: {one.header['objects']} objects differ, "
                    f"{one.header['rows']} changes that only node {node.number} had"
                )

    async def _compare(self) -> None:
        await self.clients.until_writing(50)
        for writer in self.clients.writers:
            await writer.stop()
        with contextlib.suppress(TimeoutError):
            rows = await self.pair.until_equal()
            archived = self.clients.archived()
            dropped = checker.lost(self.clients.writes, rows)
            lost = checker.lost(self.clients.writes, rows, archived)
            newest = max(row[checker.ID] for row in rows)
            self.summary.equal = True
            self.summary.acknowledged = sum(len(writer.acknowledged) for writer in self.clients.writers)
            self.summary.archived = len(dropped) - len(lost)
            self.summary.lost = len(lost)
            self.display.tell(f"both databases are equal: {len(rows)} rows, revision {newest}", style="bold green")
            self.display.tell(
                f"{self.summary.acknowledged} writes acknowledged, {len(lost)} lost, {self.summary.archived} of the side "
                "that lost the split in its archive",
                style="bold green" if not lost else "bold red",
            )
        self.summary.ok = self.summary.equal and not self.summary.lost

    def _act(self, what: str) -> None:
        self.display.tell("")
        self.display.tell(what, style="bold magenta")

    def _gap(self, name: str, node: NodeProcesses, since_s: float) -> None:
        gap = self.clients.writers[node.number].longest_gap(since_s)
        self.summary.gaps_ms[name] = round(gap.seconds * 1000, 1)
        self.display.tell(
            f"longest gap in writes, seen by a client of node {node.number}: {gap.seconds * 1000:.0f} ms",
            style="bold yellow",
        )

    async def _watch(self) -> None:
        """Show both nodes, and what they say that they do."""
        told: dict[int, int] = {0: 0, 1: 0}
        while True:
            both = await asyncio.gather(*(node.status() for node in self.pair.nodes))
            self.display.update(both, self.clients)
            for node in self.pair.nodes:
                events = await asyncio.to_thread(node.history)
                for event in events[told[node.number] :]:
                    self._event(node.number, event)
                told[node.number] = len(events)
            await asyncio.sleep(0.1)

    def _event(self, number: int, event: dict[str, Any]) -> None:
        if event["kind"] in ACTED:
            self.display.tell(f"  node {number} {event['kind']}: {event['message'][:150]}", style="dim")
