"""Scenarios that a planted mistake asked for, or a bug: each holds one promise of the protocol shut."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from failover.core.evidence import read
from failover.core.model import Kind, Role, Sync
from failover.core.observation import Request
from failover.core.plans import Step
from failover.core.rules import Decision, decide
from failover.node import senses
from failover.node.steps import MARGIN_MAX
from failover.ports import PortError
from tests.simulation.moments import until_split
from tests.simulation.pair import Acked
from tests.simulation.play import play, play_seed
from tests.simulation.ports import HUNG_S
from tests.simulation.world import Change

if TYPE_CHECKING:
    from failover.core.observation import Observation
    from failover.node.steps import Errand
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


def test_a_follower_that_slept_through_its_leader_going_alone(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = 1 - leader
        pair.world.machines[other].stalled = True
        pair.world.machines[other].postgres.stuck = True
        await pair.quiet(3)  # the leader goes alone, and says so to nobody
        pair.partition()
        pair.world.machines[other].stalled = pair.world.machines[other].postgres.stuck = False
        new = pair.world.machines[other].postgres
        before = new.compacted
        await pair.until("the other to lead", lambda: pair.leads(other), 30.0)
        assert new.compacted > before, "a light fence without a lease (R4)"
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)


def test_a_leader_that_dies_before_its_deadline_has_acknowledged_nothing_alone(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.partition()
        await pair.quiet(0.45)
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 5.0)
        pair.heal()
        pair.start(leader)
        await pair.verify()  # R5

    simulate(scenario)


def test_whoever_is_alone_has_said_so_first(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        postgres = pair.world.machines[leader].postgres

        def before(node: int, plan: str, _step: Step) -> None:
            if node == leader and plan == "go_alone" and not postgres.waits_for:
                assert postgres.lineage[-1].kind is Kind.ALONE, "waits are off, and no row says alone (R5)"

        pair.before_step = before
        pair.power_off(1 - leader)
        await pair.quiet(3)
        pair.start(1 - leader)
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


def test_the_winner_absorbs_only_what_is_fenced_and_archived(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        def before(node: int, plan: str, step: Step) -> None:
            if (plan, step) == ("win", "absorb"):
                loser = pair.world.machines[1 - node]
                assert loser.state is not None
                yes = loser.state.acceptance
                assert yes is not None
                if None in (yes.final_revision, yes.archive):
                    pair.failures.append("the loser has not fenced and archived (R7)")

        pair.before_step = before
        await until_split(pair)
        pair.heal()
        await pair.verify(split=True)

    simulate(scenario)


def test_an_accepted_verdict_outlives_a_crash(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        accepted: list[int] = []

        def before(node: int, plan: str, step: Step) -> None:
            if (plan, step) == ("lose", "freeze_kine") and not accepted:
                accepted.append(node)
                pair.kill_supervisor(node)

        pair.before_step = before
        await until_split(pair)
        pair.heal()
        await pair.until("one to accept", lambda: bool(accepted), 10.0)
        loser = accepted[0]
        pair.power_off(1 - loser)  # the winner is gone, and the loser restarts
        pair.start(loser)
        await pair.quiet(15)
        assert not pair.leads(loser)  # I9: it can never win
        pair.start(1 - loser)
        await pair.verify(split=True)
        assert pair.leader() == 1 - loser

    simulate(scenario)


def test_the_later_change_wins_whatever_the_clocks_say(simulate: Simulate) -> None:
    for wrong in (-90.0, 90.0):
        for early in (0, 1):

            async def scenario(pair: SimPair, wrong: float = wrong, early: int = early) -> None:
                pair.world.machines[early].wall_offset_s = wrong
                pair.partition()
                await pair.until("both to lead", lambda: pair.leads(0) and pair.leads(1), 5.0)
                await pair.quiet(1)
                pair.muted.add(early)
                await pair.quiet(3)
                pair.muted.clear()
                pair.muted.update((0, 1))
                pair.heal()
                await pair.until_in_sync()
                pair.muted.clear()
                await pair.verify(split=True)
                assert pair.leader() == 1 - early  # R8

            simulate(scenario)


def test_in_sync_is_not_said_while_the_checkpointer_stalls(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.power_off(1 - leader)
        await pair.quiet(2)  # alone
        pair.world.machines[leader].checkpoint_stalled = True
        pair.start(1 - leader)
        await pair.quiet(1.5)
        pair.cut_path("a")  # the data path: heartbeats go on
        await pair.quiet(0.3)
        pair.power_off(leader)
        pair.world.machines[leader].checkpoint_stalled = False
        pair.heal()
        await pair.quiet(1.5)
        pair.start(leader)
        await pair.verify()  # R9

    simulate(scenario)


def test_a_leadership_that_reopens_waits_as_before(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        postgres = pair.world.machines[leader].postgres
        pair.kill(leader)
        pair.kill(1 - leader)
        for node in (0, 1):
            pair.start(node)
        await pair.until("a leader", lambda: pair.leads(leader), 20.0)
        if postgres.lineage[-1].kind is Kind.SYNCED:
            assert postgres.waits_taken, "open, in sync, and nobody waits (R9)"
        await pair.verify()

    simulate(scenario)


def test_a_fenced_database_stays_closed_for_its_old_term(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        old = pair.world.machines[leader].postgres
        term = old.lineage[-1].term
        pair.world.machines[leader].stalled = True
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 10.0)
        assert old.fence_term > term  # R19
        pair.world.machines[leader].stalled = False
        await pair.verify()

    simulate(scenario)


def test_kine_is_frozen_the_moment_its_postgres_is_lost(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        kine = pair.world.machines[leader].kine
        pair.world.kill_postgres(leader)
        await pair.quiet(0.0)
        await asyncio.sleep(0)
        assert kine.frozen  # R20: before anything can come back
        await pair.quiet(2)
        pair.world.start_postgres(leader)
        await pair.verify()

    simulate(scenario)


def test_two_leaders_never_share_a_term(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.partition()
        pair.power_off(leader)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 5.0)
        pair.start(leader)  # still cut off: it leads after the long wait, provisionally
        await pair.until("the old one to lead too", lambda: pair.leads(leader), 20.0)
        pair.heal()
        await pair.verify(split=True)  # I1 is held at every moment
        assert pair.leader() == 1 - leader

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
        assert new.postgres.top <= ids + MARGIN_MAX
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


def test_a_check_before_a_step_that_fails_is_a_failure_of_the_run() -> None:
    async def scenario(pair: SimPair) -> None:
        def before(_node: int, _plan: str, step: Step) -> None:
            assert step is not Step.DETACH, "checked"

        pair.before_step = before
        pair.power_off(pair.leader())
        await pair.quiet(3)
        pair.before_step = lambda *_: None
        pair.judge()

    error = play(scenario).error
    assert error is not None
    assert "checked" in error


def test_what_no_step_may_raise_ends_the_run() -> None:
    async def scenario(pair: SimPair) -> None:
        node = pair.nodes[1 - pair.leader()]
        assert node is not None
        do = node.steps.do

        async def broken(step: Step, errand: Errand) -> None:
            if step is Step.DETACH:
                raise ZeroDivisionError
            await do(step, errand)

        node.steps.do = broken  # type: ignore[method-assign]
        pair.power_off(pair.leader())
        await pair.quiet(3)
        pair.judge()

    error = play(scenario).error
    assert error is not None
    assert "ZeroDivisionError" in error


def test_a_pause_whose_end_nobody_heard_is_ended_again() -> None:
    """Seed 2787: the end of the pause was told to a supervisor that was killed over it."""
    assert play_seed(2787).error is None


def test_a_follower_whose_disk_hangs_does_not_hold_the_leader_up(simulate: Simulate) -> None:
    """Found by chaos: asked to renounce it cannot make its answer durable, and its heartbeats went on (R17)."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        pair.world.machines[1 - leader].disk_stalled = True
        leading, node = pair.nodes[leader], pair.nodes[1 - leader]
        assert leading is not None
        assert node is not None
        await pair.until("the leader to go alone", lambda: leading.memory.sync is not Sync.IN_SYNC, 10.0)
        assert node.memory.durable.renounced is None
        assert not node.memory.lease.runs(node.ports.clock.now_s())
        pair.world.machines[1 - leader].disk_stalled = False
        await pair.verify()

    simulate(scenario)


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


