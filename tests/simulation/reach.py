"""What the simulated runs of the tests must come to: rows of the rule table, steps of the plans, evidence about the peer.

`tests/conftest.py` gathers it from all workers, and fails a run of the whole of tests/simulation that misses something.
"""

from __future__ import annotations

from failover.core.plans import PLANS
from failover.core.rules import RULES

# Rows that no named scenario comes to: they rest on the tests of the core, and on seeds. A row leaves this list with the
# scenario that comes to it.
NOT_BOUND = frozenset(
    {
        # The leader leaves its rows out of a heartbeat once it has heard of its own head from the follower. It is unknown
        # to a follower only whose Postgres loses that row again between two heartbeats.
        "follow/leader-unknown",
        # A node follows only whom it hears lead. Two followers need heartbeats that are under way for longer than both
        # take to stop: each hears the other lead when neither does any more.
        "follow/nobody-leads",
        # Whoever has accepted its loss parted from the winner, so the heads are equal only where the loser has no row of
        # its own side, as an asynchronous leader, and the winner's disk goes back to before it parted.
        "start/equal-led-last-unfit",
    }
)
EVIDENCE = frozenset(
    {
        "follower: isolated = True",
        "follower: peer = half",
        "follower: peer = hands_over",
        "follower: peer = leads",
        "follower: peer = refused",
        "follower: peer = silent",
        "follower: peer = starts",
        "follower: peer = unsure",
        "follower: stream = broken",
        "follower: worth = stale",
        "follower: worth = voided",
        "leader: peer = follows",
        "leader: peer = half",
        "leader: peer = hands_over",
        "leader: peer = leads",
        "leader: peer = promotes",
        "leader: peer = refused",
        "leader: peer = silent",
        "leader: peer = starts",
        "leader: peer = unsure",
        "leader: postgres = closed",
        "leader: postgres = down",
        "leader: stream = cramped",
        "leader: stream = ghosts",
        "leader: stream = ready",
        "leader: stream = renounced",
        "leader: stream = stuck",
        "starting: peer = follows",
        "starting: peer = half",
        "starting: peer = leads",
        "starting: peer = promotes",
        "starting: peer = silent",
        "starting: peer = starts",
        "starting: peer = unsure",
    }
)


def bound() -> frozenset[str]:
    """Return all that must be reached."""
    rows = {rule.name for rule in RULES}
    steps = {f"{plan.name}/{step}" for plan in PLANS for step in plan.steps}
    return frozenset(rows | steps | EVIDENCE) - NOT_BOUND
