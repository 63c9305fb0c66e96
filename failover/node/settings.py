"""What a node is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failover.core.evidence import Policy
from failover.core.verdict import SplitPolicy

if TYPE_CHECKING:
    from failover.core.timing import Timing


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything that a node is told."""

    timing: Timing
    policy: Policy = Policy()  # noqa: RUF009 - frozen
    split: SplitPolicy = SplitPolicy.NEWEST
    preferred_node: int = 0
    look_s: float = 0.2  # between two looks at a healthy own Postgres
    look_trouble_s: float = 0.03  # while it is down
    probe_world_s: float = 1.0  # isolation, disk, Kine's revision
    retry_max_s: float = 5.0  # between two tries of what fails again and again
    slot_keep_bytes: int = 4 << 30  # WAL that a leader keeps for a follower that it does not wait for
