"""What Kine's compaction deletes, and what it leaves when somebody else raises the compaction revision."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING

import psycopg

from failover.adapters import postgres
from failover.adapters.superseded_rows import SupersededRows
from failover.ports import LeadOrder
from lab import binaries
from lab.postgres_server import SUPERVISOR
from tests.facts.test_plain_kine import ANSWER_S, client, plain
from tests.facts.test_postgres import adapter, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from failover.adapters.postgres import OwnPostgres
    from failover.etcd.client import EtcdClient
    from lab.postgres_server import PostgresServer

__all__ = ["plain"]

POLL_S = 0.05


@contextlib.asynccontextmanager
async def another(server: PostgresServer, target: str, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One Kine more on the same Postgres."""
    endpoint = f"{server.kine_endpoint(role=SUPERVISOR)}&search_path=public"
    kine = await asyncio.create_subprocess_exec(
        binaries.kine(), "--listen-address", target, "--endpoint", endpoint, "--metrics-bind-address", "0",
        "--datastore-poll-interval", "100ms", *more, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield kine
    finally:
        kine.kill()
        await kine.wait()


async def compact(server: PostgresServer, target: str, revision: int) -> None:
    """Have another Kine beside the one at `target` compact to a revision or further."""
    more = ("--compact-interval", "1s", "--compact-interval-jitter", "0", "--compact-min-retain", "0")
    with psycopg.connect(server.conninfo(), autocommit=True) as session:
        async with asyncio.timeout(ANSWER_S), another(server, f"{target}.compacts", *more):
            compacted = 0
            while compacted < revision:
                await asyncio.sleep(POLL_S)
                found = session.execute("SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'").fetchone()
                compacted = found[0] if found is not None else 0


async def test_a_compaction_revision_that_somebody_else_raises_brings_a_deleted_key_back(
    plain: tuple[PostgresServer, str],
) -> None:
    """Kine deletes what was replaced since the compaction before, and never looks at what lies below that one."""
    server, target = plain
    async with client(target) as kine:
        first = await kine.create("/key", b"first")
        second = await kine.update("/key", b"second", first.revision)
        with psycopg.connect(server.conninfo()) as session:
            session.execute("UPDATE kine SET prev_revision = %s WHERE name = 'compact_rev_key'", [second.revision])
        third = await kine.update("/key", b"third", second.revision)
        await kine.delete("/key", third.revision)
        other = await kine.create("/other", b"x")
        assert (await kine.get("/key")).kv is None
        await compact(server, target, other.revision)
        found = await kine.get("/key")
        assert found.kv is not None
        assert (found.kv.value, found.kv.mod_revision) == (b"first", first.revision)  # deleted, and here again


async def changed(kine: EtcdClient, own: OwnPostgres) -> tuple[int, int]:
    """Begin a history with a key that was replaced, one that was deleted and one that is as it was.

    Returns the newest revisions of the first and of the last.
    """
    await own.found(row())
    first = await kine.create("/key", b"first")
    second = await kine.update("/key", b"second", first.revision)
    gone = await kine.create("/gone", b"x")
    await kine.delete("/gone", gone.revision)
    kept = await kine.create("/kept", b"x")
    return second.revision, kept.revision


async def test_a_full_fence_leaves_nothing_that_a_compaction_would_bring_back(
    plain: tuple[PostgresServer, str],
) -> None:
    server, target = plain
    async with client(target) as kine, adapter(server) as own:
        second, kept = await changed(kine, own)
        led = await own.lead(LeadOrder(row(term=4), kept, 100, True))
        third = await kine.update("/key", b"third", second)
        assert third.succeeded
        assert third.revision > led.first_revision
        await kine.delete("/key", third.revision)
        other = await kine.create("/other", b"x")
        await compact(server, target, other.revision)
        assert (await kine.get("/key")).kv is None
        assert (await kine.get("/gone")).kv is None
        found = await kine.get("/kept")
        assert found.kv is not None
        assert found.kv.mod_revision == kept
        with psycopg.connect(server.conninfo()) as session:
            left = session.execute("SELECT count(*) FROM kine WHERE name IN ('/key', '/gone')").fetchone()
        assert left == (0,)


async def test_what_a_full_fence_had_no_time_for_is_swept_from_below(
    plain: tuple[PostgresServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of one row each, and only where the database is open; what a row above the fence replaces is left to Kine."""
    monkeypatch.setattr(postgres, "COMPACTED_MOST", 0)
    server, target = plain
    async with client(target) as kine, adapter(server) as own:
        second, kept = await changed(kine, own)
        await own.lead(LeadOrder(row(term=4), kept, 100, True))
        third = await kine.update("/key", b"third", second)

        def rows() -> list[tuple[str, bytes | None]]:
            with psycopg.connect(server.conninfo()) as session:
                names = "SELECT name, value FROM kine WHERE name IN ('/key', '/gone', '/kept') ORDER BY id"
                return session.execute(names).fetchall()

        assert len(rows()) == 6, rows()
        sweeper = SupersededRows(own.sessions, "kine", rows=1)
        await own.close_to_kine(4)
        assert await sweeper.sweep() == 0
        await own.open_to_kine(5)
        assert await sweeper.sweep() >= 3  # Kine fills the gap of a fence with rows that say deleted
        assert await sweeper.sweep() == 0
        assert rows() == [("/key", b"second"), ("/kept", b"x"), ("/key", b"third")]
        await kine.delete("/key", third.revision)
        other = await kine.create("/other", b"x")
        await compact(server, target, other.revision)
        assert (await kine.get("/key")).kv is None
        assert (await kine.get("/gone")).kv is None
        assert rows() == [("/kept", b"x")]


async def test_a_kine_that_stood_still_while_a_deletion_was_compacted_never_tells_of_it(
    plain: tuple[PostgresServer, str],
) -> None:
    """Only a watch that begins is told of a compaction; the poll loop of one that goes on does not ask for it."""
    server, target = plain
    async with client(target) as kine, another(server, f"{target}.2") as process, client(f"{target}.2") as other:
        key = await kine.create("/key", b"x")
        told: list[tuple[str, bool]] = []
        async with (
            asyncio.timeout(4 * ANSWER_S),
            contextlib.aclosing(other.watch("/", key.revision)) as batches,  # type: ignore[type-var]
        ):
            async for batch in batches:
                told += [(change.key, change.deleted) for change in batch.changes]
                if ("/key", False) in told:
                    process.send_signal(signal.SIGSTOP)
                    await kine.delete("/key", key.revision)
                    last = await kine.create("/last", b"x")
                    await compact(server, target, last.revision)
                    await kine.create("/more", b"x")
                    process.send_signal(signal.SIGCONT)
                    break
            async for batch in batches:
                told += [(change.key, change.deleted) for change in batch.changes]
                if ("/more", False) in told:
                    break
        assert (await other.get("/key")).kv is None
        assert ("/key", True) not in told
