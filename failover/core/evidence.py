"""From what was received to what it proves (design, section 5).

`read` condenses an observation into a `Cell`: one value on each axis of the rule table. Deadlines live here and nowhere
else: an axis says REFUSED, HALF or SILENT only once it has been so for as long as a node of this worth has to wait.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from failover.core.lease import NEVER
from failover.core.lineage import Relation, Side, fence_row, relate
from failover.core.model import Answer, DataState, Health, Kind, Mode, Role, Sync

if TYPE_CHECKING:
    from failover.core.model import Durable, Heartbeat, LineageEntry, PeerProbe, PostgresStatus
    from failover.core.observation import Observation
    from failover.core.timing import Timing


class Peer(StrEnum):
    """What is known of the peer."""

    LEADS = "leads"
    PROMOTES = "promotes"
    FOLLOWS = "follows"
    STARTS = "starts"  # heard, and it neither leads nor follows
    HANDS_OVER = "hands_over"  # its word that it will not write again
    UNSURE = "unsure"  # not heard, not lost for long enough; or a leader whose Postgres is down
    REFUSED = "refused"  # its kernel answers, its processes are gone
    HALF = "half"  # its supervisor is silent, its Postgres lives
    SILENT = "silent"  # nothing answers on any path


LOST = frozenset({Peer.REFUSED, Peer.HALF, Peer.SILENT})
HEARD = frozenset({Peer.LEADS, Peer.PROMOTES, Peer.FOLLOWS, Peer.STARTS, Peer.HANDS_OVER})


class Worth(StrEnum):
    """What this node's data is worth if it has to lead on it."""

    SYNCED = "synced"  # it has every acknowledged write, or had until the peer fell silent
    VOIDED = "voided"  # it had, before a stall or a pause
    STALE = "stale"  # complete, but the peer may have gone on without it
    SOLE = "sole"  # writes were acknowledged here alone
    UNFIT = "unfit"  # empty, half copied, or the loser's side of an accepted verdict


class Postgres(StrEnum):
    """The own Postgres."""

    OPEN = "open"  # Kine may use it
    CLOSED = "closed"  # up, and fenced at its start or by a term below the own one; or its waits do not fit
    OUTRANKED = "outranked"  # up, and fenced by a term that is not below the own one (R19)
    DOWN = "down"  # gone, or no answer in time


class Stream(StrEnum):
    """Replication, from this node's end."""

    FLOWING = "flowing"
    READY = "ready"  # leader: the follower streams and says that it is ready to be in sync
    STUCK = "stuck"  # leader: a commit waits for longer than degrade_after
    UNANSWERED = "unanswered"  # leader: stuck, and the lease of the follower that was asked to renounce has ended
    RENOUNCED = "renounced"  # leader: the follower has given in_sync up
    GHOSTS = "ghosts"  # leader, promoted lightly: the old leader had rows that this data lacks
    CRAMPED = "cramped"  # leader: in sync, and its own disk is nearly full
    BROKEN = "broken"  # follower: no subscription, or one that cannot go on


class Cell(msgspec.Struct, frozen=True):
    """One point of the rule table."""

    role: Role
    peer: Peer
    relation: Relation
    worth: Worth
    postgres: Postgres
    stream: Stream
    paused: bool
    isolated: bool


class Policy(msgspec.Struct, frozen=True):
    """What an operator may choose."""

    mode: Mode = Mode.ZERO_LOSS
    step_down_when_isolated: bool = False


def read(seen: Observation, timing: Timing, policy: Policy) -> Cell:
    """Condense an observation into the cell of the rule table that it lies in."""
    worth = own_worth(seen, timing)
    peer = peer_view(seen, worth, timing)
    alone_by_choice = seen.role is Role.LEADER and not policy.step_down_when_isolated
    ordered = seen.role is Role.PROMOTING and seen.ordered
    return Cell(
        role=seen.role,
        peer=peer,
        relation=relation(seen),
        worth=worth,
        postgres=own_postgres(seen),
        stream=stream(seen, timing, policy),
        paused=seen.paused and not ordered,
        isolated=seen.isolated and peer not in HEARD and not alone_by_choice and not ordered,
    )


