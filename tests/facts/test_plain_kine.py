"""Kine's own races, on one Kine and one Postgres with no supervisor: what a checker may excuse is shown here first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from failover.adapters.in_order import InOrder, OrderSettings
from failover.adapters.process import running_with
from failover.adapters.sessions import PostgresTimeouts, Sessions
from failover.etcd import etcd_pb2 as pb
from failover.etcd.client import EtcdClient, EtcdError
from failover.ports import Target
from lab import binaries
from lab.checker import FIRST_BATCH
from lab.postgres_server import SUPERUSER, SUPERVISOR, PostgresServer
from lab.servers import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from grpclib.client import Stream

ANSWER_S = 20.0  # a bound on a hang
QUIET_S = 3.0  # thirty polls


@pytest.fixture
def plain(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresServer, str]]:
    """A Postgres and a Kine, with more arguments by parameter; yields the server and the Kine's target."""
    more: tuple[str, ...] = getattr(request, "param", ())
    with servers(binaries.postgres()) as (server,):
        target = f"unix://{server.folder}/kine.sock"
        kine = subprocess.Popen(
            [binaries.kine(), "--listen-address", target, "--endpoint", server.kine_endpoint(role=SUPERVISOR),
             "--metrics-bind-address", "0", "--datastore-poll-interval", "100ms", *more],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield server, target
        finally:
            kine.kill()
            kine.wait()


@contextlib.asynccontextmanager
async def client(target: str) -> AsyncIterator[EtcdClient]:
    async with asyncio.timeout(ANSWER_S):
        while True:
            one = EtcdClient(target)
            try:
                await one.get("/any")
            except EtcdError:
                one.close()
                await asyncio.sleep(0.05)
            else:
                break
    try:
        yield one
    finally:
        one.close()


async def test_a_create_whose_session_is_ended_is_acknowledged_and_not_there(
    plain: tuple[PostgresServer, str],
) -> None:
    server, target = plain
    async with client(target) as etcd:
        with (
            psycopg.connect(server.conninfo()) as holder,
            psycopg.connect(server.conninfo(), autocommit=True) as other,
        ):
            holder.execute("LOCK TABLE kine IN SHARE MODE")
            asked = asyncio.create_task(etcd.create("/lost", b"x", timeout_s=ANSWER_S))
            async with asyncio.timeout(ANSWER_S):
                while not other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO kine%%'"
                ).fetchall():
                    await asyncio.sleep(0.02)
            answer = await asked
            holder.rollback()
        assert answer.succeeded
        # Told apart by the revision: it is another change's, the newest that there was.
        with psycopg.connect(server.conninfo()) as asking:
            row = asking.execute("SELECT name FROM kine WHERE id = %s", [answer.revision]).fetchone()
        assert row != ("/lost",)
        assert (await etcd.get("/lost")).kv is None


async def test_creates_that_fail_while_a_database_is_closed_are_acknowledged_once_it_is_open(
    plain: tuple[PostgresServer, str],
) -> None:
    """A create that could not be begun reads next: where the database is opened in between, it finds nothing there."""
    server, target = plain
    acknowledged: set[str] = set()
    closed = asyncio.Event()

    async def create_on(number: int) -> None:
        async with client(target) as etcd:
            for turn in itertools.count():
                if closed.is_set():
                    return
                key = f"/closed/{number}/{turn}"
                with contextlib.suppress(EtcdError):
                    if (await etcd.create(key, b"x", timeout_s=ANSWER_S)).succeeded:
                        acknowledged.add(key)

    crowd = asyncio.gather(*(create_on(number) for number in range(12)))
    with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as asking:
        there: set[str] = set()
        async with asyncio.timeout(3 * ANSWER_S):
            while not acknowledged - there:
                await asyncio.sleep(0.5)
                asking.execute(f"ALTER ROLE {SUPERVISOR} NOLOGIN")
                while asking.execute(ALL_ENDED, [SUPERVISOR]).rowcount:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.1)
                asking.execute(f"ALTER ROLE {SUPERVISOR} LOGIN")
                await asyncio.sleep(0.5)
                before = set(acknowledged)
                there = {row[0] for row in asking.execute("SELECT name FROM kine")}
                there |= acknowledged - before
    closed.set()
    await crowd


ALL_ENDED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s "
    "ORDER BY CASE WHEN state = 'idle' THEN 0 ELSE 1 END"
)


