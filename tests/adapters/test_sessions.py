"""A session beside the free list, on real Postgres: what its user is told, and that it is closed afterwards."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from failover.adapters.sessions import PostgresTimeouts, Sessions
from failover.ports import PeerPostgresError, PortError
from lab import binaries
from lab.servers import servers

HANG_S = 20.0  # a bound on a hang


async def test_work_with_a_session_of_its_own_fails_in_words_of_ports_and_leaves_no_session_behind() -> None:
    with servers(binaries.postgres()) as (server,):
        sessions = Sessions(server.conninfo(), PostgresTimeouts(), "the other Postgres")
        async with sessions.apart("work", PeerPostgresError) as session:
            pid = session.info.backend_pid
        with pytest.raises(PortError, match=r"^the work did not get through: division by zero") as refused:
            async with sessions.apart("work", PeerPostgresError) as session:
                await session.execute("SELECT 1 / 0")
        assert type(refused.value) is PortError
        assert session.closed
        with psycopg.connect(server.conninfo(), autocommit=True) as other:
            async with asyncio.timeout(HANG_S):  # the server notices the end of a session by itself
                while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None:
                    await asyncio.sleep(0.01)
        server.kill()
        with pytest.raises(PeerPostgresError, match=r"^the other Postgres: "):
            async with sessions.apart("work", PeerPostgresError):
                pytest.fail("there is no server")
