"""Bounds on what clients may cost: connections, silence, and requests a second."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESSES_MAX = 256
HANDSHAKE_S = 5.0
SILENT_S = 10.0  # a connection on which nothing was ever asked is closed


class Rate:
    """A bucket of requests for each remote address; the ones that asked longest ago are forgotten first."""

    def __init__(self, requests_per_s: float, now_s: Callable[[], float]) -> None:
        self._rate = requests_per_s
        self._burst = max(2.0, 2 * requests_per_s)
        self._now_s = now_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Whether one more request of this address fits."""
        now_s = self._now_s()
        left, at_s = self._left.pop(address, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._rate)
        self._left[address] = (left - 1 if left >= 1 else left, now_s)
        while len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)
        return left >= 1


class Connections:
    """At most so many connections over TCP; one more is closed at once, and so is one that says nothing."""

    def __init__(self, most: int, handler: Callable[[], RequestHandler]) -> None:
        self._most = most
        self._handler = handler
        self._accepted_s: dict[asyncio.BaseProtocol, float] = {}
        self._silent: set[asyncio.BaseProtocol] = set()

    def accept(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection; it counts from before its TLS handshake."""
        loop = asyncio.get_running_loop()
        for one in [one for one in self._accepted_s if self._is_over(one, loop.time())]:
            del self._accepted_s[one]
        if len(self._accepted_s) >= self._most:
            return _Closed()
        protocol = self._handler()
        self._accepted_s[protocol] = loop.time()
        self._silent.add(protocol)
        loop.call_later(SILENT_S, self._close_silent, protocol)
        return protocol

    def spoke(self, protocol: asyncio.BaseProtocol) -> None:
        """A whole request came on this connection."""
        self._silent.discard(protocol)

    def _is_over(self, protocol: asyncio.BaseProtocol, now_s: float) -> bool:
        """Whether a connection has ended; one in its handshake has no transport yet, and has asked nothing."""
        assert isinstance(protocol, RequestHandler)
        may_shake_hands = protocol in self._silent and now_s - self._accepted_s[protocol] <= HANDSHAKE_S + 1
        return protocol.transport is None and not may_shake_hands

    def _close_silent(self, protocol: RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            protocol.force_close()


class _Closed(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
