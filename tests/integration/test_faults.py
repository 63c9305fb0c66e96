"""Faults on real Postgres and real Kine, with clients that remember what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from failover.etcd.client import EtcdClient, EtcdError
from lab.clients import Clients
from lab.pair import Pair
from lab.workload import Writer
from tests.conftest import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from lab import binaries
    from lab.pair import NodeProcesses

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]

HOT = "/registry/lab/hot"
ONLY_HERE = "/registry/lab/only-here"


async def test_f0_leaders_postgres_killed(running_pair: Start, each_postgres: binaries.Postgres) -> None:
    async with running_pair(version=each_postgres) as (pair, clients):
        leader = await pair.leader()
        leader.postgres.kill()
        await until_leads(pair, pair.other(leader))
        await clients.until_writing(50)  # through the old leader's Kine as well
        leader.postgres.start()
        await clients.verify()


async def test_f1_everything_on_the_leader_killed(running_pair: Start, each_postgres: binaries.Postgres) -> None:
    async with running_pair(version=each_postgres) as (pair, clients):
        leader = await pair.leader()
        leader.kill()
        await clients.until_writing(50, (1 - leader.number,))
        leader.start()
        await clients.verify()


async def test_f2_leader_falls_silent(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        pair.network.cut()
        leader.freeze()
        await clients.until_writing(50, (1 - leader.number,))
        leader.kill()
        pair.network.heal()
        leader.start()
        await clients.verify()


async def test_f3_partition_both_lead_and_heal(running_pair: Start, each_postgres: binaries.Postgres) -> None:
    async with running_pair(version=each_postgres) as (pair, clients):
        await split(pair, clients)
        pair.network.heal()
        await clients.verify(split=True)
        loser = next(node for node in pair.nodes if list((node.state_dir / "archives").glob("split-*")))
        listed = await asyncio.to_thread(loser.command, "divergence", "list")
        assert "split-" in listed.stdout


async def test_f3_a_side_that_reboots_in_the_split_is_compared_from_where_they_parted(running_pair: Start) -> None:
    """Each leadership of its own has rows whose revisions the winner has given to others."""
    policy = 'split = "prefer_node"\npreferred_node = 1'
    async with running_pair(extra={"policy": policy}) as (pair, clients):
        side = pair.nodes[0]
        await split(pair, clients)
        for node in pair.nodes:  # far beyond the margin that is compared below a row, and whole chunks of revisions
            await asyncio.to_thread(fill, node, 5000)
        began = await asyncio.to_thread(leaderships, side)
        side.kill()
        side.start()
        await pair.until("it to lead again", lambda both: (both[0] or {}).get("role") == "leader")
        assert await asyncio.to_thread(leaderships, side) > began
        await clients.until_writing(20)
        pair.network.heal()
        await clients.verify(split=True)
        assert (await pair.leader()).number == 1


async def test_f3_a_statement_of_kine_that_never_ends_does_not_keep_the_winner_waiting(running_pair: Start) -> None:
    """A Kine that is frozen in a compaction holds the table, and nobody ends its transaction but who ends its session."""
    policy = 'split = "prefer_node"\npreferred_node = 1'
    async with running_pair(extra={"policy": policy}) as (pair, clients):
        await split(pair, clients)
        winner = pair.nodes[1]
        async with await psycopg.AsyncConnection.connect(winner.postgres.conninfo("kine")) as session:
            await session.execute("LOCK TABLE kine IN ROW EXCLUSIVE MODE")  # as an insert does
            pair.network.heal()
            await clients.verify(split=True)
            with pytest.raises(psycopg.OperationalError):
                await session.execute("SELECT 1")


def leaderships(node: NodeProcesses) -> int:
    with psycopg.connect(node.postgres.conninfo(), autocommit=True) as session:
        row = session.execute("SELECT count(*) FROM kine_failover.lineage WHERE kind = 'lead'").fetchone()
    assert row is not None
    return int(row[0])


async def test_f3_newest_change_wins(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        await split(pair, clients)
        await clients.writers[0].stop()  # from here on only node 1's clients change something
        await clients.until_writing(30, (1,))
        pair.network.heal()
        await pair.until_in_sync()
        assert (await pair.leader()).number == 1
        event = next(one for one in pair.nodes[0].history() if one["kind"] == "accepts")
        assert event["choice"] == "latest_change"


async def test_switchover_under_load(running_pair: Start, each_postgres: binaries.Postgres) -> None:
    async with running_pair(version=each_postgres) as (pair, clients):
        leader = await pair.leader()
        assert (await leader.post("switchover"))[0] == 200
        await until_leads(pair, pair.other(leader))
        await pair.until_in_sync()
        await clients.until_writing()
        assert (await pair.other(leader).post("switchover"))[0] == 200
        await until_leads(pair, leader)
        await clients.verify()
        assert [len(watcher.lives) for watcher in clients.watchers] == [1, 1]  # nobody had to list anew


@pytest.mark.parametrize("way", ["postgres", "everything", "silence", "frozen"])
async def test_follower_lost(running_pair: Start, way: str) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        if way == "postgres":
            follower.postgres.kill()
        elif way == "everything":
            follower.kill()
        elif way == "silence":
            pair.network.cut()
            follower.kill()
        else:
            follower.freeze()
        await pair.until("alone", lambda both: (both[leader.number] or {}).get("sync") == "alone")
        await clients.until_writing(50, (leader.number,))
        if way == "postgres":
            follower.postgres.start()
        elif way == "frozen":
            follower.thaw()
        else:
            pair.network.heal()
            follower.start()
        await clients.verify()
        assert (await pair.leader()) is leader


async def test_a_leader_that_goes_on_once_its_postgres_is_back_stops_the_followers_kine_first(
    running_pair: Start,
) -> None:
    """An insert that failed while it was away would be acknowledged by a Kine that ran on and finds it open (R20)."""
    async with running_pair() as (pair, clients), contextlib.AsyncExitStack() as crowd:
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.postgres.kill()
        await pair.until("alone", lambda both: (both[leader.number] or {}).get("sync") == "alone")
        writers = [Writer(follower.kine_target, f"crowd-{one}", rate=50.0, timeout_s=5.0) for one in range(12)]
        for writer in writers:
            await crowd.enter_async_context(writer)
        for _ in range(4):
            await asyncio.gather(*(writer.until_acknowledged(5) for writer in writers))
            leader.postgres.kill()
            leader.postgres.start()
        await asyncio.gather(*(writer.until_acknowledged(5) for writer in writers))
        for writer in writers:
            await writer.stop()
        with psycopg.connect(leader.postgres.conninfo(), autocommit=True) as session:
            there = {row[0] for row in session.execute("SELECT name FROM kine")}
        assert not [write.key for writer in writers for write in writer.acknowledged if write.key not in there]
        follower.postgres.start()
        await clients.verify()


@pytest.mark.parametrize("first", ["leader", "follower"])
async def test_both_nodes_lost_and_returning(running_pair: Start, first: str) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        for node in (leader, follower):
            node.kill()
        order = (leader, follower) if first == "leader" else (follower, leader)
        order[0].start()
        await asyncio.to_thread(order[0].postgres.wait)
        order[1].start()
        await clients.verify()


async def test_stale_follower_alone_leads_only_after_the_long_wait(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.kill()
        await clients.until_writing(50, (leader.number,))  # the follower lacks these
        leader.kill()
        follower.start()
        await until_leads(pair, follower)
        told = await follower.status()
        assert told is not None
        assert told["provisional"]
        await clients.until_writing(30, (follower.number,))
        leader.start()
        # The provisional side loses, its writes are archived (R3).
        await clients.verify(split=True)
        assert (await pair.leader()) is leader


async def test_death_of_the_supervisor_only(running_pair: Start) -> None:
    async with running_pair(extra={"timing": 'preset = "fast"\ngrace_s = 30.0'}) as (pair, clients):
        leader = await pair.leader()
        kine = leader.kine_pids()
        leader.kill_supervisor()
        await clients.until_writing(100)  # nobody notices
        leader.start_supervisor()
        await clients.verify()
        assert (await pair.leader()) is leader
        assert leader.kine_pids() == kine  # adopted


async def test_supervisor_gone_for_longer_than_the_grace(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        leader.kill_supervisor()
        await until_leads(pair, pair.other(leader))
        await clients.until_writing(30, (1 - leader.number,))
        leader.start_supervisor()
        await clients.verify()


async def test_death_of_kine_only(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        for node in pair.nodes:
            node.kill_kine()
        await clients.until_writing(30)
        await clients.verify()
        assert (await pair.leader()) is leader


async def test_postgres_restarts_quickly(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        leader.postgres.signal(signal.SIGINT)
        leader.postgres.kill()
        leader.postgres.start()
        await clients.verify()


async def test_replacement_node(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.kill()
        await clients.until_writing(30, (leader.number,))
        await asyncio.to_thread(renew, follower)
        follower.start_supervisor()
        await clients.verify()


def renew(node: NodeProcesses) -> None:
    """An empty machine in the place of a node."""
    import shutil  # noqa: PLC0415 - only here

    for folder in (node.postgres.data, node.state_dir, node.run_dir):
        shutil.rmtree(folder)
    node.create()
    node.command("join")


async def test_pause_during_a_failure(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        assert (await follower.post("pause", {"seconds": 600}))[0] == 200
        await pair.until("paused on both", lambda both: all((one or {}).get("pair_paused") for one in both))
        leader.kill()
        await pair.until(
            "the follower to see it",
            lambda both: str((both[follower.number] or {}).get("rule")).endswith("/lost-paused"),
        )
        assert (await follower.status() or {})["role"] != "leader"  # I10
        assert (await follower.post("resume"))[0] == 200
        await until_leads(pair, follower)
        leader.start()
        # A paused follower has given in_sync up: what the leader acknowledged alone is a side of a split.
        await clients.verify(split=True)


async def test_a_replication_link_that_hangs_degrades_and_catches_up(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        worker = await asyncio.to_thread(follower.apply_worker)
        follower.postgres.signal(signal.SIGCONT)
        os.kill(worker, signal.SIGSTOP)
        await pair.until("alone", lambda both: (both[leader.number] or {}).get("sync") != "in_sync")
        await clients.until_writing(30, (leader.number,))
        os.kill(worker, signal.SIGCONT)
        await clients.verify()
        assert (await pair.leader()) is leader


async def test_an_asynchronous_leader_returns_with_what_the_other_lacks() -> None:
    """It loses with a head that both hold: it is absorbed once, archived, and follows."""
    pair = Pair(extra={"policy": 'mode = "async"'})
    async with ended(pair):
        await pair.create()
        for node in pair.nodes:
            node.start_supervisor()
        # One that never had a lease would lead provisionally, and lose.
        await pair.until("a follower that may take over", lambda both: streaming(both) and "synced" in worths(both))
        leader = await pair.leader()
        follower = pair.other(leader)
        await create(leader, "/registry/lab/both/", 10)
        await pair.until("all of it to be on both nodes", lambda _: leader.rows() == follower.rows())
        worker = await asyncio.to_thread(follower.apply_worker)
        os.kill(worker, signal.SIGSTOP)
        os.kill(worker, signal.SIGTERM)  # it ends as soon as it goes on
        try:
            await create(leader, "/registry/lab/lost/", 20)
            leader.kill()
        finally:
            os.kill(worker, signal.SIGCONT)
        await until_leads(pair, follower)
        await create(follower, "/registry/lab/new/", 20)
        leader.start()
        await pair.until("the old leader to follow", streaming)
        assert await pair.leader() is follower
        with psycopg.connect(follower.conninfo) as session:
            kinds = [row[0] for row in session.execute("SELECT kind FROM kine_failover.lineage ORDER BY ordinal")]
        assert kinds == ["lead", "lead", "verdict"]
        kept = Clients(pair).archived()
        assert {key for key in kept if key.startswith("/registry/lab/lost/")}
        assert not {key for key in kept if key.startswith("/registry/lab/both/")}


async def test_a_row_that_only_the_dead_leader_had_is_archived_and_its_leader_hears_of_it(running_pair: Start) -> None:
    """Nobody was told that it was written, and somebody may have seen it: in the end every watch begins anew (R13)."""
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        await pair.until("a follower that may take over", lambda both: streaming(both) and "synced" in worths(both))
        worker = await asyncio.to_thread(follower.apply_worker)
        os.kill(worker, signal.SIGSTOP)
        os.kill(worker, signal.SIGTERM)  # it ends as soon as it goes on
        try:
            with psycopg.connect(leader.conninfo, autocommit=True) as session:
                session.execute("SET synchronous_commit = local")
                session.execute(
                    "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) "
                    "VALUES (%s, 1, 0, 0, 0, 0, 'seen')", [ONLY_HERE],
                )  # fmt: skip
            leader.kill()
        finally:
            os.kill(worker, signal.SIGCONT)
        await until_leads(pair, follower)
        leader.start()
        await pair.until("the old leader to follow", streaming)
        await clients.verify()
        assert ONLY_HERE in clients.archived()
        told = json.loads((leader.state_dir / "state.json").read_text())["durable"]["ghosts_under"]
        with psycopg.connect(follower.conninfo) as session:
            began = [row[0] for row in session.execute("SELECT id FROM kine_failover.lineage WHERE kind = 'lead'")]
        assert told in began
        assert "full" in [one["fence"] for one in follower.history() if one["kind"] == "leads"]


async def test_what_the_leader_compacted_while_the_other_was_away_costs_no_late_fence(running_pair: Start) -> None:
    """The other one comes back with rows that the leader has no more; whoever saw them is told of later ones."""
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        await change(leader, HOT, 10)
        leader.kill()
        await until_leads(pair, follower)
        await change(follower, HOT, 10)
        with psycopg.connect(follower.conninfo) as session:
            session.execute("SET LOCAL synchronous_commit = local")
            session.execute(
                "DELETE FROM kine WHERE name = %s AND id < (SELECT max(id) FROM kine WHERE name = %s)", [HOT, HOT]
            )
            session.execute(
                "UPDATE kine SET prev_revision = (SELECT max(id) FROM kine WHERE name = %s) WHERE name = 'compact_rev_key'",
                [HOT],
            )
        leader.start()
        await pair.until("the old leader to follow", streaming)
        await clients.verify()
        assert "lead/ghosts" not in [one["rule"] for one in follower.history() if one["kind"] == "leads"]


async def change(node: NodeProcesses, key: str, times: int) -> None:
    """Change a key so often through a node's Kine, each time over what is there."""
    async with asyncio.timeout(60.0):  # a bound on a hang
        done = 0
        while done < times:
            etcd = EtcdClient(node.kine_target)
            with contextlib.suppress(EtcdError):
                while done < times:
                    found = await etcd.get(key)
                    known = found.kv.mod_revision if found.kv is not None else 0
                    wrote = await etcd.update(key, b"x", known) if known else await etcd.create(key, b"x")
                    done += wrote.succeeded
            etcd.close()
            await asyncio.sleep(0.02)


