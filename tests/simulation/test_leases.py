"""Keys under a lease, through failovers: who renews keeps, and what nobody renews ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.leases import LEASE_S, left
from tests.simulation.rows import Row
from tests.simulation.test_compactions import write

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_key_that_is_renewed_stays_through_a_failover_and_the_return_of_the_node(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_leases()
        await pair.quiet(LEASE_S)
        leader = pair.leader()
        held = f"/n{1 - leader}/held"
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        await pair.quiet(2.0 * LEASE_S)
        assert held in left(pair.world.machines[1 - leader].postgres)
        assert f"/n{leader}/held" not in left(pair.world.machines[1 - leader].postgres)  # its client was away
        pair.start(leader)
        await pair.until_in_sync()
        await pair.quiet(2.0 * LEASE_S)
        assert held in left(pair.world.machines[1 - leader].postgres)
        await pair.verify()

    simulate(scenario)


def test_a_key_that_nobody_renews_ends_and_a_failover_counts_its_time_anew(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = pair.world.machines[1 - leader].postgres
        await write(pair, leader, Row("/left", "once", lease=LEASE_S))
        began_s = pair.world.now_s()
        await pair.quiet(0.5 * LEASE_S)
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        served_s = pair.world.now_s()
        await pair.quiet(began_s + 1.1 * LEASE_S - served_s)
        assert left(other) == ["/left"]  # the Kine that serves now began to count when it started
        await pair.quiet(served_s + LEASE_S + 0.5 - pair.world.now_s())
        assert left(other) == []
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_a_kine_that_stood_still_ends_nothing_that_was_renewed(simulate: Simulate) -> None:
    """Its own count has run out when it goes on, and it has not heard of the renewals yet."""

    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_leases()
        leader = pair.leader()
        await pair.quiet(LEASE_S)
        kine = pair.world.machines[1 - leader].kine
        kine.stopped = True
        await pair.quiet(2.0 * LEASE_S)
        kine.stopped = False
        for _ in range(20):
            await pair.quiet(0.05)
            assert f"/n{leader}/held" in left(pair.world.machines[leader].postgres)
        await pair.verify()

    simulate(scenario)
