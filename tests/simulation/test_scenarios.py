"""Named scenarios in the simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest

from failover.core.observation import Request
from failover.node import steps
from failover.node.loop import WISH_S
from failover.ports import PortError
from tests.simulation.rejoin import SimRejoin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.ports import Progress, RejoinOrder, RejoinReport
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_pair_begins_and_stays_in_sync(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        await pair.quiet(120)
        assert set(pair.terms.values()) == {0}  # nobody else ever led
        await pair.verify()

    simulate(scenario)


def test_leaders_postgres_killed(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.kill_postgres(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 1.0)
        await pair.quiet(2)
        pair.world.start_postgres(leader)
        await pair.verify()

    simulate(scenario)


def test_everything_on_the_leader_killed(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.kill(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 1.0)
        await pair.quiet(2)
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_leader_loses_power(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 2.0)
        await pair.quiet(2)
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_partition_and_heal(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        pair.partition()
        await pair.until("both to lead", lambda: pair.leads(0) and pair.leads(1), 5.0)
        await pair.quiet(3)
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)


def test_a_follower_that_hears_its_leader_is_not_cut_off_whoever_else_is_silent(simulate: Simulate) -> None:
    """Found by an hour of stress: its gateway and broker did not answer in time, and the leader had to go alone."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[1 - leader].isolated = True
        before = pair.world.machines[leader].postgres.lineage
        await pair.quiet(30.0)
        assert pair.world.machines[leader].postgres.lineage == before
        await pair.verify()

    simulate(scenario)


def test_a_follower_that_is_cut_off_from_everything_never_leads(simulate: Simulate) -> None:
    """Its gateway goes in the same moment as its peer, whenever that was asked last."""

    async def scenario(pair: SimPair) -> None:
        follower = 1 - pair.leader()
        for _ in range(12):
            pair.partition()
            pair.world.machines[follower].isolated = True
            await pair.quiet(4.0)
            pair.world.machines[follower].isolated = False
            pair.heal()
            await pair.quiet(3.0 + 1 / 12)  # another moment between two questions each time
        assert set(pair.terms.values()) == {0}
        await pair.verify()

    simulate(scenario)


