"""Every invariant has a check by its number, and each of them can fail."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from failover.core import plans
from failover.core.model import Acceptance, Choice, DataState, Role, Verdict
from failover.core.plans import Step
from failover.core.rules import Decision
from failover.node import loop
from tests.core.left_out import swap
from tests.simulation.clients import Acked
from tests.simulation.invariants import Invariants
from tests.simulation.play import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.pair import SimPair

    Break = Callable[[SimPair, int], Any]  # a pair in sync and its leader


def two_leaders_in_a_term(pair: SimPair, leader: int) -> None:
    postgres = pair.world.machines[leader].postgres
    head = postgres.lineage[-1]
    postgres.lineage = (*postgres.lineage, structs.replace(head, id="other", node=1 - head.node))


def a_term_goes_back(pair: SimPair, leader: int) -> None:
    pair.invariants.at_every_moment()
    machine = pair.world.machines[leader]
    assert machine.state is not None
    machine.state = structs.replace(machine.state, highest_term=0)


def a_follower_is_open(pair: SimPair, leader: int) -> None:
    postgres = pair.world.machines[1 - leader].postgres
    postgres.login = postgres.lifted = True


def a_revision_is_given_twice(pair: SimPair, _leader: int) -> None:
    pair.acked.append(structs.replace(pair.acked[-1], key=pair.acked[0].key))


def a_write_is_lost(pair: SimPair, leader: int) -> None:
    pair.acked.append(Acked("/lost", 10**9, leader, 0.0, split=False))


def half_copied_data_leads(pair: SimPair, leader: int) -> None:
    pair.world.machines[leader].postgres.data = DataState.EMPTY


def data_differs(pair: SimPair, leader: int) -> None:
    pair.world.machines[leader].postgres.rows[10**9] = "/only-here"


VERDICT = Verdict(0, "a", "b", Choice.LED_BEFORE, "")


def an_acceptance_changes(pair: SimPair, leader: int) -> None:
    machine = pair.world.machines[1 - leader]
    assert machine.state is not None
    machine.state = structs.replace(machine.state, acceptance=Acceptance(VERDICT))
    pair.invariants.at_every_moment()
    machine.state = structs.replace(machine.state, acceptance=Acceptance(structs.replace(VERDICT, winner=1)))


def who_lost_leads(pair: SimPair, leader: int) -> None:
    machine = pair.world.machines[leader]
    assert machine.state is not None
    machine.state = structs.replace(machine.state, acceptance=Acceptance(VERDICT))


def a_client_believes_in_a_ghost(pair: SimPair, leader: int) -> None:
    pair.clients.watches[leader].known[1] = "/ghost"


def a_silent_halt(pair: SimPair, leader: int) -> None:
    node = pair.nodes[leader]
    assert node is not None
    node.memory.role = Role.HALTED


BREAKS: list[tuple[str, Break]] = [
    ("I1", two_leaders_in_a_term),
    ("I2", a_term_goes_back),
    ("I3", a_follower_is_open),
    ("I4", a_revision_is_given_twice),
    ("I5", a_write_is_lost),
    ("I6", half_copied_data_leads),
    ("I7", data_differs),
    ("I9", an_acceptance_changes),
    ("I9", who_lost_leads),
    ("I11", a_client_believes_in_a_ghost),
    ("L3", a_silent_halt),
]


@pytest.mark.parametrize(("number", "breaks"), BREAKS, ids=[made.__name__ for _, made in BREAKS])
def test_what_breaks_an_invariant_is_told(number: str, breaks: Break) -> None:
    told: list[str] = []

    async def scenario(pair: SimPair) -> None:
        for node in (0, 1):
            pair.muted.add(node)
        await pair.quiet(1.0)
        judges = pair.invariants
        assert not judges.at_every_moment() + judges.at_the_end(split=False)
        breaks(pair, pair.leader())
        told.extend(judges.at_every_moment() + judges.at_the_end(split=False))

    play(scenario)
    assert any(line.endswith(f"({number})") for line in told), told


def test_a_step_out_of_its_order_is_told() -> None:
    """I8."""

    async def scenario(pair: SimPair) -> None:
        node = pair.nodes[0]
        assert node is not None
        judge = Invariants(pair)
        nothing = asyncio.ensure_future(asyncio.sleep(0))
        node.running = (plans.PROMOTE, Decision.PROMOTE, nothing)
        for step in plans.PROMOTE.steps[:4]:
            assert not judge.before_step(0, node, step)
        assert judge.before_step(0, node, Step.SERVE) == ["node 0: promote/serve out of its order (I8)"]
        again = asyncio.ensure_future(asyncio.sleep(0))
        node.running = (plans.PROMOTE, Decision.PROMOTE, again)
        assert judge.before_step(0, node, Step.TAKE_TERM)  # it does not begin at its beginning
        undone = asyncio.ensure_future(asyncio.sleep(0))
        node.running = (plans.ENTER_SYNC, Decision.ENTER_SYNC, undone)
        assert not judge.before_step(0, node, Step.CATCH_UP)
        assert not judge.before_step(0, node, Step.WAITS_OFF)
        node.running = None
        assert judge.before_step(0, node, Step.LEAD)

    error = play(scenario).error
    assert error is None, error


def test_a_promotion_in_a_pause_is_told() -> None:
    """I10."""

    def wrong(decide: Any) -> Any:
        carries_on = {"follow/lost-paused": Decision.PROMOTE, "promote/paused": Decision.CARRY_ON}
        return lambda cell: structs.replace(
            decide(cell), decision=carries_on.get(decide(cell).name, decide(cell).decision)
        )

    async def scenario(pair: SimPair) -> None:
        follower = pair.nodes[1 - pair.leader()]
        assert follower is not None
        await follower.pause(600)
        await pair.quiet(1)
        pair.power_off(pair.leader())
        await pair.quiet(12)
        pair.judge()

    with swap(loop, "decide", wrong)():
        error = play(scenario).error
    assert error is not None
    assert "(I10)" in error
    assert play(scenario).error is None


def test_every_invariant_has_a_check() -> None:
    checks = {match[1] for name in vars(Invariants) if (match := re.match(r"i(\d+)_", name))}
    assert checks == {str(number) for number in range(1, 12)}
