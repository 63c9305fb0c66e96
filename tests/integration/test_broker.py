"""A broker beside the pair: it carries heartbeats when nothing else does, and its own death is nobody's."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from failover import certificates
from lab.broker import Mosquitto, installed
from lab.pair import Reservation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from lab.clients import Clients
    from lab.pair import Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]

pytestmark = pytest.mark.skipif(
    installed("mosquitto", "mosquitto") is None, reason="there is no mosquitto, and it cannot be installed"
)
WATCHED_S = 6.0  # longer than any patience of the preset under test: a node that would promote has done so


@contextlib.asynccontextmanager
async def pair_with_broker(running_pair: Start, folder: Path) -> AsyncIterator[tuple[Pair, Clients, Mosquitto]]:
    reserved = Reservation(1)
    certificates.create(folder / "pki", "lab")
    broker = Mosquitto(folder / "mosquitto", reserved.ports[0])
    broker.start()
    pki = folder / "pki"
    extra = {
        "link.tls": f'authority = "{pki}/ca.crt"\ncertificate = "{pki}/node-{{node}}.crt"\nkey = "{pki}/node-{{node}}.key"',
        "mqtt": f'broker = "127.0.0.1:{broker.port}"\nwitness = true\nanswer_s = 1.0\nkeepalive_s = 1',
    }
    try:
        async with running_pair(extra=extra) as (pair, clients):
            await pair.until("heartbeats over the broker", lambda both: all(map(relayed, both)))
            yield pair, clients, broker
    finally:
        broker.kill()
        reserved.release()


def relayed(told: dict[str, Any] | None) -> bool:
    return told is not None and any(path["connected"] for path in told["paths"] if path["name"].startswith("broker"))


def standing(both: list[Any]) -> list[tuple[str, int]]:
    return [(one["role"], one["term"]) for one in both]


async def watch(pair: Pair, wanted: list[tuple[str, int]]) -> list[Any]:
    """Look on: roles and terms stay what they are."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WATCHED_S
    while True:
        told = await asyncio.gather(*(node.status() for node in pair.nodes))
        if all(one is not None for one in told):
            assert standing(told) == wanted
        if loop.time() > end:
            return told
        await asyncio.sleep(0.05)


async def test_direct_paths_cut_and_the_relayed_one_alive(running_pair: Start, tmp_path: Path) -> None:
    async with pair_with_broker(running_pair, tmp_path) as (pair, clients, _):
        leader = await pair.leader()
        before = standing(await pair.until_in_sync())
        pair.network.cut()
        told = await watch(pair, before)
        assert told[leader.number]["sync"] == "alone"  # the follower was asked to renounce, over the broker
        assert told[1 - leader.number]["peer"]["view"] == "leads"
        await clients.until_writing(30, (leader.number,))
        pair.network.heal()
        await clients.verify()
        assert standing(await pair.until_in_sync()) == before


async def test_the_brokers_death_alone_changes_nothing(running_pair: Start, tmp_path: Path) -> None:
    async with pair_with_broker(running_pair, tmp_path) as (pair, clients, broker):
        before = standing(await pair.until_in_sync())
        broker.freeze()
        await watch(pair, before)
        broker.kill()
        told = await watch(pair, before)
        assert not any(map(relayed, told))
        assert [one["sync"] for one in told if one["role"] == "leader"] == ["in_sync"]
        leader = await pair.leader()
        leader.kill()  # a broker is never a lock: without it a leader's death is answered as before
        await clients.until_writing(50, (1 - leader.number,))
        leader.start()
        await clients.verify()
        broker.start()
        await pair.until("heartbeats over the broker again", lambda both: all(map(relayed, both)))
