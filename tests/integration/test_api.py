"""The HTTP interface of a real pair, through a failover and through a split: what load balancers, Prometheus and people see."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg

from tests.conftest import calm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from lab.clients import Clients
    from lab.pair import NodeProcesses, Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]

HANG_S = 60.0


def base(pair: Pair, node: NodeProcesses) -> str:
    return f"http://127.0.0.1:{pair.ports[f'api-{node.number}']}"


async def code(pair: Pair, node: NodeProcesses, path: str) -> int:
    async with aiohttp.ClientSession(base(pair, node)) as session, session.get(path) as answer:
        return answer.status


async def until_code(pair: Pair, node: NodeProcesses, path: str, wanted: int) -> None:
    async with asyncio.timeout(HANG_S):
        while await code(pair, node, path) != wanted:
            await asyncio.sleep(0.1)


async def samples(pair: Pair, node: NodeProcesses) -> dict[str, float]:
    async with aiohttp.ClientSession(base(pair, node)) as session, session.get("/metrics") as answer:
        lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@contextlib.asynccontextmanager
async def events(pair: Pair, node: NodeProcesses) -> AsyncIterator[list[dict[str, Any]]]:
    """Events of a node as its stream tells them, while the context is open."""
    seen: list[dict[str, Any]] = []

    async def follow() -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=HANG_S)
        async with (
            aiohttp.ClientSession(base(pair, node), timeout=timeout) as session,
            session.get("/v1/events") as answer,
        ):
            async for line in answer.content:
                if line.startswith(b"data: "):
                    seen.append(json.loads(line[6:]))  # noqa: PERF401 - seen while it fills

    task = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_health_metrics_and_events_through_a_failover_and_a_split(running_pair: Start, tmp_path: Path) -> None:
    hooks, told = tmp_path / "hooks", tmp_path / "told"
    hooks.mkdir(mode=0o755)
    (hooks / "tell").write_text(f'#!/bin/sh\necho "$(cat)" >> {told}\n')
    (hooks / "tell").chmod(0o755)
    async with running_pair(**calm(upkeep=f'hooks_dir = "{hooks}"')) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        for path, on_leader, on_follower in (
            ("/primary", 200, 503), ("/leader", 200, 503), ("/replica", 503, 200), ("/replica?lag=100MB", 503, 200),
            ("/sync", 503, 200), ("/health", 200, 200), ("/readyz", 200, 200),
        ):  # fmt: skip
            await until_code(pair, leader, path, on_leader)
            await until_code(pair, follower, path, on_follower)
        status = await leader.status()
        assert status is not None
        assert status["peer"]["term"] == status["term"] > 0  # a follower that has just joined is not shown under term 0
        await lag(pair, leader, follower)
        async with events(pair, follower) as seen:
            leader.kill()
            await until_code(pair, follower, "/primary", 200)
            async with asyncio.timeout(HANG_S):
                while not any(one["kind"] == "leads" for one in seen):
                    await asyncio.sleep(0.05)
            ids = [one["id"] for one in seen]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
        leader.start()
        await pair.until_in_sync()
        before = await samples(pair, follower)
        assert before['kine_failover_role{role="leader"}'] == 1
        pair.network.cut()
        await pair.until("both to lead", lambda both: all(one and one["role"] == "leader" for one in both))
        await clients.until_writing(10)
        pair.network.heal()
        await clients.verify(split=True)
        counted = [await samples(pair, node) for node in pair.nodes]
        winners = [[one[f'kine_failover_split_brains_total{{winner="{who}"}}'] for who in "01"] for one in counted]
        assert sum(winners[0]) == 1
        assert winners[0] == winners[1]  # counted on both nodes
        assert [one["kine_failover_in_sync"] for one in counted] == [1, 1]
        called = [json.loads(line) for line in told.read_text().splitlines()]
        names = {(one["node"], one["event"]) for one in called}
        assert {event for _, event in names} >= {"promoted", "demoted", "degraded", "in_sync", "split", "healed"}
        assert {(0, "healed"), (1, "healed")} <= names


async def lag(pair: Pair, leader: NodeProcesses, follower: NodeProcesses) -> None:
    """A follower that applies nothing for a while is too far behind for `lag=`, and comes back."""
    with psycopg.connect(follower.conninfo) as blocker:
        blocker.execute("LOCK TABLE kine IN SHARE MODE")
        with psycopg.connect(leader.conninfo, autocommit=True) as session:
            for _ in range(8):
                session.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576))")
        await until_code(pair, follower, "/replica?lag=1MB", 503)
        assert await code(pair, follower, "/replica?lag=1GB") in (200, 503)
    await until_code(pair, follower, "/replica?lag=1MB", 200)
    await pair.until_in_sync()
