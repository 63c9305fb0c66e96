"""Disks that are lost, or put back as they were earlier, and nodes that die between a copy and the note of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import structs

from failover.core.model import Kind, Sync
from failover.core.observation import Request
from failover.core.plans import Step
from tests.simulation.moments import after_each_copy, disk_as_it_is, living, once, put_disk_back, until_split
from tests.simulation.pair import TIMING

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair
    from tests.simulation.rejoin import SimRejoin
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

        losers: list[int] = []

        def before(at: int, plan: str, step: Step) -> None:
            if (plan, step) == ("rejoin", Step.COPY) and not losers:
                losers.append(at)
                machines[at].disk_stalled = True

        pair.before_step = before
        await pair.until("one to copy", lambda: bool(losers), 20.0)
        (node,) = losers
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
        await alone_for_a_while(pair, leader)
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
        await alone_for_a_while(pair, leader)
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


def test_a_leader_beside_a_strangers_disk_serves_nothing_while_its_postgres_hangs_and_makes_way_once_fenced(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        first = pair.leader()
        second = 1 - first
        old = await lead_alone_then_switch(pair, first)
        strange = replace(old, lineage=tuple(structs.replace(row, id=f"x{row.id}") for row in old.lineage))
        machine = pair.world.machines[second]
        once(pair, first, "promote", Step.LEAD, lambda: pair.power_off(first))
        machine.stalled = True
        await pair.until("the fence", lambda: not pair.world.machines[first].powered, 30.0)
        machine.postgres.hung = True
        pair.partition()
        put_disk_back(pair, first, strange)
        pair.muted = {0, 1}  # what is written on the strange disk goes with it
        pair.start(first)
        await pair.until("it to lead on the strange disk", lambda: pair.leads(first), 60.0)
        machine.stalled = False
        await pair.until("the other to stop", lambda: "lead/dead-unheard" in decided, 10.0)
        pair.heal()
        await pair.until("it to hear of that", lambda: "lead/rival-none-dead" in decided, 10.0)
        await pair.quiet(1.0)
        assert not machine.kine.answers()  # R20
        machine.postgres.hung = False
        await pair.until("it to make way", lambda: "lead/rival-none-outranked" in decided, 10.0)  # R19
        pair.power_off(first)
        pair.new_disk(first)  # a person has seen what was put there
        pair.clients.watches[first].lists = 0  # and its clients start anew as well
        pair.start(first)
        pair.restart_supervisor(second)  # which has halted where it heard of the strange disk just before
        pair.muted = set()
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_hears_of_what_it_lacked_also_when_a_postgres_hangs_right_after_its_copy(
    simulate: Simulate, decided: set[str]
) -> None:
    """Found by seed 2490: the word of it was lost with the rest of the plan, and a client believed in ghosts for ever."""

    async def hang_once(copied: SimRejoin, copies: int) -> None:
        copied.machine.postgres.hung = copies == 1

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.partition()
        await pair.until("the other to promote", lambda: pair.role(1 - leader) == "promoting", 5.0)
        pair.heal()
        with after_each_copy(hang_once) as lacked:
            await pair.until("the copy", lambda: bool(lacked), 10.0)
            assert lacked[0] > 0  # clients had given up waiting, and others have seen what they wrote
            await pair.quiet(3.0)
            pair.world.machines[leader].postgres.hung = False
            await pair.until("a late fence", lambda: "lead/ghosts" in decided, 10.0)
        await pair.verify()

    simulate(scenario)


def test_a_disk_of_when_its_node_led_alone_is_a_side_of_a_split_when_it_leads_on_unheard(
    simulate: Simulate,
) -> None:
    async def scenario(pair: SimPair) -> None:
        first = pair.leader()
        old = await lead_alone_then_switch(pair, first)
        for node in (first, 1 - first):
            pair.power_off(node)
        put_disk_back(pair, first, old)
        pair.start(first)
        await pair.until("it to lead on its old disk", lambda: pair.leads(first), 60.0)
        await pair.quiet(2.0)
        pair.start(1 - first)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_disk_of_when_its_node_led_alone_does_not_lead_where_a_newer_leader_was_heard(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        newer = await old_disk_beside_a_newer_leader(pair)
        pair.power_off(newer)
        await pair.quiet(TIMING.boot_wait_s * 2)
        assert not pair.leads(1 - newer)
        pair.start(newer)
        pair.world.machines[1 - newer].disk_stalled = False
        await pair.verify()

    simulate(scenario)


def test_a_disk_of_when_its_node_led_alone_does_not_lead_while_the_postgres_of_a_newer_leader_hangs(
    simulate: Simulate,
) -> None:
    async def scenario(pair: SimPair) -> None:
        newer = await old_disk_beside_a_newer_leader(pair)
        pair.world.machines[newer].postgres.hung = True
        await pair.quiet(TIMING.boot_wait_s * 2)
        assert not pair.leads(1 - newer)
        pair.world.machines[newer].postgres.hung = False
        pair.world.machines[1 - newer].disk_stalled = False
        await pair.verify()

    simulate(scenario)


def test_a_leader_hears_of_what_it_lacked_also_from_a_supervisor_that_dies_right_after_its_copy(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        async def die_once(copied: SimRejoin, copies: int) -> None:
            if copies == 1:
                pair.world.later(0.0, pair.kill_supervisor, copied.node)
                await pair.quiet(1.0)

        leader = pair.leader()
        pair.partition()
        await pair.until("the other to promote", lambda: pair.role(1 - leader) == "promoting", 5.0)
        with after_each_copy(die_once) as lacked:
            pair.heal()
            await pair.until("the copy", lambda: bool(lacked), 10.0)
            assert lacked[0] > 0
            await pair.quiet(1.0)
            pair.start(leader)
            await pair.until("a late fence", lambda: "lead/ghosts" in decided, 10.0)
        await pair.verify()

    simulate(scenario)


async def old_disk_beside_a_newer_leader(pair: SimPair) -> int:
    """Boot a node on its disk of when it was alone, from which nothing is copied. Returns the other one, which leads."""
    first = pair.leader()
    old = await lead_alone_then_switch(pair, first)
    pair.power_off(first)
    await pair.until("the other to go alone", lambda: living(pair, 1 - first).memory.sync is not Sync.IN_SYNC, 10.0)
    put_disk_back(pair, first, old)
    pair.world.machines[first].disk_stalled = True  # no copy gets through
    pair.start(first)
    await pair.quiet(1.0)
    return 1 - first


async def lead_alone_then_switch(pair: SimPair, leader: int) -> Postgres:
    """Return the leader's disk of when it was alone, after a switchover to the other node."""
    old = await alone_for_a_while(pair, leader)
    await pair.until_in_sync()
    assert living(pair, leader).ask(Request.SWITCHOVER) is None
    await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
    await pair.until_in_sync()
    return old


async def alone_for_a_while(pair: SimPair, leader: int) -> Postgres:
    """Have the follower lose its power until the leader has gone alone. Returns the leader's disk of then."""
    pair.power_off(1 - leader)
    await pair.until("it to go alone", lambda: pair.world.machines[leader].postgres.lineage[-1].kind is Kind.ALONE)
    disk = disk_as_it_is(pair, leader)
    pair.start(1 - leader)
    return disk
