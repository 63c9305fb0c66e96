"""What is received, and from when on it proves what: every deadline at its moment and just before it, every condition alone.

All durations are powers of two, so that a deadline is met exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from failover.core.evidence import (
    LOST,
    Cell,
    Peer,
    Policy,
    Postgres,
    Stream,
    Worth,
    led_term,
    read,
)
from failover.core.lease import NEVER, Lease
from failover.core.lineage import Relation
from failover.core.model import (
    Acceptance,
    Answer,
    Choice,
    DataState,
    Durable,
    Health,
    Kind,
    Mode,
    PeerProbe,
    Role,
    Sync,
    Verdict,
)
from failover.core.timing import Timing
from tests.core.scenes import (
    ALONE,
    FOUNDED,
    IN_SYNC,
    LONG_AGO_S,
    NOW_S,
    PROMOTED,
    STANDBY,
    STREAM,
    SYNCED,
    TERM,
    WENT_ALONE,
    WORD,
    beat,
    follower,
    heard,
    leader,
    row,
    silent,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.observation import Observation

EXACT = Timing(
    heartbeat_s=0.125, promote_after_s=1.5, degrade_after_s=2.0, grace_s=8.0, boot_wait_s=4.0, long_wait_s=64.0,
    probe_gap_s=0.0625,
)  # fmt: skip
TICK_S = 2.0**-10
ACCEPTED = Acceptance(Verdict(1, "d", "c", Choice.LATEST_CHANGE, ""))
STEPS_DOWN = Policy(step_down_when_isolated=True)


def look(seen: Observation, policy: Policy = Policy()) -> Cell:  # noqa: B008 - frozen
    return read(seen, EXACT, policy)


def durable(me: int = 0, **known: Any) -> Durable:
    return replace(Durable("shop", me, f"id-{me}", highest_term=TERM), **known)


def alive(seen: Observation, for_s: float) -> Observation:
    """Its supervisor has been silent for so long, and its Postgres was seen just now."""
    return replace(silent(seen, for_s), peer_postgres_seen_s=NOW_S)


# ---- paused, isolated, ordered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "policy", "cut_off"),
    [
        (silent(follower(isolated=True), 2.0), Policy(), True),
        (silent(follower(), 2.0), Policy(), False),
        (follower(isolated=True), Policy(), False),  # the peer is heard
        (silent(leader(isolated=True), 2.0), Policy(), False),  # a leader goes on
        (silent(leader(isolated=True), 2.0), STEPS_DOWN, True),
        (leader(isolated=True), STEPS_DOWN, False),
        (silent(starting(0, isolated=True), 64.0), Policy(), True),
        (silent(starting(0, isolated=True), 64.0), STEPS_DOWN, True),
        (replace(silent(follower(isolated=True), 2.0), role=Role.PROMOTING), Policy(), True),
        (replace(silent(follower(isolated=True), 2.0), role=Role.PROMOTING, ordered=True), Policy(), False),
        (silent(follower(isolated=True, ordered=True), 2.0), Policy(), True),
    ],
)
def test_a_node_is_cut_off_where_it_hears_nobody_unless_it_leads_or_an_operator_answers_for_it(
    seen: Observation, policy: Policy, cut_off: bool
) -> None:
    assert look(seen, policy).isolated is cut_off


def test_an_operators_order_overrules_a_pause_for_the_promotion_that_it_asked_for_alone() -> None:
    assert look(follower(paused=True)).paused
    assert look(follower(paused=True, ordered=True)).paused
    assert not look(replace(follower(paused=True, ordered=True), role=Role.PROMOTING)).paused
    assert not look(follower()).paused


# ---- worth -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.STARTING, Role.FOLLOWER, Role.LEADER, Role.PROMOTING, Role.RESYNCING])
@pytest.mark.parametrize(
    "ill",
    [
        {"durable": durable(acceptance=ACCEPTED)},
        {"postgres": status(IN_SYNC, data=DataState.EMPTY)},
        {"postgres": status((), data=DataState.COMPLETE)},
    ],
)
def test_data_that_is_empty_without_history_or_lost_a_split_is_unfit_in_every_role(
    role: Role, ill: dict[str, Any]
) -> None:
    assert look(replace(starting(0), role=role)).worth is not Worth.UNFIT
    assert look(replace(starting(0), role=role, **ill)).worth is Worth.UNFIT


def test_a_leaders_worth_is_its_sync_state() -> None:
    assert look(leader()).worth is Worth.SYNCED
    assert look(leader(sync=Sync.CATCHING_UP)).worth is Worth.SOLE
    assert look(leader(sync=Sync.ALONE)).worth is Worth.SOLE


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PROMOTING])
@pytest.mark.parametrize(
    ("known", "worth"),
    [
        ({}, Worth.SYNCED),
        ({"lease": Lease("b", NOW_S - 60.0)}, Worth.SYNCED),  # ended: what counts is that it lapsed by itself
        ({"lease": Lease("b", NOW_S, NOW_S)}, Worth.VOIDED),
        ({"lease": Lease("b", NOW_S + TICK_S, NOW_S)}, Worth.SYNCED),
        ({"lease": Lease("b", NEVER, NOW_S)}, Worth.VOIDED),
        ({"lease": Lease("a", NOW_S + 1.0)}, Worth.STALE),  # of another head
        ({"lease": Lease()}, Worth.STALE),
        ({"postgres": None}, Worth.STALE),
    ],
)
def test_a_followers_worth_is_its_lease(role: Role, known: dict[str, Any], worth: Worth) -> None:
    assert look(replace(follower(), role=role, **known)).worth is worth


LED = durable(role=Role.LEADER, synced_head="b")
COMES_UP_S = NOW_S - EXACT.promote_after_s  # a Postgres that has not come since is not awaited any more


@pytest.mark.parametrize(
    ("known", "worth"),
    [
        ({}, Worth.SYNCED),
        ({"started_s": COMES_UP_S}, Worth.SYNCED),
        ({"started_s": COMES_UP_S + TICK_S}, Worth.STALE),
        ({"health": Health.HUNG}, Worth.SYNCED),
        ({"health": Health.UP}, Worth.SYNCED),  # up, and never looked at
        ({"postgres": status(WENT_ALONE)}, Worth.SYNCED),  # looked at long ago: the state file knows better
        ({"durable": replace(LED, role=Role.FOLLOWER)}, Worth.STALE),
        ({"durable": replace(LED, synced_head=None)}, Worth.STALE),
        ({"durable": replace(LED, handed_over="b")}, Worth.STALE),
    ],
)
def test_a_starting_node_without_its_postgres_is_worth_what_its_state_file_says(
    known: dict[str, Any], worth: Worth
) -> None:
    seen = starting(0, health=Health.DOWN, postgres=None, durable=LED)
    assert look(replace(seen, **known)).worth is worth


@pytest.mark.parametrize(
    ("me", "lineage", "known", "worth"),
    [
        (0, IN_SYNC, {}, Worth.SYNCED),
        (0, WENT_ALONE, {}, Worth.SOLE),
        (0, (FOUNDED,), {}, Worth.SOLE),
        (1, IN_SYNC, {}, Worth.STALE),
        (1, WENT_ALONE, {}, Worth.STALE),
        (1, PROMOTED, {}, Worth.SOLE),
        (0, IN_SYNC, {"durable": durable(handed_over="b")}, Worth.STALE),
        (0, WENT_ALONE, {"durable": durable(handed_over="b")}, Worth.SOLE),  # an earlier leadership was
    ],
)
def test_a_starting_nodes_worth_is_its_newest_row(
    me: int, lineage: tuple[Any, ...], known: dict[str, Any], worth: Worth
) -> None:
    assert look(starting(me, lineage, **known)).worth is worth


# ---- the own Postgres ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("me", "known", "state"),
    [
        (0, status(is_open=True, waits_for="kf_1"), Postgres.OPEN),
        (0, status(is_open=True), Postgres.CLOSED),  # in sync, and nobody waits (R9)
        (0, status(WENT_ALONE, is_open=True), Postgres.OPEN),
        (0, status(WENT_ALONE, is_open=True, waits_for="kf_1"), Postgres.CLOSED),  # alone, and commits wait
        (1, status(is_open=True), Postgres.OPEN),  # under another's leadership its waits say nothing
        (1, status(is_open=True, waits_for="kf_0"), Postgres.OPEN),
        (0, status((), is_open=True), Postgres.OPEN),
        (0, status(fence_term=TERM - 1), Postgres.CLOSED),
        (0, status(fence_term=TERM), Postgres.OUTRANKED),  # R19
        (1, status(fence_term=-1), Postgres.OUTRANKED),  # no leadership of its own to open it under
        (0, None, Postgres.DOWN),
    ],
)
def test_what_the_own_postgres_is(me: int, known: Any, state: Postgres) -> None:
    assert look(starting(me, postgres=known)).postgres is state


@pytest.mark.parametrize("health", [Health.DOWN, Health.HUNG])
def test_a_postgres_that_does_not_answer_is_down_whatever_the_last_look_showed(health: Health) -> None:
    assert look(leader(health=health)).postgres is Postgres.DOWN


def test_the_term_of_a_leadership_is_that_of_the_newest_row_if_it_is_the_nodes_own() -> None:
    lineage = (*IN_SYNC, row("d", 1, term=3, parent=100), row("e", 1, Kind.ALONE, term=5, parent=200))
    assert led_term(starting(1, lineage)) == 5
    assert led_term(starting(0, lineage)) == -1
    assert led_term(starting(0, ())) == -1
    assert led_term(starting(0, postgres=None)) == -1


# ---- relation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "relation"),
    [
        (leader(), Relation.EQUAL_MINE),
        (follower(), Relation.EQUAL_THEIRS),
        (leader(postgres=None), Relation.UNKNOWN),
        (leader(heard=None), Relation.UNKNOWN),
        # a peer without a history is behind, one that cannot say what it has is not known
        (leader(heard=heard(beat(1, Role.STARTING, ())), peer_lineage=()), Relation.AHEAD),
        (leader(heard=heard(beat(1, Role.STARTING, (), postgres_ok=False)), peer_lineage=()), Relation.UNKNOWN),
        (leader(heard=heard(beat(1, Role.LEADER, postgres_ok=False))), Relation.EQUAL_MINE),
        # its newest rows are still under way
        (leader(heard=heard(beat(1, Role.LEADER, head="d"))), Relation.UNKNOWN),
        (leader(heard=heard(beat(1, Role.LEADER, (), head="d")), peer_lineage=()), Relation.UNKNOWN),
        (starting(0, (), heard=heard(beat(1, Role.LEADER))), Relation.BEHIND),
        (starting(0, (), heard=heard(beat(1, Role.STARTING, ()))), Relation.UNKNOWN),
    ],
)
def test_histories_are_compared_as_far_as_both_are_known(seen: Observation, relation: Relation) -> None:
    assert look(seen).relation is relation


@pytest.mark.parametrize(("last", "relation"), [(400, Relation.AHEAD), (401, Relation.PARTED)])
def test_a_peer_that_wrote_alone_beyond_what_this_node_had_has_parted(last: int, relation: Relation) -> None:
    mine = (*WENT_ALONE, row("e", 1, term=3, parent=400))
    alone = heard(beat(0, Role.STARTING, WENT_ALONE, visible_revision=last))
    assert look(starting(1, mine, heard=alone)).relation is relation


@pytest.mark.parametrize(
    "ill",
    [
        {"durable": durable(acceptance=ACCEPTED)},
        {"durable": durable(handed_over="b")},
        {"postgres": status(IN_SYNC, data=DataState.EMPTY)},
    ],
)
def test_between_equals_the_one_that_may_not_lead_is_behind(ill: dict[str, Any]) -> None:
    seen = starting(0, heard=heard(beat(1, Role.STARTING)), **ill)
    assert look(seen).relation is Relation.BEHIND
    assert look(replace(seen, durable=durable(), postgres=status())).relation is Relation.EQUAL_MINE
    assert look(replace(seen, durable=durable(handed_over="a"), postgres=status())).relation is Relation.EQUAL_MINE


@pytest.mark.parametrize(
    ("said", "relation"),
    [
        ({}, Relation.EQUAL_MINE),
        ({"acceptance": ACCEPTED}, Relation.AHEAD),
        ({"hand_over": WORD}, Relation.AHEAD),
        ({"data": DataState.EMPTY}, Relation.AHEAD),
        ({"postgres_ok": False}, Relation.AHEAD),
        ({"postgres_ok": False, "role": Role.LEADER}, Relation.EQUAL_MINE),  # it leads, and its Postgres may come back
    ],
)
def test_between_equals_the_one_whose_peer_may_not_lead_is_ahead(said: dict[str, Any], relation: Relation) -> None:
    made = replace(beat(1, Role.STARTING), **said)
    assert look(starting(0, heard=heard(made))).relation is relation


TOOK_BACK = (*PROMOTED, row("e", 0, term=4, parent=200))


@pytest.mark.parametrize(
    ("mine", "theirs", "relation"),
    [
        (WENT_ALONE, IN_SYNC, Relation.EQUAL_THEIRS),  # the stream brought a row of the leader's before its word did
        ((*WENT_ALONE, row("e", 0, Kind.SYNCED, parent=200)), IN_SYNC, Relation.EQUAL_THEIRS),
        ((*WENT_ALONE, row("e", 1, term=3, parent=200)), IN_SYNC, Relation.AHEAD),  # one of them is the follower's own
        ((*TOOK_BACK, replace(ALONE, id="f", term=4)), TOOK_BACK, Relation.EQUAL_THEIRS),
        (IN_SYNC, IN_SYNC, Relation.EQUAL_THEIRS),
        (PROMOTED, PROMOTED, Relation.EQUAL_MINE),
        (PROMOTED, WENT_ALONE, Relation.PARTED),
        (IN_SYNC, (row("x", 0),), Relation.STRANGER),
    ],
)
def test_what_a_follower_has_beyond_its_leaders_word_is_the_leaders_or_another_way(
    mine: tuple[Any, ...], theirs: tuple[Any, ...], relation: Relation
) -> None:
    seen = follower(mine, heard=heard(beat(0, Role.LEADER, theirs)))
    assert look(seen).relation is relation


def test_only_a_followers_stream_brings_rows_of_a_leader_that_are_newer_than_its_word() -> None:
    starts = starting(1, WENT_ALONE, heard=heard(beat(0, Role.LEADER, IN_SYNC)))
    assert look(starts).relation is Relation.AHEAD
    no_leader = follower(WENT_ALONE, heard=heard(beat(0, Role.STARTING, IN_SYNC)))
    assert look(no_leader).relation is Relation.AHEAD


# ---- stream ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.STARTING, Role.PROMOTING])
@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({}, Stream.FLOWING),
        ({"postgres": None}, Stream.BROKEN),
        ({"postgres": status()}, Stream.BROKEN),
        ({"postgres": status(subscription=replace(STREAM, enabled=False))}, Stream.BROKEN),
        ({"stream_failed": True}, Stream.BROKEN),
    ],
)
def test_a_followers_stream(role: Role, known: dict[str, Any], state: Stream) -> None:
    assert look(replace(follower(), role=role, **known)).stream is state


WAITS = status(is_open=True, waits_for="kf_1", standby=STANDBY)
STUCK = replace(WAITS, oldest_wait_s=EXACT.degrade_after_s + TICK_S)
ASKED = {"postgres": STUCK, "asks_renounce": True, "granted_s": NOW_S - EXACT.degrade_after_s}


@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({}, Stream.FLOWING),
        ({"heard": None}, Stream.FLOWING),
        ({"postgres": None}, Stream.BROKEN),
        ({"postgres": replace(WAITS, oldest_wait_s=EXACT.degrade_after_s)}, Stream.FLOWING),
        ({"postgres": STUCK}, Stream.STUCK),
        (ASKED, Stream.UNANSWERED),
        ({**ASKED, "granted_s": NOW_S - EXACT.degrade_after_s + TICK_S}, Stream.STUCK),
        ({**ASKED, "started_s": NOW_S - EXACT.degrade_after_s + TICK_S}, Stream.STUCK),
        ({**ASKED, "started_s": NOW_S - EXACT.degrade_after_s}, Stream.UNANSWERED),
        ({**ASKED, "asks_renounce": False}, Stream.STUCK),
        ({**ASKED, "heard": heard(beat(1, Role.FOLLOWER, renounced="b"))}, Stream.RENOUNCED),
        ({"heard": heard(beat(1, Role.FOLLOWER, renounced="a"))}, Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, ghosts_under="a", renounced="b"))}, Stream.GHOSTS),
        (
            {"heard": heard(beat(1, Role.FOLLOWER, ghosts_under="b"))},
            Stream.FLOWING,
        ),  # not a row that begins a leadership
        ({"heard": heard(beat(1, Role.FOLLOWER, ghosts_under="a")), "fenced_fully": True}, Stream.FLOWING),
        ({"disk_nearly_full": True}, Stream.CRAMPED),
        ({"disk_nearly_full": True, "postgres": STUCK}, Stream.STUCK),
    ],
)
def test_the_stream_of_a_leader_in_sync(known: dict[str, Any], state: Stream) -> None:
    assert look(leader(**known)).stream is state


READY = heard(beat(1, Role.FOLLOWER, WENT_ALONE, ready_for="c"))


@pytest.mark.parametrize(
    ("known", "policy", "state"),
    [
        ({}, Policy(), Stream.READY),
        ({"heard": None}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, WENT_ALONE))}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, WENT_ALONE, ready_for="b"))}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.STARTING, WENT_ALONE, ready_for="c"))}, Policy(), Stream.FLOWING),
        ({"heard": heard(beat(1, Role.FOLLOWER, WENT_ALONE, renounced="c"))}, Policy(), Stream.FLOWING),
        ({"postgres": status(WENT_ALONE, is_open=True)}, Policy(), Stream.FLOWING),
        ({"disk_nearly_full": True, "heard": None}, Policy(), Stream.FLOWING),
        ({}, Policy(mode=Mode.ASYNC), Stream.FLOWING),
        ({"postgres": replace(STUCK, lineage=WENT_ALONE), "heard": None}, Policy(), Stream.FLOWING),
    ],
)
def test_the_stream_of_a_leader_that_is_alone(known: dict[str, Any], policy: Policy, state: Stream) -> None:
    assert look(leader(WENT_ALONE, **{"heard": READY, **known}), policy).stream is state


# ---- the peer, heard -------------------------------------------------------------------------------------------

SAID = [
    ({"role": Role.LEADER}, Peer.LEADS),
    ({"role": Role.LEADER, "postgres_ok": False}, Peer.UNSURE),
    ({"role": Role.PROMOTING}, Peer.PROMOTES),
    ({"role": Role.PROMOTING, "postgres_ok": False}, Peer.PROMOTES),
    ({"role": Role.FOLLOWER}, Peer.FOLLOWS),
    ({"role": Role.FOLLOWER, "postgres_ok": False}, Peer.FOLLOWS),
    ({"role": Role.STARTING}, Peer.STARTS),
    ({"role": Role.STARTING, "postgres_ok": False}, Peer.UNSURE),
    ({"role": Role.DEMOTING}, Peer.STARTS),
    ({"role": Role.RESYNCING}, Peer.STARTS),
    ({"role": Role.HALTED}, Peer.STARTS),
    ({"role": Role.STARTING, "hand_over": WORD}, Peer.HANDS_OVER),
    ({"role": Role.STARTING, "hand_over": WORD, "postgres_ok": False}, Peer.HANDS_OVER),
]


@pytest.mark.parametrize(("said", "peer"), SAID)
def test_a_peer_is_what_it_says_as_long_as_it_can_prove_it(said: dict[str, Any], peer: Peer) -> None:
    made = heard(replace(beat(0, Role.STARTING), **said), age_s=2 * EXACT.heartbeat_s - TICK_S)
    assert look(follower(heard=made, peer_served_s=NOW_S)).peer is peer
    late = replace(made, at_s=NOW_S - 2 * EXACT.heartbeat_s)
    assert look(follower(heard=late)).peer is Peer.UNSURE  # two heartbeats are missing


@pytest.mark.parametrize(
    ("known", "peer"),
    [
        ({}, Peer.PROMOTES),
        ({"heard": heard(beat(1, Role.STARTING))}, Peer.PROMOTES),
        ({"heard": heard(beat(1, Role.LEADER))}, Peer.LEADS),
        ({"started_s": NOW_S - EXACT.degrade_after_s + TICK_S}, Peer.PROMOTES),
        ({"started_s": NOW_S - EXACT.degrade_after_s}, Peer.FOLLOWS),
        ({"durable": durable()}, Peer.FOLLOWS),
        ({"durable": durable(handed_over="a")}, Peer.FOLLOWS),
        ({"postgres": None}, Peer.FOLLOWS),
        ({"postgres": status(())}, Peer.FOLLOWS),
        ({"role": Role.FOLLOWER}, Peer.FOLLOWS),
    ],
)
def test_whoever_was_told_to_take_over_has_degrade_after_to_do_so(known: dict[str, Any], peer: Peer) -> None:
    seen = starting(0, durable=durable(handed_over="b"), heard=heard(beat(1, Role.FOLLOWER)), started_s=NOW_S - 1.0)
    assert look(replace(seen, **known)).peer is peer


def told(**known: Any) -> Observation:
    """A follower without a lease hears the word of the leader under whose in_sync head its data ends."""
    seen = follower(lease=Lease(), heard=heard(beat(0, Role.STARTING, hand_over=WORD)))
    return replace(seen, **known)


@pytest.mark.parametrize(
    ("seen", "peer"),
    [
        (told(), Peer.HANDS_OVER),
        # of a leadership that had gone alone, and of one that this data does not end with
        (follower(WENT_ALONE, lease=Lease(), heard=told().heard), Peer.UNSURE),
        (follower((FOUNDED,), lease=Lease(), heard=told().heard), Peer.UNSURE),
        (follower((FOUNDED, replace(SYNCED, id="z")), lease=Lease(), heard=told().heard), Peer.UNSURE),
        (follower((*IN_SYNC, replace(ALONE, id="b")), lease=Lease(), heard=told().heard), Peer.UNSURE),
        (told(postgres=None), Peer.UNSURE),
        (told(postgres=status((), subscription=STREAM)), Peer.HANDS_OVER),  # unfit: no row promotes it
        # drained: the word says that the follower has everything
        (
            follower(
                WENT_ALONE,
                lease=Lease(),
                heard=heard(beat(0, Role.STARTING, hand_over=replace(WORD, drained=True))),
            ),
            Peer.HANDS_OVER,
        ),
        # with a lease under another kind of head, as an asynchronous pair has it
        (follower(WENT_ALONE, heard=told().heard), Peer.HANDS_OVER),
        (follower(WENT_ALONE, lease=Lease("c", NEVER, NOW_S), heard=told().heard), Peer.HANDS_OVER),
        (replace(follower(WENT_ALONE, lease=Lease(), heard=told().heard), role=Role.PROMOTING), Peer.HANDS_OVER),
        (starting(1, WENT_ALONE, heard=told().heard), Peer.HANDS_OVER),
    ],
)
def test_a_follower_without_a_lease_takes_a_word_only_if_nothing_can_have_been_acknowledged_without_it(
    seen: Observation, peer: Peer
) -> None:
    assert look(seen).peer is peer


NO_USE = heard(beat(0, Role.STARTING, postgres_ok=False))
LONG_SINCE_S = NOW_S - EXACT.promote_after_s


@pytest.mark.parametrize("sign", ["peer_served_s", "started_s", "stalled_s", "peer_postgres_seen_s"])
def test_a_peer_that_speaks_and_cannot_serve_is_given_up_when_every_sign_of_it_is_old(sign: str) -> None:
    signs: dict[str, Any] = dict.fromkeys(
        ("peer_served_s", "started_s", "stalled_s", "peer_postgres_seen_s"), LONG_SINCE_S
    )
    assert look(follower(heard=NO_USE, **signs)).peer is Peer.SILENT
    assert look(follower(heard=NO_USE, **{**signs, sign: LONG_SINCE_S + TICK_S})).peer is Peer.UNSURE


# ---- the peer, not heard ---------------------------------------------------------------------------------------

SINCE = {
    "follower in sync": (follower(), EXACT.promote_after_s),
    "follower whose lease was voided": (follower(lease=Lease("b", NEVER, LONG_AGO_S)), EXACT.promote_after_s),
    "follower without a lease": (follower(lease=Lease()), EXACT.long_wait_s),
    "promoting": (replace(follower(), role=Role.PROMOTING), EXACT.promote_after_s),
    "leader": (leader(), EXACT.degrade_after_s),
    "leader alone": (leader(WENT_ALONE), EXACT.degrade_after_s),
    "starting, led alone": (starting(0, WENT_ALONE), EXACT.boot_wait_s),
    "starting, led in sync": (starting(0), EXACT.long_wait_s),
    "starting, followed": (starting(1), EXACT.long_wait_s),
}


@pytest.mark.parametrize(("seen", "patience_s"), SINCE.values(), ids=SINCE)
def test_silence_is_taken_for_a_loss_at_its_deadline_and_not_before(seen: Observation, patience_s: float) -> None:
    heard_before = seen if seen.heard is not None else replace(seen, heard=heard(beat(1 - seen.me, Role.STARTING)))
    assert look(silent(heard_before, patience_s)).peer is Peer.SILENT
    assert look(silent(heard_before, patience_s - TICK_S)).peer not in LOST


@pytest.mark.parametrize(("seen", "patience_s"), SINCE.values(), ids=SINCE)
def test_a_deadline_begins_again_when_the_node_starts_or_wakes_from_a_stall(
    seen: Observation, patience_s: float
) -> None:
    gone = replace(silent(seen, 256.0), heard=None)
    for name in ("started_s", "stalled_s"):
        assert look(replace(gone, **{name: NOW_S - patience_s})).peer is Peer.SILENT  # type: ignore[arg-type]
        assert look(replace(gone, **{name: NOW_S - patience_s + TICK_S})).peer not in LOST  # type: ignore[arg-type]


def test_the_deadline_of_a_follower_whose_lease_was_voided_begins_there() -> None:
    seen = silent(follower(), EXACT.promote_after_s)
    voided = replace(seen, lease=Lease("b", NEVER, NOW_S - EXACT.promote_after_s + TICK_S))
    assert look(voided).peer is Peer.UNSURE
    assert look(replace(voided, lease=Lease("b", NEVER, NOW_S - EXACT.promote_after_s))).peer is Peer.SILENT
    extended = Lease("b", NOW_S + TICK_S, NOW_S - TICK_S)  # a message sent since then was echoed
    assert look(replace(seen, lease=extended)).peer is Peer.SILENT


def test_a_starting_nodes_long_wait_is_never_shorter_than_the_time_after_which_a_leader_goes_alone() -> None:
    hasty = replace(EXACT, long_wait_s=1.0)
    seen = replace(starting(1), heard=None)
    assert read(replace(seen, started_s=NOW_S - 2.0), hasty, Policy()).peer is Peer.SILENT
    assert read(replace(seen, started_s=NOW_S - 2.0 + TICK_S), hasty, Policy()).peer is Peer.UNSURE


GRACE = {
    "follower in sync": (follower(), EXACT.grace_s),
    "follower whose lease was voided": (follower(lease=Lease("b", NEVER, LONG_AGO_S)), EXACT.grace_s),
    "follower without a lease": (follower(lease=Lease()), EXACT.long_wait_s),
    "promoting": (replace(follower(), role=Role.PROMOTING), EXACT.grace_s),
    "leader": (leader(), EXACT.degrade_after_s),
    "starting, led alone": (starting(0, WENT_ALONE), EXACT.grace_s),  # longer than boot_wait
    "starting, led in sync": (starting(0), EXACT.long_wait_s),
}


@pytest.mark.parametrize(("seen", "grace_s"), GRACE.values(), ids=GRACE)
def test_a_peer_whose_postgres_lives_gets_a_grace(seen: Observation, grace_s: float) -> None:
    heard_before = seen if seen.heard is not None else replace(seen, heard=heard(beat(1 - seen.me, Role.STARTING)))
    assert look(alive(heard_before, grace_s)).peer is Peer.HALF
    assert look(alive(heard_before, grace_s - TICK_S)).peer is Peer.UNSURE
    begun = replace(alive(seen, 256.0), started_s=NOW_S - grace_s)
    assert look(begun).peer is Peer.HALF
    assert look(replace(begun, started_s=NOW_S - grace_s + TICK_S)).peer is Peer.UNSURE


def test_the_grace_of_a_starting_node_is_as_long_as_its_patience_where_that_is_longer() -> None:
    patient = replace(EXACT, boot_wait_s=16.0)
    seen = replace(alive(starting(0, WENT_ALONE), 256.0), started_s=NOW_S - 16.0)
    assert read(seen, patient, Policy()).peer is Peer.HALF
    assert read(replace(seen, started_s=NOW_S - 16.0 + TICK_S), patient, Policy()).peer is Peer.UNSURE


def test_a_postgres_lives_until_nothing_was_seen_of_it_for_promote_after() -> None:
    seen = silent(follower(lease=Lease()), 64.0)
    edge_s = NOW_S - EXACT.promote_after_s
    assert look(replace(seen, peer_postgres_seen_s=edge_s + TICK_S)).peer is Peer.HALF
    assert look(replace(seen, peer_postgres_seen_s=edge_s)).peer is Peer.UNSURE  # gone, and not yet for long enough


# ---- refused ---------------------------------------------------------------------------------------------------

RESET, DEAF, LISTENS = Answer.REFUSED, Answer.SILENT, Answer.OPEN
APART_S = 0.75 * EXACT.probe_gap_s


def probes(*ages_s: float, agent: tuple[Answer, ...] = (RESET,), postgres: tuple[Answer, ...] = (RESET,)) -> Any:
    return tuple(PeerProbe(NOW_S - age_s, agent, postgres) for age_s in ages_s)


NO = PeerProbe(NOW_S, (RESET,), (RESET,))


@pytest.mark.parametrize(
    ("rounds", "refused"),
    [
        (probes(APART_S, 0.0), True),
        (probes(APART_S - TICK_S, 0.0), False),  # one moment is not two
        (probes(0.0), False),
        ((), False),
        (probes(0.5 - TICK_S, 0.0), True),
        (probes(0.5, 0.0), False),  # the first round is not after the last message
        (probes(APART_S, 0.0, agent=(RESET, RESET), postgres=(RESET, DEAF)), False),
        (probes(APART_S, 0.0, agent=(RESET, LISTENS)), False),
        (probes(APART_S, 0.0, agent=(), postgres=()), False),  # no path, no answer
        (probes(APART_S, 0.0, agent=()), True),
        ((replace(probes(APART_S)[0], agent=(DEAF,)), NO), False),
        ((*probes(APART_S), replace(NO, postgres=(DEAF,))), False),
    ],
)
def test_a_peer_has_refused_when_two_rounds_were_answered_with_nothing_but_resets(rounds: Any, refused: bool) -> None:
    for seen in (follower(), leader(), leader(WENT_ALONE)):
        peer = look(replace(silent(seen, 0.5), probes=rounds)).peer
        assert peer is (Peer.REFUSED if refused else Peer.UNSURE)


@pytest.mark.parametrize(
    "seen",
    [
        follower(lease=Lease()),
        follower(lease=Lease("b", NEVER, LONG_AGO_S)),
        starting(0, WENT_ALONE, heard=heard(beat(1, Role.FOLLOWER, WENT_ALONE))),
        starting(0, heard=heard(beat(1, Role.FOLLOWER))),
    ],
)
def test_resets_shorten_no_wait_of_data_that_may_be_old_nor_of_a_node_that_starts(seen: Observation) -> None:
    assert look(replace(silent(seen, 0.5), probes=probes(APART_S, 0.0))).peer is Peer.UNSURE


def test_resets_say_nothing_of_a_peer_that_was_never_heard() -> None:
    assert (
        look(replace(silent(leader(heard=None), 0.5), stalled_s=NOW_S, probes=probes(APART_S, 0.0))).peer is Peer.UNSURE
    )
