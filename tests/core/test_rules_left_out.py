"""Each rule R1-R20 has a test by its name. `left_out.py` leaves each rule out, and its test must fail then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.core import (
    left_out,
    test_rules_on_fences,
    test_rules_on_leadership,
    test_rules_on_splits,
    test_rules_on_sync,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BY_RULE: dict[str, list[Callable[..., None]]] = {}
for _module in (test_rules_on_fences, test_rules_on_leadership, test_rules_on_splits, test_rules_on_sync):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_r") and _name[6:8].isdigit():
            BY_RULE.setdefault(f"R{int(_name[6:8])}", []).append(_test)


def test_every_rule_has_a_test_by_its_name() -> None:
    assert set(BY_RULE) == {f"R{number}" for number in range(1, 21)}
    assert {rule for rule, _, _ in left_out.WAYS} == set(BY_RULE)


@pytest.mark.parametrize(
    ("rule", "what", "without"), left_out.WAYS, ids=[f"{rule}-{what}" for rule, what, _ in left_out.WAYS]
)
def test_the_test_of_a_rule_fails_without_it(rule: str, what: str, without: left_out.Patch) -> None:
    del what
    with without():
        assert any(fails(test) for test in BY_RULE[rule])


def fails(test: Callable[..., None]) -> bool:
    """Whether the test fails for some of its parameters."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    cases: list[dict[str, Any]] = [{}]
    for mark in marks:
        names = [mark.args[0]] if isinstance(mark.args[0], str) else list(mark.args[0])
        values = [one if len(names) > 1 else (one,) for one in mark.args[1]]
        cases = [dict(zip(names, one, strict=True)) for one in values]
    for case in cases:
        try:
            test(**case)
        except AssertionError:
            return True
    return False
