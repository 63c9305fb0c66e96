"""The holes of an earlier design, one by one (H1-H14), each with the rule that closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failover.core.model import Kind, Role
from failover.core.observation import Request
from tests.simulation.moments import until_split
from tests.simulation.world import Change

if TYPE_CHECKING:
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_h1_the_only_copy_of_acknowledged_writes_is_not_thrown_away(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = 1 - leader
        pair.world.kill_postgres(other)
        await pair.quiet(3)  # the leader goes alone and acknowledges
        for node in (0, 1):
            pair.power_off(node)
        pair.start(other)  # boots first, was in sync once
        await pair.until("the stale one to lead", lambda: pair.leads(other), 30.0)
        await pair.quiet(2)
        pair.start(leader)
        await pair.verify(split=True)
        assert pair.leader() == leader  # a provisional side loses (R3), and what it had is archived (R2)

    simulate(scenario)


def test_h2_in_sync_is_a_lease(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = 1 - leader
        pair.world.kill_postgres(other)
        await pair.quiet(0.3)
        pair.world.start_postgres(other)  # its supervisor remembers that it was in sync
        pair.partition()
        await pair.quiet(3)
        assert not pair.leads(other)  # no lease, no quick promotion (R4)
        pair.heal()
        await pair.verify(split=True)
        assert pair.leader() == leader

    simulate(scenario)


def test_h3_one_verdict_and_it_stands(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        pair.world.machines[1].wall_offset_s = 90.0  # clocks that disagree by far
        await until_split(pair)
        pair.heal()
        await pair.verify(split=True)
        assert sum("accepts that" in line for line in pair.world.log) == 1

    simulate(scenario)


def test_h4_in_sync_is_said_only_when_commits_wait(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        for machine in pair.world.machines:
            head = machine.postgres.lineage[-1]
            assert head.kind is Kind.SYNCED
        leader = pair.world.machines[pair.leader()].postgres
        assert leader.waits_taken == leader.waits_for != ""  # the checkpointer has taken them (R9)
        await pair.verify()

    simulate(scenario)


def test_h5_a_cut_gives_a_light_fence_within_the_deadlines(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        new = pair.world.machines[1 - leader].postgres
        before = new.fenced
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 2.0)
        assert new.fenced == before  # nobody has to list anew
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_h6_a_postgres_that_comes_back_serves_no_kine(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.kill_postgres(leader)
        await pair.quiet(0.002)
        pair.world.start_postgres(leader)
        assert not pair.world.is_open(leader)  # it starts fenced (R11)
        await pair.verify()

    simulate(scenario)


def test_h7_rows_that_only_the_old_leader_has_are_fenced_late(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        old = pair.world.machines[leader].postgres
        pair.partition()
        pair.world.machines[leader].powered = False
        pair.kill_supervisor(leader)
        ghost = old.sequence + 1
        old.commit(Change(ghost, "/cancelled"))  # a wait that its client gave up: visible, not replicated
        pair.kill(leader)
        pair.heal()
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        pair.start(leader)
        await pair.verify()
        assert "/cancelled" in pair.world.machines[leader].archive
        new = pair.world.machines[1 - leader].postgres
        assert new.fenced > 0  # a full fence, late or at once (R13)

    simulate(scenario)


def test_h8_a_full_fence_replaces_every_kine_on_both_nodes(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        keys = {machine.kine.key for machine in pair.world.machines}
        pair.partition()
        await pair.until("both to lead", lambda: pair.leads(0) and pair.leads(1), 5.0)
        pair.heal()
        await pair.until_in_sync()

        def replaced() -> bool:
            now = {machine.kine.key for machine in pair.world.machines}
            return len(now) == 1 and not now & keys

        await pair.until("both Kines to be new ones", replaced, 2.0)  # R14
        await pair.verify(split=True)

    simulate(scenario)


def test_h9_a_higher_term_with_nobody_behind_it_demotes_nobody(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = pair.nodes[1 - leader]
        assert other is not None
        await other.steps.save(highest_term=999)
        await pair.quiet(3)
        assert pair.leader() == leader  # R15
        assert not any("plan: yield" in line for line in pair.world.log)
        node = pair.nodes[leader]
        assert node is not None
        assert node.ask(Request.SWITCHOVER) is None
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 3.0)
        assert pair.world.machines[1 - leader].postgres.lineage[-1].term > 999
        await pair.verify()

    simulate(scenario)


def test_h10_a_leader_whose_postgres_does_not_come_gives_leadership_away(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.kill_supervisor(leader)
        pair.world.kill_postgres(leader)
        await pair.quiet(0.05)
        pair.start_supervisor(leader)  # its Postgres stays down
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 5.0)  # R16
        pair.start(leader)
        await pair.verify()

    simulate(scenario)


def test_h11_replication_that_hangs_stops_writes_for_a_bounded_time(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[1 - leader].postgres.stuck = True
        before = len(pair.acked)
        await pair.until("writes to go on", lambda: len(pair.acked) > before + 20, 3.0)  # R17
        pair.world.machines[1 - leader].postgres.stuck = False
        await pair.verify()

    simulate(scenario)


def test_h12_a_paused_leader_never_says_take_over(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        node = pair.nodes[leader]
        assert node is not None
        await node.pause(20)
        await pair.quiet(1)
        pair.world.kill_postgres(leader)
        await pair.quiet(5)
        assert not pair.leads(1 - leader)  # R18
        pair.world.start_postgres(leader)
        await pair.quiet(1)
        assert pair.role(leader) == Role.LEADER
        await pair.quiet(20)
        await pair.verify()

    simulate(scenario)


def test_h13_a_fence_has_a_memory(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[leader].stalled = True  # frozen supervisor, living Postgres and Kine
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        pair.world.machines[leader].stalled = False
        await pair.quiet(0.5)
        assert not pair.world.is_open(leader)  # R19
        await pair.verify()

    simulate(scenario)


def test_h14_kine_is_frozen_before_its_postgres_is_fenced(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        frozen: list[bool] = []
        world = pair.world
        end = world.end_sessions

        def watched(node: int) -> None:
            kine = world.machines[node].kine
            frozen.append(kine.frozen or kine.target != "own")
            end(node)

        world.end_sessions = watched  # type: ignore[method-assign]
        pair.partition()
        await pair.until("both to lead", lambda: pair.leads(0) and pair.leads(1), 5.0)
        pair.heal()
        await pair.verify(split=True)
        assert frozen
        assert all(frozen)  # R20
        assert leader in (0, 1)

    simulate(scenario)
