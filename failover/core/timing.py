"""The deadlines of the protocol, and the one inequality that makes zero loss a matter of arithmetic (R10)."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True):
    """All durations are seconds. The defaults are the preset `lan`."""

    heartbeat_s: float = 0.1
    promote_after_s: float = 1.2
    degrade_after_s: float = 1.7
    grace_s: float = 10.0  # supervisor silent while its Postgres lives
    boot_wait_s: float = 5.0
    long_wait_s: float = 60.0  # inf: never lead by itself on data that may be old
    losses_tolerated: int = 1  # heartbeats lost in a row
    one_way_delay_s: float = 0.02
    granularity_s: float = 0.02  # of the node loop
    promotion_s: float = 0.1  # from the decision to the start of the transaction
    stall_s: float = 0.5  # the loop did not run for so long: deadlines start again
    probe_gap_s: float = 0.06  # between two rounds of probes

    def slack_s(self) -> float:
        """Return what the inequality of design section 6 demands between the two deadlines, in seconds.

        A follower's lease must still run when its promotion transaction starts, and the leader must not have gone
        alone by then: degrade_after - promote_after > (k+2)h + 2d + g + p.
        """
        return (
            (self.losses_tolerated + 2) * self.heartbeat_s
            + 2 * self.one_way_delay_s
            + self.granularity_s
            + self.promotion_s
        )

    def complaint(self) -> str | None:
        """Say with the numbers why these deadlines cannot be used; None when they can."""
        gap = self.degrade_after_s - self.promote_after_s
        if gap > self.slack_s():
            return None
        return (
            f"degrade_after_s - promote_after_s = "
            f"{self.degrade_after_s:g} - {self.promote_after_s:g} = {gap:.3g} s must be greater than "
            f"(losses_tolerated + 2) * heartbeat_s + 2 * one_way_delay_s + granularity_s + promotion_s = "
            f"({self.losses_tolerated} + 2) * {self.heartbeat_s:g} + 2 * {self.one_way_delay_s:g} + "
            f"{self.granularity_s:g} + {self.promotion_s:g} = {self.slack_s():.3g} s; "
            f"raise degrade_after_s or lower heartbeat_s"
        )


LAN = Timing()
FAST = Timing(
    heartbeat_s=0.05,
    promote_after_s=0.5,
    degrade_after_s=0.8,
    one_way_delay_s=0.01,
    granularity_s=0.01,
    promotion_s=0.08,
    stall_s=0.25,
)
WAN = Timing(
    heartbeat_s=0.5,
    promote_after_s=6.0,
    degrade_after_s=8.0,
    one_way_delay_s=0.1,
    granularity_s=0.05,
    promotion_s=0.2,
    stall_s=1.5,
    probe_gap_s=0.2,
)
PRESETS = {"lan": LAN, "fast": FAST, "wan": WAN}
