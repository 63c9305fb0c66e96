"""Runs a scenario in virtual time and shows its timeline when it fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.simulation import virtual_loop
from tests.simulation.pair import SimPair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scenario = Callable[[SimPair], Awaitable[None]]
    Simulate = Callable[..., None]

LINES_SHOWN = 120


@pytest.fixture
def simulate() -> Simulate:
    """Play a scenario on a fresh pair that is in sync and under load."""

    def play(scenario: Scenario, seed: int = 1) -> None:
        shown: list[str] = []

        async def main() -> None:
            pair = SimPair(seed)
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # what a killed run leaves behind
            try:
                await pair.begin()
                await scenario(pair)
            except BaseException:
                shown.extend(pair.world.log[-LINES_SHOWN:])
                raise
            finally:
                await pair.end()

        try:
            virtual_loop.run(main())
        except BaseException:
            print(f"seed {seed}; replay with SEED={seed}")
            print("\n".join(shown))
            raise

    return play
