"""The link between the nodes: mutual TLS, refusals, and a closed connection that is noticed at once."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from failover import certificates
from failover.adapters import tls
from failover.adapters.clock import SystemClock
from failover.adapters.peer_link import LinkSettings, PeerLink, TlsFiles
from failover.core.model import DataState, Heartbeat, Role, Sync
from failover.ports import PortError
from lab.pair import Reservation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from failover.ports import PeerLink as Link


class Ears:
    """What a node hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Heartbeat] = asyncio.Queue()
        self.closed = asyncio.Event()

    def take(self, heartbeat: Heartbeat, _path: str) -> None:
        self.heard.put_nowait(heartbeat)

    def lost(self, _path: str) -> None:
        self.closed.set()


def beat(node: int, cluster: str = "shop") -> Heartbeat:
    return Heartbeat(
        cluster, node, f"id-{node}", "boot", 1, 1, "", 0, 0, 3, Role.FOLLOWER, Sync.ALONE, False,
        DataState.COMPLETE, True, 5, "head", 1,
    )  # fmt: skip


def on_loopback(
    files: tuple[TlsFiles | None, TlsFiles | None] = (None, None), clusters: tuple[str, str] = ("shop", "shop")
) -> tuple[Reservation, list[LinkSettings]]:
    reserved = Reservation(2)
    places = [("127.0.0.1", port) for port in reserved.ports]
    return reserved, [LinkSettings(clusters[n], n, (places[n],), (places[1 - n],), files[n]) for n in (0, 1)]


@contextlib.asynccontextmanager
async def linked(
    files: tuple[TlsFiles | None, TlsFiles | None], clusters: tuple[str, str] = ("shop", "shop")
) -> AsyncIterator[tuple[list[PeerLink], list[Ears]]]:
    reserved, settings = on_loopback(files, clusters)
    links = [PeerLink(one, SystemClock()) for one in settings]
    ears = [Ears(), Ears()]
    try:
        for link, ear in zip(links, ears, strict=True):
            await link.start(ear.take, ear.lost)
        yield links, ears
    finally:
        for link in links:
            await link.stop()
        reserved.release()


def files(folder: Path, node: int) -> TlsFiles:
    return TlsFiles(folder / "ca.crt", folder / f"node-{node}.crt", folder / f"node-{node}.key")


async def say_on(link: Link, heartbeat: Heartbeat) -> None:
    while True:
        link.send(heartbeat)
        await asyncio.sleep(0.02)


async def test_heartbeats_arrive_over_mutual_tls(tmp_path: Path) -> None:
    certificates.create(tmp_path, "shop")
    async with linked((files(tmp_path, 0), files(tmp_path, 1))) as (links, ears):
        saying = asyncio.create_task(say_on(links[0], beat(0)))
        async with asyncio.timeout(20):
            assert await ears[1].heard.get() == beat(0)
        saying.cancel()
        ears[1].closed.clear()
        await links[0].stop()
        async with asyncio.timeout(20):
            await ears[1].closed.wait()


async def test_a_peer_that_connects_is_connected_to_at_once() -> None:
    """After a cut each node waits before it tries again; the first that gets through ends the other's waiting."""
    reserved, settings = on_loopback()
    waits = PeerLink(replace(settings[0], retry_s=3600.0), SystemClock())
    comes = PeerLink(settings[1], SystemClock())
    ears = [Ears(), Ears()]
    try:
        await waits.start(ears[0].take, ears[0].lost)
        async with asyncio.timeout(20):
            while waits.paths()[0].error is None:
                await asyncio.sleep(0.01)
        await comes.start(ears[1].take, ears[1].lost)
        saying = asyncio.create_task(say_on(waits, beat(0)))
        async with asyncio.timeout(20):
            assert await ears[1].heard.get() == beat(0)
        saying.cancel()
    finally:
        await waits.stop()
        await comes.stop()
        reserved.release()


class Moving(SystemClock):
    """A clock that can be moved on."""

    ahead_s = 0.0

    def now_s(self) -> float:
        """Seconds, with what it was moved on by."""
        return super().now_s() + self.ahead_s


async def test_an_attempt_that_waited_in_silence_is_followed_by_the_next_at_once() -> None:
    """Where a cut heals, what had waited on it often ends with a reset: that is no peer that must not be asked too often."""
    reserved, settings = on_loopback()
    comes: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    host, port = settings[0].peer[0]
    silent = await asyncio.start_server(lambda _, writer: comes.put_nowait(writer), host, port)
    clock = Moving()
    link = PeerLink(replace(settings[0], connect_s=300.0, retry_s=3600.0), clock)
    try:
        await link.start(Ears().take, Ears().lost)
        async with asyncio.timeout(20):
            first = await comes.get()
            clock.ahead_s = 3601.0
            first.transport.abort()
            for _ in range(2):  # one that aiohttp makes by itself within the same attempt, and the next attempt
                (await comes.get()).transport.abort()
    finally:
        await link.stop()
        silent.close()
        reserved.release()