async def test_a_kine_that_is_stopped_in_a_create_holds_no_lock_once_the_insert_is_over(
    plain: tuple[PostgresServer, str],
) -> None:
    """The insert is a statement by itself: the transaction that Kine begins beside it, in another session, is empty."""
    server, target = plain
    async with client(target) as etcd:
        with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as asking:
            asking.execute(SLOW)
            asking.execute("CREATE TRIGGER slow AFTER INSERT ON kine FOR EACH STATEMENT EXECUTE FUNCTION slow()")
            asked = asyncio.create_task(etcd.create("/stopped", b"x", timeout_s=ANSWER_S))
            async with asyncio.timeout(ANSWER_S):
                while not asking.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'").rowcount:
                    await asyncio.sleep(0.005)
                (kine,) = [one.pid for one in running_with(lambda argument: argument == target)]
                os.kill(kine, signal.SIGSTOP)
                try:
                    while not asking.execute("SELECT FROM kine WHERE name = '/stopped'").rowcount:
                        await asyncio.sleep(0.02)
                    locks = asking.execute(
                        "SELECT mode FROM pg_locks WHERE relation = 'kine'::regclass AND pid <> pg_backend_pid()"
                    ).fetchall()
                    ended = asking.execute(BEGUN_ENDED, [SUPERVISOR]).rowcount
                finally:
                    os.kill(kine, signal.SIGCONT)
            assert (locks, ended) == ([], 1)
            assert not (await asked).succeeded  # its commit has failed, and its read finds the key
            assert (await etcd.get("/stopped")).kv is not None


SLOW = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$"
BEGUN_ENDED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND state = 'idle in transaction'"
)


SESSIONS = 6  # of Postgres for Kine in the trials below
CROWD = 24  # clients at once


async def of_a_crowd(target: str, timeout_s: float) -> tuple[set[str], int]:
    """Have more clients at once than there are sessions; return what was acknowledged, and how many got no answer."""
    acknowledged: set[str] = set()
    failed = 0

    async def create_and_list(number: int) -> None:
        nonlocal failed
        etcd = EtcdClient(target)
        for turn in range(10):
            key = f"/crowd/{number}/{turn}"
            try:
                if (await etcd.create(key, b"x", timeout_s=timeout_s)).succeeded:
                    acknowledged.add(key)
                await etcd.list("/crowd/")
            except EtcdError:
                failed += 1
                etcd.close()
                etcd = EtcdClient(target)
        etcd.close()

    await asyncio.gather(*(create_and_list(number) for number in range(CROWD)))
    return acknowledged, failed


async def test_creates_are_acknowledged_and_not_there_when_postgres_has_no_session_left(
    plain: tuple[PostgresServer, str],
) -> None:
    server, target = plain
    async with client(target):
        with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as asking:
            asking.execute(f"ALTER ROLE {SUPERVISOR} CONNECTION LIMIT {SESSIONS}")
            acknowledged, _ = await of_a_crowd(target, ANSWER_S)
            there = {row[0] for row in asking.execute("SELECT name FROM kine").fetchall()}
    assert acknowledged - there


@pytest.mark.parametrize("plain", [("--datastore-max-open-connections", str(SESSIONS))], indirect=True, ids=["bounded"])
async def test_a_kine_with_a_bound_on_its_sessions_waits_for_itself(plain: tuple[PostgresServer, str]) -> None:
    server, target = plain
    async with client(target):
        asked = asyncio.create_task(of_a_crowd(target, 1.0))
        with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as asking:
            async with asyncio.timeout(ANSWER_S):
                while True:  # each create holds one session with nothing but BEGIN in it, and asks for another
                    row = asking.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s "
                        "AND state = 'idle in transaction' AND query ILIKE 'begin%%'",
                        [SUPERVISOR],
                    ).fetchone()
                    if row is not None and row[0] >= SESSIONS - 1:
                        break
                    await asyncio.sleep(0.02)
        _, failed = await asked
    assert failed


async def test_a_first_batch_does_not_wait_for_a_lower_id(plain: tuple[PostgresServer, str]) -> None:
    server, target = plain
    async with client(target) as etcd:
        started = (await etcd.create("/watched/first", b"x")).revision
        with psycopg.connect(server.conninfo()) as slow:
            row = slow.execute(INSERT, ["/watched/slow"]).fetchone()
            assert row is not None
            later = (await etcd.create("/watched/later", b"x")).revision
            assert started < row[0] < later <= started + FIRST_BATCH
            seen = await until_quiet(target, started + 1, commit=slow)
        assert "/watched/later" in seen
        assert "/watched/slow" not in seen  # it is in the table, and this watch never says so
        assert (await etcd.get("/watched/slow")).kv is not None


