"""Terms, lineage, lease, verdict and deadlines: by table and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from failover.core.clocks import EXCHANGE_MAX_US, NOTHING_KNOWN, STEP_US, Sample, best, sample
from failover.core.lease import NEVER, VOID, Lease
from failover.core.lineage import Relation, Side, common_head, parting_revision, relate
from failover.core.model import Choice, Kind, LastChange, LineageEntry, Mode, Role, Sync
from failover.core.terms import next_term
from failover.core.timing import FAST, LAN, PRESETS, WAN, Timing
from failover.core.verdict import ClockOffset, SplitPolicy, Summary, decide_split
from tests.core.scenes import beat

OPPOSITE = {
    Relation.AHEAD: Relation.BEHIND,
    Relation.BEHIND: Relation.AHEAD,
    Relation.EQUAL_MINE: Relation.EQUAL_THEIRS,
    Relation.EQUAL_THEIRS: Relation.EQUAL_MINE,
}


def row(name: str, node: int, kind: Kind = Kind.LEAD, *, parent: int = 0, provisional: bool = False) -> LineageEntry:
    return LineageEntry(name, 2, node, kind, "", 0, parent + 1, parent, provisional)


@given(st.integers(0, 10**9), st.sampled_from([0, 1]))
def test_a_new_term_is_the_smallest_own_one_above(highest: int, node: int) -> None:
    term = next_term(highest, node)
    assert highest < term <= highest + 2
    assert term % 2 == node


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_keep_the_inequality(name: str) -> None:
    assert PRESETS[name].complaint() is None


@given(st.sampled_from([LAN, FAST, WAN]), st.floats(0.0, 5.0))
def test_a_gap_that_is_too_small_is_refused_with_the_numbers(timing: object, gap_s: float) -> None:
    assert isinstance(timing, type(LAN))
    made = replace(timing, promote_after_s=timing.degrade_after_s - gap_s)
    complaint = made.complaint()
    exact = made.degrade_after_s - made.promote_after_s
    assert (complaint is None) == (exact > made.slack_s())
    assert complaint is None or f"{made.degrade_after_s:g}" in complaint


COMMON = (row("a", 0), row("b", 0, Kind.SYNCED, parent=10))
TABLE = [
    ("nothing and something", (), COMMON, Relation.BEHIND),
    ("equal, the peer led", COMMON, COMMON, Relation.EQUAL_THEIRS),
    ("the other went on in sync", COMMON, (*COMMON, row("c", 1, parent=20)), Relation.BEHIND),
    ("both went on", (*COMMON, row("c", 0, Kind.ALONE, parent=15)), (*COMMON, row("d", 1, parent=20)), Relation.PARTED),
    ("nothing in common", (row("x", 0),), COMMON, Relation.STRANGER),
]


@pytest.mark.parametrize(("mine", "theirs", "expected"), [line[1:] for line in TABLE], ids=[line[0] for line in TABLE])
def test_relations(mine: tuple[LineageEntry, ...], theirs: tuple[LineageEntry, ...], expected: Relation) -> None:
    one, other = Side(1, mine, 100), Side(0, theirs, 100)
    assert relate(one, other) is expected
    assert relate(other, one) is OPPOSITE.get(expected, expected)


def test_who_was_alone_beyond_the_successors_parent_has_parted() -> None:
    alone = (*COMMON, row("c", 0, Kind.ALONE, parent=15))
    successor = (*alone, row("d", 1, parent=20))
    assert relate(Side(0, alone, 20), Side(1, successor, 50)) is Relation.BEHIND
    assert relate(Side(0, alone, 21), Side(1, successor, 50)) is Relation.PARTED  # R1


def test_a_verdict_contains_the_side_that_it_absorbs() -> None:
    loser = (*COMMON, row("c", 0, Kind.ALONE, parent=15))
    winner = (*COMMON, row("d", 1, parent=20), replace(row("e", 1, Kind.VERDICT, parent=90), absorbs="c"))
    for last in (80, 95):  # whatever it had written before it was absorbed
        assert relate(Side(0, loser, last), Side(1, winner, 100)) is Relation.BEHIND


def test_the_parting_revision_leaves_a_margin() -> None:
    mine = (*COMMON, row("c", 0, Kind.ALONE, parent=5000))
    theirs = (*COMMON, row("d", 1, parent=4000))
    assert parting_revision(mine, theirs) == 3000
    assert parting_revision((row("x", 0),), theirs) == 0
    assert parting_revision((*COMMON, row("c", 0, Kind.ALONE, parent=900)), theirs) == 0


def test_a_side_that_was_absorbed_parted_where_it_went_on_and_not_at_its_head() -> None:
    loser = (*COMMON, row("c", 0, Kind.ALONE, parent=5000), row("l", 0, parent=9000))
    winner = (*COMMON, row("d", 1, parent=4000), replace(row("v", 1, Kind.VERDICT, parent=9500), absorbs="l"))
    assert parting_revision(loser, winner) == 3000
    led_on = (COMMON[0],)  # alone or asynchronous from the beginning: its head is common too
    absorbing = (*led_on, row("d", 1, parent=4000), replace(row("v", 1, Kind.VERDICT, parent=9500), absorbs="a"))
    assert parting_revision(led_on, absorbing) == 3000


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_both_nodes_find_the_same_newest_common_row(ours: int, theirs: int, later: int, absorbed: bool) -> None:
    one = (*COMMON, *(row(f"one{index}", 0, parent=20 + index) for index in range(ours)))
    other = (*COMMON, *(row(f"other{index}", 1, parent=20 + index) for index in range(theirs)))
    newest = COMMON[-1]
    if absorbed:
        newest = one[-1]
        other = (*other, replace(row("v", 1, Kind.VERDICT, parent=90), absorbs=newest.id))
        one = (*one, *(row(f"later{index}", 0, parent=95 + index) for index in range(later)))
    assert common_head(one, other) == newest
    assert common_head(other, one) == newest


SPLIT_0 = (*COMMON, row("c", 0, Kind.ALONE, parent=100))
SPLIT_1 = (*COMMON, row("d", 1, parent=100))
TIMES = st.integers(0, 10**12)


@given(TIMES, TIMES, st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_the_newest_change_wins_beyond_the_uncertainty(first: int, second: int, offset: int, uncertainty: int) -> None:
    sides = (
        Summary(0, SPLIT_0, LastChange(200, first, None), 1),
        Summary(1, SPLIT_1, LastChange(200, second + offset, None), 1),
    )
    verdict = decide_split(sides, ClockOffset(offset, uncertainty), SplitPolicy.NEWEST)
    assert verdict is not None
    if abs(second - first) <= uncertainty:
        assert (verdict.winner, verdict.choice) == (0, Choice.LED_BEFORE)
    else:
        assert (verdict.winner, verdict.choice) == (int(second > first), Choice.LATEST_CHANGE)


@given(TIMES, TIMES)
def test_a_provisional_side_loses_whatever_the_times_say(first: int, second: int) -> None:
    provisional = (*COMMON, row("d", 1, parent=100, provisional=True))
    sides = (
        Summary(0, SPLIT_0, LastChange(200, first, None), 1),
        Summary(1, provisional, LastChange(200, second, None), 1),
    )
    verdict = decide_split(sides, ClockOffset(0, 0), SplitPolicy.NEWEST)
    assert verdict is not None
    assert (verdict.winner, verdict.choice) == (0, Choice.PROVISIONAL)  # R3


def test_an_operator_may_want_to_decide() -> None:
    sides = (Summary(0, SPLIT_0, None, 1), Summary(1, SPLIT_1, None, 9))
    assert decide_split(sides, ClockOffset(0, 0), SplitPolicy.WAIT) is None
    most = decide_split(sides, ClockOffset(0, 0), SplitPolicy.MOST_CHANGES)
    assert most is not None
    assert (most.winner, most.choice) == (1, Choice.MOST_CHANGES)


def test_an_exchange_in_which_a_clock_was_set_back_says_nothing() -> None:
    assert sample(5_000_000, 5_001_000, 5_002_000, 4_500_000) == NOTHING_KNOWN  # R8
    assert best((NOTHING_KNOWN, Sample(7, 9))) == Sample(7, 9)
    assert best(()) == NOTHING_KNOWN


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_clock_offset_lies_within_its_uncertainty(offset: int, there: int, thinking: int, back: int) -> None:
    sent = 5 * 10**9
    received = sent + there + offset
    answered = received + thinking
    made = sample(sent, received, answered, answered - offset + back)
    assert abs(made.offset_us - offset) <= made.uncertainty_us
    assert best((made, Sample(0, made.uncertainty_us + 1))) == made


def test_an_exchange_is_believed_as_long_as_it_can_have_taken_so_long() -> None:
    assert sample(0, 105, 110, 20) == Sample(97, 8)
    assert sample(0, 100, 100, 1) == Sample(99, 1)
    for least in (0, STEP_US):
        assert sample(0, 0, least, 0) == Sample(least // 2, 1)  # the clocks drift
    assert sample(0, 0, STEP_US + 1, 0) == NOTHING_KNOWN
    assert sample(0, 0, 0, EXCHANGE_MAX_US) == Sample(-EXCHANGE_MAX_US // 2, EXCHANGE_MAX_US // 2 + 1)
    assert sample(0, 0, 0, EXCHANGE_MAX_US + 1) == NOTHING_KNOWN


def test_deadlines_whose_gap_just_equals_the_slack_are_refused() -> None:
    timing = Timing(
        heartbeat_s=0.125, promote_after_s=1.0, degrade_after_s=2.0, one_way_delay_s=0.0625, granularity_s=0.25,
        promotion_s=0.25,
    )  # fmt: skip
    assert timing.slack_s() == 1.0
    assert timing.complaint() is not None
    assert replace(timing, degrade_after_s=2.0 + 2.0**-10).complaint() is None


def test_a_side_that_was_set_back_to_what_its_own_node_went_on_from_is_behind() -> None:
    alone = (*COMMON, row("c", 0, Kind.ALONE, parent=15))
    went_on = (*alone, row("e", 0, Kind.SYNCED, parent=20))
    assert relate(Side(0, alone, 99), Side(1, went_on, 50)) is Relation.BEHIND


LEASE = Lease("b", 9.0, 1.0)


@pytest.mark.parametrize(
    ("said", "mode", "after"),
    [
        ({}, Mode.ZERO_LOSS, Lease("b", 12.0, 1.0)),
        ({"sync": Sync.ALONE}, Mode.ZERO_LOSS, Lease(voided_s=1.0)),
        ({"sync": Sync.CATCHING_UP}, Mode.ASYNC, Lease("b", 12.0, 1.0)),
        ({"asks_renounce": True}, Mode.ZERO_LOSS, Lease(voided_s=1.0)),
        ({"role": Role.STARTING}, Mode.ZERO_LOSS, LEASE),
        ({"role": Role.STARTING, "sync": Sync.ALONE}, Mode.ZERO_LOSS, LEASE),
        ({"head": "z"}, Mode.ZERO_LOSS, LEASE),
    ],
)
def test_what_a_heartbeat_does_to_a_lease(said: dict[str, object], mode: Mode, after: Lease) -> None:
    says = replace(beat(0, Role.LEADER), **said)
    assert LEASE.extend(says, 10.0, "b", 2.0, mode=mode) == after


def test_a_lease_is_extended_and_never_cut_short_by_a_later_word_about_an_earlier_moment() -> None:
    says = beat(0, Role.LEADER)
    assert LEASE.extend(says, 6.0, "b", 2.0, mode=Mode.ZERO_LOSS) == LEASE
    assert Lease("a", 9.0, 1.0).extend(says, 6.0, "b", 2.0, mode=Mode.ZERO_LOSS) == Lease("b", 8.0, 1.0)
    assert LEASE.extend(says, 1.0, "b", 20.0, mode=Mode.ZERO_LOSS) == LEASE  # sent before it was voided


def test_a_lease_runs_up_to_its_end() -> None:
    assert LEASE.runs(8.9)
    assert not LEASE.runs(9.0)
    for ended in (VOID, LEASE.void(2.0), LEASE.renounce()):
        assert not ended.runs(0.0)
    assert LEASE.void(2.0) == Lease("b", NEVER, 2.0)
    assert LEASE.renounce() == Lease(None, NEVER, 1.0)
