"""What a returning node has alone: lost, or compacted by the leader meanwhile."""

from __future__ import annotations

import pytest

from failover.adapters.lost_rows import Newest, Tables, lost

KEY = "/key"


def test_rows_below_one_that_the_leader_holds_were_compacted() -> None:
    tables = Tables({KEY: Newest(30, deleted=False)}, {KEY: Newest(30, deleted=False)}, 100)
    assert lost({10: KEY, 20: KEY}, {10, 20}, tables) == (set(), set())


@pytest.mark.parametrize(
    ("mine", "theirs", "compacted", "believed"),
    [
        (Newest(30, deleted=False), None, 100, True),  # deleted and compacted, or never there
        (Newest(30, deleted=False), None, 29, True),
        (Newest(30, deleted=True), None, 100, False),
        (Newest(30, deleted=True), Newest(20, deleted=False), 100, True),  # there again, for those who saw it deleted
        (Newest(30, deleted=True), Newest(40, deleted=False), 100, False),
        (Newest(30, deleted=True), Newest(20, deleted=True), 100, False),
        (Newest(30, deleted=False), Newest(20, deleted=False), 100, True),
        (Newest(30, deleted=False), Newest(20, deleted=True), 100, True),
        (Newest(30, deleted=False), Newest(40, deleted=False), 100, False),  # whoever saw the one is told the other
        (Newest(30, deleted=False), Newest(40, deleted=True), 100, False),
        (Newest(30, deleted=False), Newest(40, deleted=False), 30, False),
        (
            Newest(30, deleted=False),
            Newest(40, deleted=False),
            29,
            True,
        ),  # nothing compacted it: the leader never had it
        (Newest(30, deleted=True), None, 29, True),
    ],
)
def test_a_row_that_may_be_lost_is_archived_and_believed_in_unless_the_leader_tells_better(
    mine: Newest, theirs: Newest | None, compacted: int, *, believed: bool
) -> None:
    tables = Tables({KEY: mine}, {KEY: theirs} if theirs is not None else {}, compacted)
    assert lost({30: KEY, 25: KEY}, {25, 30}, tables) == ({25, 30}, {25, 30} if believed else set())
