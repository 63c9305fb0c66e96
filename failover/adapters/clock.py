"""Time and chance."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time


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
