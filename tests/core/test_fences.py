"""Which fence a promotion takes, and whether it is provisional: each condition alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from failover.core.evidence import Worth
from failover.core.fences import Fence, fence_at_transaction
from failover.core.lease import Lease
from failover.core.model import Mode
from tests.core.scenes import NOW_S, TOP, follower, status


def judged(worth: Worth = Worth.SYNCED, mode: Mode = Mode.ZERO_LOSS, **known: Any) -> Fence:
    options = {name: known.pop(name, False) for name in ("drained", "ordered")}
    return fence_at_transaction(
        replace(follower(), **known), worth, mode, served_revision=0, drained=options["drained"], ordered=options["ordered"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("worth", "options", "full", "provisional"),
    [
        (Worth.SYNCED, {}, False, False),
        (Worth.SYNCED, {"lease": Lease("b", NOW_S)}, True, False),  # it has ended just now
        (Worth.VOIDED, {}, True, True),
        (Worth.STALE, {}, True, True),
        (Worth.SOLE, {}, True, False),
        (Worth.STALE, {"ordered": True}, True, False),  # an operator answers for it
        (Worth.STALE, {"drained": True}, False, False),  # everything that the old leader had is here
        (Worth.STALE, {"drained": True, "lease": Lease()}, False, False),
        (Worth.STALE, {"drained": True, "postgres": status(visible_revision=TOP - 1)}, True, True),
        (Worth.SYNCED, {"postgres": status(visible_revision=TOP - 1)}, True, False),
    ],
)
def test_light_where_nothing_can_be_missing(
    worth: Worth, options: dict[str, Any], full: bool, provisional: bool
) -> None:
    made = judged(worth, **options)
    assert (made.full, made.provisional, made.clear_revision) == (full, provisional, TOP)
    assert made.why


@pytest.mark.parametrize("options", [{}, {"drained": True}])
def test_an_asynchronous_pairs_fence_is_always_full(options: dict[str, Any]) -> None:
    assert judged(mode=Mode.ASYNC, **options).full


def test_an_empty_table_whose_leader_was_never_heard_lacks_nothing() -> None:
    made = judged(heard=None, postgres=status(visible_revision=0))
    assert (made.full, made.clear_revision) == (False, 0)
