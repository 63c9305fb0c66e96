"""Rows of the rule table that the other scenarios do not come to, and the gate: what the tests are bound to reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failover.core.model import DataState, Kind, LineageEntry, Role
from failover.core.rules import RULES
from tests.simulation.moments import until_split
from tests.simulation.reach import EVIDENCE, NOT_BOUND, bound

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_node_with_the_data_of_another_pair_halts_until_a_person_has_looked(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = pair.world.machines[1 - leader]
        pair.power_off(1 - leader)
        pair.new_disk(1 - leader)
        other.postgres.lineage = (LineageEntry("elsewhere", 2, 0, Kind.LEAD, "init", 0, 1, 0),)
        other.postgres.data = DataState.COMPLETE
        pair.start(1 - leader)
        await pair.until("it to halt", lambda: pair.role(1 - leader) == Role.HALTED, 10.0)
        await pair.quiet(10)
        assert pair.leads(leader)
        pair.power_off(1 - leader)
        pair.new_disk(1 - leader)  # the person has
        pair.start(1 - leader)
        await pair.verify()

    simulate(scenario)


def test_a_split_waits_for_its_verdict_until_the_pause_has_ended(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        await until_split(pair)
        node = pair.nodes[0]
        assert node is not None
        await node.pause(600)
        pair.heal()
        await pair.quiet(5)
        assert not any("accepts that" in line for line in pair.world.log)  # R18
        assert pair.leads(0)
        assert pair.leads(1)
        pair.kill(1)
        pair.start(1)  # a starting node is a side as well
        await pair.quiet(5)
        assert not any("accepts that" in line for line in pair.world.log)
        await node.pause(0)
        await pair.verify(split=True)

    simulate(scenario)


def test_who_is_cut_off_never_leads_however_long_it_lasts(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = pair.world.machines[1 - leader]
        pair.partition()
        follower.isolated = True
        await pair.quiet(30)
        assert not pair.leads(1 - leader)
        pair.kill(1 - leader)
        pair.start(1 - leader)
        await pair.quiet(30)
        assert not pair.leads(1 - leader)
        follower.isolated = False
        pair.heal()
        await pair.verify()

    simulate(scenario)


def test_a_paused_node_that_boots_alone_leads_when_the_pause_has_ended(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        node = pair.nodes[leader]
        assert node is not None
        await node.pause(25)
        await pair.quiet(1)
        for one in (0, 1):
            pair.power_off(one)
        await pair.quiet(1)  # nothing of the other is under way any more
        pair.start(leader)
        await pair.quiet(20)
        assert not pair.leads(leader)  # I10
        await pair.until("it to lead", lambda: pair.leads(leader), 20.0)
        pair.start(1 - leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_that_is_paused_and_loses_its_postgres_at_once_says_nothing(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        node = pair.nodes[leader]
        assert node is not None
        await node.pause(20)
        pair.world.kill_postgres(leader)
        await pair.quiet(10)
        assert not pair.leads(1 - leader)  # R18
        pair.world.start_postgres(leader)
        await pair.quiet(15)
        await pair.verify()

    simulate(scenario)


def test_what_must_be_reached_is_there_to_be_reached() -> None:
    """A row that is renamed or gone leaves the list with it."""
    assert {rule.name for rule in RULES} >= NOT_BOUND
    assert bound() > EVIDENCE
