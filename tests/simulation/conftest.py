"""Runs a scenario in virtual time and shows its timeline when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.__main__ import quiet
from tests.simulation.play import Run, play, recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.simulation.pair import SimPair

    Scenario = Callable[[SimPair], Awaitable[None]]
    Simulate = Callable[..., None]

LINES_SHOWN = 120


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> None:
    """The nodes' own logs would cost more than the simulation."""
    quiet()


@pytest.fixture
def simulate() -> Simulate:
    """Play a scenario on a fresh pair that is in sync and under load."""

    def simulated(scenario: Scenario, seed: int = 1) -> None:
        judge(play(scenario, seed), seed)

    return simulated


@pytest.fixture
def decided() -> Iterator[set[str]]:
    """The names of the rows that a node of this test has come to."""
    rows: set[str] = set()
    with recorded(rows):
        yield rows


def judge(run: Run, seed: int) -> None:
    """Fail with the timeline when the run failed."""
    if run.error is not None:
        print(f"seed {seed}; replay with SEED={seed}")
        print("\n".join(run.log[-LINES_SHOWN:]))
        pytest.fail(run.error)
