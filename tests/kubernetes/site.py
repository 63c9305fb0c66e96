"""A pair with an API server on each node's Kine and clients of every kind, and the faults that they go through."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, Self

from lab import checker
from lab.clients import QUIET_S, Clients
from lab.compacted import compacted, keep_compacted
from lab.pair import Pair, Reservation
from lab.two_nodes import in_sync
from tests.kubernetes import judge, programs
from tests.kubernetes.server import ApiServer
from tests.kubernetes.tellers import PREFIX, Teller, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.checker import Row
WAIT_S = 120.0  # a generous bound on a hang, never a measurement
LOOK_S = 0.05
NEAR = 4  # revisions around a wrong one that are told


class Site:
    """Everything that a scenario needs, in sync and written to all the time."""

    def __init__(self, extra: Mapping[str, str]) -> None:
        self._asynchronous = "async" in extra.get("policy", "")
        self.pair = Pair(extra=extra)
        self._ports = Reservation(2)
        api_server, clients = programs.api_server(), programs.clients()
        folder = self.pair.folder
        self.servers = [
            ApiServer(api_server, folder / f"api-{node.number}", node.kine_target, port)
            for node, port in zip(self.pair.nodes, self._ports.ports, strict=True)
        ]
        self.writers = [Writer(server, f"node-{node}") for node, server in enumerate(self.servers)]

        def teller(kind: str, node: int, *arguments: str) -> Teller:
            server = self.servers[node]
            where = ("--server", server.url, "--ca", str(server.authority), "--token-file", str(server.token))
            return Teller(clients, folder / f"{kind}-{node}.log", kind, *where, *arguments)

        self.informers = [teller("informer", node) for node in (0, 1)]
        self.elections = [teller("election", node, "--identities", f"{node}-a,{node}-b") for node in (0, 1)]
        self.watches = [
            Teller(
                clients,
                folder / f"watch-{node.number}.log",
                "watch",
                "--endpoint",
                node.kine_target,
                "--prefix",
                PREFIX,
            )
            for node in self.pair.nodes
        ]

    @property
    def tellers(self) -> list[Teller]:
        """Return all clients."""
        return [*self.informers, *self.elections, *self.watches]

    async def __aenter__(self) -> Self:
        try:
            await self.pair.create()
            await asyncio.gather(*(asyncio.to_thread(keep_compacted, node.conninfo) for node in self.pair.nodes))
            for node in self.pair.nodes:
                node.start_supervisor()
            await self.until_settled()
            for server in self.servers:
                server.create()
                server.start()
            await asyncio.gather(*(server.until_ready() for server in self.servers))
            for teller in self.tellers:
                await teller.start()
            await asyncio.gather(*(informer.until_said("synced") for informer in self.informers))
            await asyncio.gather(*(watch.until_said("listed") for watch in self.watches))
            await self.until_held()
        except BaseException:
            self._show()
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._show()
        await self._end()

    async def _end(self) -> None:
        try:
            for writer in self.writers:
                await writer.stop()
            for teller in self.tellers:
                await teller.stop()
        finally:
            for server in self.servers:
                server.kill()
            await self.pair.stop()
            self._ports.release()

    def _show(self) -> None:
        for node, watch in enumerate(self.watches):
            for before, line in itertools.pairwise(watch.lines):
                if line["what"] != "event" or before["what"] != "event":
                    print(f"etcd client {node}: {({**before, 'keys': ''}, {**line, 'keys': ''})}")
        logs = [node.log for node in self.pair.nodes] + [server.log for server in self.servers]
        for log in [*logs, *self.pair.folder.glob("*.log")]:
            print(f"---- {log}\n{log.read_text(errors='replace')[-6000:] if log.exists() else ''}")

    async def until_settled(self) -> None:
        """Return when one node leads in sync, or what is that of an asynchronous pair, and the other follows."""
        if not self._asynchronous:
            await self.pair.until_in_sync()
            return

        def flowing(both: Sequence[dict[str, Any] | None]) -> bool:
            told = [{**one, "sync": "in_sync"} for one in both if one is not None]  # it never says so itself
            return (
                len(told) == len(both)
                and in_sync(told)
                and any(one["stream"] == "flowing" for one in told if one["role"] == "leader")
            )

        await self.pair.until("one leader and one follower whose stream flows", flowing)

    async def until_held(self, node: int | None = None) -> None:
        """Return when a candidate, of this node if one is given, believes to hold the lease."""
        async with asyncio.timeout(WAIT_S):
            while not any(held.until_s == float("inf") and node in {None, held.node} for held in self.held()):
                await asyncio.sleep(LOOK_S)

    async def until_informed(self, node: int, revision: int) -> None:
        """Return when the informer of this node has seen a revision."""
        async with asyncio.timeout(WAIT_S):
            while (
                max((int(line["revision"]) for line in self.informers[node].said("added", "updated")), default=0)
                < revision
            ):
                await asyncio.sleep(LOOK_S)

    def held(self) -> list[judge.Held]:
        """Return who believed to hold the lease when."""
        return [held for node, election in enumerate(self.elections) for held in judge.holders(election.lines, node)]

    def archived(self) -> frozenset[str]:
        """Return the keys of every row in an archive of either node."""
        return Clients(self.pair).archived()

    async def until_right(self) -> list[Row]:
        """Return the configmaps' rows once both nodes hold the same, and informers and etcd clients believe just that: those
        that a full fence has compacted too.

        No more than these: the holder of the lease writes on. Raises AssertionError with what differs.
        """
        deadline_s = time.monotonic() + WAIT_S
        before: list[Row] = []
        while True:
            tables = await asyncio.gather(*(asyncio.to_thread(node.rows) for node in self.pair.nodes))
            mine, theirs = map(configmaps, tables)
            truth = judge.History(mine).live()
            believed = {
                f"informer on node {node}": judge.believes(one.lines) for node, one in enumerate(self.informers)
            }
            believed |= {
                f"etcd client on node {node}": judge.etcd_believes(one.lines) for node, one in enumerate(self.watches)
            }
            wrong = {
                who: sorted(set(one.items()) ^ set(truth.items())) for who, one in believed.items() if one != truth
            }
            if mine == theirs == before and not wrong:
                gone = await asyncio.to_thread(compacted, [node.conninfo for node in self.pair.nodes])
                return configmaps(gone.and_rows(mine))
            before = mine
            near = [
                line
                for watch in self.watches
                for line in watch.said("event")
                for one in list(wrong.values())[:1]
                if abs(line["revision"] - one[0][1]) < NEAR
            ]
            said = f"{near[:40]}; {len(set(mine) ^ set(theirs))} rows differ; { {who: one[:5] for who, one in wrong.items()} }"
            assert time.monotonic() < deadline_s, f"after {WAIT_S:g} s: {said}"
            await asyncio.sleep(QUIET_S)


def configmaps(rows: Iterable[Row]) -> list[Row]:
    """Return those rows that are a configmap's."""
    return [row for row in rows if row[checker.NAME].startswith(PREFIX)]
