"""A client that knows both nodes and goes from one to the other: in sync, through fences, and between the sides of a split."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from failover.core.observation import Request
from tests.simulation.moments import living, until_split
from tests.simulation.test_fences import keep_writing

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair

STAYS_S = 0.2


async def move(pair: SimPair, times: int) -> None:
    """Have the client that moves do so, and look around each time."""
    for _ in range(times):
        pair.clients.mover.node = 1 - pair.clients.mover.node
        await pair.quiet(STAYS_S)


def test_a_client_that_moves_goes_on_where_it_was_also_through_a_switchover(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_moving()
        await move(pair, 20)
        leader = pair.leader()
        assert living(pair, leader).ask(Request.SWITCHOVER) is None
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        await move(pair, 20)
        await pair.verify()
        assert pair.clients.mover.watch.lists == 1

    simulate(scenario)


def test_a_client_that_moves_goes_on_where_it_was_when_the_leader_dies(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_moving()
        leader = pair.leader()
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        await move(pair, 4)
        pair.start(leader)
        await pair.until_in_sync()
        await move(pair, 4)
        await pair.verify()

    simulate(scenario)


def test_a_client_that_moved_between_the_sides_of_a_split_lists_anew(simulate: Simulate) -> None:
    """What it saw there is outside of what anybody promises; once the split is over it believes what is there.

    The side that loses has given far more revisions than the other one: those of the winner begin above them.
    """

    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_moving()
        loser = pair.leader()
        await until_split(pair)
        writers = [asyncio.ensure_future(keep_writing(pair, loser, number)) for number in range(8)]
        await move(pair, 9)
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        pair.muted.add(loser)
        pair.clients.mover.node = loser
        await pair.quiet(1.0)
        lists, at = pair.clients.mover.watch.lists, pair.clients.mover.watch.at
        assert at > pair.world.machines[1 - loser].postgres.newest()
        pair.heal()
        await pair.until_in_sync()
        pair.muted.clear()
        assert pair.leader() == 1 - loser
        await pair.until_believed()
        assert pair.clients.mover.watch.lists > lists
        await pair.verify(split=True)

    simulate(scenario)


def test_a_client_that_moves_to_a_leader_of_before_loses_nothing(simulate: Simulate) -> None:
    """It stood still while the other one came to lead, and shows what it has until it hears of that."""

    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_moving()
        leader = pair.leader()
        pair.clients.mover.node = leader
        pair.world.machines[leader].stalled = True  # its Kine and its Postgres go on
        pair.partition()
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        await move(pair, 9)
        pair.heal()
        pair.world.machines[leader].stalled = False
        await pair.until_in_sync()
        await pair.until_believed()
        await pair.verify()

    simulate(scenario)
