"""Two real nodes on simulated ports, each served by the real HTTP interface on real sockets."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from failover.adapters.archive import Archive
from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
from failover.adapters.peer_link import TlsFiles
from failover.api.handlers import Handlers
from failover.api.server import ApiServer, ApiSettings, Listener
from failover.certificates import create
from failover.core.model import Role
from lab.pair import Reservation
from tests.api.certificates import client, issue
from tests.simulation.pair import SimPair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from failover.node.loop import Node


@dataclass(slots=True)
class Served:
    """A simulated pair, and where its nodes' interfaces are."""

    pair: SimPair
    folder: Path
    nodes: list[Node]
    servers: list[ApiServer]
    plain: list[str]  # base address of each node on loopback
    tls: list[str]
    archives: list[Archive]

    @property
    def leader(self) -> int:
        """Return the number of the node that leads."""
        return next(number for number, node in enumerate(self.nodes) if node.memory.role is Role.LEADER)

    @contextlib.asynccontextmanager
    async def as_role(self, role: str | None) -> AsyncIterator[aiohttp.ClientSession]:
        """A client over TLS with the role's certificate, or with none."""
        connector = aiohttp.TCPConnector(ssl=client(self.folder, role))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session

    @contextlib.asynccontextmanager
    async def locally(self, number: int) -> AsyncIterator[aiohttp.ClientSession]:
        """A client on a node's socket; its addresses begin with http://node."""
        connector = aiohttp.UnixConnector(str(self.folder / f"{number}.sock"))
        async with aiohttp.ClientSession("http://node", connector=connector) as session:
            yield session


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """Start a pair that is in sync, and its interfaces; everything is ended afterwards."""

    @contextlib.asynccontextmanager
    async def start(**options: Any) -> AsyncIterator[Served]:
        create(tmp_path, "shop")
        issue(tmp_path, "stranger")
        pair, reserved = SimPair(1), Reservation(4)
        served = Served(pair, tmp_path, [], [], [], [], [])
        histories = []
        try:
            await pair.begin()
            for number in (0, 1):
                node = pair.nodes[number]
                assert node is not None
                histories.append(HistoryFile(tmp_path / f"history-{number}.jsonl", SystemClock()))
                node.ports = node.steps.ports = replace(node.ports, history=histories[-1])
                plain, tls = reserved.ports[2 * number : 2 * number + 2]
                settings = ApiSettings(
                    socket=tmp_path / f"{number}.sock",
                    state_dir=tmp_path,
                    folders=(tmp_path,),
                    listen=(Listener("127.0.0.1", plain, tls=False), Listener("127.0.0.1", tls, tls=True)),
                    tls=TlsFiles(*(tmp_path / name for name in ("ca.crt", f"node-{number}.crt", f"node-{number}.key"))),
                    **{"requests_per_s": 1000.0, **options},
                )
                served.archives.append(Archive(tmp_path / f"archives-{number}"))
                server = ApiServer(Handlers(node, settings, served.archives[-1], nothing_changed))
                await server.start()
                served.nodes.append(node)
                served.servers.append(server)
                served.plain.append(f"http://127.0.0.1:{plain}")
                served.tls.append(f"https://127.0.0.1:{tls}")
            yield served
        finally:
            for server in served.servers:
                await server.stop()
            await pair.end()
            for history in histories:
                history.close()
            reserved.release()

    return start


async def nothing_changed() -> list[str]:
    """What a reload finds when the file is as it was."""
    return []
