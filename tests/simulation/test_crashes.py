"""A crash before any step of any plan, of the supervisor alone and of the whole machine: the pair mends itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from failover.core import plans
from failover.core.observation import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.core.plans import Plan, Step
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair

    Bring = Callable[[SimPair], Awaitable[None]]


async def lose_leaders_postgres(pair: SimPair) -> None:
    leader = pair.leader()
    pair.world.kill_postgres(leader)
    await pair.quiet(3)
    pair.world.start_postgres(leader)


async def lose_leader(pair: SimPair) -> None:
    leader = pair.leader()
    pair.power_off(leader)
    await pair.quiet(3)
    pair.start(leader)


async def lose_follower(pair: SimPair) -> None:
    follower = 1 - pair.leader()
    pair.power_off(follower)
    await pair.quiet(3)
    pair.start(follower)


async def split(pair: SimPair) -> None:
    pair.partition()
    await pair.quiet(4)
    pair.heal()


async def switch(pair: SimPair) -> None:
    node = pair.nodes[pair.leader()]
    assert node is not None
    assert node.ask(Request.SWITCHOVER) is None
    await pair.quiet(1)


async def restart_postgres(pair: SimPair) -> None:
    leader = pair.leader()
    pair.power_off(1 - leader)
    await pair.quiet(2)
    pair.world.kill_postgres(leader)
    await pair.quiet(0.5)
    pair.world.start_postgres(leader)
    await pair.quiet(2)
    pair.start(1 - leader)


async def restart_supervisor(pair: SimPair) -> None:
    leader = pair.leader()
    pair.kill_supervisor(leader)
    await pair.quiet(0.3)
    pair.start(leader)
    await pair.quiet(0.5)


async def hang_postgres(pair: SimPair) -> None:
    leader = pair.leader()
    pair.power_off(1 - leader)
    await pair.quiet(2)
    pair.world.machines[leader].postgres.hung = True
    await pair.quiet(4)
    pair.world.machines[leader].postgres.hung = False
    pair.start(1 - leader)


async def stall_leader(pair: SimPair) -> None:
    leader = pair.leader()
    pair.world.machines[leader].stalled = True
    await pair.quiet(6)
    pair.world.machines[leader].stalled = False


# What makes each plan run; late_fence needs rows that only the old leader has (test_holes.py).
BRINGS: dict[str, Bring] = {
    "promote": lose_leader,
    "reopen": restart_postgres,
    "resume": restart_supervisor,
    "go_alone": lose_follower,
    "enter_sync": lose_follower,
    "suspend": hang_postgres,
    "hand_over": lose_leaders_postgres,
    "switchover": switch,
    "yield": stall_leader,
    "lose": split,
    "win": split,
    "rejoin": lose_leader,
}
CASES = [
    pytest.param(plan, step, machine, id=f"{plan.name}-{step}-{'machine' if machine else 'supervisor'}")
    for plan in plans.PLANS
    if plan.name in BRINGS
    for step in dict.fromkeys(plan.steps)
    for machine in (False, True)
]


@pytest.mark.parametrize(("plan", "step", "machine"), CASES)
def test_a_crash_before_any_step_is_survived(simulate: Simulate, plan: Plan, step: Step, machine: bool) -> None:
    async def scenario(pair: SimPair) -> None:
        crashed: list[int] = []

        def before(node: int, running: str, at: Step) -> None:
            if running == plan.name and at is step and not crashed:
                crashed.append(node)
                pair.world.say(f"node {node}: CRASH before {plan.name}/{step}")
                (pair.kill if machine else pair.kill_supervisor)(node)

        pair.before_step = before
        await BRINGS[plan.name](pair)
        await pair.quiet(3)
        assert crashed, f"{plan.name}/{step} was never reached"
        for node in (0, 1):
            pair.start(node)
        # A crash during a recovery is a second fault: what one side acknowledged may be in an archive then.
        await pair.verify(split=True)

    simulate(scenario)
