"""What the simulated runs of the tests must come to: rows of the rule table, steps of the plans, evidence about the peer.

`tests/conftest.py` gathers it from all workers, and fails a run of the whole of tests/simulation that misses something.
"""

from __future__ import annotations

from failover.core.plans import PLANS
from failover.core.rules import RULES

# Rows that no named scenario and too few seeds come to: they rest on the tests of the core alone. A row leaves this list
# with the scenario that comes to it. One was added: `follow/another-history`, where every run had come by a follower whose
# stream was quicker than its leader's heartbeat, which is no other history.
NOT_BOUND = frozenset(
    {
        "follow/another-history",
        "follow/leader-cannot",
        "follow/leader-unknown",
        "follow/nobody-leads",
        "lead/rival-none-dead",
        "lead/rival-none-outranked",
        "start/ahead-unfit",
        "start/equal-led-last-unfit",
        "start/leader-streams-unfit",
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
