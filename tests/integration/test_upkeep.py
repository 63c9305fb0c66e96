"""What keeps a pair good for years, on real Postgres and real Kine: scrubs, drills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg

from failover.adapters import canary_rows
from tests.conftest import calm

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from lab import binaries
    from lab.clients import Clients
    from lab.pair import NodeProcesses, Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]


async def run(node: NodeProcesses, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(node.command, *arguments, check=False)
    return done.returncode, done.stdout, done.stderr


async def scrubbed(node: NodeProcesses, *arguments: str) -> dict[str, Any]:
    code, out, err = await run(node, "scrub", "--output", "json", *arguments)
    assert out, err
    found: dict[str, Any] = json.loads(out)
    assert code == (0 if found["ok"] else 1)
    return found


async def metric(pair: Pair, node: NodeProcesses, name: str) -> float:
    url = f"http://127.0.0.1:{pair.ports[f'api-{node.number}']}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        lines = [line.split() for line in (await answer.text()).splitlines()]
    return next(float(line[1]) for line in lines if line and line[0] == f"kine_failover_{name}")


async def test_scrub_is_exact_under_load_and_resync_is_the_remedy(
    running_pair: Start, each_postgres: binaries.Postgres
) -> None:
    async with running_pair(version=each_postgres, **calm()) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        for node in (follower, leader, follower):  # rows in flight are never taken for different ones
            found = await scrubbed(node, "--fast")
            assert found["ok"]
            assert found["rows"] > 50
        rows = [row[0] for row in follower.rows() if row[1].startswith("/registry/lab/")][:3]
        with psycopg.connect(follower.conninfo, autocommit=True) as session:
            session.execute("DELETE FROM kine WHERE id = %s", [rows[0]])
            session.execute("UPDATE kine SET value = 'other' WHERE id = %s", [rows[1]])
            session.execute("INSERT INTO kine (id, name, created, deleted) VALUES (-7, '/registry/lab/foreign', 1, 0)")
        found = await scrubbed(follower)
        assert (found["missing"], found["changed"], found["extra"]) == ([rows[0]], [rows[1]], [-7])
        assert "resync" in (await run(follower, "scrub"))[1]
        told = await follower.status()
        assert told is not None
        assert any("3 rows differ" in risk for risk in told["at_risk"])
        assert await metric(pair, follower, "last_scrub_differing_rows") == 3
        assert [one["kind"] for one in follower.history() if one["kind"] == "differs"] == ["differs"] * 2
        await asyncio.to_thread(follower.command, "resync", "--yes")
        found = await scrubbed(follower)
        assert found["ok"], json.dumps([rows, found, follower.history()])
        assert await metric(pair, follower, "last_scrub_differing_rows") == 0
        await clients.verify()


async def test_a_write_that_only_the_follower_shows_yet_is_no_difference(running_pair: Start) -> None:
    """The leader shows a write when the session that wrote it has heard of the follower's acknowledgement."""
    async with running_pair(**calm()) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        applying = await asyncio.to_thread(follower.apply_worker)
        with psycopg.connect(leader.conninfo, autocommit=True) as session:
            writing = session.info.backend_pid
            os.kill(applying, signal.SIGSTOP)
            write = asyncio.create_task(
                asyncio.to_thread(
                    session.execute, "INSERT INTO kine (name, created, deleted) VALUES ('/kine-failover/seen', 1, 0)"
                )
            )
            try:
                await until(leader, "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'", writing)
                os.kill(writing, signal.SIGSTOP)
            finally:
                os.kill(applying, signal.SIGCONT)
            try:
                await until(follower, "SELECT 1 FROM kine WHERE name = '/kine-failover/seen'")
                scrub = asyncio.create_task(scrubbed(follower))
                await until(
                    leader,
                    "SELECT 1 FROM pg_stat_activity WHERE query ~ 'pg_snapshot_xmin' AND pid <> pg_backend_pid()",
                    unless=scrub,
                )
            finally:
                os.kill(writing, signal.SIGCONT)
            await write
        assert (await scrub)["ok"]
        await clients.verify()


async def until(node: NodeProcesses, query: str, *values: object, unless: asyncio.Task[Any] | None = None) -> None:
    """Return when `query` yields a row in a node's Postgres; fail when a task has ended before."""
    async with asyncio.timeout(60.0):  # a bound on a hang
        with psycopg.connect(node.conninfo, autocommit=True) as session:
            while session.execute(query.encode(), values or None).fetchone() is None:
                assert unless is None or not unless.done(), unless.result()
                await asyncio.sleep(0.005)


async def test_each_of_many_resyncs_in_a_row_gets_through_at_once(running_pair: Start) -> None:
    """The leader goes alone, and its history on, as the follower lets go of in_sync: that is no other history."""
    async with running_pair(**calm()) as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        for count in range(1, 9):
            await pair.until("the pair to be in sync", lambda both: (both[leader.number] or {}).get("in_sync", False))
            await asyncio.to_thread(follower.command, "resync", "--yes")
            events = [one["kind"] for one in follower.history()]
            assert events.count("request") == events.count("rejoined") - 1 == count  # one made the pair
            assert "plan_failed" not in events
        await clients.verify()