async def into_a_split(pair: SimPair) -> None:
    pair.partition()
    await pair.until("both to lead", lambda: pair.leads(0) and pair.leads(1), 5.0)
    await pair.quiet(1)


def test_what_a_loser_acknowledges_while_it_accepts_is_in_its_archive(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        for _ in range(3):
            await into_a_split(pair)
            pair.heal()
            await pair.until_in_sync()
            await pair.quiet(1)
        await pair.verify(split=True)  # R2

    simulate(scenario)


def test_a_proposal_that_changes_leaves_a_leader(simulate: Simulate) -> None:
    """Node 1 is slow to write down that it loses; by then node 0 runs anew, and would propose the other verdict."""

    async def scenario(pair: SimPair) -> None:
        await into_a_split(pair)
        pair.muted.add(1)
        await pair.quiet(1)  # node 0 has the later change
        pair.muted.add(0)
        await pair.quiet(0.2)
        pair.world.machines[1].state_sync_s = 1.5
        pair.heal()
        await pair.until("node 1 to lose", lambda: any("node 1: plan: lose" in line for line in pair.world.log), 5.0)
        pair.muted.discard(1)  # its Kine still serves
        await pair.quiet(0.3)
        pair.restart_supervisor(0)
        await pair.quiet(3)
        pair.world.machines[1].state_sync_s = 0.0
        pair.muted.clear()
        await pair.verify(split=True)  # R7

    simulate(scenario)


def test_a_leader_that_yields_under_load_acknowledges_nothing_that_is_not_there(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        writers = [asyncio.ensure_future(keep_writing(pair, node, number)) for node in (0, 1) for number in range(8)]
        for _ in range(8):
            leader = pair.leader()
            pair.world.machines[leader].stalled = True  # its Kine and its Postgres go on
            pair.partition()
            await pair.until("the other to lead", lambda leader=leader: pair.leads(1 - leader), 10.0)  # type: ignore[misc]
            pair.heal()
            pair.world.machines[leader].stalled = False
            await pair.until_in_sync()
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        await pair.verify()  # R20

    simulate(scenario)


async def keep_writing(pair: SimPair, node: int, writer: int) -> None:
    """One client more: a Kine under load has inserts under way at every moment."""
    for number in itertools.count():
        key = f"/load{writer}/n{node}/{number}"
        id_ = await pair.world.write(node, key)
        if id_ is not None:
            pair.acked.append(Acked(key, id_, node, pair.world.now_s(), pair.split))
        await pair.quiet(0.005)


def test_a_leader_alone_whose_supervisor_dies_is_fenced_and_drained_first(simulate: Simulate) -> None:
    """It acknowledges alone until it is fenced, and its follower streams: what is drained after the fence is everything."""

    async def scenario(pair: SimPair) -> None:
        leader = pair.leader()
        other = pair.nodes[1 - leader]
        assert other is not None
        await other.pause(600)
        await pair.quiet(1)
        pair.kill_supervisor(leader)
        await other.pause(0)
        await pair.until("the other to lead", lambda: pair.leads(1 - leader), 20.0)
        await pair.quiet(1)
        pair.start(leader)
        await pair.verify()  # I5: in the table, not in an archive

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
                monkeypatch.setattr(running, "_now_s", running.time() + 8.0)

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
