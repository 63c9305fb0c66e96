"""Names of the peer, the broker, witnesses: kept for the moment in which no name server answers.

A cut of the network often takes the name server along. A lookup then blocks a thread for ten seconds, and probes ask many times
a second: threads of the loop's own pool would all be waiting, and with them everything else that needs one, a promotion too.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

THREADS = 8
KNOWN_MAX = 256
ANSWER_S = 0.02  # a name server that takes longer is answered for by what it said before


class NamesLoop(asyncio.SelectorEventLoop):
    """An event loop that looks names up in threads of their own, each name once at a time, and remembers what came last."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups = ThreadPoolExecutor(THREADS, thread_name_prefix="names")
        self._under_way: dict[Hashable, asyncio.Future[list[Any]]] = {}
        self._known: dict[Hashable, list[Any]] = {}

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name in asyncio
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Return addresses as socket.getaddrinfo does, else the last ones. Raises OSError where the name was never known."""
        try:  # an address needs no server
            return socket.getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        question = (host, port, family, type, proto, flags)
        lookup = self._under_way.get(question)
        if lookup is None:
            ask = functools.partial(socket.getaddrinfo, host, port, family, type, proto, flags)
            lookup = self._under_way[question] = asyncio.ensure_future(self.run_in_executor(self._lookups, ask))
            lookup.add_done_callback(functools.partial(self._answered, question))
        known = self._known.get(question)
        if known is None:
            return await asyncio.shield(lookup)
        try:
            return await asyncio.wait_for(asyncio.shield(lookup), ANSWER_S)
        except (TimeoutError, OSError):
            return known

    def close(self) -> None:
        """Close, without waiting for lookups."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _answered(self, question: Hashable, lookup: asyncio.Future[list[Any]]) -> None:
        self._under_way.pop(question, None)
        if lookup.cancelled() or lookup.exception() is not None:
            return
        if question in self._known or len(self._known) < KNOWN_MAX:
            self._known[question] = lookup.result()
