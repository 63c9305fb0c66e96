"""The judge of the API servers' clients finds what it is there to find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kubernetes import judge
from tests.kubernetes.tellers import PREFIX, Act

if TYPE_CHECKING:
    from lab.checker import Row
    from tests.kubernetes.tellers import Line


def row(revision: int, name: str, *, deleted: bool = False) -> Row:
    return (revision, PREFIX + name, 0, int(deleted), 0, 0, 0, b"", b"")


# a: 1, 4; b: 2, deleted 5; c: 3; a fence from 10 on; d: 11
ROWS = [row(1, "a"), row(2, "b"), row(3, "c"), row(4, "a"), row(5, "b", deleted=True), row(11, "d")]
HISTORY = judge.History(ROWS)


def event(at_s: float, what: str, name: str, revision: int) -> Line:
    return {"at": at_s, "what": what, "name": name, "revision": str(revision)}


def listed(at_s: float, revision: int, **objects: int) -> Line:
    told = {name: str(one) for name, one in objects.items()}
    return {"at": at_s, "what": "listed", "revision": str(revision), "objects": told}


BEFORE = [event(0.1, "added", "a", 4), event(0.2, "added", "c", 3)]


def test_live() -> None:
    assert HISTORY.live(2) == {"a": 1, "b": 2}
    assert HISTORY.live() == {"a": 4, "c": 3, "d": 11}


def test_a_cache_is_right_with_the_first_event_of_the_new_leadership() -> None:
    seen = judge.cache([*BEFORE, event(2.5, "added", "d", 11)], HISTORY, 11, 1.0)
    assert seen == judge.Cache(2.5, None, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        event(2.6, "updated", "a", 1),  # older than it should be
        event(2.6, "updated", "a", 9),  # of a history that was given up
        event(2.6, "added", "b", 2),  # deleted
        event(2.6, "deleted", "c", 3),  # there
        event(2.6, "added", "e", 9),  # never there
    ],
)
def test_a_wrong_cache_is_found(wrong: Line) -> None:
    assert judge.cache([*BEFORE, event(2.5, "added", "d", 11), wrong], HISTORY, 11, 1.0).right_s is None


def test_a_cache_that_has_not_come_so_far_is_not_right_because_the_object_is_gone_since() -> None:
    history = judge.History([*ROWS, row(12, "d", deleted=True)])
    assert judge.cache(BEFORE, history, 11, 1.0).right_s is None
    assert judge.cache([*BEFORE, event(2.0, "added", "d", 11)], history, 11, 1.0).right_s == 2.0


def test_a_ghost_is_counted_until_it_goes() -> None:
    lines = [*BEFORE, event(0.9, "added", "e", 9), event(2.5, "added", "d", 11), event(3.0, "deleted", "e", 9)]
    assert judge.cache(lines, HISTORY, 11, 1.0) == judge.Cache(3.0, 3.0, 1)
    assert judge.cache(lines[:-1], HISTORY, 11, 1.0) == judge.Cache(None, float("inf"), 1)


def test_a_cache_may_be_newer_than_asked_for() -> None:
    assert judge.cache([event(0.1, "added", "a", 4), event(0.2, "added", "c", 3)], HISTORY, 3, 1.0).right_s == 1.0


def test_lists_are_the_table_at_the_revision_that_they_name() -> None:
    right = [listed(2.0, 11, a=4, c=3, d=11), listed(2.1, 10, a=4, c=3)]
    assert judge.lists(right, HISTORY, 10, 1.0, {}) == judge.Lists([], 0)
    wrong: list[Line] = [
        listed(2.0, 12, a=4, c=3),  # d is missing
        listed(2.1, 12, a=4, b=2, c=3, d=11),  # b is gone
        listed(2.2, 4, a=4, c=3, e=9),  # from before the fence, with a ghost
    ]
    told_s = dict.fromkeys(range(20), 0.0)
    assert [at_s for at_s, _ in judge.lists(wrong, HISTORY, 10, 1.0, told_s).wrong] == [2.0, 2.1, 2.2]
    assert judge.lists(wrong, HISTORY, 10, 3.0, told_s) == judge.Lists([], 0)


def test_a_list_may_name_an_older_revision_than_it_has_where_kine_had_told_that_one() -> None:
    later = [listed(2.0, 3, a=4, c=3)]  # a's change at 4 and b's end at 5 are in it
    assert judge.lists(later, HISTORY, 0, 1.0, {4: 1.8, 5: 1.9}) == judge.Lists([], 1)
    assert len(judge.lists(later, HISTORY, 0, 1.0, {4: 1.8}).wrong) == 1  # nobody was told of 5
    assert len(judge.lists(later, HISTORY, 0, 1.0, {4: 1.8, 5: 2.0 + 2 * judge.LATE_S}).wrong) == 1  # not yet then
    # One that lacks what it should have, beside what came later, was never the table.
    mixed = [listed(2.0, 3, a=4, b=2), listed(2.1, 3, b=2, c=3)]
    assert len(judge.lists(mixed, HISTORY, 0, 1.0, dict.fromkeys(range(20), 0.0)).wrong) == 2


def test_lost() -> None:
    acts = [
        Act("create", "a", 0.0, 0.1, 1),
        Act("change", "a", 0.2, 0.3, 9),  # lost
        Act("create", "e", 0.4, 0.5, 8),  # lost
        Act("delete", "b", 0.6, 0.7),
        Act("delete", "c", 0.8, 0.9),  # lost
        Act("create", "f", 1.0),  # never acknowledged
    ]
    assert len(judge.lost(acts, HISTORY)) == 3
    assert len(judge.lost(acts, HISTORY, frozenset({f"{PREFIX}e"}))) == 2


def test_two_holders_are_found() -> None:
    lines: list[Line] = [
        {"at": 1.0, "what": "started", "identity": "0-a"},
        {"at": 2.0, "what": "stopped", "identity": "0-a"},
        {"at": 2.5, "what": "started", "identity": "0-b"},
    ]
    alone = judge.holders(lines, 0)
    assert not judge.both_held(alone)
    other = judge.holders([{"at": 1.9, "what": "started", "identity": "1-a"}], 1)
    assert [(one.identity, two.identity) for one, two in judge.both_held(alone + other)] == [
        ("0-a", "1-a"), ("1-a", "0-b"),
    ]  # fmt: skip


def etcd(*lines: tuple[str, int]) -> list[Line]:
    def told(what: str, revision: int) -> dict[str, Any]:
        return {"what": what, "revision": revision, "keys": {}, "key": f"{PREFIX}x", "deleted": False}

    return [told(*line) for line in lines]


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (etcd(("listed", 0), *(("event", row[0]) for row in ROWS)), 0),
        (etcd(("listed", 0), ("event", 1), ("compacted", 5), ("listed", 5), ("event", 11)), 0),
        (etcd(("listed", 0), ("event", 1), ("listed", 5), ("event", 11)), 1),  # nobody said that it had to list
        (etcd(("listed", 5), ("event", 11), ("event", 11)), 1),  # twice
        (etcd(("listed", 0), ("event", 1), ("event", 3), ("event", 2), ("event", 4), ("event", 5), ("event", 11)), 1),
        (etcd(("listed", 0), ("event", 1), ("event", 4), ("event", 5), ("event", 11)), 1),  # two never came
    ],
)
def test_etcd_watch(lines: list[Line], wrong: int) -> None:
    assert len(judge.etcd_watch(lines, ROWS, first_batch=0)) == wrong
