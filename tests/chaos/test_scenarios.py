from __future__ import annotations

import pytest

from chaos.faults import FAULTS
from chaos.network import Lost, Path, address, cut_between, cut_off
from chaos.scenarios import NAMED, PAIRS, RECOVERING, SHORT, SINGLE, Effect, Promise, draw


def test_every_scenario_has_a_name_of_its_own_and_faults_that_exist() -> None:
    assert len(NAMED) == len(SINGLE) + len(PAIRS) + len(RECOVERING)
    assert {strike.fault for one in NAMED.values() for strike in one.strikes} <= set(FAULTS)
    assert set(SHORT) <= set(NAMED)


def test_every_fault_is_tried_by_name() -> None:
    assert {one.strikes[0].fault for one in SINGLE} == set(FAULTS)


@pytest.mark.parametrize("scenario", SINGLE, ids=lambda one: one.name)
def test_one_fault_loses_nothing_unless_it_splits(scenario: object) -> None:
    assert scenario in SINGLE
    one = next(each for each in SINGLE if each == scenario)
    splits = FAULTS[one.strikes[0].fault].splits
    assert splits or one.promise is Promise.NO_LOSS
    assert splits or one.effect is not Effect.BOTH_LEAD


def test_a_seed_is_one_campaign() -> None:
    assert [draw(7, number) for number in range(50)] == [draw(7, number) for number in range(50)]
    assert [draw(7, number) for number in range(50)] != [draw(8, number) for number in range(50)]
    assert {strike.fault for number in range(400) for strike in draw(7, number).strikes} == set(FAULTS)


def test_a_cut_is_a_rule_at_each_receiver_and_path() -> None:
    there, back = cut_between("node-0", "node-1")
    assert there.rules() == [
        'iifname "a" ip saddr 198.18.0.2 drop',
        'iifname "b" ip saddr 198.18.0.66 drop',
    ]
    assert back.to == "node-1"
    assert Lost("node-0", paths=(Path.B,), per_mille=40).rules() == ['iifname "b" numgen random mod 1000 < 40 drop']
    assert "tcp reset" in Lost("node-0", "node-1", reset=True).rules()[0]


def test_who_is_cut_off_reaches_nobody() -> None:
    lost = cut_off("node-1")
    assert Lost("node-1") in lost
    assert {one.to for one in lost} == {"node-0", "node-1", "gateway", "broker"}


def test_addresses_are_of_two_networks() -> None:
    assert address("node-0", Path.A) == "198.18.0.1"
    assert address("node-1", Path.B) == "198.18.0.66"
