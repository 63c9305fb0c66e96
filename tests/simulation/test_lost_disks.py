"""Disks that are lost, or put back as they were earlier, and nodes that die between a copy and the note of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

from failover.core.model import Kind
from failover.core.observation import Request
from failover.core.plans import Step
from tests.simulation import ports
from tests.simulation.moments import disk_as_it_is, living, once, put_disk_back, until_split

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.ports import Progress, RejoinOrder, RejoinReport
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair
    from tests.simulation.world import Postgres


def test_a_side_that_has_accepted_its_loss_never_leads_when_the_winner_has_lost_its_disk(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        died: list[int] = []

        def winner_dies(acting: int, running: str, step: Step) -> None:
            if (running, step) == ("lose", Step.FREEZE_KINE) and not died:
                died.append(1 - acting)
                pair.power_off(1 - acting)

        await until_split(pair)
        pair.before_step = winner_dies
        pair.heal()
        await pair.until("one to accept its loss", lambda: bool(died), 20.0)
        winner = died[0]
        disk = disk_as_it_is(pair, winner)
        pair.new_disk(winner)
        pair.start(winner)
        await pair.quiet(30.0)
        assert "start/ahead-unfit" in decided
        assert not pair.leads(1 - winner)  # I6, I9
        pair.power_off(winner)
        put_disk_back(pair, winner, disk)  # a person has found the winner's disk
        pair.start(winner)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_loser_that_dies_between_its_copy_and_the_note_of_it_copies_again(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        await until_split(pair)
        pair.heal()
        machines = pair.world.machines

        def loser() -> int | None:
            found = [node for node in (0, 1) if pair.role(node) == "resyncing"]
            return found[0] if found else None

        await pair.until("one to copy", lambda: loser() is not None, 20.0)
        node = loser()
        assert node is not None
        machines[node].disk_stalled = True
        await pair.until("its copy", lambda: machines[node].postgres.subscription is not None, 5.0)
        pair.kill_supervisor(node)
        machines[node].disk_stalled = False
        pair.start(node)
        await pair.until("it to copy again", lambda: "start/leader-streams-unfit" in decided, 10.0)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_paused_follower_looks_again_when_its_leader_boots_on_an_old_disk(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        disk = disk_as_it_is(pair, leader)
        pair.power_off(1 - leader)
        await pair.until("it to go alone", lambda: pair.world.machines[leader].postgres.lineage[-1].kind is Kind.ALONE)
        pair.start(1 - leader)
        await pair.until_in_sync()
        await living(pair, 1 - leader).pause(20.0)
        pair.power_off(leader)
        put_disk_back(pair, leader, disk)
        pair.start(leader)
        await pair.until("it to look again", lambda: "follow/leader-cannot" in decided, 10.0)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 60.0)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_paused_follower_looks_again_when_its_leader_has_gone_another_way(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        disk = disk_as_it_is(pair, leader)
        pair.power_off(1 - leader)
        await pair.until("it to go alone", lambda: pair.world.machines[leader].postgres.lineage[-1].kind is Kind.ALONE)
        pair.start(1 - leader)
        await pair.until_in_sync()
        pair.power_off(leader)
        await living(pair, 1 - leader).pause(60.0)
        pair.partition()
        put_disk_back(pair, leader, disk)
        pair.start(leader)
        await pair.until("it to lead on what it has", lambda: pair.leads(leader), 30.0)
        pair.heal()
        await pair.until("the other to look again", lambda: "follow/another-history" in decided, 10.0)
        pair.resume(1 - leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_follower_leads_when_its_leader_comes_back_at_once_without_its_data(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        await pair.quiet(1.0)
        pair.power_off(leader)
        pair.new_disk(leader)
        pair.start(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 5.0)
        assert "follow/leader-cannot" in decided
        await pair.verify()

    simulate(scenario)


def test_a_leader_whose_postgres_hung_makes_way_for_one_that_has_less_when_it_was_fenced_meanwhile(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        first = pair.leader()
        second = 1 - first
        old = await lead_alone_then_switch(pair, first)
        machine = pair.world.machines[second]
        once(pair, first, "promote", Step.LEAD, lambda: pair.power_off(first))
        machine.stalled = True
        await pair.until("the fence", lambda: not pair.world.machines[first].powered, 30.0)
        machine.postgres.hung = True
        pair.partition()
        put_disk_back(pair, first, old)
        pair.muted = {0, 1}  # what is written on the old disk goes with it
        pair.start(first)
        await pair.until("it to lead on its old disk", lambda: pair.leads(first), 60.0)
        machine.stalled = False
        await pair.until("it to stop", lambda: "lead/dead-unheard" in decided, 10.0)
        pair.heal()
        await pair.until("it to hear of that", lambda: "lead/rival-none-dead" in decided, 10.0)
        await pair.quiet(1.0)
        assert not machine.kine.answers()  # R20
        machine.postgres.hung = False
        await pair.until("it to make way", lambda: "lead/rival-none-outranked" in decided, 10.0)  # R19
        pair.power_off(first)
        pair.new_disk(first)  # a person has seen what was put back
        pair.start(first)
        pair.muted = set()
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_hears_of_what_it_lacked_also_when_a_postgres_hangs_right_after_its_copy(
    simulate: Simulate, decided: set[str]
) -> None:
    """Found by seed 2490: the word of it was lost with the rest of the plan, and a client believed in ghosts for ever."""
    copies: list[int] = []
    rejoin = ports.SimRejoin.rejoin

    async def hangs_then(
        self: ports.SimRejoin, order: RejoinOrder, progress: Callable[[Progress], None]
    ) -> RejoinReport:
        report = await rejoin(self, order, progress)
        copies.append(report.only_here)
        self.machine.postgres.hung = len(copies) == 1
        return report

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.partition()
        await pair.until("the other to promote", lambda: pair.role(1 - leader) == "promoting", 5.0)
        pair.heal()
        with mock.patch.object(ports.SimRejoin, "rejoin", hangs_then):
            await pair.until("the copy", lambda: bool(copies), 10.0)
            assert copies[0] > 0  # clients had given up waiting, and others have seen what they wrote
            await pair.quiet(3.0)
            pair.world.machines[leader].postgres.hung = False
            await pair.until("a late fence", lambda: "lead/ghosts" in decided, 10.0)
        await pair.verify()

    simulate(scenario)


async def lead_alone_then_switch(pair: SimPair, leader: int) -> Postgres:
    """Return the leader's disk of when it was alone, after a switchover to the other node."""
    pair.power_off(1 - leader)
    await pair.until("it to go alone", lambda: pair.world.machines[leader].postgres.lineage[-1].kind is Kind.ALONE)
    old = disk_as_it_is(pair, leader)
    pair.start(1 - leader)
    await pair.until_in_sync()
    assert living(pair, leader).ask(Request.SWITCHOVER) is None
    await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
    await pair.until_in_sync()
    return old