async def test_the_follower_scrubs_by_itself(running_pair: Start) -> None:
    async with running_pair(**calm(upkeep="scrub_every_s = 1.0")) as (pair, _):
        follower = pair.other(await pair.leader())

        def told(both: Any) -> bool:
            newest = both[follower.number]["scrub"]["newest"]
            return newest is not None and newest["ok"]

        both = await pair.until("the follower to have compared", told)
        assert both[1 - follower.number]["scrub"]["newest"] is None


async def test_drill_there_and_back_from_either_node(running_pair: Start) -> None:
    async with running_pair(**calm()) as (pair, clients):
        leader = await pair.leader()
        for node in (leader, pair.other(leader)):
            code, out, err = await run(node, "drill", "--yes", "--output", "json")
            assert code == 0, err + out
            report = json.loads(out)
            assert report["ok"]
            assert [move["to"] for move in report["moves"]] == [1 - leader.number, leader.number]
            assert all(0 < move["gap_ms"] < 60_000 for move in report["moves"])
            assert report["acknowledged"] >= 12
            assert report["lost"] == 0
            assert await metric(pair, node, "last_drill_success") == 1
            assert (await pair.leader()) is leader
        rows = await clients.verify()
        probes = {row[1] for row in rows if row[1].startswith("/kine-failover/drill/")}
        alive = {name for name in probes if not [row for row in rows if row[1] == name][-1][3]}
        assert not alive


async def test_a_drill_is_refused_where_it_would_be_a_risk(running_pair: Start) -> None:
    async with running_pair(**calm()) as (pair, _):
        leader = await pair.leader()
        follower = pair.other(leader)
        await asyncio.to_thread(leader.command, "pause")
        code, _, err = await run(follower, "drill", "--yes")
        assert (code, err.count("\n")) == (1, 1)
        assert "paused" in err
        await asyncio.to_thread(leader.command, "resume")
        await pair.until_in_sync()
        pair.network.cut()
        await pair.until("both to lead", lambda both: all(one["role"] == "leader" for one in both if one is not None))
        code, _, err = await run(leader, "drill", "--yes")
        assert (code, err.count("\n")) == (1, 1)
        assert "one that follows" in err
        follower.kill()
        code, _, err = await run(follower, "drill", "--yes")
        assert code == 3
        assert not (leader.state_dir / "drill.json").exists()
        assert not (follower.state_dir / "drill.json").exists()


async def test_the_canaries_rows_stay_few(running_pair: Start) -> None:
    """Nobody compacts here."""
    async with running_pair(**calm(kine="watch_canary_s = 0.05")) as (pair, clients):
        leader = await pair.leader()
        flights: dict[str, set[int]] = {name: set() for name in canary_rows.NAMES}
        most = 0
        async with asyncio.timeout(60.0):  # a bound on a hang
            while min(map(len, flights.values())) < 3 * canary_rows.KEPT:
                rows = await asyncio.to_thread(leader.rows)
                for name, seen in flights.items():
                    there = [row[0] for row in rows if row[1] == name]
                    seen.update(there)
                    most = max(most, len(there))
        assert canary_rows.KEPT <= most <= canary_rows.KEPT + 2 * canary_rows.EVERY_FLIGHTS
        for node in pair.nodes:  # without the canaries it gets quiet enough for both tables to be compared
            node.stop_supervisor()
            text = node.config.read_text(encoding="utf-8")
            node.config.write_text(text.replace("watch_canary_s = 0.05", "watch_canary_s = 0"), encoding="utf-8")
            node.start_supervisor()
        await clients.verify()


async def test_a_leader_sweeps_what_a_fence_has_left_to_delete(running_pair: Start) -> None:
    """Also one that another supervisor left; the follower has it deleted as everything else."""
    async with running_pair(**calm()) as (pair, clients):
        leader = await pair.leader()
        with psycopg.connect(leader.conninfo, autocommit=True) as session:
            replaced = session.execute(
                "INSERT INTO kine (name, created, deleted) VALUES ('/replaced', 1, 0) RETURNING id"
            ).fetchone()
            assert replaced is not None
            session.execute(
                "INSERT INTO kine (name, created, deleted, prev_revision) VALUES ('/replaced', 0, 0, %s)", replaced
            )
            session.execute("UPDATE kine SET prev_revision = (SELECT max(id) FROM kine) WHERE name = 'compact_rev_key'")
        leader.kill_supervisor()
        leader.start_supervisor()
        await pair.until_in_sync()
        async with asyncio.timeout(60.0):  # a bound on a hang
            for node in pair.nodes:
                while replaced[0] in [row[0] for row in await asyncio.to_thread(node.rows)]:
                    await clients.until_writing()
        assert [row[1] for row in leader.rows()].count("/replaced") == 1
        await clients.verify()
