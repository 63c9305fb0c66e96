"""A node's report to the world over a broker: whether it is there, what it is, what happens to it.

What has been told is not stored here. The broker keeps the newest event, and where that is found in the history, what
comes after it is what is still to be told: after a lost connection no event is left out, and none told twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from failover import __version__
from failover.adapters.mqtt_topics import ONLINE, discovery, discovery_topic, state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failover.adapters.mqtt import Publish
    from failover.adapters.mqtt_topics import Topics
    from failover.ports import Clock, History

EVENTS_MAX = 1000  # among which the place to go on from is looked for
CURSOR_S = 1.0  # a broker that keeps an event gives it right after the subscription
GAP_S = 0.1  # between two states that are told


class Report:
    """A guest of the broker. `status` gives what `kine-failover status` says; it is called from the event loop."""

    def __init__(
        self,
        topics: Topics,
        status: Callable[[], Mapping[str, Any]],
        history: History,
        clock: Clock,
        *,
        state_s: float = 10.0,
        discovery_prefix: str | None = None,
    ) -> None:
        self._topics = topics
        self._status = status
        self._history = history
        self._clock = clock
        self._state_s = state_s
        self._discovery_prefix = discovery_prefix
        before = history.newest(1)
        self._told = (
            _id(before[0]) if before else 0
        )  # nothing of earlier runs, unless the broker shows where they ended
        self._told_some = False
        self._kept: bytes | None = None
        self._kept_some = asyncio.Event()

    @property
    def subscriptions(self) -> tuple[tuple[str, int], ...]:
        """The own events: the newest one is the place to go on from."""
        return ((self._topics.of("event"), 1),)

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take the event that the broker has kept."""
        if topic == self._topics.of("event") and retained and self._kept is None:
            self._kept = payload
            self._kept_some.set()

    async def speak(self, publish: Publish) -> None:
        """Tell everything anew, as a broker may have forgotten it, and go on telling."""
        if self._discovery_prefix is not None:
            message = json.dumps(discovery(self._topics, __version__)).encode()
            await publish(discovery_topic(self._discovery_prefix, self._topics), message, 1, True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tell_state(publish))
                tasks.create_task(self._tell_events(publish))
        finally:
            self._kept = None
            self._kept_some.clear()

    async def _tell_state(self, publish: Publish) -> None:
        while True:
            newest = self._history.newest(1)
            seen = _id(newest[0]) if newest else 0
            await publish(self._topics.of("availability"), ONLINE, 1, True)
            await publish(self._topics.of("state"), state(self._status(), self._clock.wall_us()), 1, True)
            await self._clock.sleep(GAP_S)
            await self._history.newer(seen, self._state_s)  # whatever changes a state is an event

    async def _tell_events(self, publish: Publish) -> None:
        await self._find_place()
        while True:
            for event in await self._history.newer(self._told, self._state_s):
                await publish(self._topics.of("event"), json.dumps(event, default=str).encode(), 1, True)
                self._told, self._told_some = _id(event), True

    async def _find_place(self) -> None:
        """Go on after the event that the broker has kept, if it is one of this history; in one run never back."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._kept_some.wait(), CURSOR_S)
        try:
            kept = json.loads(self._kept or b"null")
        except (ValueError, RecursionError):
            return
        if not isinstance(kept, dict):
            return
        for event in self._history.newest(EVENTS_MAX):
            if _id(event) and (event["id"], event["at_us"]) == (kept.get("id"), kept.get("at_us")):
                self._told = max(self._told, _id(event)) if self._told_some else _id(event)


def _id(event: Mapping[str, object]) -> int:
    number = event.get("id")
    return number if isinstance(number, int) else 0