def next_change_s(seen: Observation, timing: Timing, *, silent: bool) -> float:
    """Return a moment before which `read` says of this observation what it says now, if nothing comes in; inf for never.

    Each deadline here is one of a few durations after one of a few moments. Which of them count now does not matter: a moment
    at which nothing changes costs one look. One that is just now counts: what `read` subtracts may be rounded otherwise.
    `silent`: a heartbeat is missing; as long as none is, the next one moves the end of what the newest says, and is not waited
    for.
    """
    heard_s = seen.heard.at_s if seen.heard is not None else NEVER
    moments = (
        heard_s, seen.started_s, seen.stalled_s, seen.peer_served_s, seen.peer_postgres_seen_s, seen.lease.voided_s,
        seen.granted_s, seen.isolated_s,
    )  # fmt: skip
    durations = (
        timing.promote_after_s, timing.degrade_after_s, timing.grace_s, timing.boot_wait_s, timing.long_wait_s,
    )  # fmt: skip
    longest_s, now_s = max(durations), seen.now_s
    dues = [moment + duration for moment in moments if moment + longest_s >= now_s for duration in durations]
    if silent:
        dues.append(heard_s + 2 * timing.heartbeat_s)
    return min([due_s for due_s in dues if due_s >= now_s], default=float("inf"))


def own_worth(seen: Observation, timing: Timing) -> Worth:
    """Say what the own data is worth; a follower's comes from its lease, a starting node's from its lineage."""
    status, durable = seen.postgres, seen.durable
    if durable.acceptance is not None:
        return Worth.UNFIT
    if status is not None and (status.data is not DataState.COMPLETE or not status.lineage):
        return Worth.UNFIT
    if seen.role is Role.LEADER:
        return Worth.SYNCED if seen.sync is Sync.IN_SYNC else Worth.SOLE
    if seen.role in (Role.FOLLOWER, Role.PROMOTING):
        if status is None or seen.lease.head != status.lineage[-1].id:
            return Worth.STALE
        return Worth.VOIDED if seen.lease.ends_s <= seen.lease.voided_s else Worth.SYNCED
    if status is None or seen.health is not Health.UP:
        led_in_sync = durable.role is Role.LEADER and durable.synced_head is not None and durable.handed_over is None
        comes = seen.now_s - seen.started_s < timing.promote_after_s  # it gets its time to come up, or to be looked at
        return Worth.SYNCED if led_in_sync and not comes else Worth.STALE
    head = status.lineage[-1]
    if head.node != seen.me or durable.handed_over == head.id or relation(seen) is Relation.BEHIND:
        return Worth.STALE
    return Worth.SYNCED if head.kind is Kind.SYNCED else Worth.SOLE


def own_postgres(seen: Observation) -> Postgres:
    """Say whether the own Postgres is there and whether Kine may use it."""
    status = seen.postgres
    if seen.health is not Health.UP or status is None:
        return Postgres.DOWN
    if status.is_open:
        return Postgres.OPEN if waits_fit(seen) else Postgres.CLOSED
    return Postgres.CLOSED if status.fence_term < led_term(seen) else Postgres.OUTRANKED


def waits_fit(seen: Observation) -> bool:
    """Whether an open database waits for the follower just as its lineage says; a crash may leave it otherwise."""
    own = _own_head(seen)
    if own is None:
        return True
    assert seen.postgres is not None
    return (own.kind is Kind.SYNCED) == bool(seen.postgres.waits_for)


def led_term(seen: Observation) -> int:
    """Return the term of the leadership that this node's data is under, -1 when it is not this node's."""
    own = _own_head(seen)
    return own.term if own is not None else -1


def _own_head(seen: Observation) -> LineageEntry | None:
    """Return the newest row of this node's data if it is this node's."""
    newest = seen.postgres.lineage[-1:] if seen.postgres is not None else ()
    return next((row for row in newest if row.node == seen.me), None)


