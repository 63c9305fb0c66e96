"""Rows of the rule table that several faults at once lead to: a death in the middle of a promotion, a lost disk, a pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failover.core.observation import Request
from failover.core.plans import Step
from tests.simulation.moments import hang, living, once, until_alone, until_promoting, until_split

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_node_whose_power_loss_took_what_its_leader_believes_it_has_waits_for_the_history(
    simulate: Simulate, decided: set[str]
) -> None:
    """A leader leaves out of its heartbeat what it has heard of from the node, and hears nothing of its new run yet."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        machine = pair.world.machines[follower]
        machine.disk_stalled = True  # what it applies is there, and not synced
        await until_alone(pair, leader, stuck=False)
        pair.power_off(follower)
        machine.disk_stalled = False
        pair.partition(only_from=follower)
        decided.clear()
        pair.start(follower)
        await pair.until("it to hear of a head that it lacks", lambda: "start/leader-unknown" in decided, 1.0)
        pair.heal()
        await pair.verify()

    simulate(scenario)


def test_a_paused_leader_whose_disk_fills_up_keeps_leadership(simulate: Simulate, decided: set[str]) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[1 - leader].state_sync_s = 2.0  # it takes its time to give in_sync up
        await living(pair, leader).pause(10.0)
        pair.world.machines[leader].disk_full = True
        await pair.quiet(5.0)
        assert "lead/cramped-paused" in decided
        assert pair.leads(leader)  # I10
        pair.world.machines[1 - leader].state_sync_s = 0.0
        await pair.until("it to give leadership away after all", lambda: pair.leads(1 - leader), 20.0)
        pair.world.machines[leader].disk_full = False
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_boots_without_its_postgres_gives_leadership_away_once_the_pause_ends(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.kill(leader)
        pair.start_supervisor(leader)
        await living(pair, 1 - leader).pause(10.0)
        await pair.quiet(5.0)
        assert "start/dead-leader-paused" in decided
        assert not pair.leads(1 - leader)  # R18
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        pair.world.start_postgres(leader)
        assert "start/dead-leader" in decided  # R16
        await pair.verify()

    simulate(scenario)


def test_a_follower_that_is_paused_as_its_leader_gives_leadership_away_waits(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        once(
            pair, leader, "hand_over", Step.HAND_OVER,
            lambda: pair.press(follower, lambda made: made.pause(6.0)),
        )  # fmt: skip
        pair.world.kill_postgres(leader)
        await pair.quiet(5.0)
        assert "follow/told-paused" in decided
        assert not pair.leads(follower)  # I10
        await pair.until("it to lead", lambda: pair.leads(follower), 20.0)
        pair.world.start_postgres(leader)
        await pair.verify()

    simulate(scenario)


def test_a_follower_whose_disk_is_another_one_never_leads_and_copies_anew(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        pair.world.kill_postgres(follower)
        pair.new_disk(follower)
        pair.world.start_postgres(follower)
        await pair.until("it to look again", lambda: "follow/unfit-leader" in decided, 5.0)
        await pair.until_in_sync()
        pair.world.kill_postgres(follower)
        pair.power_off(leader)
        pair.new_disk(follower)
        await pair.quiet(10.0)
        pair.world.start_postgres(follower)
        await pair.quiet(10.0)
        assert "follow/lost-unfit" in decided
        assert not pair.leads(follower)  # I6
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_a_follower_leads_when_both_boot_and_the_leader_has_lost_its_disk(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        await pair.quiet(1.0)
        for node in (leader, 1 - leader):
            pair.power_off(node)
        pair.new_disk(leader)
        for node in (0, 1):
            pair.start(node)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        assert "start/ahead" in decided
        await pair.verify(split=True)

    simulate(scenario)


def test_leadership_that_was_given_away_is_taken_back_when_the_other_one_cannot_have_it(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        once(pair, leader, "switchover", Step.RELEASE_ADDRESS, lambda: pair.world.kill_postgres(follower))
        assert living(pair, leader).ask(Request.SWITCHOVER) is None
        await pair.until("it to take it back", lambda: "start/equal-took-back" in decided, 30.0)
        await pair.until("it to lead again", lambda: pair.leads(leader), 30.0)
        pair.world.start_postgres(follower)
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_boots_fenced_by_one_that_died_over_it_takes_another_term(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        once(pair, follower, "promote", Step.LEAD, lambda: pair.kill(follower))
        pair.kill_supervisor(leader)
        await pair.until("the fence", lambda: not pair.world.machines[follower].alive, 30.0)
        for node in (follower, leader):
            pair.start(node)
        await pair.until("it to lead again", lambda: pair.leads(leader), 30.0)
        assert "start/equal-outranked" in decided  # R19
        await pair.verify()

    simulate(scenario)


async def fenced_while_alone(pair: SimPair, leader: int) -> None:
    """Return when the follower has fenced a leader that was alone, whose supervisor is dead, and has died over it."""
    follower = pair.world.machines[1 - leader]
    await until_alone(pair, leader)
    once(pair, 1 - leader, "promote", Step.LEAD, lambda: pair.power_off(1 - leader))
    pair.kill_supervisor(leader)
    await pair.until("the fence", lambda: not follower.powered, 60.0)
    follower.postgres.stuck = False


def test_a_leader_that_was_alone_and_boots_fenced_and_unheard_takes_another_term(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        await fenced_while_alone(pair, leader)
        pair.start(leader)
        await pair.until("it to lead again", lambda: pair.leads(leader), 60.0)
        assert "start/lost" in decided  # R19
        pair.start(1 - leader)
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_was_alone_and_boots_fenced_beside_the_other_takes_another_term(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        await fenced_while_alone(pair, leader)
        for node in (leader, 1 - leader):
            pair.start(node)
        await pair.until("it to lead again", lambda: pair.leads(leader), 60.0)
        assert "start/ahead-outranked" in decided  # R19
        await pair.verify()

    simulate(scenario)


def test_a_follower_goes_on_while_an_operator_has_its_leader_take_another_term(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        pair.partition(only_from=follower)
        pair.kill(leader)
        pair.start(leader)
        made = living(pair, leader)
        await pair.until("it to take the request", lambda: made.ask(Request.FAILOVER) is None, 5.0)
        await pair.until("it to lead", lambda: pair.leads(leader), 10.0)
        assert "follow/promoting" in decided
        pair.heal()
        await pair.verify()

    simulate(scenario)


def test_a_promotion_goes_on_beside_a_leader_that_does_not_hear_of_it(simulate: Simulate, decided: set[str]) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        hang(pair, leader, hung=True)
        await until_promoting(pair, 1 - leader)
        pair.partition(only_from=1 - leader)
        hang(pair, leader, hung=False)
        await pair.until("the promotion to meet it", lambda: "promote/go-on" in decided, 5.0)
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_alone_whose_postgres_dies_beside_a_promotion_stops_its_kine(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        await until_alone(pair, leader)
        hang(pair, leader, hung=True)
        await until_promoting(pair, follower)
        pair.world.machines[follower].disk_stalled = True
        pair.world.kill_postgres(leader)
        hang(pair, leader, hung=False)
        await pair.until("it to stop", lambda: "lead/no-successor-dead" in decided, 5.0)
        assert not pair.world.machines[leader].kine.answers()  # R20
        pair.world.machines[follower].disk_stalled = False
        pair.world.machines[follower].postgres.stuck = False
        pair.world.start_postgres(leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_side_of_a_split_that_loses_its_postgres_beside_the_other_stops_its_kine(
    simulate: Simulate, decided: set[str]
) -> None:
    async def scenario(pair: SimPair) -> None:
        await until_split(pair)
        await living(pair, 0).pause(20.0)
        pair.heal()
        await pair.quiet(2.0)
        pair.world.kill_postgres(0)
        await pair.until("it to stop", lambda: "lead/rival-parted-dead" in decided, 5.0)
        await pair.quiet(0.5)
        assert not pair.world.machines[0].kine.answers()  # R20
        pair.world.start_postgres(0)
        await pair.verify(split=True)

    simulate(scenario)
