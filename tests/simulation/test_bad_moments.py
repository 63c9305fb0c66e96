"""What comes at a bad moment: full disks, pauses, deaths and returns in the middle of what a node is about to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

from msgspec import structs

from failover.core.model import Sync
from failover.core.observation import Request
from failover.core.plans import Step
from tests.simulation import rejoin
from tests.simulation.moments import hang, living, once, until_alone, until_promoting, until_split

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_leader_whose_disk_fills_up_gives_leadership_away_when_somebody_can_take_it(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.kill_supervisor(1 - leader)
        await pair.quiet(0.3)
        pair.world.machines[leader].disk_full = True
        await pair.quiet(1.0)
        assert pair.leads(leader)  # nobody is heard who could lead
        pair.start(1 - leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        assert {"lead/cramped-alone", "lead/cramped"} <= decided
        pair.world.machines[leader].disk_full = False
        await pair.verify()

    simulate(scenario)


def test_a_pause_stops_a_promotion_that_has_not_led_yet(simulate: Simulate, decided: set[str]) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        hang(pair, leader, hung=True)
        await until_promoting(pair, 1 - leader)
        pair.press(1 - leader, lambda made: made.pause(20.0))
        await pair.quiet(15.0)
        assert "promote/paused" in decided
        assert not pair.leads(1 - leader)  # R18, though the pause has taken the lease on which the leader was given up
        hang(pair, leader, hung=False)
        await pair.verify()

    simulate(scenario)


def test_a_leadership_that_is_being_handed_over_as_a_pause_comes_arrives(simulate: Simulate) -> None:
    """Found by seed 1963: the one that gave it away leads no more, so nobody would for as long as the pause lasts."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        once(
            pair, 1 - leader, "promote", Step.FREEZE_KINE, lambda: pair.press(leader, lambda made: made.pause(600.0))
        )  # fmt: skip
        assert living(pair, leader).ask(Request.SWITCHOVER) is None
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 2.0)
        await living(pair, leader).pause(0.0)
        await pair.verify()

    simulate(scenario)


def test_a_promotion_whose_postgres_dies_begins_anew(simulate: Simulate, decided: set[str]) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        hang(pair, leader, hung=True)
        await until_promoting(pair, 1 - leader)
        pair.world.kill_postgres(1 - leader)
        await pair.quiet(5.0)
        assert "promote/dead" in decided
        assert not pair.leads(1 - leader)
        pair.world.start_postgres(1 - leader)
        await pair.until("it to lead after all", lambda: pair.leads(1 - leader), 30.0)
        hang(pair, leader, hung=False)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_in_sync_that_wakes_beside_a_promotion_makes_way(simulate: Simulate, decided: set[str]) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        hang(pair, leader, hung=True)
        await until_promoting(pair, 1 - leader)
        hang(pair, leader, hung=False)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        assert "lead/successor" in decided  # R15
        await pair.verify()

    simulate(scenario)


def test_two_sides_that_boot_in_a_pause_wait_for_its_end_with_their_verdict(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        await until_split(pair)
        await living(pair, 0).pause(30.0)
        for node in (0, 1):
            pair.power_off(node)
        pair.heal()
        for node in (0, 1):
            pair.start(node)
        await pair.quiet(15.0)
        assert "start/parted-paused" in decided
        assert not any("accepts that" in line for line in pair.world.log)  # R18
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_that_is_alone_goes_on_when_its_postgres_is_back(simulate: Simulate, decided: set[str]) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.power_off(1 - leader)
        await pair.until("it to go alone", lambda: living(pair, leader).memory.sync is not Sync.IN_SYNC, 10.0)
        pair.world.kill_postgres(leader)
        await pair.quiet(5.0)
        assert "lead/dead-unheard" in decided
        pair.world.start_postgres(leader)
        await pair.until("it to lead on", lambda: pair.leads(leader), 10.0)
        pair.start(1 - leader)
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_was_fenced_by_one_that_died_over_it_takes_another_term(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        once(pair, follower, "promote", Step.LEAD, lambda: pair.power_off(follower))
        pair.world.machines[leader].stalled = True
        await pair.until("the fence", lambda: not pair.world.machines[follower].powered, 30.0)
        pair.world.machines[leader].stalled = False
        await pair.until("it to lead again", lambda: pair.leads(leader), 30.0)
        assert "lead/outranked" in decided  # R19
        pair.start(follower)
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_went_alone_fences_the_living_postgres_of_a_dead_supervisor_as_it_boots(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        pair.kill_supervisor(follower)
        pair.world.machines[follower].postgres.stuck = True
        await pair.until("it to go alone", lambda: living(pair, leader).memory.sync is not Sync.IN_SYNC, 30.0)
        pair.kill(leader)
        pair.start(leader)
        await pair.until("it to lead on", lambda: pair.leads(leader), 60.0)
        assert "start/lost" in decided
        pair.world.machines[follower].postgres.stuck = False
        pair.start(follower)
        await pair.verify()

    simulate(scenario)


def test_a_promotion_ends_when_a_leader_is_heard_that_has_acknowledged_alone(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        await until_alone(pair, leader)
        hang(pair, leader, hung=True)
        await until_promoting(pair, 1 - leader)
        hang(pair, leader, hung=False)
        await pair.until("the promotion to end", lambda: "promote/rival" in decided, 5.0)
        assert "lead/no-successor" in decided
        pair.world.machines[1 - leader].postgres.stuck = False
        await pair.verify()

    simulate(scenario)


def test_a_follower_whose_leader_dies_while_it_copies_looks_again_at_what_is_there(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        pair.power_off(follower)
        pair.new_disk(follower)
        once(pair, follower, "rejoin", Step.COPY, lambda: pair.world.later(0.03, pair.kill, leader))
        with mock.patch.object(rejoin, "COPY_S", 20.0):
            pair.start(follower)
            await pair.quiet(25.0)
        assert "resync/no-leader" in decided
        assert not pair.leads(follower)  # I6
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_is_cut_off_from_everything_steps_down_where_the_policy_says_so(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        made = living(pair, leader)
        made.settings = replace(
            made.settings, policy=structs.replace(made.settings.policy, step_down_when_isolated=True)
        )
        pair.partition()
        pair.world.machines[leader].isolated = True
        await pair.quiet(10.0)
        assert "lead/cut-off" in decided
        assert not pair.leads(leader)
        assert pair.leads(1 - leader)
        pair.world.machines[leader].isolated = False
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)
