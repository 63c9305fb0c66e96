"""Real API servers on the pair's Kine through each fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.kubernetes.scenarios import EXTRA, SCENARIOS, play

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.kubernetes.site import Site


# F1-lossy has not been played to its end yet: see docs/testing.md.
TESTED = [scenario for scenario in SCENARIOS if scenario != "F1-lossy"]


@pytest.mark.timeout(480)  # a bound on a hang: two API servers start, on two cores
@pytest.mark.parametrize("scenario", TESTED)
async def test_scenario(running_site: Callable[..., AbstractAsyncContextManager[Site]], scenario: str) -> None:
    async with running_site(EXTRA.get(scenario)) as site:
        print(json.dumps((await play(site, scenario)).line()))
