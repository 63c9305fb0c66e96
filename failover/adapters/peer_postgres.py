"""The peer's Postgres, as far as a promotion has to touch it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from failover.adapters import sql_files
from failover.adapters.postgres import close_role, until_flushed
from failover.adapters.sessions import Sessions
from failover.ports import PeerPostgresError, PortError

if TYPE_CHECKING:
    from failover.adapters.postgres import OwnPostgres
    from failover.adapters.sessions import PostgresTimeouts


class PeerPostgres:
    """Implements `ports.PeerPostgres`, over the paths in the configuration, the first one that answers."""

    def __init__(self, conninfo: str, own: OwnPostgres, timeouts: PostgresTimeouts, kine_role: str = "kine") -> None:
        self._sessions = Sessions(conninfo, timeouts, "the peer's Postgres")
        self._own = own
        self._timeouts = timeouts
        self._kine_role = kine_role

    @property
    def sessions(self) -> Sessions:
        """The sessions, for what a Kine of this node needs there."""
        return self._sessions

    async def fence(self, term: int) -> None:
        """Close the peer's Postgres to Kine under `term` and end Kine's sessions. Raises PeerPostgresError."""
        try:
            async with self._sessions.session(self._timeouts.fence_s) as session:
                await close_role(session, term, self._kine_role)
        except PortError as error:
            raise PeerPostgresError(str(error)) from None

    async def drain(self) -> None:
        """Return when the own subscription has flushed all that the peer's Postgres has by now."""
        subscription = (await self._own.status()).subscription
        if subscription is None:
            raise PeerPostgresError("no subscription streams from the peer: nothing can be drained")
        try:
            async with self._sessions.session(self._timeouts.drain_s) as session:
                lsn = int((await sql_files.run(session, "wal_position"))[0]["lsn"])
                await until_flushed(session, subscription.name, lsn)
        except PortError as error:
            raise PeerPostgresError(str(error)) from None

    async def close(self) -> None:
        """Close all sessions."""
        await asyncio.shield(self._sessions.close())
