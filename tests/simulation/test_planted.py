"""Every planted mistake is found by the run that is named beside it, or it is said what covers it."""

from __future__ import annotations

import pytest

from tests.simulation.planted import PLANTS, Plant, found

RULES = {f"R{number}" for number in range(1, 21)}


@pytest.mark.parametrize("plant", PLANTS, ids=[f"{one.rule}-{one.name.replace(' ', '-')}" for one in PLANTS])
def test_a_planted_mistake_is_found(plant: Plant) -> None:
    if plant.found_by is None:
        assert plant.covered
        return
    assert found(plant, plant.found_by) is not None


def test_every_rule_has_been_left_out_once() -> None:
    assert {one.rule for one in PLANTS} >= RULES
    assert len(PLANTS) >= 20
