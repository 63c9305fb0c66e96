"""Keeps the watch canaries' rows few: each flight writes one, for years, and only an API server would have them compacted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from failover.adapters import sql_files
from failover.adapters.kine import CANARY_KEY
from failover.ports import PortError

if TYPE_CHECKING:
    from failover.adapters.sessions import Sessions

log = structlog.get_logger()

# A Kine that was frozen fills up revisions that are gone when it reads on, so those of the last minutes are left.
KEPT = 32
EVERY_FLIGHTS = 8
NAMES = [f"{CANARY_KEY}/0", f"{CANARY_KEY}/1"]


class CanaryRows:
    """Removes old flights of both nodes' canaries from the own database while it is the leader's."""

    def __init__(self, sessions: Sessions, interval_s: float, kine_role: str) -> None:
        self._sessions = sessions
        self._interval_s = interval_s
        self._kine_role = kine_role

    async def run(self) -> None:
        """Tidy up until cancelled; a Postgres that does not answer is asked again the next time."""
        while True:
            await asyncio.sleep(EVERY_FLIGHTS * self._interval_s)
            try:
                async with self._sessions.session(self._sessions.timeouts.statement_s) as session:
                    await sql_files.run(session, "trim_canary", names=NAMES, keep=KEPT, kine_role=self._kine_role)
            except PortError as error:
                log.debug("old flights of the canary are still there", error=str(error))
