"""What a node may know at one moment, for the tests of the rules: a pair in sync, and what differs from it.

Node 0 leads and node 1 follows. Times are seconds on the clock of the node that looks, NOW_S on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from failover.core import evidence, fences, plans, rules
from failover.core.evidence import Cell, Policy, Worth
from failover.core.lease import Lease
from failover.core.model import (
    Answer,
    DataState,
    Durable,
    HandOver,
    Health,
    Heard,
    Heartbeat,
    Kind,
    LineageEntry,
    Mode,
    PeerProbe,
    PostgresStatus,
    Role,
    Standby,
    Subscription,
    Sync,
)
from failover.core.observation import Observation
from failover.core.timing import LAN

if TYPE_CHECKING:
    from failover.core.plans import Step

NOW_S = 1000.0
LONG_AGO_S = 500.0
TERM = 2
TOP = 500  # the newest revision


def row(
    name: str, node: int, kind: Kind = Kind.LEAD, *, term: int = TERM, parent: int = 0, provisional: bool = False,
    absorbs: str | None = None,
) -> LineageEntry:  # fmt: skip
    return LineageEntry(name, term, node, kind, "", 0, parent + 1, parent, provisional, absorbs)


FOUNDED = row("a", 0)
SYNCED = row("b", 0, Kind.SYNCED, parent=10)
ALONE = row("c", 0, Kind.ALONE, parent=100)
IN_SYNC = (FOUNDED, SYNCED)
WENT_ALONE = (*IN_SYNC, ALONE)
PROMOTED = (*IN_SYNC, row("d", 1, term=3, parent=100))  # node 1 took over
WORD = HandOver("its Postgres is gone", drained=False, revision=TOP)


def beat(node: int, role: Role, lineage: tuple[LineageEntry, ...] = IN_SYNC, **told: Any) -> Heartbeat:
    """What the peer says; its lineage is always sent."""
    synced = role is Role.LEADER and lineage and lineage[-1].kind is Kind.SYNCED
    heartbeat = Heartbeat(
        cluster="shop",
        node=node,
        node_id=f"id-{node}",
        boot="peer-run",
        seq=7,
        wall_us=0,
        echo_boot="",
        echo_seq=0,
        echo_wall_us=0,
        term=max((entry.term for entry in lineage), default=0),
        role=role,
        sync=Sync.IN_SYNC if synced else Sync.ALONE,
        provisional=False,
        data=DataState.COMPLETE if lineage else DataState.EMPTY,
        postgres_ok=True,
        visible_revision=TOP,
        head=lineage[-1].id if lineage else "",
        length=len(lineage),
        lineage=lineage,
    )
    return replace(heartbeat, **told)


def status(lineage: tuple[LineageEntry, ...] = IN_SYNC, **known: Any) -> PostgresStatus:
    """The own Postgres: closed, without a stream."""
    made = PostgresStatus(
        started_at_us=1,
        data=DataState.COMPLETE if lineage else DataState.EMPTY,
        lineage=lineage,
        visible_revision=TOP,
        wal_lsn=9000,
        is_open=False,
        fence_term=-1,
        waits_for="",
        standby=None,
        oldest_wait_s=0.0,
        subscription=None,
        last_change=None,
    )
    return replace(made, **known)


STREAM = Subscription("kf_1", enabled=True, worker_alive=True, heard_age_s=0.1, tables_ready=True, apply_errors=0)
STANDBY = Standby("kf_1", streaming=True, flush_lsn=9000, heard_age_s=0.1)


def heard(heartbeat: Heartbeat, age_s: float = 0.05) -> Heard:
    return Heard(heartbeat, NOW_S - age_s, NOW_S - age_s - 0.05)


def _seen(me: int, role: Role, **known: Any) -> Observation:
    made = Observation(
        now_s=NOW_S,
        wall_us=10**15,
        me=me,
        started_s=LONG_AGO_S,
        durable=Durable("shop", me, f"id-{me}", highest_term=TERM),
        role=role,
        sync=Sync.ALONE,
        health=Health.UP,
    )
    return replace(made, **known)


def leader(lineage: tuple[LineageEntry, ...] = IN_SYNC, **known: Any) -> Observation:
    """Node 0 leads, and hears its follower."""
    synced = lineage[-1].kind is Kind.SYNCED
    postgres = status(lineage, is_open=True, waits_for="kf_1" if synced else "", standby=STANDBY)
    about = {
        "sync": Sync.IN_SYNC if synced else Sync.CATCHING_UP,
        "postgres": postgres,
        "heard": heard(beat(1, Role.FOLLOWER, lineage)),
        "peer_lineage": lineage,
    }
    return _complete(_seen(0, Role.LEADER, **{**about, **known}))


def follower(lineage: tuple[LineageEntry, ...] = IN_SYNC, **known: Any) -> Observation:
    """Node 1 follows, with a lease that runs."""
    about = {
        "postgres": status(lineage, subscription=STREAM),
        "heard": heard(beat(0, Role.LEADER, lineage)),
        "peer_lineage": lineage,
        "lease": Lease(lineage[-1].id, NOW_S + 1.0),
        "peer_served_s": NOW_S - 0.05,
        "peer_postgres_seen_s": NOW_S - 0.1,
    }
    return _complete(_seen(1, Role.FOLLOWER, **{**about, **known}))


def starting(me: int, lineage: tuple[LineageEntry, ...] = IN_SYNC, **known: Any) -> Observation:
    """A node that starts, its Postgres up and closed, and hears nobody."""
    return _complete(_seen(me, Role.STARTING, **{"postgres": status(lineage), **known}))


def _complete(seen: Observation) -> Observation:
    """Let what the peer sends be what is known of its lineage."""
    if seen.heard is not None and seen.heard.heartbeat.lineage:
        return replace(seen, peer_lineage=seen.heard.heartbeat.lineage)
    return seen


def silent(seen: Observation, for_s: float) -> Observation:
    """The same, but nothing at all has been heard of the peer for so long."""
    then_s = NOW_S - for_s
    last = replace(seen.heard, at_s=then_s) if seen.heard is not None else None
    return replace(seen, heard=last, peer_postgres_seen_s=then_s, peer_served_s=then_s)


def refused(*ages_s: float) -> tuple[PeerProbe, ...]:
    """Rounds of probes of two paths that were all answered with a reset."""
    both = (Answer.REFUSED, Answer.REFUSED)
    return tuple(PeerProbe(NOW_S - age_s, both, both) for age_s in ages_s)


def cell(seen: Observation, policy: Policy = Policy()) -> Cell:  # noqa: B008 - frozen
    return evidence.read(seen, LAN, policy)


def decision(seen: Observation, policy: Policy = Policy()) -> rules.Decision:  # noqa: B008 - frozen
    return rules.decide(cell(seen, policy)).decision


def name(seen: Observation, policy: Policy = Policy()) -> str:  # noqa: B008 - frozen
    return rules.decide(cell(seen, policy)).name


def judged(
    seen: Observation, worth: Worth, mode: Mode = Mode.ZERO_LOSS, served: int = 0, **options: bool
) -> fences.Fence:
    """How a promotion would fence, judged just before its transaction."""
    told = {"drained": False, "ordered": False, **options}
    return fences.fence_at_transaction(
        seen, worth, mode, drained=told["drained"], ordered=told["ordered"], served_revision=served
    )


def order(plan: plans.Plan, *steps: Step) -> bool:
    """Whether the plan has these steps, in this order."""
    places = [plan.steps.index(step) for step in steps if step in plan.steps]
    return len(places) == len(steps) and places == sorted(places)