def streaming(both: Sequence[dict[str, Any] | None]) -> bool:
    told = [one for one in both if one is not None]
    roles = sorted(str(one["role"]) for one in told)
    return roles == ["follower", "leader"] and all(one["stream"] == "flowing" for one in told)


def worths(both: Sequence[dict[str, Any] | None]) -> set[str]:
    return {str(one["worth"]) for one in both if one is not None}


async def create(node: NodeProcesses, prefix: str, count: int) -> None:
    """Create as many keys through a node's Kine, each acknowledged."""
    async with asyncio.timeout(60.0):  # a bound on a hang
        for number in range(count):
            while True:
                etcd = EtcdClient(node.kine_target)
                with contextlib.suppress(EtcdError):
                    await etcd.create(f"{prefix}{number}", b"x")
                    break
                etcd.close()
                await asyncio.sleep(0.02)
            etcd.close()


async def test_wrong_cluster_is_refused_and_changes_nothing(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.stop_supervisor()
        text = follower.config.read_text(encoding="utf-8")
        follower.config.write_text(
            text.replace(f'cluster = "{pair.folder.name}"', 'cluster = "other"'), encoding="utf-8"
        )
        refused = await asyncio.to_thread(follower.command, "run", check=False)
        assert refused.returncode == 1
        assert "other" in refused.stderr
        follower.config.write_text(text, encoding="utf-8")
        follower.start_supervisor()
        await clients.verify()


async def split(pair: Pair, clients: Clients) -> None:
    """Cut the network until both lead and both have taken writes."""
    pair.network.cut()
    await pair.until("both to lead", lambda both: all((one or {}).get("role") == "leader" for one in both))
    await clients.until_writing(50)


async def until_leads(pair: Pair, node: NodeProcesses) -> None:
    """Return when this node leads and serves."""

    def leads(both: Sequence[dict[str, Any] | None]) -> bool:
        told = both[node.number]
        return told is not None and told["role"] == "leader" and bool(told["postgres"].get("open"))

    await pair.until(f"node {node.number} to lead", leads)


@pytest.mark.parametrize("side", ["leader", "follower"])
async def test_death_during_a_resync(running_pair: Start, side: str) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.kill()
        await clients.until_writing(30, (leader.number,))
        await asyncio.to_thread(fill, leader, 100_000)
        await asyncio.to_thread(renew, follower)
        follower.start_supervisor()
        await pair.until("a resync", lambda both: (both[follower.number] or {}).get("role") == "resyncing")
        dies = leader if side == "leader" else follower
        dies.kill()
        dies.start()
        await clients.verify()
        assert (await pair.leader()) is leader


def fill(node: NodeProcesses, rows: int) -> None:
    with psycopg.connect(node.postgres.conninfo(), autocommit=True) as session:
        session.execute(
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) "
            "SELECT '/fill/' || i, 1, 0, 0, 0, 0, convert_to(repeat(md5(i::text), 10), 'UTF8') "
            "FROM generate_series(1, %s::int) AS i",
            [rows],
        )


async def test_disk_full_on_the_leader(running_pair: Start, small_disk: Path) -> None:
    # Node 0 watches the small file system, node 1 something else.
    async with running_pair(extra={"probes": "free_min_mib = 50"}) as (pair, clients):
        leader = await pair.leader()
        leader.stop_supervisor()
        text = leader.config.read_text(encoding="utf-8")
        leader.config.write_text(text.replace("[probes]", f'[probes]\nfolders = ["{small_disk}"]'), encoding="utf-8")
        leader.start_supervisor()
        await pair.until_in_sync()
        (small_disk / "filler").write_bytes(b"x" * (60 << 20))
        await until_leads(pair, pair.other(leader))  # in order, before anything fails
        (small_disk / "filler").unlink()
        await clients.verify()
