"""The checker against a search through all orders: they must agree on every small history."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.contended import Kind, Operation, Outcome
from lab.linearizable import broken_links, complaints, vanished

KEY = "/registry/contended/x/register"


def write(value: str, began: float, ended: float | None, revision: int | None, *, client: str = "a") -> Operation:
    outcome = Outcome.DONE if ended is not None else Outcome.UNKNOWN
    return Operation(client, KEY, Kind.REGISTER, True, value.encode(), began, ended, outcome, revision)


def read(value: str, began: float, ended: float, revision: int, *, client: str = "b") -> Operation:
    return Operation(client, KEY, Kind.REGISTER, False, value.encode(), began, ended, Outcome.DONE, revision)


def test_a_read_of_the_past_is_found() -> None:
    written = {5: (KEY, b"one"), 6: (KEY, b"two")}
    history = [write("one", 0, 1, 5), write("two", 2, 3, 6), read("one", 4, 5, 5)]
    assert "did not see it" in complaints(history, written)[0]
    assert complaints([*history[:2], read("one", 2.5, 5, 5)], written) == []


def test_an_acknowledged_write_that_is_gone_is_found() -> None:
    assert "was acknowledged and is not there" in complaints([write("one", 0, 1, 5)], {})[0]


def test_a_value_from_nowhere_is_found() -> None:
    assert "was read and never written" in complaints([read("odd", 0, 1, 5)], {})[0]


def test_a_write_without_an_answer_may_happen_late_or_never() -> None:
    lost, late = write("one", 0, None, None), write("two", 0, None, None)
    assert complaints([lost, late, read("", 1, 2, 0), read("two", 8, 9, 5)], {5: (KEY, b"two")}) == []


def test_a_value_read_before_it_was_asked_for_is_found() -> None:
    assert complaints([write("one", 5, 6, 5), read("one", 1, 2, 5)], {5: (KEY, b"one")})


def test_after_a_split_what_was_told_is_in_a_table_or_an_archive() -> None:
    history = [write("one", 0, 1, 5), read("two", 2, 3, 5), write("open", 0, None, None)]
    assert vanished(history, frozenset({(KEY, b"one"), (KEY, b"two")})) == []
    said = vanished(history, frozenset({("/another/key", b"one")}))
    assert ["was acknowledged" in said[0], "was read" in said[1], len(said)] == [True, True, 2]


def test_a_wrong_revision_in_an_answer_is_found() -> None:
    assert "was told revision 7" in complaints([write("one", 0, 1, 7)], {5: (KEY, b"one")})[0]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Operation], int]:
    """Up to three writes with revisions in the order of their names, and reads of any of them, at any times."""
    writes = draw(st.integers(1, 3))
    moments = st.integers(0, 8)
    operations = []
    for number in range(1, writes + 1):
        began = draw(moments)
        ended = began + draw(st.integers(1, 4)) if draw(st.booleans()) else None
        operations.append(write(f"v{number}", began, ended, number if ended is not None else None))
    for _ in range(draw(st.integers(0, 3))):
        seen, began = draw(st.integers(0, writes)), draw(moments)
        operations.append(read(f"v{seen}" if seen else "", began, began + draw(st.integers(1, 4)), seen))
    return operations, writes


def explained(operations: list[Operation], writes: int) -> bool:
    """Try every order: writes take effect in the order of revisions, each read sees the newest."""
    endings = [one.ended_s if one.ended_s is not None else float("inf") for one in operations]
    for order in itertools.permutations(range(len(operations))):
        in_time = all(not endings[late] < operations[soon].began_s for soon, late in itertools.combinations(order, 2))
        if in_time and legal([operations[index] for index in order], writes):
            return True
    return False


def legal(order: list[Operation], writes: int) -> bool:
    now = 0
    for one in order:
        number = int(one.value[1:]) if one.value else 0
        if one.is_write:
            if number != now + 1:
                return False
            now = number
        elif number != now:
            return False
    return now == writes


@settings(max_examples=400, deadline=None)
@given(histories())
def test_it_agrees_with_a_search_through_all_orders(drawn: tuple[list[Operation], int]) -> None:
    operations, writes = drawn
    written = {number: (KEY, f"v{number}".encode()) for number in range(1, writes + 1)}
    assert (complaints(operations, written) == []) == explained(operations, writes)


def test_a_broken_chain_is_found() -> None:
    chain = "/registry/contended/x/chain"
    good = {5: (chain, b"1 a", 0), 7: (chain, b"2 b", 5)}
    assert broken_links(good) == []
    assert "replaced 5" in broken_links({**good, 9: (chain, b"3 c", 5)})[0]
    assert "counts" in broken_links({**good, 9: (chain, b"4 c", 7)})[0]


def test_a_list_that_lost_an_element_is_found() -> None:
    key = "/registry/contended/x/list"
    good = {5: (key, b"a", 0), 7: (key, b"a b", 5)}
    assert broken_links(good) == []
    assert "does not append" in broken_links({**good, 9: (key, b"b c", 7)})[0]
    assert "does not append" in broken_links({**good, 9: (key, b"a b b", 7)})[0]