async def test_progress_falls_back_behind_what_the_watch_was_told(plain: tuple[PostgresServer, str]) -> None:
    """Two creates at once are enough: the revision that Kine remembers is the lower one's, until the next write."""
    server, target = plain
    del server
    watched = pb.WatchCreateRequest(key=b"/watched/", range_end=b"/watched0", start_revision=1)
    async with (
        client(target) as one,
        client(target) as other,
        client(target) as third,
        third.watching() as stream,
        asyncio.timeout(3 * ANSWER_S),
    ):
        await stream.send_message(pb.WatchRequest(create_request=watched))
        for turn in itertools.count():
            at_once = (one.create(f"/watched/{turn}/0", b"x"), other.create(f"/watched/{turn}/1", b"x"))
            newest = max(written.revision for written in await asyncio.gather(*at_once))
            told = 0
            while told < newest:
                told = max((event.kv.mod_revision for event in (await answer_of(stream)).events), default=told)
            await stream.send_message(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
            if (await answer_of(stream)).header.revision < told:
                await stream.cancel()
                return


async def answer_of(stream: Stream[pb.WatchRequest, pb.WatchResponse]) -> pb.WatchResponse:
    answer = await stream.recv_message()
    assert answer is not None
    return answer


async def until_quiet(target: str, start_revision: int, *, commit: psycopg.Connection) -> list[str]:
    """Watch; commit after the first batch, and return all keys once nothing more comes."""
    keys: list[str] = []
    async with client(target) as etcd:
        watching = etcd.watch("/watched/", start_revision)
        try:
            while not keys:
                keys += [change.key for change in (await asyncio.wait_for(anext(watching), ANSWER_S)).changes]
            commit.commit()
            while True:
                batch = await asyncio.wait_for(anext(watching), QUIET_S)
                keys += [change.key for change in batch.changes]
        except TimeoutError:
            return keys


INSERT = (
    "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) "
    "VALUES (%s, 1, 0, 0, 0, 0, 'x') RETURNING id"
)


@contextlib.asynccontextmanager
async def ordering(server: PostgresServer, lasts_s: float) -> AsyncIterator[InOrder]:
    with psycopg.connect(server.conninfo(), autocommit=True) as session:
        session.execute("CREATE SCHEMA IF NOT EXISTS kine_failover")
    sessions = Sessions(server.conninfo(), PostgresTimeouts(), "the Postgres of this test")
    try:
        yield InOrder({Target.OWN: sessions}, OrderSettings(lasts_s=lasts_s, lock_s=ANSWER_S, answer_s=ANSWER_S))
    finally:
        await sessions.close()


async def test_a_first_batch_misses_nothing_while_commits_are_in_order(plain: tuple[PostgresServer, str]) -> None:
    """The trial above, with what the supervisor does before clients come to a new Kine."""
    server, target = plain
    async with client(target) as etcd, ordering(server, 60.0) as in_order:
        started = (await etcd.create("/watched/first", b"x")).revision
        await in_order.begin(Target.OWN)
        with psycopg.connect(server.conninfo()) as slow:
            row = slow.execute(INSERT, ["/watched/slow"]).fetchone()
            assert row is not None
            later = asyncio.create_task(etcd.create("/watched/later", b"x"))
            with psycopg.connect(server.conninfo(), autocommit=True) as asking:
                async with asyncio.timeout(ANSWER_S):
                    while not asking.execute(
                        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    ).rowcount:
                        await asyncio.sleep(0.005)
            async with client(target) as other, contextlib.aclosing(other.watch("/watched/", started)) as batches:  # type: ignore[type-var]
                first = await asyncio.wait_for(anext(batches), ANSWER_S)
                assert [change.key for change in first.changes] == ["/watched/first"]
                slow.commit()
                seen: list[int] = []
                while len(seen) < 2:
                    seen += [
                        change.mod_revision for change in (await asyncio.wait_for(anext(batches), ANSWER_S)).changes
                    ]
        assert seen == [row[0], (await later).revision]


async def test_a_write_that_is_begun_and_never_ended_stops_every_watch(plain: tuple[PostgresServer, str]) -> None:
    """Kine draws a revision and commits in two ways over the network. It fills a revision that is missing: that waits here."""
    server, target = plain
    async with client(target) as etcd, client(target) as other:
        started = (await etcd.create("/watched/first", b"x")).revision
        watching = other.watch("/watched/", started)
        await asyncio.wait_for(anext(watching), ANSWER_S)
        with psycopg.connect(server.conninfo()) as dead:
            dead.execute(INSERT, ["/watched/dead"])
            alive = await etcd.create("/watched/alive", b"x", timeout_s=ANSWER_S)
            told = asyncio.ensure_future(anext(watching))
            assert not (await asyncio.wait({told}, timeout=QUIET_S))[0]
            dead.rollback()
        assert [change.mod_revision for change in (await asyncio.wait_for(told, ANSWER_S)).changes] == [alive.revision]


async def test_a_commit_that_never_comes_holds_nobody_up_for_long(plain: tuple[PostgresServer, str]) -> None:
    """Whoever drew the revision before may be a machine that has lost its power: its session is ended much later."""
    server, target = plain
    async with client(target) as etcd, ordering(server, 60.0) as in_order:
        await etcd.create("/before", b"x")
        await in_order.begin(Target.OWN)
        with psycopg.connect(server.conninfo()) as dead:
            dead.execute(INSERT, ["/dead"])
            assert (await etcd.create("/alive", b"x", timeout_s=ANSWER_S)).succeeded
            dead.rollback()
        assert (await etcd.get("/alive")).kv is not None


async def test_commits_are_in_order_only_for_some_seconds(plain: tuple[PostgresServer, str]) -> None:
    server, target = plain
    async with client(target) as etcd, ordering(server, 0.01) as in_order:
        await etcd.create("/before", b"x")
        for _ in range(2):  # again is no error
            await in_order.begin(Target.OWN)
        with psycopg.connect(server.conninfo(), autocommit=True) as asking:
            async with asyncio.timeout(ANSWER_S):
                while asking.execute("SELECT FROM kine_failover.in_order_until WHERE at > clock_timestamp()").rowcount:
                    await asyncio.sleep(0.005)
            with psycopg.connect(server.conninfo()) as slow:
                slow.execute(INSERT, ["/slow"])
                assert not asking.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'").rowcount
                slow.rollback()


async def test_commits_are_in_order_for_longer_where_clients_were_refused_for_long(
    plain: tuple[PostgresServer, str],
) -> None:
    server, target = plain
    async with client(target) as etcd, ordering(server, 0.01) as in_order:
        await etcd.create("/before", b"x")
        await in_order.begin(Target.OWN, 60.0)
        await in_order.begin(Target.OWN)  # of the other node's Kine, whose clients waited: it shortens nothing
        with psycopg.connect(server.conninfo(), autocommit=True) as asking:
            left = asking.execute("SELECT extract(epoch FROM at - clock_timestamp()) FROM kine_failover.in_order_until")
            row = left.fetchone()
            assert row is not None
            assert row[0] > 60.0 - ANSWER_S


async def test_old_revisions_of_a_key_that_are_deleted_beside_kine_are_not_missed(
    plain: tuple[PostgresServer, str],
) -> None:
    """What the canary's rows are kept few by: Kine needs only the newest row of a key, also where no API server compacts."""
    server, target = plain
    async with client(target) as kine:
        written = [(await kine.create("/kine-failover/canary/0", b"0")).revision]
        for number in range(1, 50):
            done = await kine.update("/kine-failover/canary/0", str(number).encode(), written[-1])
            assert done.succeeded
            written.append(done.revision)
        other = await kine.create("/registry/other", b"x")
        with psycopg.connect(server.conninfo(), autocommit=True) as session:
            session.execute("DELETE FROM kine WHERE name = '/kine-failover/canary/0' AND id <> %s", [written[-1]])
        found = await kine.get("/kine-failover/canary/0")
        assert found.kv is not None
        assert (found.kv.value, found.kv.mod_revision) == (b"49", written[-1])
        again = await kine.update("/kine-failover/canary/0", b"50", written[-1])
        assert again.succeeded
        # A watch from before the deletion gets what is there, in order, and goes on.
        seen: list[int] = []
        async with asyncio.timeout(ANSWER_S), contextlib.aclosing(kine.watch("/", written[0])) as batches:  # type: ignore[type-var]
            last = await kine.update("/registry/other", b"y", other.revision)
            async for batch in batches:
                seen += [
                    change.mod_revision for change in batch.changes if not change.key.startswith("/registry/health")
                ]
                if last.revision in seen:
                    break
        assert [one for one in seen if one >= written[-1]] == [
            written[-1],
            other.revision,
            again.revision,
            last.revision,
        ]
        with psycopg.connect(server.conninfo(), autocommit=True) as session:
            gaps = session.execute("SELECT count(*) FROM kine WHERE name LIKE 'gap-%'").fetchone()
        assert gaps == (0,)
