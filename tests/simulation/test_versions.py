"""Two versions in one pair: a field more disturbs nobody, another major version is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_both_are_upgraded_one_after_the_other(simulate: Simulate) -> None:
    from tests.simulation.faults import newer_minor  # noqa: PLC0415 - it knows the pair

    async def scenario(pair: SimPair) -> None:
        terms = dict(pair.terms)
        for node in (1 - pair.leader(), pair.leader()):
            pair.kill_supervisor(node)
            pair.world.machines[node].wire = newer_minor
            await pair.quiet(0.2)
            pair.start(node)
            await pair.until_in_sync()
        assert pair.terms == terms  # nobody else led: a field more is no reason
        await pair.verify()

    simulate(scenario)


def test_another_major_version_is_refused_and_disturbs_nobody(simulate: Simulate) -> None:
    from tests.simulation.faults import next_major  # noqa: PLC0415 - it knows the pair

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        follower = pair.world.machines[1 - leader]
        pair.kill_supervisor(1 - leader)
        follower.wire = next_major
        pair.start(1 - leader)
        await pair.quiet(10)
        assert any("install the same major version" in line for line in pair.world.log)
        assert pair.leads(leader)
        assert not pair.leads(1 - leader)
        pair.kill_supervisor(1 - leader)
        follower.wire = None
        pair.start(1 - leader)
        await pair.verify()

    simulate(scenario)
