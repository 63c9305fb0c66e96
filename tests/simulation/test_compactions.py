"""Old revisions that a compaction deletes: beside a full fence, under a watch that stood still, and while a node is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.clients import Acked
from tests.simulation.moments import until_split
from tests.simulation.rows import Row
from tests.simulation.world import COMPACT_KEEPS

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair

COMPACTED_S = 60.0
TRIES = 1000


async def write(pair: SimPair, node: int, row: Row) -> int:
    """Write one row through this node's Kine, until it is acknowledged or seen."""
    for _ in range(TRIES):
        id_ = await pair.world.write(node, row.text())
        if id_ is not None:
            pair.acked.append(Acked(row.text(), id_, node, pair.world.now_s(), pair.split))
            return id_
        postgres = pair.world.database_of(node)
        newest = postgres.heads.get(row.name, 0) if postgres is not None else 0
        if postgres is not None and postgres.rows.get(newest) == row.text():
            return newest
        await pair.quiet(0.01)
    raise AssertionError(f"{row} cannot be written")


async def until_compacted(pair: SimPair, revision: int) -> None:
    await pair.until(
        f"compactions up to {revision}",
        lambda: all(machine.postgres.compacted > revision for machine in pair.world.machines),
        COMPACTED_S,
    )


def test_a_compaction_is_the_same_on_both_nodes(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        await pair.quiet(15.0)
        first, second = (machine.postgres for machine in pair.world.machines)
        assert first.compacted == second.compacted > 0
        assert len(first.rows) < first.newest()  # rows are gone, not only marked
        await pair.verify()

    simulate(scenario)


def test_a_deleted_key_stays_deleted_when_a_full_fence_comes_between(simulate: Simulate) -> None:
    """Found by seed 134: Kine never looks below the compaction revision again, which the fence raises.

    What was replaced before the fence stayed in the table, and was the newest row of its key once the ones above it had been
    compacted: a deleted key was back.
    """

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        before = pair.world.machines[leader].postgres.compacted
        await until_compacted(pair, before)
        first = await write(pair, leader, Row("/key"))
        second = await write(pair, leader, Row("/key", "second", first))
        await until_split(pair)
        pair.heal()
        await pair.until_in_sync()  # a verdict is a full fence
        leader = pair.leader()
        third = await write(pair, leader, Row("/key", "third", second))
        gone = await write(pair, leader, Row("/key", "gone", third, deleted=True))
        await until_compacted(pair, gone)
        assert all("/key" not in machine.postgres.heads for machine in pair.world.machines)
        await pair.verify(split=True)

    simulate(scenario)


def test_a_kine_that_has_lost_its_postgres_for_long_tells_nothing_more(simulate: Simulate) -> None:
    """Found by seed 41: heartbeats came by the other path, and the follower's Kine read on as if nothing had been missed."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower, postgres = 1 - leader, pair.world.machines[leader].postgres
        first = await write(pair, leader, Row("/key"))
        await pair.until("the client to hear of it", lambda: pair.clients.watches[follower].at >= first)
        lists = pair.clients.watches[follower].lists
        pair.cut_path("a")
        gone = await write(pair, leader, Row("/key", "gone", first, deleted=True))
        await pair.until("a compaction", lambda: postgres.compacted > gone, COMPACTED_S)
        pair.heal()
        await pair.verify()
        assert pair.clients.watches[follower].lists > lists

    simulate(scenario)


def test_a_node_that_was_away_for_longer_than_what_is_kept_comes_back(simulate: Simulate) -> None:
    """It holds what the leader has compacted since, and clients of its Kine have to list anew."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        first = await write(pair, leader, Row("/key"))
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        lists = pair.clients.watches[leader].lists
        gone = await write(pair, 1 - leader, Row("/key", "gone", first, deleted=True))
        postgres = pair.world.machines[1 - leader].postgres
        await pair.until("a compaction", lambda: postgres.compacted > gone, COMPACTED_S)
        assert first in pair.world.machines[leader].postgres.rows
        pair.start(leader)
        await pair.verify()
        assert first not in pair.world.machines[leader].postgres.rows
        assert pair.clients.watches[leader].lists > lists

    simulate(scenario)


def test_both_sides_of_a_split_compact_and_nothing_acknowledged_is_lost(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        first = await write(pair, leader, Row("/key"))
        pair.split = True
        await until_split(pair)
        for node in (0, 1):
            await write(pair, node, Row("/key", f"of node {node}", first))
        before = [machine.postgres.compacted for machine in pair.world.machines]
        await pair.until(
            "both to compact", lambda: all(
                machine.postgres.compacted > mark for machine, mark in zip(pair.world.machines, before, strict=True)
            ), COMPACTED_S,
        )  # fmt: skip
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)


def test_what_a_leader_compacted_while_the_other_was_away_costs_no_late_fence(simulate: Simulate) -> None:
    """The other one comes back with rows that the leader has no more, and took them for lost (R13)."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.muted = {0, 1}
        old, new = (pair.world.machines[node].postgres for node in (leader, 1 - leader))
        changed = await write(pair, leader, Row("/key"))
        await pair.quiet(0.5)
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        fenced = new.fenced
        for number in range(2 * COMPACT_KEEPS):
            changed = await write(pair, 1 - leader, Row("/key", str(number), changed))
        await pair.until("a compaction", lambda: new.compacted > old.newest(), COMPACTED_S)
        pair.start(leader)
        await pair.until_in_sync()
        await pair.quiet(1.0)
        assert new.fenced == fenced  # nobody has to list anew
        pair.muted = set()
        await pair.verify()

    simulate(scenario)
