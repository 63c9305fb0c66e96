"""How old a stream's last word is, from looks that are far apart."""

from __future__ import annotations

import math

import pytest

from failover.adapters.clock import SystemClock
from failover.adapters.look import _Ages


class SetClock(SystemClock):
    """The clock, set by hand."""

    now = 100.0

    def now_s(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ages(clock: SetClock) -> _Ages:
    """Looked once, at 100.0: the stamp was 7.0."""
    made = _Ages(clock)
    assert made.of("stream", 7.0, 50.0) == 0.0  # before the first look anything may have been
    made.looked()
    return made


def test_the_server_says_how_old_a_new_stamp_is(clock: SetClock, ages: _Ages) -> None:
    clock.now = 100.2
    assert ages.of("stream", 7.1, 0.15) == pytest.approx(0.15)
    ages.looked()
    clock.now = 100.4
    assert ages.of("stream", 7.1, 0.35) == pytest.approx(0.35)


@pytest.mark.parametrize(("told_s", "age_s"), [(3600.0, 0.2), (-3600.0, 0.0)])
def test_a_clock_that_is_set_moves_nothing_past_the_looks_it_lies_between(
    clock: SetClock, ages: _Ages, told_s: float, age_s: float
) -> None:
    clock.now = 100.2
    assert ages.of("stream", 7.1, told_s) == pytest.approx(age_s)


def test_an_old_stamp_grows_old_by_the_own_clock(clock: SetClock, ages: _Ages) -> None:
    clock.now = 101.5
    assert ages.of("stream", 7.0, 0.0) == pytest.approx(1.5)


def test_a_stamp_of_another_clock_counts_from_the_look_that_first_saw_it(clock: SetClock, ages: _Ages) -> None:
    clock.now = 100.2
    assert ages.of("standby", 3.0) == 0.0
    ages.looked()
    clock.now = 100.4
    assert ages.of("standby", 3.2) == 0.0
    ages.looked()
    clock.now = 100.6
    assert ages.of("standby", 3.2) == pytest.approx(0.2)


def test_without_a_stamp_nothing_was_ever_heard(ages: _Ages) -> None:
    assert ages.of("stream", None, 0.1) == math.inf
