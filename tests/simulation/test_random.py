"""Random faults by seed, in pairs and during recovery; a failing seed is printed and replayed by SEED=."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from failover.core.observation import Request

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else list(range(int(os.environ.get("SEEDS", "30"))))
FAULTS = 6


@pytest.mark.parametrize("seed", SEEDS)
def test_random_faults(simulate: Simulate, seed: int) -> None:
    async def scenario(pair: SimPair) -> None:
        for _ in range(FAULTS):
            await strike(pair)
            await pair.quiet(pair.world.random.choice([0.05, 0.3, 1.0, 3.0, 12.0]))
        pair.heal()
        for node, machine in enumerate(pair.world.machines):
            machine.stalled = machine.postgres.stuck = machine.postgres.hung = False
            pair.start(node)
        # Several faults at once may cost an acknowledged write only into an archive.
        await pair.verify(split=True)

    simulate(scenario, seed)


async def strike(pair: SimPair) -> None:
    """One fault, or the end of one."""
    world = pair.world
    node = world.random.randrange(2)
    machine = world.machines[node]
    match world.random.randrange(11):
        case 0:
            world.kill_postgres(node)
        case 1:
            pair.kill(node)
        case 2:
            pair.power_off(node)
        case 3:
            pair.partition()
        case 4:
            pair.kill_supervisor(node)
        case 5:
            machine.postgres.stuck = not machine.postgres.stuck
        case 6:
            machine.stalled = True
            await pair.quiet(world.random.choice([0.3, 0.7, 2.0]))
            machine.stalled = False
        case 7:
            if (running := pair.nodes[node]) is not None and pair.runs[node][0]:
                running.ask(Request.SWITCHOVER)
        case _:
            pair.heal()
            pair.start(node)
