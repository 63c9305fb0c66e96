"""What happens to the clients of a Kine that is given up, on real Kine and real Postgres."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from structlog.testing import capture_logs

from failover.adapters.in_order import InOrder, OrderSettings
from failover.adapters.kine import UNKNOWN_S, KineProcess, KineSettings
from failover.adapters.sessions import PostgresTimeouts, Sessions
from failover.etcd.client import EtcdClient, EtcdError
from failover.ports import Target
from lab import binaries
from lab.postgres_server import SUPERVISOR, PostgresServer
from lab.servers import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    Start = Callable[[float], AbstractAsyncContextManager[KineProcess]]

HANG_S = 30.0  # a bound on a hang
ANSWERS_MISSED = 3


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with servers(binaries.postgres()) as (made,):
        yield made


@pytest.fixture
def serving(server: PostgresServer, tmp_path: Path) -> Start:
    """A Kine that serves, for clients that wait `hold_s` when it is given up."""
    endpoint = server.kine_endpoint(role=SUPERVISOR)

    @contextlib.asynccontextmanager
    async def start(hold_s: float) -> AsyncIterator[KineProcess]:
        kine = KineProcess(
            KineSettings(Path(binaries.kine()), tmp_path, {Target.OWN: endpoint}, hold_s=hold_s, watch_canary_s=0.0)
        )
        try:
            async with asyncio.timeout(HANG_S):
                await kine.serve(Target.OWN, "first")
                yield kine
        finally:
            await kine.kill()
            await kine.release()

    return start


def state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


async def until_ended(pid: int) -> None:
    while state(pid) not in {None, "Z"}:
        await asyncio.sleep(0.01)


def pid_of(kine: KineProcess) -> int:
    pid = kine.status().pid
    assert pid is not None
    return pid


async def test_clients_of_a_kine_that_is_given_up_wait_for_the_next_one(serving: Start) -> None:
    async with serving(HANG_S) as kine:
        client = EtcdClient(f"unix://{kine.symlink}")
        await client.get("/any")
        first = pid_of(kine)
        await kine.kill()
        assert state(first) == "T"
        assert kine.status().target is None
        refused = asyncio.create_task(client.get("/any", timeout_s=HANG_S))
        await kine.serve(Target.OWN, "second")
        with pytest.raises(EtcdError):  # the one that waited; not before the next Kine served
            await refused
        await client.get("/any")
        client.close()
        await until_ended(first)
        assert pid_of(kine) != first


async def test_a_kine_that_is_given_up_acknowledges_nothing_and_is_ended(
    serving: Start, server: PostgresServer
) -> None:
    async with serving(0.3) as kine:
        client = EtcdClient(f"unix://{kine.symlink}")
        await client.get("/any")
        first = pid_of(kine)
        with psycopg.connect(server.conninfo()) as session:
            session.execute("LOCK TABLE kine IN EXCLUSIVE MODE")
            write = asyncio.create_task(client.create("/held", b"x", timeout_s=HANG_S))
            waiting = "SELECT 1 FROM pg_locks WHERE relation = 'kine'::regclass AND NOT granted"
            while session.execute(waiting).fetchone() is None:
                await asyncio.sleep(0.01)
            await kine.kill()
            session.rollback()
        with pytest.raises(EtcdError):
            await write
        client.close()
        await until_ended(first)
        assert not kine.symlink.is_symlink()
        await kine.serve(Target.OWN, "second")


async def test_commits_are_in_order_for_as_much_longer_as_clients_were_refused(
    serving: Start, server: PostgresServer, tmp_path: Path
) -> None:
    """How long they were before this run nobody knows; who waited on a Kine that was given up was not refused."""
    async with serving(HANG_S):
        pass  # it makes its table
    with psycopg.connect(server.conninfo(), autocommit=True) as session:
        session.execute("CREATE SCHEMA IF NOT EXISTS kine_failover")
        sessions = Sessions(server.conninfo(), PostgresTimeouts(), "the Postgres of this test")
        kine = KineProcess(
            KineSettings(
                Path(binaries.kine()), tmp_path, {Target.OWN: server.kine_endpoint(role=SUPERVISOR)}, hold_s=HANG_S,
                watch_canary_s=0.0,
            ),
            InOrder({Target.OWN: sessions}, OrderSettings(lasts_s=0.01)),
        )  # fmt: skip

        def left_s() -> float:
            left = "SELECT extract(epoch FROM at - clock_timestamp()) FROM kine_failover.in_order_until"
            row = session.execute(left).fetchone()
            assert row is not None
            return float(row[0])

        try:
            async with asyncio.timeout(HANG_S):
                await kine.serve(Target.OWN, "first")
                assert left_s() > UNKNOWN_S / 2
                session.execute("UPDATE kine_failover.in_order_until SET at = '-infinity'")
                await kine.kill()
                await kine.serve(Target.OWN, "second")
                assert left_s() < UNKNOWN_S / 2
        finally:
            await kine.kill()
            await kine.release()
            await sessions.close()


async def test_who_comes_back_ends_what_another_gave_up(serving: Start) -> None:
    async with serving(HANG_S) as kine:
        first = pid_of(kine)
        await kine.kill()
        assert state(first) == "T"
        async with serving(HANG_S) as another:
            await until_ended(first)
            assert pid_of(another) != first


async def test_a_kine_that_has_been_silent_for_too_long_never_reads_on(server: PostgresServer, tmp_path: Path) -> None:
    """What it has not told yet may be compacted by then, and its watches would pass over it (tests/facts/test_compaction.py)."""
    endpoint = server.kine_endpoint(role=SUPERVISOR)
    kine = KineProcess(
        KineSettings(
            Path(binaries.kine()), tmp_path, {Target.OWN: endpoint},
            hold_s=HANG_S, canary_s=0.05, answer_s=0.2, silent_s=0.5, watch_canary_s=0.0,
        )
    )  # fmt: skip
    ended = asyncio.Event()
    try:
        async with asyncio.timeout(HANG_S):
            await kine.serve(Target.OWN, "first")
            first = pid_of(kine)
            kine.watch(ended.set)
            with psycopg.connect(server.conninfo()) as session:
                session.execute("LOCK TABLE kine IN ACCESS EXCLUSIVE MODE")
                await ended.wait()
                while state(first) != "T":  # a signal takes a moment
                    await asyncio.sleep(0.01)
                assert kine.status().target is None
                session.rollback()
            await kine.serve(Target.OWN, "first")
            await until_ended(first)
            assert pid_of(kine) != first
    finally:
        await kine.kill()
        await kine.release()


@pytest.mark.parametrize("target", list(Target))
async def test_a_kine_on_the_peer_is_given_up_at_the_first_answer_that_is_missing(
    server: PostgresServer, tmp_path: Path, target: Target
) -> None:
    """It may be cut off: the peer's Postgres will end its sessions, and it would acknowledge what never got there (R20)."""
    ended, missed = asyncio.Event(), 1 if target is Target.PEER else ANSWERS_MISSED
    kine = KineProcess(
        KineSettings(
            Path(binaries.kine()), tmp_path, {target: server.kine_endpoint(role=SUPERVISOR)}, canary_s=0.05, answer_s=0.2,
            answers_missed=ANSWERS_MISSED, hold_s=HANG_S, watch_canary_s=0.0,
        )
    )  # fmt: skip
    try:
        async with asyncio.timeout(HANG_S):
            await kine.serve(target, "first")
            first = pid_of(kine)
            kine.watch(ended.set)
            with psycopg.connect(server.conninfo()) as session, capture_logs() as said:
                session.execute("LOCK TABLE kine IN ACCESS EXCLUSIVE MODE")
                while sum(one["event"] == "Kine does not answer" for one in said) < missed:
                    await asyncio.sleep(0.01)
                before = kine.status().answer_s
                assert ended.is_set() is (target is Target.PEER)
                assert kine.status().waited_for is (target is Target.PEER)
                session.rollback()
            while target is Target.OWN and kine.status().answer_s == before:  # one that answers again goes on
                await asyncio.sleep(0.01)
            await kine.serve(target, "first")
            assert (pid_of(kine) != first) is (target is Target.PEER)
    finally:
        await kine.kill()
        await kine.release()
