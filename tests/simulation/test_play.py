"""A run of the simulator fails when a check before a step fails, or when a step raises what it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failover.core.plans import Step
from tests.simulation.play import play

if TYPE_CHECKING:
    from failover.node.steps import Errand
    from tests.simulation.pair import SimPair


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
