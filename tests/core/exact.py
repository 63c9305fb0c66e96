"""Deadlines in powers of two, so that a test meets each one exactly, and what a node reads under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from failover.core.evidence import Cell, Policy, read
from failover.core.model import Acceptance, Choice, Durable, Verdict
from failover.core.timing import Timing
from tests.core.scenes import TERM

if TYPE_CHECKING:
    from failover.core.observation import Observation

EXACT = Timing(
    heartbeat_s=0.125, promote_after_s=1.5, degrade_after_s=2.0, grace_s=8.0, boot_wait_s=4.0, long_wait_s=64.0,
    probe_gap_s=0.0625,
)  # fmt: skip
TICK_S = 2.0**-10
ACCEPTED = Acceptance(Verdict(1, "d", "c", Choice.LATEST_CHANGE, ""))


def look(seen: Observation, policy: Policy = Policy()) -> Cell:  # noqa: B008 - frozen
    return read(seen, EXACT, policy)


def durable(me: int = 0, **known: Any) -> Durable:
    return replace(Durable("shop", me, f"id-{me}", highest_term=TERM), **known)