def test_a_short_cut_changes_nothing(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        for _ in range(20):
            pair.partition()
            await pair.quiet(0.3)
            pair.heal()
            await pair.quiet(1.0)
        assert set(pair.terms.values()) == {0}
        await pair.verify()

    simulate(scenario)


@pytest.mark.parametrize("way", ["postgres", "everything", "power", "stuck"])
def test_follower_lost(simulate: Simulate, way: str) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        if way == "postgres":
            pair.world.kill_postgres(follower)
        elif way == "everything":
            pair.kill(follower)
        elif way == "power":
            pair.power_off(follower)
        else:
            pair.world.machines[follower].postgres.stuck = True
        before = len(pair.acked)
        await pair.until("writes go on", lambda: any(one.node == leader for one in pair.acked[before + 5 :]), 5.0)
        await pair.quiet(2)
        pair.world.machines[follower].postgres.stuck = False
        pair.start(follower)
        await pair.verify()
        assert pair.leader() == leader

    simulate(scenario)


def test_switchover(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        for _ in range(4):
            leader = pair.leader()
            node = pair.nodes[leader]
            assert node is not None
            assert node.ask(Request.SWITCHOVER) is None
            await pair.until("the other to lead", lambda leader=leader: pair.leads(1 - leader), 2.0)  # type: ignore[misc]
            await pair.until_in_sync()
        await pair.verify()

    simulate(scenario)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("between_s", [0.0, 20.0])
def test_both_lost_and_returning(simulate: Simulate, first: int, between_s: float) -> None:
    async def scenario(pair: SimPair) -> None:
        for node in (0, 1):
            pair.power_off(node)
        await pair.quiet(1)
        pair.start(first)
        await pair.quiet(between_s)
        pair.start(1 - first)
        # A stale follower that led provisionally in between is a side of a split.
        await pair.verify(split=True)

    simulate(scenario)


def test_stale_follower_alone_leads_only_after_the_long_wait(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.power_off(1 - leader)
        await pair.quiet(5)
        pair.power_off(leader)
        pair.start(1 - leader)
        await pair.quiet(5)
        assert not pair.leads(1 - leader)
        await pair.until("the stale one to lead", lambda: pair.leads(1 - leader), 10.0)
        await pair.quiet(2)
        pair.start(leader)
        await pair.verify(split=True)
        assert pair.leader() == leader  # a provisional side loses (R3)

    simulate(scenario)


def test_supervisor_only(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.kill_supervisor(leader)
        await pair.quiet(2)  # less than the grace
        before = len(pair.acked)
        await pair.quiet(0.5)
        assert len(pair.acked) > before  # Kine goes on
        pair.start(leader)
        await pair.verify()
        assert pair.leader() == leader
        pair_terms = set(pair.terms.values())
        assert pair_terms == {leader}

    simulate(scenario)


def test_supervisor_gone_for_longer_than_the_grace(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.kill_supervisor(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        await pair.quiet(2)
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_a_pause_holds_through_a_failure(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        node = pair.nodes[1 - leader]
        assert node is not None
        await node.pause(600)
        await pair.quiet(1)
        pair.power_off(leader)
        await pair.quiet(30)
        assert pair.role(1 - leader) == "follower"  # I10
        await node.pause(0)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        pair.start(leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_stalled_leader_that_wakes(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[leader].stalled = True
        await pair.quiet(2)
        pair.world.machines[leader].stalled = False
        await pair.verify(split=True)

    simulate(scenario)


def test_heartbeats_get_lost(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        pair.world.loss = 0.2
        await pair.quiet(90)
        assert set(pair.terms.values()) == {0}
        pair.world.loss = 0.0
        await pair.verify()

    simulate(scenario)


def test_a_follower_asks_for_leadership(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        for _ in range(2):
            leader = pair.leader()
            follower, leading = pair.nodes[1 - leader], pair.nodes[leader]
            assert follower is not None
            assert leading is not None
            assert "is leader" in str(leading.ask(Request.LEAD_HERE))
            assert follower.ask(Request.LEAD_HERE) is None
            await pair.until("the follower to lead", lambda leader=leader: pair.leads(1 - leader), 2.0)  # type: ignore[misc]
            await pair.until_in_sync()
            await pair.quiet(2 * WISH_S)  # a wish that was granted moves nothing any more
            assert pair.leader() == 1 - leader
        await pair.nodes[pair.leader()].pause(60.0)  # type: ignore[union-attr]
        await pair.quiet(0.5)
        assert "paused" in str(pair.nodes[1 - pair.leader()].ask(Request.LEAD_HERE))  # type: ignore[union-attr]

    simulate(scenario)


def test_a_resync_that_an_operator_asked_for_compares_everything_however_often_it_fails(simulate: Simulate) -> None:
    compared_from: list[int] = []
    rejoin = SimRejoin.rejoin

    async def fails_first(
        self: SimRejoin,
        order: RejoinOrder,
        progress: Callable[[Progress], None],
        before_loss: Callable[[], Awaitable[None]],
    ) -> RejoinReport:
        compared_from.append(order.parting_revision)
        if len(compared_from) == 1:
            self.machine.postgres.subscription = None
            raise PortError("the leader's disk has an error")
        return await rejoin(self, order, progress, before_loss)

    async def scenario(pair: SimPair) -> None:
        follower = pair.nodes[1 - pair.leader()]
        assert follower is not None
        with (
            mock.patch.object(SimRejoin, "rejoin", fails_first),
            mock.patch.object(steps, "parting_revision", return_value=7),
        ):
            assert follower.ask(Request.RESYNC) is None
            await pair.until("it to have failed and got through", lambda: len(compared_from) == 2, 20.0)
            await pair.until_in_sync()
            pair.world.machines[1 - pair.leader()].postgres.subscription = None
            await pair.until("it to follow anew by itself", lambda: len(compared_from) == 3, 20.0)
            await pair.until_in_sync()
        assert compared_from == [0, 0, 7]  # the next one is an ordinary one again

    simulate(scenario)
