"""The protocol on one page.

Each row names the cells that it speaks of, axis by axis, what is decided there, and why. Rows are matched by partition,
not by order: a test proves that every cell which can be reached lies in exactly one row. What the words on the axes
mean is in `evidence.py`, what a decision does in `plans.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from failover.core.evidence import LOST, Cell, Peer, Postgres, Stream, Worth
from failover.core.lineage import Relation
from failover.core.model import Role


class Decision(StrEnum):
    """What a node does next. The first four change nothing; each of the others is a plan."""

    CARRY_ON = "carry_on"
    WAIT = "wait"
    ASK_RENOUNCE = "ask_renounce"  # a word in the heartbeat
    START_OVER = "start_over"  # back to STARTING, fenced, by looking again at what is there
    RESUME = "resume"  # the supervisor alone was away: go on leading
    FOLLOW = "follow"  # the stream flows: stream on
    PROMOTE = "promote"
    REOPEN = "reopen"
    SUSPEND = "suspend"
    SWITCH = "switch"  # a planned switchover that nobody had to ask for
    GO_ALONE = "go_alone"
    ENTER_SYNC = "enter_sync"
    LATE_FENCE = "late_fence"
    HAND_OVER = "hand_over"
    YIELD = "yield"
    RESOLVE = "resolve"
    REJOIN = "rejoin"
    HALT = "halt"


class Rule(msgspec.Struct, frozen=True):
    """One row. `when` maps an axis to the values that it may have; an axis that is not named may have any."""

    name: str
    role: Role
    decision: Decision
    why: str
    when: Mapping[str, frozenset[Any]] = msgspec.field(default_factory=dict)

    def matches(self, cell: Cell) -> bool:
        """Whether this row speaks of the cell."""
        return cell.role is self.role and all(getattr(cell, axis) in values for axis, values in self.when.items())


def _rule(name: str, role: Role, decision: Decision, why: str, **when: object) -> Rule:
    """Write a row; a single value stands for the set of it."""
    assert set(when) <= set(Cell.__struct_fields__) - {"role"}
    sets = {axis: value if isinstance(value, frozenset) else frozenset({value}) for axis, value in when.items()}
    return Rule(name, role, decision, why, sets)


def _but(*values: StrEnum) -> frozenset[StrEnum]:
    """All values of an axis but these."""
    return frozenset(type(values[0])) - frozenset(values)


S, L, F = Role.STARTING, Role.LEADER, Role.FOLLOWER
D, P, R, W = Decision, Peer, Relation, Worth

NOBODY_LEADS = frozenset({P.STARTS, P.FOLLOWS, P.HANDS_OVER})
NO_RIVAL = _but(P.LEADS, P.PROMOTES)
CONTAINED = frozenset({R.BEHIND, R.EQUAL_MINE, R.EQUAL_THEIRS})
UP = _but(Postgres.DOWN)
FIT = _but(W.UNFIT)
NOT_OPEN = frozenset({Postgres.CLOSED, Postgres.OUTRANKED})

# fmt: off
STARTING = (
    _rule("start/serving", S, D.RESUME, "only the supervisor was away: Kine and Postgres went on in this node's name",
          postgres=Postgres.OPEN, worth=frozenset({W.SYNCED, W.SOLE})),
    _rule("start/not-its-own", S, D.YIELD,
          "open, and not under a leadership of this node's, or one that it gave away: closed before anything else",
          postgres=Postgres.OPEN, worth=_but(W.SYNCED, W.SOLE)),
    _rule("start/dead-leader", S, D.HAND_OVER,
          "it led in sync and its Postgres does not come: the follower has it all (R16)",
          postgres=Postgres.DOWN, peer=P.FOLLOWS, worth=W.SYNCED, paused=False),
    _rule("start/dead-leader-paused", S, D.WAIT, "a paused node never says take over (R18)",
          postgres=Postgres.DOWN, peer=P.FOLLOWS, worth=W.SYNCED, paused=True),
    _rule("start/dead-other", S, D.WAIT, "nothing can be compared before the own Postgres is up",
          postgres=Postgres.DOWN, peer=P.FOLLOWS, worth=_but(W.SYNCED)),
    _rule("start/dead", S, D.WAIT, "nothing can be compared before the own Postgres is up",
          postgres=Postgres.DOWN, peer=_but(P.FOLLOWS)),
    _rule("start/leader-contains", S, D.REJOIN,
          "the leader's history contains this node's (R1); the rejoin archives any row of its own first (R2)",
          postgres=NOT_OPEN, peer=P.LEADS, relation=CONTAINED, stream=_but(Stream.FLOWING)),
    _rule("start/leader-streams", S, D.FOLLOW,
          "the leader's history contains this node's and the stream flows from where it was",
          postgres=NOT_OPEN, peer=P.LEADS, relation=CONTAINED, stream=Stream.FLOWING, worth=FIT),
    _rule("start/leader-streams-unfit", S, D.REJOIN,
          "a stream that flows into data which is not the leader's mends nothing",
          postgres=NOT_OPEN, peer=P.LEADS, relation=CONTAINED, stream=Stream.FLOWING, worth=W.UNFIT),
    _rule("start/leader-behind", S, D.WAIT,
          "the leader's history is a part of this node's: it yields when it hears this",
          postgres=NOT_OPEN, peer=P.LEADS, relation=R.AHEAD),
    _rule("start/leader-unknown", S, D.WAIT, "until its history is known nothing is thrown away (R1)",
          postgres=NOT_OPEN, peer=P.LEADS, relation=R.UNKNOWN),
    _rule("start/leader-parted", S, D.RESOLVE,
          "both went on after they parted: a side of a split, not a follower (R1)",
          postgres=NOT_OPEN, peer=P.LEADS, relation=R.PARTED, paused=False),
    _rule("start/leader-parted-paused", S, D.WAIT, "a pause stops verdicts (R18)",
          postgres=NOT_OPEN, peer=P.LEADS, relation=R.PARTED, paused=True),
    _rule("start/stranger", S, D.HALT, "no common history: a person must say which data is the right one",
          postgres=NOT_OPEN, peer=_but(*LOST, P.UNSURE), relation=R.STRANGER),
    _rule("start/promoting", S, D.WAIT, "the peer is about to lead",
          postgres=NOT_OPEN, peer=P.PROMOTES, relation=_but(R.STRANGER)),
    _rule("start/ahead", S, D.PROMOTE, "nobody leads and this history contains the peer's",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=R.AHEAD, worth=FIT - {W.SOLE}),
    _rule("start/ahead-own", S, D.REOPEN,
          "nobody leads, and the newest leadership is this node's own: it goes on in it, however often it has to begin",
          postgres=Postgres.CLOSED, peer=NOBODY_LEADS, relation=R.AHEAD, worth=W.SOLE),
    _rule("start/ahead-outranked", S, D.PROMOTE,
          "the newest leadership is this node's own, and fenced by a term that is not below: take another (R19)",
          postgres=Postgres.OUTRANKED, peer=NOBODY_LEADS, relation=R.AHEAD, worth=W.SOLE),
    _rule("start/ahead-unfit", S, D.WAIT, "data that is not whole never leads (I6)",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=R.AHEAD, worth=W.UNFIT),
    _rule("start/equal-led-last", S, D.REOPEN, "equal histories: the last leader goes on as it was, waits and all",
          postgres=Postgres.CLOSED, peer=NOBODY_LEADS, relation=R.EQUAL_MINE, worth=frozenset({W.SYNCED, W.SOLE})),
    _rule("start/equal-outranked", S, D.PROMOTE, "equal histories, and fenced by a term that is not below: take another",
          postgres=Postgres.OUTRANKED, peer=NOBODY_LEADS, relation=R.EQUAL_MINE, worth=frozenset({W.SYNCED, W.SOLE})),
    _rule("start/equal-took-back", S, D.PROMOTE, "leadership was given away, and the peer cannot take it",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=R.EQUAL_MINE, worth=frozenset({W.STALE, W.VOIDED})),
    _rule("start/equal-led-last-unfit", S, D.WAIT, "data that is not whole never leads (I6)",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=R.EQUAL_MINE, worth=W.UNFIT),
    _rule("start/other-leads-next", S, D.WAIT, "the peer is the one to lead, or is not known yet",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=frozenset({R.EQUAL_THEIRS, R.BEHIND, R.UNKNOWN})),
    _rule("start/parted", S, D.RESOLVE, "nobody leads and the histories parted: a verdict decides",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=R.PARTED, paused=False),
    _rule("start/parted-paused", S, D.WAIT, "a pause stops verdicts (R18)",
          postgres=NOT_OPEN, peer=NOBODY_LEADS, relation=R.PARTED, paused=True),
    _rule("start/unsure", S, D.WAIT, "the peer gets its time to answer, from when this node was last cut off",
          postgres=NOT_OPEN, peer=P.UNSURE),
    _rule("start/lost", S, D.PROMOTE, "the peer stayed away for as long as data of this worth must wait (R3)",
          postgres=NOT_OPEN, peer=LOST, worth=FIT, paused=False),
    _rule("start/lost-unfit", S, D.WAIT, "data that is not whole never leads (I6)",
          postgres=NOT_OPEN, peer=LOST, worth=W.UNFIT),
    _rule("start/lost-paused", S, D.WAIT, "a paused pair changes no role (I10)",
          postgres=NOT_OPEN, peer=LOST, worth=FIT, paused=True),
)

FOLLOWER = (
    _rule("follow/dead", F, D.WAIT, "without its Postgres a follower can do nothing; it has renounced (R5)",
          postgres=Postgres.DOWN),
    _rule("follow/stream-on", F, D.CARRY_ON, "a leader is heard and its stream flows",
          postgres=UP, peer=P.LEADS, relation=CONTAINED, stream=Stream.FLOWING, worth=FIT),
    _rule("follow/broken", F, D.REJOIN, "a leader is heard, and the stream cannot go on by itself",
          postgres=UP, peer=P.LEADS, relation=CONTAINED, stream=_but(Stream.FLOWING), worth=FIT),
    _rule("follow/unfit-leader", F, D.START_OVER, "data that is not whole is no follower's",
          postgres=UP, peer=P.LEADS, relation=CONTAINED, worth=W.UNFIT),
    _rule("follow/leader-unknown", F, D.CARRY_ON, "the leader's newest rows are under way",
          postgres=UP, peer=P.LEADS, relation=R.UNKNOWN),
    _rule("follow/another-history", F, D.START_OVER, "the leader went another way: look again at what is there",
          postgres=UP, peer=P.LEADS, relation=frozenset({R.AHEAD, R.PARTED, R.STRANGER})),
    _rule("follow/promoting", F, D.CARRY_ON, "the leader takes another term",
          postgres=UP, peer=P.PROMOTES),
    _rule("follow/nobody-leads", F, D.START_OVER, "two followers: nobody leads",
          postgres=UP, peer=P.FOLLOWS),
    _rule("follow/leader-starts", F, D.CARRY_ON, "the leader is starting and will resume",
          postgres=UP, peer=P.STARTS, relation=_but(R.AHEAD, R.PARTED, R.STRANGER)),
    _rule("follow/leader-cannot", F, D.START_OVER, "the peer cannot lead again: look who can",
          postgres=UP, peer=P.STARTS, relation=frozenset({R.AHEAD, R.PARTED, R.STRANGER})),
    _rule("follow/unsure", F, D.CARRY_ON, "not heard, and not lost for long enough since this node was last cut off",
          postgres=UP, peer=P.UNSURE),
    _rule("follow/told", F, D.PROMOTE, "the leader said that it will not write again",
          postgres=UP, peer=P.HANDS_OVER, worth=FIT, paused=False),
    _rule("follow/told-paused", F, D.WAIT, "a paused pair changes no role (I10)",
          postgres=UP, peer=P.HANDS_OVER, worth=FIT, paused=True),
    _rule("follow/lost", F, D.PROMOTE,
          "the leader is gone: refused twice, or silent for as long as this data must wait",
          postgres=UP, peer=LOST, worth=FIT, paused=False),
    _rule("follow/lost-unfit", F, D.WAIT, "data that is not whole never leads (I6)",
          postgres=UP, peer=LOST | {P.HANDS_OVER}, worth=W.UNFIT),
    _rule("follow/lost-paused", F, D.WAIT, "a paused pair changes no role (I10)",
          postgres=UP, peer=LOST, worth=FIT, paused=True),
)

NO_CLAIM = frozenset({R.AHEAD, R.EQUAL_MINE, R.UNKNOWN, R.STRANGER})
NO_MORE_WRITES = (Stream.STUCK, Stream.UNANSWERED)
RIVAL_ENDS = frozenset({R.BEHIND, R.EQUAL_THEIRS})
LEADER = (
    _rule("lead/rival-contains", L, D.YIELD, "an established leader has all of this node's history and went on (R15)",
          peer=P.LEADS, relation=RIVAL_ENDS),
    _rule("lead/rival-parted", L, D.RESOLVE, "both led: a verdict decides",
          peer=P.LEADS, relation=R.PARTED, postgres=UP, paused=False),
    _rule("lead/rival-parted-paused", L, D.CARRY_ON, "a pause stops verdicts (R18)",
          peer=P.LEADS, relation=R.PARTED, postgres=UP, paused=True),
    _rule("lead/rival-parted-dead", L, D.SUSPEND,
          "both led, and nothing can be compared before the own Postgres is up",
          peer=P.LEADS, relation=R.PARTED, postgres=Postgres.DOWN),
    _rule("lead/rival-none", L, D.CARRY_ON,
          "the other one is behind and will yield, or is not known yet, or a stranger",
          peer=P.LEADS, relation=NO_CLAIM, postgres=_but(Postgres.DOWN,
          Postgres.OUTRANKED)),
    _rule("lead/rival-none-outranked", L, D.YIELD, "fenced by a term that is not below its own (R19)",
          peer=P.LEADS, relation=NO_CLAIM, postgres=Postgres.OUTRANKED),
    _rule("lead/rival-none-dead", L, D.SUSPEND, "no Postgres, no Kine on it (R20)",
          peer=P.LEADS, relation=NO_CLAIM, postgres=Postgres.DOWN),
    _rule("lead/successor", L, D.YIELD, "the follower is promoting, and no write was acknowledged without it (R15)",
          peer=P.PROMOTES, worth=W.SYNCED),
    _rule("lead/no-successor", L, D.CARRY_ON, "the promoting one lacks what was acknowledged here alone: it gives up",
          peer=P.PROMOTES, worth=_but(W.SYNCED), postgres=_but(Postgres.DOWN)),
    _rule("lead/no-successor-dead", L, D.SUSPEND, "no Postgres, no Kine on it (R20)",
          peer=P.PROMOTES, worth=_but(W.SYNCED), postgres=Postgres.DOWN),
    _rule("lead/dead", L, D.HAND_OVER, "its Postgres is gone and the follower has everything",
          peer=P.FOLLOWS, postgres=Postgres.DOWN, worth=W.SYNCED, paused=False),
    _rule("lead/dead-paused", L, D.SUSPEND, "a paused leader never says take over (R18)",
          peer=P.FOLLOWS, postgres=Postgres.DOWN, worth=W.SYNCED, paused=True),
    _rule("lead/dead-alone", L, D.SUSPEND, "its Postgres is gone and nobody else has everything",
          peer=P.FOLLOWS, postgres=Postgres.DOWN, worth=_but(W.SYNCED)),
    _rule("lead/dead-unheard", L, D.SUSPEND, "its Postgres is gone and nobody hears that",
          peer=NO_RIVAL - {P.FOLLOWS}, postgres=Postgres.DOWN),
    _rule("lead/outranked", L, D.YIELD,
          "fenced by a term that is not below its own (R19): take another, as a starting node",
          peer=NO_RIVAL, postgres=Postgres.OUTRANKED),
    _rule("lead/reopen", L, D.REOPEN, "its Postgres came back, fenced as it starts (R11)",
          peer=NO_RIVAL, postgres=Postgres.CLOSED),
    _rule("lead/lost", L, D.GO_ALONE, "the follower's lease has ended: availability first (R5)",
          peer=frozenset({P.SILENT, P.REFUSED}), postgres=Postgres.OPEN, worth=W.SYNCED, isolated=False),
    _rule("lead/half", L, D.CARRY_ON, "the follower's Postgres still takes every write",
          peer=P.HALF, postgres=Postgres.OPEN, worth=W.SYNCED, stream=_but(*NO_MORE_WRITES), isolated=False),
    _rule("lead/half-stuck", L, D.GO_ALONE, "its supervisor is silent and its Postgres takes no more writes (R17)",
          peer=P.HALF, postgres=Postgres.OPEN, worth=W.SYNCED, stream=frozenset(NO_MORE_WRITES), isolated=False),
    _rule("lead/lost-alone", L, D.CARRY_ON, "alone already",
          peer=LOST, postgres=Postgres.OPEN, worth=_but(W.SYNCED), isolated=False),
    _rule("lead/cut-off", L, D.YIELD, "this node is the one that is cut off, and the policy is to step down",
          peer=LOST, postgres=Postgres.OPEN, isolated=True),
    _rule("lead/parted", L, D.RESOLVE, "a side of a split returns, or has accepted that this one leads on",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=R.PARTED, paused=False),
    _rule("lead/parted-paused", L, D.CARRY_ON, "a pause stops verdicts (R18)",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=R.PARTED, paused=True),
    _rule("lead/ghosts", L, D.LATE_FENCE,
          "the old leader held rows that this data lacks: somebody may have seen them (R13)",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=_but(R.PARTED), stream=Stream.GHOSTS),
    _rule("lead/renounced", L, D.GO_ALONE, "the follower has given in_sync up (R5)",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED,
          stream=Stream.RENOUNCED),
    _rule("lead/stuck", L, D.ASK_RENOUNCE, "heartbeats live, replication does not (R17)",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED, stream=Stream.STUCK),
    _rule("lead/unanswered", L, D.GO_ALONE,
          "the follower was asked to renounce, and its lease has ended without its answer: its disk may hang too (R17)",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED,
          stream=Stream.UNANSWERED),
    _rule("lead/in-sync", L, D.CARRY_ON, "in sync",
          peer=NO_RIVAL - LOST, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED,
          stream=_but(Stream.RENOUNCED, *NO_MORE_WRITES, Stream.GHOSTS, Stream.CRAMPED)),
    _rule("lead/cramped", L, D.SWITCH, "its disk is nearly full and the follower's is not: a full one would make Kine lie (R20)",
          peer=P.FOLLOWS, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED, stream=Stream.CRAMPED,
          paused=False),
    _rule("lead/cramped-paused", L, D.CARRY_ON, "a paused pair changes no role (I10)",
          peer=P.FOLLOWS, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED, stream=Stream.CRAMPED,
          paused=True),
    _rule("lead/cramped-alone", L, D.CARRY_ON, "its disk is nearly full, and nobody is heard who could lead",
          peer=NO_RIVAL - LOST - {P.FOLLOWS}, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=W.SYNCED,
          stream=Stream.CRAMPED),
    _rule("lead/ready", L, D.ENTER_SYNC, "the follower has caught up (R9)",
          peer=P.FOLLOWS, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=_but(W.SYNCED),
          stream=Stream.READY),
    _rule("lead/catching-up", L, D.CARRY_ON, "the follower is not ready yet",
          peer=P.FOLLOWS, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=_but(W.SYNCED),
          stream=_but(Stream.READY, Stream.GHOSTS)),
    _rule("lead/alone", L, D.CARRY_ON, "nobody follows yet",
          peer=NO_RIVAL - LOST - {P.FOLLOWS}, postgres=Postgres.OPEN, relation=_but(R.PARTED), worth=_but(W.SYNCED),
          stream=_but(Stream.GHOSTS)),
)

UNHEARD = LOST | {P.UNSURE}  # a pause takes the lease, and with it the patience with which the peer was given up
PROMOTING = (
    _rule("promote/dead", Role.PROMOTING, D.START_OVER, "no Postgres to promote",
          postgres=Postgres.DOWN),
    _rule("promote/rival", Role.PROMOTING, D.START_OVER, "a leader that holds more is heard after all",
          postgres=UP, peer=P.LEADS, relation=frozenset({R.BEHIND, R.PARTED})),
    _rule("promote/go-on", Role.PROMOTING, D.CARRY_ON, "the plan goes on",
          postgres=UP, peer=P.LEADS, relation=_but(R.BEHIND, R.PARTED)),
    _rule("promote/isolated", Role.PROMOTING, D.START_OVER, "this node is the one that is cut off after all",
          postgres=UP, peer=_but(P.LEADS), isolated=True),
    _rule("promote/paused", Role.PROMOTING, D.START_OVER, "a pause stops a promotion that has not led yet (R18)",
          postgres=UP, peer=UNHEARD, isolated=False, paused=True),
    _rule("promote/alone", Role.PROMOTING, D.CARRY_ON, "the plan goes on",
          postgres=UP, peer=UNHEARD, isolated=False, paused=False),
    _rule("promote/peer-follows", Role.PROMOTING, D.CARRY_ON, "the plan goes on: nobody else leads",
          postgres=UP, peer=_but(P.LEADS, *UNHEARD), isolated=False),
)
RESYNCING = (
    _rule("resync/go-on", Role.RESYNCING, D.CARRY_ON, "the plan goes on",
          peer=frozenset({P.LEADS, P.UNSURE, P.PROMOTES})),
    _rule("resync/no-leader", Role.RESYNCING, D.START_OVER, "the leader to copy from is gone",
          peer=_but(P.LEADS, P.UNSURE, P.PROMOTES)),
)
DEMOTING = (
    _rule("demote/go-on", Role.DEMOTING, D.CARRY_ON, "a fence is always finished"),
)
HALTED = (
    _rule("halt/stay", Role.HALTED, D.WAIT, "a person is needed; the message says what for"),
)

# fmt: on

RULES = STARTING + FOLLOWER + LEADER + PROMOTING + RESYNCING + DEMOTING + HALTED


@lru_cache(maxsize=4096)
def decide(cell: Cell) -> Rule:
    """Return the one row that speaks of this cell."""
    rows = [rule for rule in RULES if rule.matches(cell)]
    assert len(rows) == 1, f"{cell} lies in {[rule.name for rule in rows]}"
    return rows[0]
