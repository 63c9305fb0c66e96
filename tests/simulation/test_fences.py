"""What a fence holds shut: the old database, the old Kine, and revisions that somebody may have seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from failover.core.model import Sync
from failover.core.observation import Request
from failover.core.plans import Step
from tests.simulation.clients import Acked
from tests.simulation.moments import living
from tests.simulation.world import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_fenced_database_stays_closed_for_its_old_term(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        old = pair.world.machines[leader].postgres
        term = old.lineage[-1].term
        opened: list[bool] = []

        def before(node: int, plan: str, step: Step) -> None:
            if (node, plan, step) == (1 - leader, "promote", Step.OPEN):
                opened.append(old.fence_term > term)  # R19

        pair.before_step = before
        pair.world.machines[leader].stalled = True
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        assert opened
        assert all(opened)
        pair.world.machines[leader].stalled = False
        await pair.verify()

    simulate(scenario)


def test_kine_is_frozen_the_moment_its_postgres_is_lost(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        kine = pair.world.machines[leader].kine
        pair.world.kill_postgres(leader)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert kine.frozen  # R20: before anything can come back
        await pair.quiet(2)
        pair.world.start_postgres(leader)
        await pair.verify()

    simulate(scenario)


def test_a_revision_that_somebody_saw_is_not_given_again(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        old, new = (pair.world.machines[node].postgres for node in (leader, 1 - leader))
        new.stuck = True
        await pair.quiet(0.3)  # waits are cancelled: visible at the leader, and seen there
        seen = old.newest()
        pair.power_off(leader)
        new.stuck = False
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        assert new.lineage[-1].first_revision > seen  # I4
        pair.start(leader)
        await pair.verify(split=True)

    simulate(scenario)


def test_what_waits_cancelled_by_clients_made_is_fenced_by_a_switchover_too(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        old = pair.world.machines[leader].postgres
        old.commit(Change(old.sequence + 1, "/cancelled"))
        node = pair.nodes[leader]
        assert node is not None
        assert node.ask(Request.SWITCHOVER) is None
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 5.0)
        await pair.verify()
        assert "/cancelled" in old.rows.values()  # drained with everything else

    simulate(scenario)


def test_a_leader_that_yields_under_load_acknowledges_nothing_that_is_not_there(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        async with load(pair):
            for _ in range(8):
                leader = pair.leader()
                pair.world.machines[leader].stalled = True  # its Kine and its Postgres go on
                pair.partition()
                await pair.until("the other to lead", lambda leader=leader: pair.leads(1 - leader), 10.0)  # type: ignore[misc]
                pair.heal()
                pair.world.machines[leader].stalled = False
                await pair.until_in_sync()
        await pair.verify()  # R20

    simulate(scenario)


def test_a_late_fence_under_load_acknowledges_nothing_that_is_not_there(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        async with load(pair):
            for _ in range(6):
                await pair.quiet(0.5)  # a promotion with a lease has a light fence
                leader = pair.leader()
                old = pair.world.machines[leader].postgres
                pair.power_off(leader)
                old.commit(Change(old.sequence + 1, f"/cancelled/{old.sequence}"))  # visible there, not replicated
                await pair.until("the other to lead", lambda leader=leader: pair.leads(1 - leader), 20.0)  # type: ignore[misc]
                pair.start(leader)
                await pair.until_in_sync()
        await pair.verify()  # R20: the follower's Kine runs on meanwhile

    simulate(scenario)


def test_a_database_is_opened_again_once_the_followers_kine_has_been_stopped(simulate: Simulate) -> None:
    """A leader that is alone goes on when its Postgres comes back: an insert that failed meanwhile finds it open."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[1 - leader].postgres.stuck = True
        await pair.until("it to go alone", lambda: living(pair, leader).memory.sync is not Sync.IN_SYNC, 10.0)
        kine = pair.world.machines[1 - leader].kine
        async with load(pair):
            for _ in range(8):
                await pair.until("it to be served", lambda: pair.leads(leader) and kine.answers(), 10.0)
                await pair.quiet(0.3)
                pair.world.kill_postgres(leader)
                await pair.quiet(pair.world.random.choice((0.002, 0.1, 1.0)))
                pair.world.start_postgres(leader)
        pair.world.machines[1 - leader].postgres.stuck = False
        await pair.verify()  # R20

    simulate(scenario)


def test_a_database_is_opened_again_once_the_own_kine_that_ran_on_without_a_supervisor_is_frozen(
    simulate: Simulate,
) -> None:
    async def scenario(pair: SimPair) -> None:
        async with load(pair):
            for _ in range(8):
                leader = pair.leader()
                pair.kill_supervisor(leader)
                pair.world.kill_postgres(leader)
                pair.world.start_postgres(leader)
                await pair.quiet(0.1)
                pair.start_supervisor(leader)
                await pair.until_in_sync()
                await pair.quiet(0.3)
        await pair.verify()  # R20

    simulate(scenario)


@contextlib.asynccontextmanager
async def load(pair: SimPair) -> AsyncIterator[None]:
    """Have eight clients more on each node while the context is open."""
    writers = [asyncio.ensure_future(keep_writing(pair, node, number)) for node in (0, 1) for number in range(8)]
    try:
        yield
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)


async def keep_writing(pair: SimPair, node: int, writer: int) -> None:
    """One client more: a Kine under load has inserts under way at every moment."""
    for number in itertools.count():
        key = f"/load{writer}/n{node}/{number}"
        id_ = await pair.world.write(node, key)
        if id_ is not None:
            pair.acked.append(Acked(key, id_, node, pair.world.now_s(), pair.split))
        await pair.quiet(0.005)
