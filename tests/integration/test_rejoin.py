"""A node that lost a split comes back from the comparison that its archive has made, and from a new one where that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from failover.adapters.archive import Archive
from failover.adapters.clock import SystemClock
from failover.adapters.postgres import OwnPostgres
from failover.adapters.rejoin import Rejoiner
from failover.adapters.sessions import PostgresTimeouts
from failover.core.model import Acceptance, Choice, Kind, LineageEntry, Verdict
from failover.ports import LeadOrder, RejoinOrder
from lab.servers import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from failover.ports import RejoinReport
    from lab import binaries
    from lab.postgres_server import PostgresServer

ACCEPTANCE = Acceptance(Verdict(0, "alone-0", "alone-1", Choice.LED_BEFORE, "test"), 0)
FIRST = LineageEntry("first", 2, 0, Kind.LEAD, "test", 0, 0, 0)
ROWS = (
    "SELECT id, name, created, deleted, create_revision, prev_revision, lease, value FROM kine ORDER BY id",
    "SELECT id, ordinal, term, node, kind FROM kine_failover.lineage ORDER BY ordinal",
)


class Split:
    """Two servers whose data have parted; node 0 leads, node 1 has lost."""

    def __init__(self, servers_: list[PostgresServer], folder: Path, timeouts: PostgresTimeouts) -> None:
        self.leader, self.own = servers_
        clock = SystemClock()
        self.nodes = [OwnPostgres(one.conninfo(), one.conninfo("kine"), clock, timeouts) for one in servers_]
        self.folder = folder
        self.rejoiner = Rejoiner(self.nodes[1], self.leader.conninfo(), 1, Archive(folder), timeouts)

    def ask(self, server: PostgresServer, statement: str, *values: object) -> list[tuple[object, ...]]:
        with psycopg.connect(server.conninfo(), autocommit=True, options="-c lock_timeout=200ms") as session:
            cursor = session.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def write(self, server: PostgresServer, name: str, count: int) -> None:
        self.ask(
            server,
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) "
            "SELECT %s || i, 1, 0, 0, 0, 0, 'x' FROM generate_series(1, %s::int) AS i",
            name, count,
        )  # fmt: skip

    async def part(self) -> None:
        """Make both equal first, by a rejoin, then let each go on alone."""
        await self.nodes[0].found(FIRST)
        self.write(self.leader, "/common/", 2000)
        self.ask(self.leader, "INSERT INTO kine (name, prev_revision) VALUES ('compact_rev_key', 0)")
        await self.rejoin(FIRST.id, None)
        await self.nodes[1].detach()
        await self.nodes[1].lead(LeadOrder(LineageEntry("alone-1", 3, 1, Kind.LEAD, "test", 0, 0, 0), 0, 10, False))
        self.write(self.leader, "/there/", 30)
        self.write(self.own, "/here/", 20)
        self.ask(self.own, "UPDATE kine SET value = 'y' WHERE name = '/common/7'")
        await self.nodes[0].record(LineageEntry("alone-0", 2, 0, Kind.ALONE, "test", 0, 0, 0))

    async def go_on(self) -> None:
        """The winner goes on: it compacts, its clients write, and it absorbs the other side."""
        self.ask(self.leader, "DELETE FROM kine WHERE name LIKE '/common/1%'")
        self.write(self.leader, "/later/", 40)
        entry = LineageEntry("verdict", 4, 0, Kind.VERDICT, "test", 0, 0, 0, absorbs="alone-1")
        await self.nodes[0].lead(LeadOrder(entry, 0, 10, True))

    async def rejoin(self, head: str, archived: str | None) -> RejoinReport:
        async def nothing() -> None:
            pass

        order = RejoinOrder(head, 0, f"kf_1_{SystemClock().new_id()[:8]}", "test", archived)
        return await self.rejoiner.rejoin(order, lambda _: None, nothing)

    def count(self) -> int:
        """Rows of both."""
        return sum(len(self.ask(server, ROWS[0])) for server in (self.leader, self.own))

    def sessions(self, server: PostgresServer) -> list[tuple[object, ...]]:
        """Pids of transactions that stand and in which nothing is asked."""
        question = "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        return self.ask(server, question)

    def until_equal(self) -> None:
        """Return when both hold the same rows and the same history."""
        deadline = time.monotonic() + 60
        while any(self.ask(self.leader, rows) != self.ask(self.own, rows) for rows in ROWS):
            assert time.monotonic() < deadline, "they do not come to be equal"
            time.sleep(0.02)


@contextlib.asynccontextmanager
async def parted(version: binaries.Postgres, folder: Path, held_s: float = 60.0) -> AsyncIterator[Split]:
    with servers(version, 2) as both:
        split = Split(both, folder, replace(PostgresTimeouts(), held_s=held_s))
        try:
            await split.part()
            yield split
        finally:
            await split.rejoiner.close()
            for node in split.nodes:
                await node.close()


async def test_it_goes_on_from_the_comparison_of_its_archive(each_postgres: binaries.Postgres, tmp_path: Path) -> None:
    async with parted(each_postgres, tmp_path) as split:
        compared = split.count()
        name = await split.rejoiner.archive(ACCEPTANCE)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            split.write(split.own, "/behind-its-back/", 1)
        await split.go_on()
        report = await split.rejoin("verdict", name)
        assert report.rows_compared == compared  # what came later came by the stream, and was not compared
        assert report.archive == name
        split.until_equal()
        lines = list(Archive(tmp_path).read(name))
        rows = [line["key"] for line in lines if line["type"] == "row"]
        assert {"/here/1", "/common/7"} <= set(rows)
        objects = {line["key"]: line["change"] for line in lines if line["type"] == "object"}
        assert objects == {
            "/common/7": "changed",
            **{f"/here/{one}": "created" for one in range(1, 21)},
            **{f"/there/{one}": "by_leader" for one in range(1, 31)},
        }
        assert not split.sessions(split.leader)
        assert not split.sessions(split.own)
        split.write(split.leader, "/streams-on/", 1)
        split.until_equal()


def end_sessions(where: str) -> Callable[[Split], None]:
    def end(split: Split) -> None:
        server: PostgresServer = getattr(split, where)
        for (pid,) in split.sessions(server):
            split.ask(server, "SELECT pg_terminate_backend(%s, 10000)", pid)

    return end


def drop_slot(split: Split) -> None:
    split.ask(split.leader, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def restart_leader(split: Split) -> None:
    split.leader.kill()
    split.leader.start()


@pytest.mark.parametrize(
    "lose", [end_sessions("leader"), end_sessions("own"), drop_slot, restart_leader],
    ids=["leaders_session", "own_session", "slot", "leaders_postgres"],
)  # fmt: skip
async def test_it_compares_anew_where_the_comparison_is_lost(
    lose: Callable[[Split], None], each_postgres: binaries.Postgres, tmp_path: Path
) -> None:
    async with parted(each_postgres, tmp_path) as split:
        name = await split.rejoiner.archive(ACCEPTANCE)
        await split.go_on()
        lose(split)
        compared = split.count()
        assert (await split.rejoin("verdict", name)).rows_compared == compared
        split.until_equal()


async def test_it_compares_anew_for_another_archive_and_when_a_vacuum_is_under_way(
    each_postgres: binaries.Postgres, tmp_path: Path
) -> None:
    async with parted(each_postgres, tmp_path) as split:
        await split.rejoiner.archive(ACCEPTANCE)
        await split.go_on()
        compared = split.count()
        assert (await split.rejoin("verdict", "split-of-before.jsonl.gz")).rows_compared == compared
        split.until_equal()
        await split.nodes[1].detach()
        with psycopg.connect(split.own.conninfo()) as vacuum:
            vacuum.execute("LOCK TABLE kine IN SHARE UPDATE EXCLUSIVE MODE")  # as a vacuum holds it
            name = await split.rejoiner.archive(ACCEPTANCE)
        split.write(split.leader, "/still-later/", 5)
        compared = split.count()
        assert (await split.rejoin("verdict", name)).rows_compared == compared
        split.until_equal()


async def test_what_nobody_comes_back_to_is_let_go(each_postgres: binaries.Postgres, tmp_path: Path) -> None:
    async with parted(each_postgres, tmp_path, held_s=0.2) as split:
        name = await split.rejoiner.archive(ACCEPTANCE)
        deadline = time.monotonic() + 60
        while split.sessions(split.leader) or split.sessions(split.own):
            assert time.monotonic() < deadline, "the table stays locked"
            await asyncio.sleep(0.02)
        split.write(split.own, "/it-is-free-again/", 1)
        await split.go_on()
        compared = split.count()
        assert (await split.rejoin("verdict", name)).rows_compared == compared
        split.until_equal()
