"""Time and chance."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.ports import Timer


class SystemClock:
    """Implements `ports.Clock` on CLOCK_BOOTTIME, which counts on while the machine is suspended."""

    def now_s(self) -> float:
        """Seconds since the machine's boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_us(self) -> int:
        """Microseconds since the epoch."""
        return time.time_ns() // 1000

    def new_id(self) -> str:
        """32 random hex digits."""
        return secrets.token_hex(16)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call from the event loop after so long."""
        return asyncio.get_running_loop().call_later(seconds, call)
