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


@pytest.mark.timeout(480)  # a bound on a hang: two API servers start, on two cores
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_scenario(running_site: Callable[..., AbstractAsyncContextManager[Site]], scenario: str) -> None:
    async with running_site(EXTRA.get(scenario)) as site:
        print(json.dumps((await play(site, scenario)).line()))
