"""How Postgres behaves where a promise rests on it; see docs/facts.md."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from failover.adapters.clock import SystemClock
from failover.adapters.postgres import OwnPostgres
from failover.adapters.sessions import PostgresTimeouts
from failover.core.model import Kind, LineageEntry
from failover.ports import FencedError, LeadOrder, PostgresDownError, PostgresHungError, PreconditionError
from lab.postgres_server import SUPERUSER, PostgresServer
from lab.servers import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lab import binaries


@pytest.fixture
def server(each_postgres: binaries.Postgres) -> Iterator[PostgresServer]:
    with servers(each_postgres) as (made,):
        yield made


@contextlib.asynccontextmanager
async def adapter(server: PostgresServer) -> AsyncIterator[OwnPostgres]:
    own = OwnPostgres(server.conninfo(), server.conninfo("kine"), SystemClock(), PostgresTimeouts())
    try:
        yield own
    finally:
        await own.close()


def row(kind: Kind = Kind.LEAD, term: int = 2) -> LineageEntry:
    return LineageEntry(SystemClock().new_id(), term, 0, kind, "test", 0, 0, 0)


def test_an_empty_included_file_breaks_pg_hba(server: PostgresServer) -> None:
    (server.data / "kine_failover_open").write_text("")
    with psycopg.connect(server.conninfo(), autocommit=True) as session:
        found = session.execute("SELECT error FROM kine_failover_admin.look_at_hba()").fetchone()
    assert found is not None
    assert "end-of-line before authentication method" in found[0]


async def test_it_starts_fenced_opens_and_closes(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.found(row())
        assert not (await own.status()).is_open
        await own.open_to_kine(2)
        assert (await own.status()).is_open
        with psycopg.connect(server.conninfo("kine")):
            pass
        await own.close_to_kine(5)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.conninfo("kine"))
        with pytest.raises(FencedError, match="term 5"):
            await own.open_to_kine(5)  # R19
        await own.open_to_kine(6)
        server.kill()
        server.start()
        assert not (await own.status()).is_open  # R11
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.conninfo("kine"))


async def test_the_end_of_postgres_is_noticed_at_once(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.found(row())
        lost = asyncio.Event()
        own.watch(lost.set)
        await own.status()
        server.kill()
        async with asyncio.timeout(10):
            await lost.wait()
        with pytest.raises(PostgresDownError):
            await own.status()


async def test_a_leadership_begins_above_everything_seen(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.found(row())
        with psycopg.connect(server.conninfo(), autocommit=True) as session:
            session.execute(
                "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease) "
                "VALUES (1, 'compact_rev_key', 1, 0, 0, 0, 0)"
            )
            written = await own.lead(LeadOrder(row(term=4), 500, 100, True))
            assert (written.first_revision, written.parent_revision) == (600, 1)
            assert session.execute("SELECT name FROM kine WHERE id = 600").fetchone() == ("gap-600",)
            assert session.execute("SELECT prev_revision FROM kine WHERE id = 1").fetchone() == (599,)
            assert session.execute("SELECT nextval('kine_id_seq')").fetchone() == (601,)
        with pytest.raises(PreconditionError):
            await own.found(row())


async def test_a_follower_that_promotes_does_not_wait_for_a_vacuum_but_for_what_a_kine_still_writes(
    server: PostgresServer,
) -> None:
    async with adapter(server) as own:
        await own.found(row())
        await own.close_to_kine(3)  # as on a follower
        with psycopg.connect(server.conninfo()) as vacuum:
            vacuum.execute("LOCK TABLE kine IN SHARE UPDATE EXCLUSIVE MODE")  # as a vacuum holds it
            await own.lead(LeadOrder(row(term=4), 0, 1, True))
        await own.open_to_kine(4)
        with psycopg.connect(server.conninfo("kine")) as kine:
            kine.execute("INSERT INTO kine (name) VALUES ('under way')")
            with pytest.raises(PostgresHungError, match="lock"):
                await own.lead(LeadOrder(row(term=6), 0, 1, True))
            kine.commit()
        written = await own.lead(LeadOrder(row(term=8), 0, 1, True))
        assert written.parent_revision > 0
        assert written.first_revision > written.parent_revision


def test_a_vacuum_that_stands_in_the_way_of_a_lock_costs_a_second(server: PostgresServer) -> None:
    for name, value in (("naptime", "1s"), ("vacuum_cost_delay", "100ms"), ("vacuum_cost_limit", "50")):
        server_setting(server, f"autovacuum_{name}", value)
    with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as session:
        session.execute("SELECT pg_reload_conf()")
        session.execute(
            "CREATE TABLE big AS SELECT i AS id, repeat('x', 400) AS text FROM generate_series(1, 60000) AS i"
        )
        session.execute("DELETE FROM big WHERE id % 2 = 0")
        under_way = "SELECT FROM pg_stat_progress_vacuum WHERE relid = 'big'::regclass"
        deadline = time.monotonic() + 60
        while not session.execute(under_way.encode()).fetchall():
            assert time.monotonic() < deadline, "no autovacuum comes by"
            time.sleep(0.02)
        began_s = time.monotonic()
        with session.transaction():
            session.execute("LOCK TABLE big IN SHARE ROW EXCLUSIVE MODE")
            assert time.monotonic() - began_s > 0.9  # deadlock_timeout, which only a superuser may set


def server_setting(server: PostgresServer, name: str, value: str) -> None:
    with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as session:
        session.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())


async def test_beginning_a_pair_can_be_repeated_after_a_crash(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.found(row())
        await own.found(row())
        assert len((await own.status()).lineage) == 1
        with pytest.raises(PreconditionError, match="already holds"):
            await own.found(row(term=3))


async def test_a_database_without_an_encoding_is_read_as_text(server: PostgresServer) -> None:
    with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as session:
        session.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    conninfo = server.conninfo(SUPERUSER).replace("dbname=kine", "dbname=plain")
    own = OwnPostgres(conninfo, server.conninfo("kine"), SystemClock(), PostgresTimeouts())
    try:
        await own.found(row())
        assert (await own.status()).lineage[0].reason == "test"
    finally:
        await own.close()


async def test_a_look_is_planned_once_and_goes_on_with_another_table(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.found(row())
        looks = [await own.status() for _ in range(5)]
        assert {one.lineage for one in looks} == {looks[0].lineage}
        async with own.sessions.session(5.0) as session:
            told = await (
                await session.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements")
            ).fetchall()
            assert told
            assert all(generic and not custom for generic, custom in told)
            await session.execute("ALTER TABLE kine ALTER COLUMN id TYPE integer")
        assert (await own.status()).lineage == looks[0].lineage
        written = await own.record(row(term=2))
        assert [one.id for one in (await own.status()).lineage] == [looks[0].lineage[0].id, written.id]


async def test_an_empty_database_never_leads(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.prepare()
        await own.prepare()  # again is no error
        with pytest.raises(PreconditionError, match="empty"):
            await own.lead(LeadOrder(row(), 0, 1, False))


async def test_commits_wait_as_soon_as_the_checkpoint_has_returned(server: PostgresServer) -> None:
    async with adapter(server) as own:
        await own.found(row())
        await own.waits_on("kf_1_nobody")
        assert (await own.status()).waits_for == "kf_1_nobody"

        def commit() -> None:
            with psycopg.connect(server.conninfo(), autocommit=True) as session:
                session.execute("INSERT INTO kine (name) VALUES ('waits')")

        waiting = asyncio.create_task(asyncio.to_thread(commit))
        deadline = time.monotonic() + 20
        while (await own.status()).oldest_wait_s == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await own.waits_off()
        await waiting
        assert (await own.status()).oldest_wait_s == 0
