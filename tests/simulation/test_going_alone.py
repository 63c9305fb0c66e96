"""Entering in_sync and leaving it: nothing is acknowledged alone under a lease, and whoever is alone has said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failover.core.model import Kind, Sync

if TYPE_CHECKING:
    from failover.core.plans import Step
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_follower_that_slept_through_its_leader_going_alone(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = 1 - leader
        pair.world.machines[other].stalled = True
        pair.world.machines[other].postgres.stuck = True
        await pair.quiet(3)  # the leader goes alone, and says so to nobody
        pair.partition()
        pair.world.machines[other].stalled = pair.world.machines[other].postgres.stuck = False
        new = pair.world.machines[other].postgres
        before = new.fenced
        await pair.until("the other to lead", lambda: pair.leads(other), 30.0)
        assert new.fenced > before, "a light fence without a lease (R4)"
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_that_dies_before_its_deadline_has_acknowledged_nothing_alone(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.partition()
        await pair.quiet(0.45)
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 5.0)
        pair.heal()
        pair.start(leader)
        await pair.verify()  # R5

    simulate(scenario)


def test_whoever_is_alone_has_said_so_first(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        postgres = pair.world.machines[leader].postgres

        def before(node: int, plan: str, _step: Step) -> None:
            if node == leader and plan == "go_alone" and not postgres.waits_for:
                assert postgres.lineage[-1].kind is Kind.ALONE, "waits are off, and no row says alone (R5)"

        pair.before_step = before
        pair.power_off(1 - leader)
        await pair.quiet(3)
        pair.start(1 - leader)
        await pair.verify()

    simulate(scenario)


def test_a_follower_whose_disk_hangs_does_not_hold_the_leader_up(simulate: Simulate) -> None:
    """Found by chaos: asked to renounce it cannot make its answer durable, and its heartbeats went on (R17)."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[1 - leader].disk_stalled = True
        leading, node = pair.nodes[leader], pair.nodes[1 - leader]
        assert leading is not None
        assert node is not None
        await pair.until("the leader to go alone", lambda: leading.memory.sync is not Sync.IN_SYNC, 10.0)
        assert node.memory.durable.renounced is None
        assert not node.memory.lease.runs(node.ports.clock.now_s())
        pair.world.machines[1 - leader].disk_stalled = False
        await pair.verify()

    simulate(scenario)


def test_a_leader_alone_whose_supervisor_dies_is_fenced_and_drained_first(simulate: Simulate) -> None:
    """It acknowledges alone until it is fenced, and its follower streams: what is drained after the fence is everything."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = pair.nodes[1 - leader]
        assert other is not None
        await other.pause(600)
        await pair.quiet(1)
        pair.kill_supervisor(leader)
        await other.pause(0)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        await pair.quiet(1)
        pair.start(leader)
        await pair.verify()  # I5: in the table, not in an archive

    simulate(scenario)


def test_in_sync_is_not_said_while_the_checkpointer_stalls(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.power_off(1 - leader)
        await pair.quiet(2)  # alone
        pair.world.machines[leader].checkpoint_stalled = True
        pair.start(1 - leader)
        await pair.quiet(1.5)
        pair.cut_path("a")  # the data path: heartbeats go on
        await pair.quiet(0.3)
        pair.power_off(leader)
        pair.world.machines[leader].checkpoint_stalled = False
        pair.heal()
        await pair.quiet(1.5)
        pair.start(leader)
        await pair.verify()  # R9

    simulate(scenario)


def test_a_leadership_that_reopens_waits_as_before(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        postgres = pair.world.machines[leader].postgres
        pair.kill(leader)
        pair.kill(1 - leader)
        for node in (0, 1):
            pair.start(node)
        await pair.until("a leader", lambda: pair.leads(leader), 20.0)
        if postgres.lineage[-1].kind is Kind.SYNCED:
            assert postgres.waits_taken, "open, in sync, and nobody waits (R9)"
        await pair.verify()

    simulate(scenario)