def relation(seen: Observation) -> Relation:
    """Compare the own lineage with the peer's, as far as both are known."""
    if seen.postgres is None or seen.heard is None:
        return Relation.UNKNOWN
    theirs = seen.heard.heartbeat
    if not theirs.postgres_ok and not seen.peer_lineage:
        return Relation.UNKNOWN
    if (seen.peer_lineage[-1].id if seen.peer_lineage else "") != theirs.head:
        return Relation.UNKNOWN  # its newest rows are still under way
    status = seen.postgres
    head = status.lineage[-1].id if status.lineage else ""
    mine = Side(seen.me, status.lineage, status.visible_revision, _may_lead(status, seen.durable, head))
    found = relate(mine, Side(theirs.node, seen.peer_lineage, theirs.visible_revision, _their_may_lead(theirs)))
    follows = seen.role is Role.FOLLOWER and theirs.role is Role.LEADER
    return Relation.EQUAL_THEIRS if follows and _stream_is_quicker(mine, theirs) else found


def _stream_is_quicker(mine: Side, leader: Heartbeat) -> bool:
    """Whether what a follower has beyond its leader's last word is that leader's own: rows that came before the word did."""
    ids = [entry.id for entry in mine.lineage]
    beyond = mine.lineage[ids.index(leader.head) + 1 :] if leader.head in ids else ()
    return bool(beyond) and all(entry.node == leader.node for entry in beyond)


def _may_lead(status: PostgresStatus, durable: Durable, head: str) -> bool:
    complete = status.data is DataState.COMPLETE
    return complete and durable.acceptance is None and durable.handed_over != head


def _their_may_lead(theirs: Heartbeat) -> bool:
    return (
        theirs.data is DataState.COMPLETE
        and theirs.acceptance is None
        and theirs.hand_over is None
        and (theirs.postgres_ok or theirs.role is Role.LEADER)
    )


def stream(seen: Observation, timing: Timing, policy: Policy) -> Stream:
    """Judge replication from this node's end."""
    status = seen.postgres
    if status is None:
        return Stream.BROKEN
    if seen.role is not Role.LEADER:
        return Stream.FLOWING if stream_flows(seen) else Stream.BROKEN
    heard = seen.heard.heartbeat if seen.heard is not None else None
    head = status.lineage[-1].id if status.lineage else ""
    if heard is not None and heard.ghosts_under == fence_row(status.lineage) and not seen.fenced_fully:
        return Stream.GHOSTS
    if seen.sync is Sync.IN_SYNC:
        if heard is not None and heard.renounced == head:
            return Stream.RENOUNCED
        if status.oldest_wait_s > timing.degrade_after_s:
            return Stream.UNANSWERED if _lease_has_ended(seen, timing) else Stream.STUCK
        return Stream.CRAMPED if seen.disk_nearly_full else Stream.FLOWING
    ready = heard is not None and heard.ready_for == head and heard.role is Role.FOLLOWER
    streams = status.standby is not None and status.standby.streaming
    wanted = policy.mode is Mode.ZERO_LOSS
    return Stream.READY if ready and streams and wanted else Stream.FLOWING


def stream_flows(seen: Observation) -> bool:
    """Whether the own subscription is there, switched on, and can go on."""
    subscription = seen.postgres.subscription if seen.postgres is not None else None
    return subscription is not None and subscription.enabled and not seen.stream_failed


def _lease_has_ended(seen: Observation, timing: Timing) -> bool:
    """Whether the follower's lease has ended although it is heard: it was asked to renounce, and nothing extends it since.

    Its answer has to be durable first, and its disk may be what hangs.
    """
    return seen.asks_renounce and seen.now_s - max(seen.granted_s, seen.started_s) >= timing.degrade_after_s


