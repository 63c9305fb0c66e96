"""Nodes that stall, and what they saw before: it is neither evidence nor acted upon."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING

from failover.core.evidence import read
from failover.core.rules import Decision, decide
from failover.node import senses
from tests.simulation.ports import HUNG_S

if TYPE_CHECKING:
    import pytest

    from failover.core.observation import Observation
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_time_out_that_the_node_slept_through_is_no_evidence(simulate: Simulate) -> None:
    """Found by the soak: the whole machine was slow, and the leader gave its leadership away for that."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        machine = pair.world.machines[leader]
        term = machine.postgres.lineage[-1].term
        machine.postgres.hung = True
        await pair.quiet(HUNG_S - 0.4)
        machine.stalled = True
        await pair.quiet(0.7)
        machine.stalled = False
        await pair.quiet(0.15)
        machine.postgres.hung = False
        await pair.quiet(2)
        assert pair.leads(leader)
        assert machine.postgres.lineage[-1].term == term
        await pair.verify()

    simulate(scenario)


def test_a_postgres_that_hangs_is_given_up_although_its_node_stalls_again_and_again(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        machine = pair.world.machines[leader]
        machine.postgres.hung = True
        for _ in range(8):
            machine.stalled = True
            await pair.quiet(0.7)
            machine.stalled = False
            await pair.quiet(1.0)
        assert pair.leads(1 - leader)
        machine.postgres.hung = False
        await pair.verify()

    simulate(scenario)


def test_a_node_that_stalls_between_looking_and_deciding_looks_again(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by chaos: the log of a follower was on the disk that hung, and it promoted beside a leader that it had not read."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        term = pair.world.machines[leader].postgres.lineage[-1].term
        running = asyncio.get_running_loop()
        slept: list[str] = []

        def sleep(event: str, **_: object) -> None:
            if not slept and "did not run" in event:
                slept.append(event)
                monkeypatch.setattr(running, "now_s", running.time() + 8.0)

        begun: list[str] = []
        pair.before_step = lambda _node, plan, _step: begun.append(plan)
        monkeypatch.setattr(senses, "log", SimpleNamespace(warning=sleep))
        pair.world.machines[1 - leader].stalled = True
        await pair.quiet(0.8)
        pair.world.machines[1 - leader].stalled = False
        await pair.quiet(5)
        assert slept
        assert "promote" not in begun
        assert pair.leads(leader)
        assert pair.world.machines[leader].postgres.lineage[-1].term == term
        await pair.verify()

    simulate(scenario)


def test_a_leader_that_wakes_while_its_successor_boots_holds_less_than_that_one(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        old = pair.world.machines[leader]
        old.stalled = old.postgres.stuck = True
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 30.0)
        pair.power_off(1 - leader)
        pair.start(1 - leader)
        old.stalled = old.postgres.stuck = False
        await pair.verify(split=True)

    simulate(scenario)


def test_a_node_decides_on_what_came_while_it_waited_for_its_disk(simulate: Simulate) -> None:
    """What it had seen before is as old as the disk is slow: a leader that was silent may be heard again by then."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        node = pair.living(1 - leader)
        assert node is not None
        keep_word = node._keep_word
        waited: list[Observation] = []

        async def slow(seen: Observation) -> None:
            await keep_word(seen)
            rule = decide(read(seen, node.settings.timing, node.settings.policy))
            if rule.decision is Decision.PROMOTE and not waited:
                waited.append(seen)
                pair.world.machines[leader].stalled = False
                await pair.until("the leader to be heard again", lambda: not node.senses.silent)

        node._keep_word = slow  # type: ignore[method-assign]
        begun: list[str] = []
        pair.before_step = lambda _node, plan, _step: begun.append(plan)
        pair.world.machines[leader].stalled = True
        await pair.until("silence to be decided on", lambda: bool(waited))
        await pair.quiet(5)
        assert "promote" not in begun
        assert pair.leads(leader)
        await pair.verify()

    simulate(scenario)
