"""Finishes what a full fence had no time for: it raises the compaction revision, below which Kine never looks again.

What was replaced or deleted down there would come back as the newest row of its key, once the rows above it are compacted
(docs/facts.md). The transaction of the fence deletes it where that takes a fraction of a second. The rest is deleted here,
while the leader serves, well within the five minutes that Kine and API servers keep of history.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from failover.adapters import sql_files
from failover.ports import PortError

if TYPE_CHECKING:
    from failover.adapters.sessions import Sessions

log = structlog.get_logger()

LOOK_S = 10.0  # between two questions under which leadership this database is open
ROWS = 10_000  # looked at in one transaction, each of which the follower applies as a whole
PAUSES = 4.0  # times as long as the part before took: writes wait for the same disks


class SupersededRows:
    """Looks through what lies below the compaction revision once a leadership, also one that another supervisor began."""

    def __init__(self, sessions: Sessions, kine_role: str, *, rows: int = ROWS) -> None:
        self._sessions = sessions
        self._kine_role = kine_role
        self._rows = rows
        self._done_under: str | None = None

    async def run(self) -> None:
        """Sweep until cancelled; a Postgres that does not answer is asked again, and a part that failed done again."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.sweep()
            except PortError as error:
                log.debug("what a fence left to delete is still there", error=str(error))

    async def sweep(self) -> int:
        """Return how many rows were deleted: none where the database is closed, or was swept under this leadership."""
        under = await self._one("leads_under")
        if not under or under["id"] == self._done_under:
            return 0
        above, swept = 0, 0
        while True:
            began_s = time.monotonic()
            part = await self._one("sweep", above=above, most=self._rows)
            if part["upto"] is None:
                break
            above, swept = part["upto"], swept + part["swept"]
            await asyncio.sleep(PAUSES * (time.monotonic() - began_s))
        if await self._one("leads_under") == under:
            self._done_under = under["id"]
        if swept:
            log.info("deleted what a full fence had left below the compaction revision", rows=swept)
        return swept

    async def _one(self, name: str, **values: object) -> sql_files.Row:
        async with self._sessions.session(self._sessions.timeouts.statement_s) as session:
            found = await sql_files.run(session, name, kine_role=self._kine_role, **values)
        return found[0] if found else {}
