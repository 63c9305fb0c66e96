"""A follower that is away while the leader writes much: its slot is lost or dropped, and it comes back without a person."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg

from tests.conftest import calm

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from lab.clients import Clients
    from lab.pair import NodeProcesses, Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]

SMALL = {"max_slot_wal_keep_size": "'64MB'", "max_wal_size": "'48MB'", "min_wal_size": "'32MB'", "wal_keep_size": "0"}


def write_wal(node: NodeProcesses, mib: int) -> None:
    """Fill the log, and have Postgres let go of what no slot may keep any more."""
    with psycopg.connect(node.conninfo, autocommit=True) as session:
        for _ in range(mib):
            session.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576))")
        session.execute("CHECKPOINT")


def slots(node: NodeProcesses) -> list[str | None]:
    with psycopg.connect(node.conninfo) as session:
        return [one for (one,) in session.execute("SELECT wal_status FROM pg_replication_slots").fetchall()]


def wal_mib(node: NodeProcesses) -> float:
    return sum(one.stat().st_size for one in (node.postgres.data / "pg_wal").iterdir() if one.is_file()) / (1 << 20)


def said(node: NodeProcesses, kind: str) -> bool:
    return any(one["kind"] == kind for one in node.history())


async def test_a_lost_slot_costs_a_comparison_and_no_person(running_pair: Start) -> None:
    async with running_pair(postgres_settings=SMALL, **calm()) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.kill()
        await clients.until_writing(20, (leader.number,))
        await asyncio.to_thread(write_wal, leader, 56)

        def warned(both: Any) -> bool:
            return any("nears its limit" in risk for risk in both[leader.number]["at_risk"])

        await pair.until("a warning before the slot is lost", warned)
        assert said(leader, "slot_near_limit")
        assert slots(leader) != ["lost"]
        await asyncio.to_thread(write_wal, leader, 150)
        await asyncio.to_thread(write_wal, leader, 1)
        assert slots(leader) == ["lost"]
        assert wal_mib(leader) < 64 + 48 + 64  # the limit, a checkpoint's worth, and what was being written
        doctor = await asyncio.to_thread(leader.command, "doctor", check=False)
        assert "lost: its WAL is gone" in doctor.stdout
        assert "tcp_user_timeout: 5000\n" in doctor.stdout  # as it is over TCP: doctor asks over the socket
        follower.start()
        await clients.verify()
        assert "lost" not in slots(leader)
        assert follower.history()[-1]["kind"] != "role" or said(follower, "rejoined")


async def test_a_server_without_a_limit_is_guarded(running_pair: Start) -> None:
    settings = {**SMALL, "max_slot_wal_keep_size": "-1", "tcp_user_timeout": "0"}
    async with running_pair(postgres_settings=settings, **calm(postgres="slot_keep_mib = 40")) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        doctor = await asyncio.to_thread(leader.command, "doctor", check=False)
        assert "-> ALTER SYSTEM SET tcp_user_timeout = '5s'" in doctor.stdout.replace("\n    ", " -> ")
        await asyncio.to_thread(write_wal, leader, 100)  # in sync: the slot moves on, and is left alone
        await pair.until_in_sync()
        assert not said(leader, "slot_dropped")
        follower.kill()
        await clients.until_writing(20, (leader.number,))
        await asyncio.to_thread(write_wal, leader, 100)
        await pair.until("the slot to be dropped", lambda _: said(leader, "slot_dropped"))
        assert slots(leader) == []
        follower.start()
        await clients.verify()
        assert [one["kind_of_rejoin"] for one in follower.history() if one["kind"] == "rejoined"] == ["incremental"] * 2


async def test_a_disk_that_fills_up_takes_the_slot_of_a_follower_that_is_away(
    running_pair: Start, small_disk: Path
) -> None:
    settings = SMALL | {"max_slot_wal_keep_size": "-1"}
    probes = f'free_min_mib = 50\nfolders = ["{small_disk}"]'
    async with running_pair(postgres_settings=settings, **calm(probes=probes)) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.kill()
        await clients.until_writing(20, (leader.number,))
        await asyncio.to_thread(write_wal, leader, 100)  # more than a full disk spares, less than a good one does
        await pair.until("the leader to see what the slot keeps", keeps(leader, 90 << 20))
        assert not said(leader, "slot_dropped")
        (small_disk / "filler").write_bytes(b"x" * (60 << 20))
        await pair.until("the slot to be dropped", lambda _: said(leader, "slot_dropped"))
        dropped = next(one for one in leader.history() if one["kind"] == "slot_dropped")
        assert dropped["disk_nearly_full"]
        assert slots(leader) == []
        (small_disk / "filler").unlink()
        follower.start()
        await clients.verify()
        assert said(follower, "rejoined")


def keeps(node: NodeProcesses, least_bytes: int) -> Callable[[Any], bool]:
    return lambda both: both[node.number]["postgres"]["slot_bytes"] >= least_bytes
