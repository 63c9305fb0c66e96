"""When a node comes to lead and when it must not, and promotions that fail, are stopped or ordered."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from failover.core.model import Role
from failover.core.observation import Request
from failover.core.plans import Step
from failover.node.steps import MARGIN_FULL
from failover.ports import PortError
from tests.simulation.pair import TIMING
from tests.simulation.play import play_seed

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def fail_before(pair: SimPair, node: int, plan: str, step: Step) -> list[float]:
    """Have a step fail from now on, as a part does that is broken; returns when it was tried, filled as time goes on."""
    tried: list[float] = []

    def before(at: int, running: str, now: Step) -> None:
        if (at, running, now) == (node, plan, step):
            tried.append(pair.world.now_s())
            raise PortError("broken")

    pair.before_step = before
    return tried


@pytest.mark.parametrize("peer", ["gone", "postgres alive", "starting"])
def test_a_promotion_that_fails_again_and_again_adds_neither_rows_nor_terms(simulate: Simulate, peer: str) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = 1 - leader
        new = pair.world.machines[other]
        tried: list[float] = []

        def before(node: int, _plan: str, step: Step) -> None:
            if node == other and step is Step.OPEN:
                tried.append(pair.world.now_s())
                raise PortError("the role cannot be opened")

        pair.before_step = before
        if peer == "gone":
            pair.power_off(leader)
        elif peer == "postgres alive":
            pair.kill_supervisor(leader)
        else:
            pair.world.kill_postgres(leader)
        await pair.until("the other to try", lambda: len(tried) > 0, 30.0)
        rows, term = len(new.postgres.lineage), new.postgres.lineage[-1].term
        ids = new.postgres.top
        await pair.quiet(75)
        assert len(tried) > 10, "it goes on trying"
        assert len(new.postgres.lineage) <= rows + 1  # the first fence may have been a light one
        assert new.postgres.top <= ids + 2 * MARGIN_FULL  # and no more, however often it tries
        assert new.state is not None
        assert new.state.highest_term <= term + 2
        late = [after - before for before, after in itertools.pairwise(tried[-5:])]
        assert min(late) > 2.0, f"it does not back off: {late}"
        pair.before_step = lambda *_: None
        pair.start(leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_promotion_whose_transaction_fails_again_and_again_keeps_its_term(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        new = pair.world.machines[1 - leader]
        tried = fail_before(pair, 1 - leader, "promote", Step.LEAD)
        pair.power_off(leader)
        await pair.until("the other to try", lambda: len(tried) > 0, 30.0)
        assert new.state is not None
        term = new.state.highest_term
        await pair.quiet(90)
        assert len(tried) > 5
        assert new.state.highest_term == term
        pair.before_step = lambda *_: None
        await pair.until("it to lead", lambda: pair.leads(1 - leader), 60.0)
        assert new.postgres.lineage[-1].term == term
        pair.start(leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_promotion_stops_when_its_node_turns_out_to_be_cut_off(simulate: Simulate) -> None:
    """It waits for the old leader's disk, to fence it, while the network goes."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader

        def before(node: int, plan: str, step: Step) -> None:
            if (node, plan, step) == (follower, "promote", Step.FENCE_PEER):
                pair.partition()
                pair.world.machines[follower].isolated = True

        pair.before_step = before
        pair.world.machines[leader].disk_stalled = True
        pair.kill_supervisor(leader)
        await pair.until("it to stop", lambda: any("plan: promote" in line for line in pair.world.log[-20:]), 20.0)
        await pair.quiet(20)
        assert set(pair.terms.values()) == {leader}
        assert pair.role(follower) == Role.STARTING
        pair.before_step = lambda *_: None
        pair.world.machines[leader].disk_stalled = pair.world.machines[follower].isolated = False
        pair.heal()
        pair.start(leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_who_was_cut_off_gives_its_leader_the_whole_time_again(simulate: Simulate) -> None:
    """Its gateway is back a moment before its leader is heard, whose silence is older than any patience by then."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        machine = pair.world.machines[1 - leader]
        pair.partition()
        machine.isolated = True
        await pair.quiet(2 * TIMING.long_wait_s)
        machine.isolated = False
        await pair.quiet(5.0)
        pair.heal()
        await pair.verify()
        assert set(pair.terms.values()) == {leader}

    simulate(scenario)


@pytest.mark.parametrize("news", ["cut off", "paused"])
def test_a_promotion_asks_again_just_before_it_leads(simulate: Simulate, news: str) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        node = pair.nodes[follower]
        assert node is not None
        memory = node.memory
        asked: list[str] = []

        def before(at: int, plan: str, step: Step) -> None:
            if (at, plan, step) == (follower, "promote", Step.DETACH):
                asked.append(news)
                if news == "cut off":
                    memory.isolated = True
                else:
                    memory.peer_pause_ends_s = float("inf")

        pair.before_step = before
        pair.power_off(leader)
        await pair.until("it to try", lambda: len(asked) > 0, 10.0)
        await pair.quiet(0.01)
        assert set(pair.terms.values()) == {leader}
        assert memory.role is Role.STARTING
        pair.before_step = lambda *_: None
        memory.peer_pause_ends_s = float("-inf")
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_an_operator_may_order_a_node_to_lead_that_is_cut_off_or_paused(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = 1 - leader
        node = pair.nodes[follower]
        assert node is not None
        await node.pause(600)
        pair.partition()
        pair.world.machines[follower].isolated = True
        await pair.quiet(4)
        assert pair.role(follower) == Role.FOLLOWER
        assert node.ask(Request.FAILOVER) is None
        await pair.until("it to lead", lambda: pair.leads(follower), 3.0)
        pair.world.machines[follower].isolated = False
        pair.heal()
        await node.pause(0)
        await pair.verify(split=True)

    simulate(scenario)


def test_an_empty_node_never_leads(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.power_off(1 - leader)
        pair.new_disk(1 - leader)
        await pair.quiet(2)
        pair.power_off(leader)
        pair.start(1 - leader)
        await pair.quiet(20)
        assert not pair.leads(1 - leader)  # I6
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_a_relay_that_repeats_itself_keeps_nobody_alive(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        node = pair.nodes[1 - leader]
        received = pair.world.machines[1 - leader].received
        assert node is not None
        assert node.memory.heard is not None
        assert received is not None
        old = node.memory.heard.heartbeat
        pair.power_off(leader)
        for _ in range(60):
            received(old, "b")
            await pair.quiet(0.05)
        assert pair.leads(1 - leader)  # R6
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_who_gave_leadership_away_does_not_take_it_up_where_its_postgres_answers_again(simulate: Simulate) -> None:
    """Seed 948: a Postgres that hung came back open, and its node resumed beside the one that it had told to take over."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        postgres = pair.world.machines[leader].postgres
        postgres.hung = True
        await pair.until(
            "it to give leadership away", lambda: any("hands_over" in line for line in pair.world.log), 10.0
        )
        postgres.hung = False  # open as it was
        for _ in range(100):
            await pair.quiet(0.01)
            assert not pair.leads(leader)
        await pair.verify()
        assert pair.leader() == 1 - leader

    simulate(scenario)


def test_a_pause_whose_end_nobody_heard_is_ended_again() -> None:
    """Seed 2787: the end of the pause was told to a supervisor that was killed over it."""
    assert play_seed(2787).error is None
