"""A situation for every row of the rule table: what a node sees there, and what it does.

`test_rules.py` proves that each cell lies in one row; here it is shown that an observation comes to each row, and each decision
is said a second time, beside the situation that asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from failover.core import rules
from failover.core.evidence import Policy
from failover.core.lease import NEVER, Lease
from failover.core.model import Acceptance, Choice, Durable, Health, Role, Verdict
from failover.core.rules import Decision
from tests.core.scenes import (
    FOUNDED,
    IN_SYNC,
    NOW_S,
    PROMOTED,
    STANDBY,
    STREAM,
    TERM,
    WENT_ALONE,
    WORD,
    beat,
    cell,
    follower,
    heard,
    leader,
    refused,
    row,
    silent,
    starting,
    status,
)

if TYPE_CHECKING:
    from failover.core.model import Lineage
    from failover.core.observation import Observation

D = Decision
ACCEPTED = Acceptance(Verdict(1, "d", "b", Choice.LATEST_CHANGE, ""))
STRANGE = (row("x", 0),)
STEPS_DOWN = Policy(step_down_when_isolated=True)


def says(node: int, role: Role, lineage: Lineage = IN_SYNC, **told: Any) -> dict[str, Any]:
    return {"heard": heard(beat(node, role, lineage, **told))}


def durable(me: int = 0, **known: Any) -> Durable:
    return replace(Durable("shop", me, f"id-{me}", highest_term=TERM), **known)


def alive(seen: Observation, for_s: float = 200.0) -> Observation:
    return replace(silent(seen, for_s), peer_postgres_seen_s=NOW_S)


def promoting(seen: Observation) -> Observation:
    return replace(seen, role=Role.PROMOTING)


NEXT = says(1, Role.STARTING)
DEAD: dict[str, Any] = {"health": Health.DOWN}
NO_LOOK: dict[str, Any] = {"health": Health.DOWN, "postgres": None}
LED = durable(role=Role.LEADER, synced_head="b")
LOST_SPLIT = durable(acceptance=ACCEPTED)
GAVE = durable(handed_over="b")
OUTRANKED = status(fence_term=TERM)
STREAMS = status(subscription=STREAM)
UNFIT: dict[str, Any] = {"durable": durable(1, acceptance=ACCEPTED)}

STARTING = [
    ("start/serving", D.RESUME, starting(0, postgres=status(is_open=True, waits_for="kf_1"))),
    ("start/not-its-own", D.YIELD, starting(0, PROMOTED, postgres=status(PROMOTED, is_open=True))),
    ("start/dead-leader", D.HAND_OVER, starting(0, durable=LED, **NO_LOOK, **says(1, Role.FOLLOWER))),
    ("start/dead-leader-paused", D.WAIT, starting(0, durable=LED, paused=True, **NO_LOOK, **says(1, Role.FOLLOWER))),
    ("start/dead-other", D.WAIT, starting(0, **NO_LOOK, **says(1, Role.FOLLOWER))),
    ("start/dead", D.WAIT, starting(0, **NO_LOOK)),
    ("start/leader-contains", D.REJOIN, starting(0, **says(1, Role.LEADER, PROMOTED))),
    ("start/leader-streams", D.FOLLOW, starting(1, postgres=STREAMS, **says(0, Role.LEADER))),
    ("start/leader-streams-unfit", D.REJOIN, starting(1, postgres=STREAMS, **UNFIT, **says(0, Role.LEADER))),
    ("start/leader-behind", D.WAIT, starting(0, WENT_ALONE, **says(1, Role.LEADER))),
    ("start/leader-unknown", D.WAIT, starting(0, **says(1, Role.LEADER, head="d"))),
    ("start/leader-parted", D.RESOLVE, starting(0, WENT_ALONE, **says(1, Role.LEADER, PROMOTED))),
    ("start/leader-parted-paused", D.WAIT, starting(0, WENT_ALONE, paused=True, **says(1, Role.LEADER, PROMOTED))),
    ("start/stranger", D.HALT, starting(0, **says(1, Role.STARTING, STRANGE))),
    ("start/stranger", D.HALT, starting(0, **says(1, Role.LEADER, STRANGE))),
    ("start/promoting", D.WAIT, starting(0, **says(1, Role.PROMOTING))),
    ("start/ahead", D.PROMOTE, starting(0, **says(1, Role.STARTING, (FOUNDED,)))),
    ("start/ahead-own", D.REOPEN, starting(0, WENT_ALONE, **NEXT)),
    ("start/ahead-outranked", D.PROMOTE, starting(0, postgres=status(WENT_ALONE, fence_term=TERM), **NEXT)),
    ("start/ahead-unfit", D.WAIT, starting(0, durable=LOST_SPLIT, **says(1, Role.STARTING, (FOUNDED,)))),
    ("start/equal-led-last", D.REOPEN, starting(0, **NEXT)),
    ("start/equal-outranked", D.PROMOTE, starting(0, postgres=OUTRANKED, **NEXT)),
    ("start/equal-took-back", D.PROMOTE, starting(0, durable=GAVE, **says(1, Role.STARTING, acceptance=ACCEPTED))),
    ("start/equal-led-last-unfit", D.WAIT,
     starting(0, durable=LOST_SPLIT, **says(1, Role.STARTING, acceptance=ACCEPTED))),
    ("start/other-leads-next", D.WAIT, starting(1, **says(0, Role.STARTING))),
    ("start/other-leads-next", D.WAIT, starting(0, durable=GAVE, **NEXT)),
    ("start/parted", D.RESOLVE, starting(0, WENT_ALONE, **says(1, Role.STARTING, PROMOTED))),
    ("start/parted-paused", D.WAIT, starting(0, WENT_ALONE, paused=True, **says(1, Role.STARTING, PROMOTED))),
    ("start/unsure", D.WAIT, starting(0, started_s=NOW_S)),
    ("start/lost", D.PROMOTE, starting(0)),
    ("start/lost", D.PROMOTE, starting(1)),
    ("start/lost", D.PROMOTE, starting(0, WENT_ALONE)),
    ("start/lost", D.PROMOTE, alive(starting(0, WENT_ALONE))),
    ("start/lost", D.PROMOTE, starting(0, postgres=status(WENT_ALONE, fence_term=TERM))),
    ("start/lost-unfit", D.WAIT, starting(0, durable=LOST_SPLIT)),
    ("start/lost-paused", D.WAIT, starting(0, paused=True)),
    ("start/unsure", D.WAIT, starting(0, isolated=True)),
]  # fmt: skip

RIVAL = says(1, Role.LEADER, PROMOTED)
SUCCESSOR = says(1, Role.PROMOTING)
CLOSED = status(waits_for="kf_1", standby=STANDBY)
STUCK = status(is_open=True, waits_for="kf_1", standby=STANDBY, oldest_wait_s=60.0)
HANDS_OVER = says(1, Role.STARTING, WENT_ALONE, hand_over=WORD)

LEADER = [
    ("lead/rival-contains", D.YIELD, leader(**RIVAL)),
    ("lead/rival-parted", D.RESOLVE, leader(WENT_ALONE, **RIVAL)),
    ("lead/rival-parted-paused", D.CARRY_ON, leader(WENT_ALONE, paused=True, **RIVAL)),
    ("lead/rival-parted-dead", D.SUSPEND, leader(WENT_ALONE, **DEAD, **RIVAL)),
    ("lead/rival-none", D.CARRY_ON, leader(WENT_ALONE, **says(1, Role.LEADER))),
    ("lead/rival-none", D.CARRY_ON, leader(**says(1, Role.LEADER, STRANGE))),
    ("lead/rival-none-outranked", D.YIELD,
     leader(WENT_ALONE, postgres=status(WENT_ALONE, fence_term=TERM), **says(1, Role.LEADER))),
    ("lead/rival-none-dead", D.SUSPEND, leader(WENT_ALONE, **DEAD, **says(1, Role.LEADER))),
    ("lead/successor", D.YIELD, leader(**SUCCESSOR)),
    ("lead/no-successor", D.CARRY_ON, leader(WENT_ALONE, **SUCCESSOR)),
    ("lead/no-successor-dead", D.SUSPEND, leader(WENT_ALONE, **DEAD, **SUCCESSOR)),
    ("lead/dead", D.HAND_OVER, leader(**DEAD)),
    ("lead/dead-paused", D.SUSPEND, leader(**DEAD, paused=True)),
    ("lead/dead-alone", D.SUSPEND, leader(WENT_ALONE, **DEAD)),
    ("lead/dead-unheard", D.SUSPEND, silent(leader(**DEAD), 0.5)),
    ("lead/outranked", D.YIELD, leader(postgres=OUTRANKED)),
    ("lead/reopen", D.REOPEN, leader(postgres=CLOSED)),
    ("lead/reopen", D.REOPEN, silent(leader(postgres=CLOSED), 60.0)),
    ("lead/lost", D.GO_ALONE, silent(leader(), 60.0)),
    ("lead/lost", D.GO_ALONE, replace(silent(leader(), 0.5), probes=refused(0.1, 0.0))),
    ("lead/half", D.CARRY_ON, alive(leader())),
    ("lead/half-stuck", D.GO_ALONE, alive(leader(postgres=STUCK))),
    ("lead/lost-alone", D.CARRY_ON, silent(leader(WENT_ALONE), 60.0)),
    ("lead/cut-off", D.YIELD, silent(leader(isolated=True), 60.0), STEPS_DOWN),
    ("lead/cut-off", D.YIELD, silent(leader(WENT_ALONE, isolated=True), 60.0), STEPS_DOWN),
    ("lead/parted", D.RESOLVE, leader(WENT_ALONE, **says(1, Role.STARTING, PROMOTED))),
    ("lead/parted-paused", D.CARRY_ON, leader(WENT_ALONE, paused=True, **says(1, Role.STARTING, PROMOTED))),
    ("lead/ghosts", D.LATE_FENCE, leader(**says(1, Role.FOLLOWER, ghosts_under="a"))),
    ("lead/renounced", D.GO_ALONE, leader(**says(1, Role.FOLLOWER, renounced="b"))),
    ("lead/stuck", D.ASK_RENOUNCE, leader(postgres=STUCK)),
    ("lead/unanswered", D.GO_ALONE, leader(postgres=STUCK, asks_renounce=True)),
    ("lead/in-sync", D.CARRY_ON, leader()),
    ("lead/in-sync", D.CARRY_ON, leader(**says(1, Role.STARTING))),
    ("lead/in-sync", D.CARRY_ON, silent(leader(), 0.5)),
    ("lead/cramped", D.SWITCH, leader(disk_nearly_full=True)),
    ("lead/cramped-paused", D.CARRY_ON, leader(disk_nearly_full=True, paused=True)),
    ("lead/cramped-alone", D.CARRY_ON, leader(disk_nearly_full=True, **says(1, Role.STARTING))),
    ("lead/ready", D.ENTER_SYNC, leader(WENT_ALONE, **says(1, Role.FOLLOWER, WENT_ALONE, ready_for="c"))),
    ("lead/catching-up", D.CARRY_ON, leader(WENT_ALONE)),
    ("lead/alone", D.CARRY_ON, leader(WENT_ALONE, **says(1, Role.RESYNCING, WENT_ALONE))),
    ("lead/alone", D.CARRY_ON, leader(WENT_ALONE, **HANDS_OVER)),
]  # fmt: skip

WORD_SAID = says(0, Role.STARTING, hand_over=WORD)
AHEAD = (*IN_SYNC, row("e", 1, term=3, parent=200))

FOLLOWER = [
    ("follow/dead", D.WAIT, follower(**DEAD)),
    ("follow/dead", D.WAIT, silent(follower(**DEAD), 200.0)),
    ("follow/stream-on", D.CARRY_ON, follower()),
    ("follow/broken", D.REJOIN, follower(stream_failed=True)),
    ("follow/unfit-leader", D.START_OVER, follower(**UNFIT)),
    ("follow/leader-unknown", D.CARRY_ON, follower(**says(0, Role.LEADER, head="c"))),
    ("follow/another-history", D.START_OVER, follower(PROMOTED, **says(0, Role.LEADER, WENT_ALONE))),
    ("follow/another-history", D.START_OVER, follower(AHEAD, **says(0, Role.LEADER))),
    ("follow/another-history", D.START_OVER, follower(**says(0, Role.LEADER, STRANGE))),
    ("follow/promoting", D.CARRY_ON, follower(**says(0, Role.PROMOTING))),
    ("follow/nobody-leads", D.START_OVER, follower(**says(0, Role.FOLLOWER))),
    ("follow/leader-starts", D.CARRY_ON, follower(**says(0, Role.STARTING))),
    ("follow/leader-cannot", D.START_OVER, follower(WENT_ALONE, **says(0, Role.STARTING))),
    ("follow/unsure", D.CARRY_ON, silent(follower(), 0.5)),
    ("follow/told", D.PROMOTE, follower(**WORD_SAID)),
    ("follow/told-paused", D.WAIT, follower(paused=True, **WORD_SAID)),
    ("follow/lost", D.PROMOTE, silent(follower(), 2.0)),
    ("follow/lost", D.PROMOTE, silent(follower(lease=Lease()), 200.0)),
    ("follow/lost", D.PROMOTE, silent(follower(lease=Lease("b", NEVER, NOW_S - 5.0)), 5.0)),
    ("follow/lost", D.PROMOTE, replace(silent(follower(), 0.5), probes=refused(0.1, 0.0))),
    ("follow/lost", D.PROMOTE, alive(follower(), 20.0)),
    ("follow/lost-unfit", D.WAIT, silent(follower(**UNFIT), 200.0)),
    ("follow/lost-paused", D.WAIT, silent(follower(paused=True), 2.0)),
    ("follow/unsure", D.CARRY_ON, silent(follower(isolated=True), 2.0)),
    ("follow/unsure", D.CARRY_ON, replace(silent(follower(isolated=True), 0.5), probes=refused(0.1, 0.0))),
]

OTHERS = [
    ("promote/dead", D.START_OVER, promoting(silent(follower(**DEAD), 2.0))),
    ("promote/rival", D.START_OVER, promoting(follower(**says(0, Role.LEADER, WENT_ALONE)))),
    ("promote/rival", D.START_OVER, promoting(follower(PROMOTED, **says(0, Role.LEADER, WENT_ALONE)))),
    ("promote/go-on", D.CARRY_ON, promoting(follower(**says(0, Role.LEADER)))),
    ("promote/isolated", D.START_OVER, promoting(silent(follower(isolated=True), 2.0))),
    ("promote/isolated", D.START_OVER, promoting(silent(follower(isolated=True), 0.5))),
    ("promote/paused", D.START_OVER, promoting(silent(follower(paused=True), 2.0))),
    ("promote/paused", D.START_OVER, promoting(silent(follower(paused=True), 0.5))),
    ("promote/alone", D.CARRY_ON, promoting(silent(follower(), 2.0))),
    ("promote/alone", D.CARRY_ON, promoting(silent(follower(paused=True, isolated=True, ordered=True), 2.0))),
    ("promote/peer-follows", D.CARRY_ON, promoting(follower(**WORD_SAID))),
    ("promote/peer-follows", D.CARRY_ON, promoting(follower(paused=True, **says(0, Role.STARTING)))),
    ("resync/go-on", D.CARRY_ON, replace(starting(1, **says(0, Role.LEADER)), role=Role.RESYNCING)),
    ("resync/go-on", D.CARRY_ON, replace(starting(1, **says(0, Role.PROMOTING)), role=Role.RESYNCING)),
    ("resync/go-on", D.CARRY_ON, replace(starting(1, started_s=NOW_S), role=Role.RESYNCING)),
    ("resync/no-leader", D.START_OVER, replace(starting(1, **says(0, Role.STARTING)), role=Role.RESYNCING)),
    ("resync/no-leader", D.START_OVER, replace(starting(1), role=Role.RESYNCING)),
    ("demote/go-on", D.CARRY_ON, replace(leader(), role=Role.DEMOTING)),
    ("demote/go-on", D.CARRY_ON, replace(leader(**RIVAL), role=Role.DEMOTING)),
    ("halt/stay", D.WAIT, replace(starting(0), role=Role.HALTED)),
    ("halt/stay", D.WAIT, replace(starting(0, **says(1, Role.LEADER)), role=Role.HALTED)),
]

SITUATIONS: list[Any] = [*STARTING, *LEADER, *FOLLOWER, *OTHERS]


@pytest.mark.parametrize("situation", SITUATIONS, ids=[one[0] for one in SITUATIONS])
def test_in_this_situation(situation: tuple[Any, ...]) -> None:
    name, decision, seen, *policy = situation
    rule = rules.decide(cell(seen, *policy))
    assert (rule.name, rule.decision) == (name, decision)


def test_no_row_of_the_table_is_without_a_situation() -> None:
    assert {rule.name for rule in rules.RULES} == {situation[0] for situation in SITUATIONS}
