"""in_sync is a lease, not a memory (R4).

The leader goes alone at the earliest `degrade_after` after it received the follower's newest message. The follower
counts from its own *send* time of the newest message that the leader has echoed, so its lease always ends first,
whatever the clocks and delays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from failover.core.model import Mode, Role, Sync

if TYPE_CHECKING:
    from failover.core.model import Heartbeat

NEVER = float("-inf")


class Lease(msgspec.Struct, frozen=True):
    """Volatile: it starts void with each run of the supervisor."""

    head: str | None = None  # lineage head under which the leader was in_sync, None: not granted in this run
    ends_s: float = NEVER
    voided_s: float = NEVER  # when a stall or a pause last voided it

    def runs(self, now_s: float) -> bool:
        """Whether nothing can have been acknowledged without this node, at `now_s`."""
        return now_s < self.ends_s

    def extend(
        self, heard: Heartbeat, echoed_sent_s: float | None, own_head: str, degrade_after_s: float, *, mode: Mode
    ) -> Lease:
        """Grant or extend from a heartbeat of a leader that is in_sync under the head that this node's data has.

        In mode `async` there is no in_sync: the lease then only says that the stream was flowing, and the fence of a
        promotion is always a full one.
        """
        granted = (heard.sync is Sync.IN_SYNC and not heard.asks_renounce) or mode is Mode.ASYNC
        if heard.role is not Role.LEADER or not granted:
            # A leader that says that it is alone, or is about to be, ends the lease: an answer that has to be durable may
            # never come (R17). A silent or restarting one leaves it to lapse.
            return Lease(voided_s=self.voided_s) if heard.role is Role.LEADER else self
        if heard.head != own_head or echoed_sent_s is None or echoed_sent_s <= self.voided_s:
            return self
        ends_s = echoed_sent_s + degrade_after_s
        if self.head == heard.head:
            ends_s = max(self.ends_s, ends_s)
        return Lease(heard.head, ends_s, self.voided_s)

    def void(self, now_s: float) -> Lease:
        """After a jump of the clocks or a pause: only an echo of a message sent later grants it again."""
        return Lease(self.head, NEVER, now_s)

    def renounce(self) -> Lease:
        """Give it up for good under this head."""
        return Lease(voided_s=self.voided_s)


VOID = Lease()
