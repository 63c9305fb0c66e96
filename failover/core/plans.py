"""Plans: what a decision does, step by step.

A step is idempotent, and safe to be the last one before a crash: the role after a restart is read from the database and
the state file, never from a memory of the plan. `needs` says what must be durable before the step, and what would break
if it came earlier.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from failover.core.model import Role


class Step(StrEnum):
    """Every step; the node loop has one method of the same name for each."""

    FREEZE_KINE = "freeze_kine"
    FREEZE_BOTH = "freeze_both"
    KILL_KINE = "kill_kine"
    TAKE_TERM = "take_term"
    FENCE_PEER = "fence_peer"
    DETACH = "detach"
    LEAD = "lead"
    ABSORB = "absorb"
    ALIGN_WAITS = "align_waits"
    OPEN = "open"
    SERVE = "serve"
    ACQUIRE_ADDRESS = "acquire_address"
    RELEASE_ADDRESS = "release_address"
    RECORD_ALONE = "record_alone"
    WAITS_OFF = "waits_off"
    CATCH_UP = "catch_up"
    WAITS_ON = "waits_on"
    DRAIN_STANDBY = "drain_standby"
    RECORD_SYNCED = "record_synced"
    CLOSE = "close"
    CLOSE_QUIETLY = "close_quietly"
    DRAIN_SWITCH = "drain_switch"
    HAND_OVER = "hand_over"
    ACCEPT = "accept"
    FINAL_REVISION = "final_revision"
    ARCHIVE = "archive"
    DROP_SLOTS = "drop_slots"
    CLIENTS_FIRST = "clients_first"
    COPY = "copy"


class Plan(msgspec.Struct, frozen=True):
    """Steps in their order. `role` is said while it runs, `then` when it is through, `failed` when a step fails."""

    name: str
    role: Role | None  # None: the role that the node has
    steps: tuple[Step, ...]
    then: Role
    failed: Role
    why: str
    needs: tuple[tuple[Step, str], ...] = ()  # what must be so, and durable, before a step
    undo: tuple[Step, ...] = ()  # executed when a step fails
    point_of_no_return: Step | None = None  # before it the rule is asked again, with all that has been heard by then


REOPENING = (Step.ALIGN_WAITS, Step.OPEN, Step.SERVE, Step.ACQUIRE_ADDRESS)

PROMOTE = Plan(
    "promote",
    role=Role.PROMOTING,
    steps=(Step.FREEZE_KINE, Step.TAKE_TERM, Step.FENCE_PEER, Step.DETACH, Step.LEAD, *REOPENING),
    then=Role.LEADER,
    failed=Role.STARTING,
    why="become the leader on the own data",
    needs=(
        (Step.TAKE_TERM, "a frozen Kine: nothing of the old leader's is served any more (R12)"),
        (Step.FENCE_PEER, "the term in the state file: it is never given back (I2)"),
        (Step.LEAD, "no subscription: no row of the old leader's arrives in the new term"),
        (Step.OPEN, "the lineage row: it says under which term the database is opened; waits as the row says"),
        (Step.SERVE, "an open database, else Kine retries for seconds"),
    ),
    point_of_no_return=Step.LEAD,
)
REOPEN = Plan(
    "reopen",
    role=None,
    steps=(Step.FREEZE_KINE, *REOPENING),
    then=Role.LEADER,
    failed=Role.STARTING,
    why="go on with a leadership whose Postgres or machine restarted",
    needs=(
        (
            Step.OPEN,
            "waits taken by the checkpointer where in_sync (R9); no Kine, on either node, that ran while it was closed (R20)",
        ),
    ),
)
RESUME = Plan(
    "resume",
    role=None,
    steps=REOPENING,
    then=Role.LEADER,
    failed=Role.STARTING,
    why="go on with a leadership that nobody interrupted",
)
GO_ALONE = Plan(
    "go_alone",
    role=None,
    steps=(Step.RECORD_ALONE, Step.WAITS_OFF),
    then=Role.LEADER,
    failed=Role.LEADER,
    why="acknowledge writes without the follower",
    needs=((Step.WAITS_OFF, "the lineage row: a later meeting must see that this side has writes of its own (R5)"),),
)
ENTER_SYNC = Plan(
    "enter_sync",
    role=None,
    steps=(Step.CATCH_UP, Step.WAITS_ON, Step.DRAIN_STANDBY, Step.RECORD_SYNCED),
    then=Role.LEADER,
    failed=Role.LEADER,
    why="acknowledge no write without the follower",
    needs=(
        (
            Step.WAITS_ON,
            "a follower that has flushed what there was: from here on every write waits for the rest of it",
        ),
        (Step.DRAIN_STANDBY, "a returned CHECKPOINT: before it, commits may be acknowledged without waiting (R9)"),
        (Step.RECORD_SYNCED, "the follower's flush past a position read after that"),
    ),
    undo=(Step.WAITS_OFF,),
)
SUSPEND = Plan(
    "suspend",
    role=None,
    steps=(Step.FREEZE_KINE,),
    then=Role.LEADER,
    failed=Role.LEADER,
    why="keep Kine from acknowledging what cannot be written (R20)",
)
HAND_OVER = Plan(
    "hand_over",
    role=Role.DEMOTING,
    steps=(Step.KILL_KINE, Step.HAND_OVER, Step.RELEASE_ADDRESS),
    then=Role.STARTING,
    failed=Role.STARTING,
    why="give leadership away because the own Postgres is gone",
    needs=((Step.HAND_OVER, "a Kine that never answers again: stop, then say (R12)"),),
)
SWITCHOVER = Plan(
    "switchover",
    role=None,
    steps=(Step.FREEZE_BOTH, Step.CLOSE_QUIETLY, Step.DRAIN_SWITCH, Step.HAND_OVER, Step.RELEASE_ADDRESS),
    then=Role.STARTING,
    failed=Role.LEADER,
    why="give leadership away because somebody asked for it",
    needs=(
        (Step.CLOSE_QUIETLY, "both Kines frozen: clients wait instead of failing"),
        (Step.HAND_OVER, "the follower's flush past everything that was written"),
    ),
    undo=REOPENING,
)
YIELD = Plan(
    "yield",
    role=Role.DEMOTING,
    steps=(Step.FREEZE_KINE, Step.CLOSE, Step.KILL_KINE, Step.RELEASE_ADDRESS),
    then=Role.STARTING,
    failed=Role.STARTING,
    why="stop serving: somebody else leads, or must",
    needs=((Step.CLOSE, "a frozen Kine: no insert of it may fail while its reads succeed (R20)"),),
)
LOSE = Plan(
    "lose",
    role=Role.DEMOTING,
    steps=(
        Step.ACCEPT,
        Step.FREEZE_KINE,
        Step.CLOSE,
        Step.KILL_KINE,
        Step.RELEASE_ADDRESS,
        Step.FINAL_REVISION,
        Step.ARCHIVE,
    ),
    then=Role.STARTING,
    failed=Role.STARTING,
    why="accept a verdict, stop, and keep what is only here",
    needs=(
        (Step.FREEZE_KINE, "the acceptance in the state file: from then on the verdict stands (R7)"),
        (Step.FINAL_REVISION, "the fence: nothing is written after the last revision is read"),
        (Step.ARCHIVE, "the fence, and a winner that has not changed anything yet"),
    ),
)
WIN = Plan(
    "win",
    role=None,
    steps=(Step.FREEZE_KINE, Step.CLOSE, Step.TAKE_TERM, Step.ABSORB, *REOPENING),
    then=Role.LEADER,
    failed=Role.STARTING,
    why="absorb the side that lost: a new term past both sides, full fence",
    needs=(
        (Step.FREEZE_KINE, "the loser's acceptance, last revision and archive, as it says in its heartbeat (R7)"),
        (
            Step.TAKE_TERM,
            "no session of Kine: one that is frozen in a compaction holds the table; the term is above the fence's",
        ),
    ),
)
# Not closed, as a winner's database is: the follower's Kine runs on it, and would acknowledge inserts that the end of its
# sessions has undone, as soon as it may read again (R20).
LATE_FENCE = Plan(
    "late_fence",
    role=None,
    steps=(Step.FREEZE_KINE, Step.TAKE_TERM, Step.LEAD, *REOPENING),
    then=Role.LEADER,
    failed=Role.STARTING,
    why="rows that only the old leader had may have been seen: let every API server list anew (R13)",
)
REJOIN = Plan(
    "rejoin",
    role=Role.RESYNCING,
    steps=(Step.CLOSE, Step.WAITS_OFF, Step.CLIENTS_FIRST, Step.DROP_SLOTS, Step.COPY),
    then=Role.FOLLOWER,
    failed=Role.STARTING,
    why="make the own data equal to the leader's and stream on from there",
    needs=((Step.COPY, "a closed database without waits: nothing else writes into it"),),
)

PLANS = (
    PROMOTE, REOPEN, RESUME, GO_ALONE, ENTER_SYNC, SUSPEND, HAND_OVER, SWITCHOVER, YIELD, LOSE, WIN, LATE_FENCE, REJOIN,
)  # fmt: skip