async def test_another_authority_is_refused(tmp_path: Path) -> None:
    certificates.create(tmp_path / "ours", "shop")
    certificates.create(tmp_path / "theirs", "shop")
    async with linked((files(tmp_path / "ours", 0), files(tmp_path / "theirs", 1))) as (links, ears):
        saying = asyncio.create_task(say_on(links[1], beat(1)))
        async with asyncio.timeout(20):
            while not (error := links[1].paths()[0].error):
                await asyncio.sleep(0.02)
        saying.cancel()
        assert "certificate" in error.lower()
        assert ears[0].heard.empty()


async def test_the_other_nodes_certificate_is_not_ones_own(tmp_path: Path) -> None:
    certificates.create(tmp_path, "shop")
    async with linked((files(tmp_path, 1), files(tmp_path, 1))) as (links, ears):
        saying = asyncio.create_task(say_on(links[1], beat(1)))
        async with asyncio.timeout(20):
            while not links[1].paths()[0].error:
                await asyncio.sleep(0.02)
        saying.cancel()
        assert ears[0].heard.empty()


async def test_a_foreign_cluster_changes_nothing() -> None:
    async with linked((None, None), ("shop", "other")) as (links, ears):
        saying = asyncio.create_task(say_on(links[1], beat(1, "other")))
        async with asyncio.timeout(20):
            while "refuses" not in (links[1].paths()[0].error or ""):
                await asyncio.sleep(0.02)
        saying.cancel()
        assert ears[0].heard.empty()


def test_keys_are_closed_to_others(tmp_path: Path) -> None:
    for path in certificates.create(tmp_path, "shop"):
        if path.suffix == ".key":
            assert path.stat().st_mode & 0o077 == 0


async def heard(ear: Ears, after: int) -> None:
    """Return when a heartbeat came that was not sent before this."""
    async with asyncio.timeout(20):
        while (await ear.heard.get()).seq <= after:
            pass


async def test_an_operators_certificate_speaks_for_no_node(tmp_path: Path) -> None:
    certificates.create(tmp_path, "shop")
    operator = TlsFiles(tmp_path / "ca.crt", tmp_path / "operator.crt", tmp_path / "operator.key")
    async with linked((files(tmp_path, 0), operator)) as (links, ears):
        saying = asyncio.create_task(say_on(links[1], beat(1)))
        async with asyncio.timeout(20):
            while "403" not in (links[1].paths()[0].error or ""):
                await asyncio.sleep(0.02)
        saying.cancel()
        assert ears[0].heard.empty()


async def test_authority_and_certificates_change_without_a_gap(tmp_path: Path) -> None:
    made = tmp_path / "made"
    nodes = [tmp_path / f"node-{node}" for node in (0, 1)]
    certificates.create(made, "shop")
    for folder in (*nodes, tmp_path / "old"):
        shutil.copytree(made, folder)

    async def bring(*names: str) -> None:
        for node, link in enumerate(links):
            for name in names:
                shutil.copy(made / name.format(node), nodes[node] / name.format(node))
            await link.reload()

    async with linked((files(nodes[0], 0), files(nodes[1], 1))) as (links, ears):
        saying = asyncio.create_task(say_on(links[0], beat(0)))
        await heard(ears[1], 0)
        certificates.create(made, "shop", new_authority=True)
        await bring("ca.crt")
        await bring("node-{}.crt", "node-{}.key")
        assert not ears[1].closed.is_set()  # the connection that stood goes on
        certificates.drop_old_authorities(made)
        await bring("ca.crt")
        # A connection of now is made with the new ones.
        saying.cancel()
        await links[0].stop()
        again = PeerLink(replace(links[0]._settings, tls=files(nodes[0], 0)), SystemClock())
        await again.start(ears[0].take, ears[0].lost)
        while not ears[1].heard.empty():
            ears[1].heard.get_nowait()
        saying = asyncio.create_task(say_on(again, beat(0)))
        await heard(ears[1], 0)
        saying.cancel()
        await again.stop()
        shutil.copy(made / "ca.crt", tmp_path / "old" / "ca.crt")
        refused = PeerLink(replace(links[0]._settings, tls=files(tmp_path / "old", 0)), SystemClock())
        await refused.start(ears[0].take, ears[0].lost)
        async with asyncio.timeout(20):
            while not refused.paths()[0].error:
                await asyncio.sleep(0.02)
        await refused.stop()


def test_how_long_certificates_are_good(tmp_path: Path) -> None:
    certificates.create(tmp_path, "shop", days=20)
    mine = files(tmp_path, 0)
    left_s = tls.ends_at_s(mine.authority, mine.certificate, mine.key) - time.time()
    assert 19 < left_s / 86400 <= 20
    other = tmp_path / "other"
    certificates.create(other, "shop")
    with pytest.raises(PortError, match="renew"):
        tls.ends_at_s(other / "ca.crt", mine.certificate, mine.key)
