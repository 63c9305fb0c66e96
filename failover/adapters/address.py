"""Addresses that follow the leader.

An address is kept, not set: a wish, and a task that has it so. What cannot be done now is done as soon as it can be, and
leadership never waits for it: a name server that is down must not take the service away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

import structlog

from failover.adapters import netlink
from failover.ports import AddressStatus, PortError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from failover.ports import Clock

log = structlog.get_logger()

ATTEMPT_S = 1.0  # a plan waits as long for an attempt, and then goes on
RETRY_S = 1.0
SETTLE_S = 3  # what an earlier run left here is taken again within that time, or gone


class NoAddress:
    """Implements `ports.Address` where clients know both nodes, as every API server knows its own Kine."""

    async def acquire(self) -> None:
        """Nothing follows the leader."""

    async def release(self) -> None:
        """Nothing follows the leader."""

    def status(self) -> tuple[AddressStatus, ...]:
        """Nothing is kept."""
        return ()


class Kind(Protocol):
    """How an address is had and given up; each is idempotent and raises PortError."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def renew_s(self) -> float:
        """How often it is taken again while it is wanted."""

    async def take(self) -> None:
        """Have it here."""

    async def drop(self) -> None:
        """Have it here no longer."""

    async def begin(self) -> None:
        """A new run begins, that does not lead yet."""


class VirtualIp:
    """An address of an interface, with a lifetime: a supervisor that is dead or stopped does not renew it, and the kernel
    takes it away. That is a lease without anybody who could be asked for it.
    """

    def __init__(self, interface: str, address: netlink.Address, lifetime_s: int) -> None:
        self._interface = interface
        self._address = address
        self._lifetime_s = lifetime_s
        self.name = f"{address} on {interface}"
        self.renew_s = lifetime_s / 4

    async def take(self) -> None:
        """Add it or lengthen its life, and tell the neighbours."""
        await asyncio.to_thread(netlink.put, self._interface, self._address, self._lifetime_s)
        await asyncio.to_thread(netlink.announce, self._interface, self._address)

    async def drop(self) -> None:
        """Remove it."""
        await asyncio.to_thread(netlink.remove, self._interface, self._address)

    async def begin(self) -> None:
        """Leave what an earlier run had here a short life: a leader that goes on takes it again without a gap."""
        if await asyncio.to_thread(netlink.is_there, self._interface, self._address):
            await asyncio.to_thread(netlink.put, self._interface, self._address, min(SETTLE_S, self._lifetime_s))


class KeptAddress:
    """Implements `ports.Address` for one kind of address. Nothing happens before `run`."""

    def __init__(self, kind: Kind, clock: Clock) -> None:
        self._kind = kind
        self._clock = clock
        self._wanted: bool | None = None  # None: nobody has said yet
        self._held = False
        self._error: str | None = None
        self._wish = asyncio.Event()
        self._done = asyncio.Event()

    async def acquire(self) -> None:
        """Wish to have it, and wait for the first attempt."""
        await self._want(wanted=True)

    async def release(self) -> None:
        """Wish to have it no longer, and wait for the first attempt; what fails lapses, or is tried again."""
        await self._want(wanted=False)

    def status(self) -> tuple[AddressStatus, ...]:
        """Say what is wished, and what is so."""
        return (AddressStatus(self._kind.name, self._wanted is True, self._held, self._error),)

    async def run(self) -> None:
        """Have it as it is wished until cancelled; an address that is held then is left to the next run, or to lapse."""
        await self._attempt(self._kind.begin())
        while True:
            self._wish.clear()
            wanted = self._wanted
            good = True
            if wanted is not None:
                good = await self._attempt(self._kind.take() if wanted else self._kind.drop())
                if good and self._held is not wanted:
                    log.info("address", address=self._kind.name, here=wanted)
                self._held = wanted if good else self._held
            if not self._wish.is_set():
                self._done.set()
            pause_s = RETRY_S if not good else self._kind.renew_s if wanted else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wish.wait()

    async def _want(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._done.clear()
        self._wish.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ATTEMPT_S):
                await self._done.wait()

    async def _attempt(self, work: Awaitable[None]) -> bool:
        try:
            await work
        except PortError as error:
            if str(error) != self._error:
                log.warning("address", address=self._kind.name, error=str(error))
            self._error = str(error)
            return False
        self._error = None
        return True


class Addresses:
    """Implements `ports.Address`: several as one."""

    def __init__(self, kept: Sequence[KeptAddress]) -> None:
        self._kept = tuple(kept)

    async def acquire(self) -> None:
        """Wish to have all of them."""
        await asyncio.gather(*(one.acquire() for one in self._kept))

    async def release(self) -> None:
        """Wish to have none of them."""
        await asyncio.gather(*(one.release() for one in self._kept))

    def status(self) -> tuple[AddressStatus, ...]:
        """Say how each is."""
        return tuple(status for one in self._kept for status in one.status())

    async def run(self) -> None:
        """Keep all of them."""
        async with asyncio.TaskGroup() as tasks:
            for one in self._kept:
                tasks.create_task(one.run())
