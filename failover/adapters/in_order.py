"""Has Postgres commit revisions in their order while the watches of a new Kine begin.

A watch of Kine's begins with a plain query, and never tells of what had a lower revision than the newest one and was not
committed yet at that moment (docs/facts.md). On a Kine that runs for months that is rare. When Kine is replaced every client
opens all its watches at once, just when the writes come that have piled up: an API server's cache would be wrong for good.
While revisions are committed in order there is no such moment; it costs that commits wait for one another, for some seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from failover.adapters import sql_files
from failover.ports import PortError, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failover.adapters.sessions import Sessions

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """Seconds."""

    lasts_s: float = 3.0  # clients that were refused once come back after 1 to 1.2 s
    most_s: float = 150.0  # the longest that gRPC waits between two attempts, two minutes and a fifth
    lock_s: float = 0.1  # writes that are under way at the beginning are waited for so long
    answer_s: float = 1.0


class InOrder:
    """Orders the commits of every Kine on one Postgres. Where that fails it is logged, and Kine serves all the same."""

    def __init__(self, sessions: Mapping[Target, Sessions], settings: OrderSettings) -> None:
        self._sessions = sessions
        self._settings = settings

    async def begin(self, target: Target, refused_s: float = 0.0) -> None:
        """Return when whatever gets a revision on `target` from now on is committed in order, for `lasts_s`.

        Clients that were refused for `refused_s` may take as long again to come back: gRPC's next wait is 0.72 times all
        that came before, and 1.2 s, at most.
        """
        settings, sessions = self._settings, self._sessions[target]
        lasts_s = min(settings.lasts_s + refused_s, settings.most_s)
        try:
            async with sessions.session(settings.answer_s) as session:
                await sql_files.run(session, "in_order", lock_ms=round(settings.lock_s * 1000), seconds=lasts_s)
        except PortError as error:
            log.warning("commits are not in order while watches begin, one may miss a change", error=str(error))
