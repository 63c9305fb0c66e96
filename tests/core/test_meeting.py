"""Two sides of a split meet: who wins, and who moves when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from failover.core.clocks import UNKNOWN_US
from failover.core.model import Acceptance, Choice, Durable, Kind, LastChange, Lineage, Role, Verdict
from failover.core.resolve import Move, concerns, next_move, propose
from failover.core.verdict import ClockOffset, SplitPolicy, Summary, decide_split
from tests.core.scenes import (
    IN_SYNC,
    PROMOTED,
    TERM,
    TOP,
    WENT_ALONE,
    beat,
    follower,
    heard,
    leader,
    row,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.observation import Observation

EXACT = ClockOffset(0, 0)
P = SplitPolicy


def change(revision: int = TOP, commit_us: int = 10**6, age_s: float | None = None) -> LastChange:
    return LastChange(revision, commit_us, age_s)


def verdict(
    first: LastChange | None = None,
    second: LastChange | None = None,
    policy: SplitPolicy = P.NEWEST,
    *,
    clocks: ClockOffset = EXACT,
    lineages: tuple[Lineage, Lineage] = (WENT_ALONE, PROMOTED),
    changes: tuple[int, int] = (1, 1),
    preferred: int = 0,
) -> Verdict:
    sides = (Summary(0, lineages[0], first, changes[0]), Summary(1, lineages[1], second, changes[1]))
    made = decide_split(sides, clocks, policy, preferred)
    assert made is not None
    return made


# ---- who wins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (None, None, (0, Choice.LED_BEFORE)),
        (change(), None, (0, Choice.LATEST_CHANGE)),
        (None, change(), (1, Choice.LATEST_CHANGE)),
        (change(commit_us=5), change(commit_us=5), (0, Choice.LED_BEFORE)),
        (change(commit_us=5), change(commit_us=6), (1, Choice.LATEST_CHANGE)),
        (change(commit_us=6), change(commit_us=5), (0, Choice.LATEST_CHANGE)),
        # an age that is known on one side only compares with nothing: the wall clocks do
        (change(commit_us=5, age_s=9.0), change(commit_us=6), (1, Choice.LATEST_CHANGE)),
        (change(commit_us=6), change(commit_us=5, age_s=0.0), (0, Choice.LATEST_CHANGE)),
        (change(commit_us=6, age_s=9.0), change(commit_us=5, age_s=1.0), (1, Choice.LATEST_CHANGE)),
    ],
)
def test_the_side_with_the_newest_change_wins(
    first: LastChange | None, second: LastChange | None, expected: tuple[int, Choice]
) -> None:
    made = verdict(first, second)
    assert (made.winner, made.choice) == expected
    assert (made.winner_head, made.loser_head) == (("c", "d") if made.winner == 0 else ("d", "c"))


def test_ages_differ_by_more_than_the_uncertainty_of_the_clocks_or_not_at_all() -> None:
    ages = change(age_s=3.0), change(age_s=1.0)
    assert verdict(*ages, clocks=ClockOffset(0, 2_000_000)).choice is Choice.LED_BEFORE
    assert verdict(*ages, clocks=ClockOffset(0, 1_999_999)).winner == 1


def test_the_reason_names_both_changes_and_the_clocks_for_the_operator_who_reads_it_later() -> None:
    made = verdict(None, change(177, 12345), clocks=ClockOffset(-8, 9))
    assert "no change" in made.reason
    assert "of node 1 is the newer" in made.reason
    for figure in ("12345", "177", "-8", "9"):
        assert figure in made.reason


@pytest.mark.parametrize(
    ("lineages", "revisions", "winner"),
    [
        # node 0 went alone after revision 100 and node 1 promoted after it: what is not above is common
        ((WENT_ALONE, PROMOTED), (101, 100), 0),
        ((WENT_ALONE, PROMOTED), (100, 101), 1),
        ((WENT_ALONE, PROMOTED), (100, 100), None),
        # further rows of a side move the parting no further
        (((*WENT_ALONE, row("f", 0, Kind.SYNCED, parent=300)), PROMOTED), (101, 100), 0),
        # node 0's head is the common row: what came under it may be its alone
        ((WENT_ALONE, (*WENT_ALONE, row("e", 1, term=3, parent=400))), (101, 400), 0),
        ((WENT_ALONE, (*WENT_ALONE, row("e", 1, term=3, parent=400))), (100, 400), None),
        # node 1 has absorbed the common row
        (
            (
                (*WENT_ALONE, row("f", 0, term=6, parent=300)),
                (*PROMOTED, replace(row("v", 1, Kind.VERDICT, term=5, parent=250), absorbs="c")),
            ),
            (300, 251),
            1,
        ),
    ],
)
def test_only_changes_after_the_parting_count(
    lineages: tuple[Lineage, Lineage], revisions: tuple[int, int], winner: int | None
) -> None:
    made = verdict(change(revisions[0]), change(revisions[1], 0), lineages=lineages)
    assert made.choice is (Choice.LED_BEFORE if winner is None else Choice.LATEST_CHANGE)
    assert made.winner == (winner if winner is not None else 0)


def lead(name: str, node: int, *, provisional: bool, kind: Kind = Kind.LEAD) -> Any:
    return row(name, node, kind, term=3, parent=100, provisional=provisional)


@pytest.mark.parametrize(
    ("mine", "theirs", "winner"),
    [
        (WENT_ALONE, (*IN_SYNC, lead("d", 1, provisional=True)), 0),
        ((*IN_SYNC, lead("f", 0, provisional=True)), PROMOTED, 1),
        ((*IN_SYNC, lead("e", 0, provisional=True)), (*IN_SYNC, lead("d", 1, provisional=True)), None),
        # its first leadership counts, and no other row
        ((*IN_SYNC, lead("f", 0, provisional=False), lead("e", 0, provisional=True)), PROMOTED, None),
        ((*IN_SYNC, lead("f", 0, provisional=True), lead("e", 0, provisional=False)), PROMOTED, 1),
        ((*WENT_ALONE, lead("e", 0, provisional=True)), PROMOTED, 1),
        (((*IN_SYNC, lead("f", 0, provisional=True, kind=Kind.VERDICT))), PROMOTED, 1),
        # a leadership before the parting is on both sides
        ((*(one := (*IN_SYNC, lead("d", 1, provisional=True))), lead("e", 0, provisional=False)),
         (*one, replace(lead("f", 1, provisional=False), term=5)), None),
    ],
)  # fmt: skip
def test_the_side_that_led_on_data_that_may_have_been_old_loses(
    mine: Lineage, theirs: Lineage, winner: int | None
) -> None:
    made = verdict(None, change(), P.WAIT if winner is not None else P.NEWEST, lineages=(mine, theirs))
    assert (made.winner, made.choice) == (
        (winner, Choice.PROVISIONAL) if winner is not None else (1, Choice.LATEST_CHANGE)
    )


@pytest.mark.parametrize(
    ("policy", "changes", "preferred", "expected"),
    [
        (P.MOST_CHANGES, (5, 4), 1, (0, Choice.MOST_CHANGES)),
        (P.MOST_CHANGES, (4, 5), 0, (1, Choice.MOST_CHANGES)),
        (P.MOST_CHANGES, (5, 5), 1, (0, Choice.LED_BEFORE)),
        (P.PREFER_NODE, (5, 4), 1, (1, Choice.PREFERRED_NODE)),
        (P.PREFER_NODE, (4, 5), 0, (0, Choice.PREFERRED_NODE)),
        (P.PREFER_ORIGINAL, (4, 5), 1, (0, Choice.LED_BEFORE)),
        (P.NEWEST, (9, 1), 0, (1, Choice.LATEST_CHANGE)),
    ],
)
def test_the_policy_decides_between_sides_of_equal_claim(
    policy: SplitPolicy, changes: tuple[int, int], preferred: int, expected: tuple[int, Choice]
) -> None:
    made = verdict(None, change(), policy, changes=changes, preferred=preferred)
    assert (made.winner, made.choice) == expected
    assert made.reason


def test_the_node_that_led_before_the_split_is_the_one_of_the_common_row() -> None:
    common = (*IN_SYNC, row("d", 1, term=3, parent=100), row("e", 1, Kind.SYNCED, term=3, parent=110))
    lineages = ((*common, row("f", 0, term=4, parent=120)), (*common, row("g", 1, Kind.ALONE, term=3, parent=120)))
    assert verdict(policy=P.PREFER_ORIGINAL, lineages=lineages).winner == 1


# ---- who moves -------------------------------------------------------------------------------------------------

WINS_0 = Verdict(0, "c", "d", Choice.LATEST_CHANGE, "")
WINS_1 = Verdict(1, "d", "c", Choice.LATEST_CHANGE, "")


def node_0(lineage: Lineage = WENT_ALONE, told: Any = None, **known: Any) -> Observation:
    said = heard(replace(beat(1, Role.LEADER, PROMOTED, last_change=change(commit_us=5), changes=4), **(told or {})))
    about = {"heard": said, "clock_uncertainty_us": 10, "clock_offset_us": 3}
    return leader(
        lineage, **{"postgres": status(lineage, last_change=change(commit_us=9), changes=3), **about, **known}
    )


def node_1(told: Any = None, **known: Any) -> Observation:
    said = heard(replace(beat(0, Role.LEADER, WENT_ALONE), **(told or {})))
    return replace(follower(PROMOTED, heard=said), role=Role.LEADER, **known)


def test_node_0_proposes_what_both_sides_and_the_clocks_say() -> None:
    assert propose(node_0(), P.NEWEST, 0) is not None
    made = propose(node_0(clock_uncertainty_us=0), P.NEWEST, 0)
    assert made is not None
    assert (made.winner, made.choice) == (0, Choice.LATEST_CHANGE)  # 9 us against 5 us - 3 us
    within = propose(node_0(clock_uncertainty_us=7), P.NEWEST, 0)
    assert within is not None
    assert within.choice is Choice.LED_BEFORE
    most = propose(node_0(), P.MOST_CHANGES, 0)
    assert most is not None
    assert (most.winner, most.winner_head, most.loser_head) == (1, "d", "c")
    preferred = propose(node_0(), P.PREFER_NODE, 1)
    assert preferred is not None
    assert preferred.winner == 1
    assert propose(node_0(), P.WAIT, 0) is None


def test_node_0_proposes_nothing_before_it_knows_how_far_the_clocks_are_apart() -> None:
    assert propose(node_0(clock_uncertainty_us=UNKNOWN_US), P.NEWEST, 0) is None
    assert propose(node_0(clock_uncertainty_us=UNKNOWN_US - 1), P.NEWEST, 0) is not None


def test_nothing_is_proposed_beside_a_verdict_that_was_accepted() -> None:
    accepted = Durable("shop", 0, "id-0", highest_term=TERM, acceptance=Acceptance(WINS_1))
    assert propose(node_0(durable=accepted), P.NEWEST, 0) is None
    assert propose(node_0(told={"acceptance": Acceptance(WINS_0)}), P.NEWEST, 0) is None


def test_node_1_consents_to_a_verdict_on_this_meeting_and_proposes_none() -> None:
    assert propose(node_1(), P.NEWEST, 0) is None
    assert propose(node_1({"verdict": WINS_0}), P.NEWEST, 0) == WINS_0
    assert propose(node_1({"verdict": WINS_1}), P.NEWEST, 0) == WINS_1
    assert propose(node_1({"verdict": replace(WINS_1, loser_head="b")}), P.NEWEST, 0) is None
    unknown = node_1({"verdict": WINS_0}, clock_uncertainty_us=UNKNOWN_US)
    assert propose(unknown, P.NEWEST, 0) == WINS_0  # node 0 has measured them


@pytest.mark.parametrize(
    ("told", "about"),
    [
        (WINS_0, True),
        (WINS_1, True),
        (replace(WINS_0, winner_head="b"), False),
        (replace(WINS_0, loser_head="b"), False),
        (replace(WINS_0, winner=1), False),
        (replace(WINS_1, winner=0), False),
    ],
)
def test_a_verdict_speaks_of_one_pair_of_heads(told: Verdict, about: bool) -> None:
    assert concerns(told, node_0()) is about
    assert concerns(told, node_1()) is about


def accepted(me: int, acceptance: Acceptance) -> Durable:
    return Durable("shop", me, f"id-{me}", highest_term=TERM, acceptance=acceptance)


DONE = Acceptance(WINS_1, final_revision=TOP, archive="split-c")


@pytest.mark.parametrize(
    ("own", "move"),
    [
        (DONE, Move.WAIT),
        (replace(DONE, archive=None), Move.LOSE),
        (replace(DONE, final_revision=None), Move.LOSE),
        (Acceptance(WINS_1), Move.LOSE),
    ],
)
def test_the_loser_goes_on_losing_until_it_has_archived_and_then_waits(own: Acceptance, move: Move) -> None:
    seen = starting(0, WENT_ALONE, durable=accepted(0, own), heard=heard(beat(1, Role.LEADER, PROMOTED)))
    assert next_move(seen, WINS_0) == (move, WINS_1)


YES = Acceptance(WINS_0, final_revision=TOP, archive="split-d")


@pytest.mark.parametrize(
    ("yes", "move"),
    [
        (YES, Move.WIN),
        (replace(YES, final_revision=None), Move.WAIT),
        (replace(YES, final_revision=0), Move.WIN),
        (replace(YES, archive=None), Move.WAIT),
        (replace(YES, verdict=replace(WINS_0, winner=1)), Move.WAIT),  # the one that it accepted names itself
        (replace(YES, verdict=replace(WINS_0, winner_head="z")), Move.WAIT),  # of data that is not here
        (replace(YES, verdict=replace(WINS_0, winner_head="b")), Move.WIN),  # this side went on since
    ],
)
def test_the_winner_absorbs_what_the_loser_accepted_under_a_head_of_its_own(yes: Acceptance, move: Move) -> None:
    assert next_move(node_0(told={"acceptance": yes}), None) == (move, yes.verdict)


def test_node_1_loses_by_what_node_0_proposes_on_this_meeting() -> None:
    assert next_move(node_1({"verdict": WINS_0}), WINS_0) == (Move.LOSE, WINS_0)
    assert next_move(node_1({"verdict": WINS_1}), WINS_1) == (Move.WAIT, WINS_1)
    earlier = replace(WINS_0, loser_head="b")
    assert next_move(node_1({"verdict": earlier}), earlier) == (Move.WAIT, earlier)
    assert next_move(node_1(), None) == (Move.WAIT, None)


def test_node_0_loses_by_what_node_1_repeats_to_this_run() -> None:
    seen = node_0(told={"verdict": WINS_1})
    assert seen.heard is not None
    echoes = replace(seen, heard=replace(seen.heard, echoes_this_run=True))
    assert next_move(echoes, WINS_1) == (Move.LOSE, WINS_1)
    assert next_move(seen, WINS_1) == (Move.WAIT, WINS_1)
    assert next_move(echoes, replace(WINS_1, reason="another")) == (Move.WAIT, replace(WINS_1, reason="another"))
    assert next_move(echoes, WINS_0) == (Move.WAIT, WINS_0)
