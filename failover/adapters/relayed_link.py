"""Heartbeats relayed by a broker: one more path of the peer link, for when every direct one is cut.

A broker may keep, delay, repeat and invent. What it invents does not open (`seal`). What it keeps or repeats answers
nothing that this node has said lately, so it is no sign of life: a heartbeat counts only if it answers one of this run
that was sent within `fresh_s`. No two clocks are compared for that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from failover.adapters.seal import Head, Seal
from failover.core import heartbeat as wire
from failover.core.lease import NEVER
from failover.ports import PathState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failover.adapters.mqtt import Publish
    from failover.adapters.mqtt_topics import Topics
    from failover.adapters.peer_link import TlsFiles
    from failover.core.model import Heartbeat
    from failover.ports import Clock

log = structlog.get_logger()

OPENED_A_SECOND_MAX = 100  # messages that are looked at; what comes beyond is dropped
SENT_KEPT = 512
LATELY_S = 2.0  # the path is connected while something fresh came so lately


class RelayedLink:
    """Implements `ports.PeerLink`, and is a guest of the broker."""

    def __init__(self, topics: Topics, files: TlsFiles, clock: Clock, *, fresh_s: float, place: str) -> None:
        self._topics = topics
        self._files = files
        self._seal = Seal(files, topics.node)
        self._clock = clock
        self._fresh_s = fresh_s
        self._place = place
        self._run = clock.new_id()
        self._said = 0
        self._sent: OrderedDict[int, float] = OrderedDict()  # what was said, and when
        self._answers = ("", 0)
        self._fresh_at_s = NEVER
        self._second = (0, 0)  # which one, and how many were looked at in it
        self._error: str | None = None
        self._newest: bytes | None = None
        self._some = asyncio.Event()
        self._received: Callable[[Heartbeat, str], None] = lambda *_: None

    # ---- as a link ---------------------------------------------------------------------------------------------

    async def start(self, received: Callable[[Heartbeat, str], None], closed: Callable[[str], None]) -> None:
        """Take heartbeats from now on. A lost broker is no sign of anything, so `closed` is never called."""
        del closed
        self._received = received

    def send(self, heartbeat: Heartbeat) -> None:
        """Have it sent; one that has not left yet is replaced."""
        self._newest = wire.encode(heartbeat)
        self._some.set()

    def paths(self) -> tuple[PathState, ...]:
        """Say how this path is: connected is what has lately been heard over it."""
        connected = self._clock.now_s() - self._fresh_at_s < LATELY_S
        return (PathState(f"broker {self._place}", connected, self._fresh_at_s, self._error),)

    def reload(self) -> None:
        """Sign with the files as they are now, and trust what they say. Raises PortError where they do not fit."""
        self._seal = Seal(self._files, self._topics.node)

    async def stop(self) -> None:
        """Take no more."""
        self._received = lambda *_: None

    # ---- as a guest --------------------------------------------------------------------------------------------

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """The peer's heartbeats."""
        return ((self._topics.peer.of("heartbeat"), 0),)

    async def speak(self, publish: Publish) -> None:
        """Send the newest heartbeat, again and again; never retained."""
        while True:
            await self._some.wait()
            self._some.clear()
            assert self._newest is not None
            self._said += 1
            self._sent[self._said] = self._clock.now_s()
            while len(self._sent) > SENT_KEPT:
                self._sent.popitem(last=False)
            sealed = self._seal.close(Head(self._run, self._said, *self._answers), self._newest)
            await publish(self._topics.of("heartbeat"), sealed, 0, False)

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message in: opened, fresh, and of this pair, or not at all."""
        if topic != self._topics.peer.of("heartbeat") or retained or not self._may_look():
            return
        try:
            head, raw = self._seal.open(payload)
            heartbeat = wire.decode(raw, cluster=self._topics.cluster, own_node=self._topics.node)
        except wire.RefusedError as error:
            if str(error) != self._error:
                log.warning("refused a message that a broker relayed", topic=topic, why=str(error))
            self._error = str(error)
            return
        now_s = self._clock.now_s()
        sent_s = self._sent.get(head.answers_said, NEVER) if head.answers_run == self._run else NEVER
        fresh = now_s - sent_s <= self._fresh_s
        if fresh or now_s - self._fresh_at_s > self._fresh_s:  # else what is repeated could put the answers back
            self._answers = (head.run, head.said)
        if fresh:
            self._fresh_at_s, self._error = now_s, None
            self._received(heartbeat, f"broker {self._place}")

    def _may_look(self) -> bool:
        second = int(self._clock.now_s())
        self._second = (second, self._second[1] + 1 if self._second[0] == second else 1)
        return self._second[1] <= OPENED_A_SECOND_MAX
