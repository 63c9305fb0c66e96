"""A canary through the whole of Kine: write a key, and wait until a watch tells of it.

It shows what an API server depends on and a plain question does not: that a write gets to Postgres, that Kine's poll loop
sees it, and that the watch delivers it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from failover.etcd.client import EtcdClient, EtcdError

log = structlog.get_logger()

PREFIX = "/kine-failover/"  # left out of what people did: verdicts and archives do not count it
# A write that is given up may be visible here and not on the follower, so it is given far more time than a leader
# takes to go on alone.
GIVE_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Flight:
    """The newest round that came back."""

    seconds: float  # from the write to the watch's word of it
    at_s: float  # when, on the monotonic clock


class WatchCanary:
    """One key of this node, written and watched through the Kine behind a symlink, for ever."""

    def __init__(self, target: str, key: str, interval_s: float) -> None:
        self._target = target
        self._key = key
        self._interval_s = interval_s
        self.newest: Flight | None = None

    async def run(self) -> None:
        """Fly until cancelled. A Kine that is replaced, frozen or away only lets the newest flight grow old."""
        while True:
            client = EtcdClient(self._target)
            try:
                await self._fly_on(client)
            except (EtcdError, TimeoutError) as error:
                log.debug("the canary did not come back", error=str(error) or "time-out")
            finally:
                client.close()
            await asyncio.sleep(min(1.0, self._interval_s))

    async def _fly_on(self, client: EtcdClient) -> None:
        found = await client.get(self._key)
        mine = found.kv.mod_revision if found.kv is not None else 0
        async with aclosing(client.watch(self._key, found.revision + 1)) as batches:  # type: ignore[type-var]
            while True:
                began_s, value = time.monotonic(), secrets.token_hex(8).encode()
                written = await client.update(self._key, value, mine, timeout_s=GIVE_UP_S)
                if not written.succeeded:
                    raise EtcdError(f"{self._key} was changed by somebody else")
                mine = written.revision
                async with asyncio.timeout(GIVE_UP_S):
                    async for batch in batches:
                        if any(change.value == value for change in batch.changes):
                            break
                now_s = time.monotonic()
                self.newest = Flight(now_s - began_s, now_s)
                await asyncio.sleep(self._interval_s)
