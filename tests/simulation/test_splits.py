"""Both led and meet again: verdict, acceptance, archive, and which side wins."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

from failover.core import lineage
from tests.simulation.moments import until_split

if TYPE_CHECKING:
    from failover.core.plans import Step
    from tests.simulation.conftest import Simulate
    from tests.simulation.pair import SimPair


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


def test_what_a_loser_acknowledges_while_it_accepts_is_in_its_archive(simulate: Simulate) -> None:
    async def scenario(pair: SimPair) -> None:
        for _ in range(3):
            await until_split(pair, alone_s=1.0)
            pair.heal()
            await pair.until_in_sync()
            await pair.quiet(1)
        await pair.verify(split=True)  # R2

    simulate(scenario)


def test_a_proposal_that_changes_leaves_a_leader(simulate: Simulate) -> None:
    """Node 1 is slow to write down that it loses; by then node 0 runs anew, and would propose the other verdict."""

    async def scenario(pair: SimPair) -> None:
        await until_split(pair, alone_s=1.0)
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


def test_a_side_that_led_on_anew_in_the_split_is_compared_from_where_the_two_parted(simulate: Simulate) -> None:
    """Under the revisions of the loser's first leadership the winner has other rows, and the last one says nothing of them."""

    async def scenario(pair: SimPair) -> None:
        loser = pair.leader()
        lineage_of = pair.world.machines[loser].postgres
        await until_split(pair, alone_s=6.0)
        rows = len(lineage_of.lineage)
        pair.power_off(loser)
        pair.start(loser)
        await pair.until("it to lead on", lambda: pair.leads(loser) and len(lineage_of.lineage) > rows, 30.0)
        await pair.quiet(1.0)
        pair.muted.add(loser)
        await pair.quiet(1.0)  # the other has the later change
        with mock.patch.object(lineage, "MARGIN", 5):  # a split of minutes has more rows than the margin
            pair.heal()
            await pair.until_in_sync()
            pair.muted.clear()
            await pair.verify(split=True)
        assert pair.leader() == 1 - loser

    simulate(scenario)
