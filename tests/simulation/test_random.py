"""Faults by seed, one after another and over each other; a failing seed is printed and replayed by SEED=."""

from __future__ import annotations

import os

import pytest

from tests.simulation.conftest import judge
from tests.simulation.play import play_seed, shrink

SEEDS = [int(os.environ["SEED"])] if "SEED" in os.environ else list(range(int(os.environ.get("SEEDS", "60"))))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_faults(seed: int) -> None:
    judge(play_seed(seed), seed)


def test_one_seed_gives_one_run() -> None:
    first, second = play_seed(7), play_seed(7)
    assert len(first.log) > 20
    assert first.log == second.log


def test_a_failure_is_made_short() -> None:
    events = shrink(
        3, lambda run: any("network cut" in line for line in run.log) or "supervisor killed" in str(run.log)
    )
    assert len(events) <= 1