def peer_view(seen: Observation, worth: Worth, timing: Timing) -> Peer:
    """Say what is known of the peer, with the patience that a node of this worth needs."""
    heard, now = seen.heard, seen.now_s
    if heard is not None and now - heard.at_s < 2 * timing.heartbeat_s:
        said = _said(heard.heartbeat)
        if said in (Peer.FOLLOWS, Peer.STARTS) and _was_told(seen, timing):
            return Peer.PROMOTES
        if said is not Peer.UNSURE and not (said is Peer.HANDS_OVER and _must_not_take(seen, worth)):
            return said
        # A supervisor that has just started has not looked yet: as long as its Postgres is seen, it gets its time.
        since_s = max(seen.peer_served_s, seen.started_s, seen.stalled_s, seen.peer_postgres_seen_s)
        return Peer.SILENT if now - since_s >= patience_s(seen, worth, timing) else Peer.UNSURE
    watching_s = max(seen.started_s, seen.stalled_s, seen.lease.voided_s if worth is Worth.VOIDED else NEVER)
    may_lead_on = seen.role is Role.LEADER
    if not may_lead_on:  # whoever is cut off can hear nobody, and its way to the peer may be back last
        watching_s = max(watching_s, seen.now_s if seen.isolated else seen.isolated_s)
    heard_s = max(watching_s, heard.at_s if heard is not None else NEVER)
    if now - max(heard_s, seen.peer_postgres_seen_s) >= patience_s(seen, worth, timing):
        return Peer.SILENT
    settled = worth in (Worth.SYNCED, Worth.SOLE) and seen.role is not Role.STARTING
    if settled and (may_lead_on or not seen.isolated) and refused_twice(seen, timing):
        return Peer.REFUSED
    lives = now - seen.peer_postgres_seen_s < timing.promote_after_s
    return Peer.HALF if lives and now - heard_s >= _grace_s(seen, worth, timing) else Peer.UNSURE


def patience_s(seen: Observation, worth: Worth, timing: Timing) -> float:
    """Return how long this node has to hear nothing before it may take the peer for gone, seconds."""
    if seen.role is Role.LEADER:
        return timing.degrade_after_s
    if seen.role in (Role.FOLLOWER, Role.PROMOTING):
        return timing.promote_after_s if worth in (Worth.SYNCED, Worth.VOIDED) else timing.long_wait_s
    return timing.boot_wait_s if worth is Worth.SOLE else max(timing.long_wait_s, timing.degrade_after_s)


def refused_twice(seen: Observation, timing: Timing) -> bool:
    """Whether the last two rounds of probes, apart, and after the last message, were refused on every port and path."""
    if seen.heard is None or len(seen.probes) != 2:  # noqa: PLR2004 - the rule says twice
        return False
    last, newest = seen.probes
    if last.at_s <= seen.heard.at_s or newest.at_s - last.at_s < timing.probe_gap_s * 0.75:
        return False
    return _all_refused(last) and _all_refused(newest)


def _all_refused(probe: PeerProbe) -> bool:
    answers = probe.agent + probe.postgres
    return bool(answers) and all(answer is Answer.REFUSED for answer in answers)


def _said(heartbeat: Heartbeat) -> Peer:
    if heartbeat.hand_over is not None:
        return Peer.HANDS_OVER
    if heartbeat.role not in (Role.FOLLOWER, Role.PROMOTING) and not heartbeat.postgres_ok:
        return Peer.UNSURE  # it cannot serve, and it cannot say what its data is
    if heartbeat.role is Role.LEADER:
        return Peer.LEADS
    if heartbeat.role is Role.PROMOTING:
        return Peer.PROMOTES
    return Peer.FOLLOWS if heartbeat.role is Role.FOLLOWER else Peer.STARTS


def _was_told(seen: Observation, timing: Timing) -> bool:
    """Whether the peer has lately been told to take over: it is about to lead, even if it does not say so yet."""
    newest = seen.postgres.lineage[-1:] if seen.postgres is not None else ()
    gave = any(row.id == seen.durable.handed_over for row in newest)
    return gave and seen.role is Role.STARTING and seen.now_s - seen.started_s < timing.degrade_after_s


def _must_not_take(seen: Observation, worth: Worth) -> bool:
    """A follower without a lease takes a leader's word only if nothing can have been acknowledged without it.

    That is so when the word says it, and when the leadership that is given away is the in_sync one that this data ends
    with: the leader may have died before any heartbeat renewed the lease for it.
    """
    assert seen.heard is not None
    theirs = seen.heard.heartbeat
    word, own = theirs.hand_over, seen.postgres.lineage[-1:] if seen.postgres is not None else ()
    assert word is not None
    covered = any(row.kind is Kind.SYNCED and row.id == theirs.head for row in own)
    return seen.role is Role.FOLLOWER and worth is Worth.STALE and not (word.drained or covered)


def _grace_s(seen: Observation, worth: Worth, timing: Timing) -> float:
    if seen.role is Role.LEADER:
        return timing.degrade_after_s
    long = worth is Worth.STALE or seen.role is Role.STARTING
    return max(timing.grace_s, patience_s(seen, worth, timing)) if long else timing.grace_s
