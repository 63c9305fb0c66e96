"""What one run of a node remembers: volatile, gone with the process, and never the only place of a promise."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import structs

from failover.core.clocks import NOTHING_KNOWN, SAMPLES_KEPT, Sample, best, sample
from failover.core.lease import NEVER, VOID, Lease
from failover.core.model import Answer, Health, Heard, Kind, Role, Sync
from failover.core.observation import Observation, Request
from failover.node.timings import Timings

if TYPE_CHECKING:
    from failover.core.model import (
        Durable,
        HandOver,
        Heartbeat,
        Lineage,
        Mode,
        PeerProbe,
        PostgresStatus,
        Subscription,
        SwitchPhase,
        Verdict,
    )
    from failover.core.timing import Timing
    from failover.ports import Progress

SENT_KEPT = 128  # own heartbeats whose echo is still of use


HEARD_LATELY_S = 1.0
STREAM_PATIENCE_S = 10.0  # a leader is heard, and its stream says nothing for so long
APPLY_ERRORS_MAX = 3
AWAY_S = 5.0  # a leader that was not heard for so long gets its whole time again


@dataclass(slots=True)
class StreamWatch:
    """Whether a subscription cannot go on by itself: its slot is lost, or applying fails again and again.

    Only time in which the leader is heard counts as the stream's silence. A moment without it does not begin the count
    anew: a machine that is busy has one every few seconds, and would never come to the end.
    """

    name: str = ""
    alive_s: float = NEVER  # the stream's last word
    silent_s: float = 0.0  # for how long it has said nothing while the leader was heard
    looked_s: float = NEVER
    heard_s: float = NEVER
    errors_before: int = 0
    failed: bool = False

    def look(self, subscription: Subscription | None, now_s: float, *, leader_heard: bool) -> None:
        """Take a look at the subscription in."""
        passed_s = now_s - max(self.looked_s, now_s - HEARD_LATELY_S)
        self.looked_s = now_s
        if subscription is None or subscription.name != self.name:
            self.name = subscription.name if subscription is not None else ""
            self.errors_before = subscription.apply_errors if subscription is not None else self.errors_before
            self.alive_s, self.silent_s, self.failed = now_s, 0.0, False
            return
        if leader_heard:
            self.heard_s = now_s
        last_s = now_s - subscription.heard_age_s
        if last_s > self.alive_s or now_s - self.heard_s > AWAY_S:
            self.alive_s, self.silent_s = max(last_s, self.alive_s), 0.0
        elif leader_heard:
            self.silent_s += passed_s
        if leader_heard:
            errors = subscription.apply_errors - self.errors_before
            self.failed = self.failed or self.silent_s > STREAM_PATIENCE_S or errors >= APPLY_ERRORS_MAX


@dataclass(slots=True)
class Memory:
    """Everything that a node has sensed and not yet forgotten."""

    durable: Durable
    boot: str
    started_s: float
    role: Role = Role.STARTING
    health: Health = Health.DOWN
    postgres: PostgresStatus | None = None
    going_alone: bool = False  # in_sync is not said any more from the moment that going alone was decided
    heard: Heard | None = None
    peer_lineage: Lineage = ()
    peer_served_s: float = NEVER
    peer_postgres_seen_s: float = NEVER
    probes: deque[PeerProbe] = field(default_factory=lambda: deque(maxlen=2))
    stalled_s: float = NEVER
    lease: Lease = VOID
    stream: StreamWatch = field(default_factory=StreamWatch)
    fenced_fully: bool = False
    isolated: bool = False
    isolated_s: float = NEVER
    disk_nearly_full: bool = False
    slot_near: bool = False  # the WAL kept for the follower nears its limit
    leaving: bool = False
    request: Request | None = None
    wish: tuple[str, float] | None = None  # a follower's operator wants it to lead: id, and when that is given up
    wish_heard: str = ""  # the peer's newest wish, so that each is granted or refused once
    switching: SwitchPhase | None = None
    hand_over: HandOver | None = None
    asks_renounce: bool = False
    granted_s: float = NEVER
    verdict: Verdict | None = None
    served_revision: int = 0
    seq: int = 0
    sent: OrderedDict[int, tuple[float, int, bool]] = field(default_factory=OrderedDict)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_KEPT))
    clock: Sample = NOTHING_KNOWN  # the best of them
    peer_pause_ends_s: float = NEVER
    progress: Progress | None = None
    halted: str | None = None  # what a person has to do
    ordered: bool = False  # the promotion under way, by an operator
    taken_term: int = -1  # the term that this run took last; nobody has led in it while no lineage row says so
    timings: Timings = field(default_factory=Timings)

    @property
    def me(self) -> int:
        """Return the own number, 0 or 1."""
        return self.durable.node

    @property
    def head(self) -> str:
        """Return the id of the newest own lineage row, "" without any."""
        return self.postgres.lineage[-1].id if self.postgres is not None and self.postgres.lineage else ""

    @property
    def sync(self) -> Sync:
        """Derive a leader's sync state from its lineage: the row is the state."""
        status = self.postgres
        if self.role is not Role.LEADER or status is None or not status.lineage:
            return Sync.ALONE
        if status.lineage[-1].kind is Kind.SYNCED and not self.going_alone:
            return Sync.IN_SYNC
        return Sync.CATCHING_UP if status.standby is not None and status.standby.streaming else Sync.ALONE

    def observe(self, now_s: float, wall_us: int) -> Observation:
        """Return all of it as one value, for the core."""
        clock = self.clock
        return Observation(
            now_s=now_s,
            wall_us=wall_us,
            me=self.me,
            started_s=self.started_s,
            durable=self.durable,
            role=self.role,
            sync=self.sync,
            health=self.health,
            postgres=self.postgres,
            heard=self.heard,
            peer_lineage=self.peer_lineage,
            peer_served_s=self.peer_served_s,
            peer_postgres_seen_s=self.peer_postgres_seen_s,
            probes=tuple(self.probes),
            stalled_s=self.stalled_s,
            lease=self.lease,
            stream_failed=self.stream.failed,
            fenced_fully=self.fenced_fully,
            isolated=self.isolated,
            isolated_s=self.isolated_s,
            paused=self.durable.paused_until_us > wall_us or self.peer_pause_ends_s > now_s,
            ordered=self.ordered,
            request=self.request,
            switching=self.switching,
            disk_nearly_full=self.disk_nearly_full,
            asks_renounce=self.asks_renounce,
            granted_s=self.granted_s,
            leaving=self.leaving,
            clock_offset_us=clock.offset_us if self.me == 0 else -clock.offset_us,
            clock_uncertainty_us=clock.uncertainty_us,
        )

    def hear(self, heartbeat: Heartbeat, now_s: float, wall_us: int, timing: Timing, mode: Mode) -> bool:
        """Take a heartbeat in; False for one that is not newer than what was heard already (R6)."""
        before = self.heard.heartbeat if self.heard is not None else None
        if before is not None and before.boot == heartbeat.boot and heartbeat.seq <= before.seq:
            return False
        if before is not None and before.boot != heartbeat.boot and heartbeat.wall_us < before.wall_us - BOOT_SKEW_US:
            return False  # an earlier run of the peer, delivered late
        sent = self.sent.get(heartbeat.echo_seq) if heartbeat.echo_boot == self.boot else None
        if sent is not None:
            self.samples.append(sample(sent[1], heartbeat.echo_wall_us, heartbeat.wall_us, wall_us))
            self.clock = best(tuple(self.samples))
        echoed_s = sent[0] if sent is not None and sent[2] else None
        self.heard = Heard(heartbeat, now_s, echoed_s, heartbeat.echo_boot == self.boot)
        if heartbeat.lineage or (heartbeat.postgres_ok and not heartbeat.head):
            self.peer_lineage = heartbeat.lineage  # a database that answers and is empty has none any more
        elif heartbeat.head == self.head and self.postgres is not None:
            self.peer_lineage = self.postgres.lineage
        if heartbeat.role in (Role.LEADER, Role.PROMOTING) and heartbeat.postgres_ok:
            self.peer_served_s = now_s
        self.peer_pause_ends_s = now_s + heartbeat.paused_for_s if heartbeat.paused_for_s > 0 else NEVER
        if self.role is Role.FOLLOWER and heartbeat.head != self.durable.renounced:
            self.lease = self.lease.extend(heartbeat, echoed_s, self.head, timing.degrade_after_s, mode=mode)
        return True

    def remember_sent(self, seq: int, now_s: float, wall_us: int, *, follows: bool) -> None:
        """Keep when a heartbeat was sent, and whether it was a healthy follower's: only such a one carries a lease."""
        self.sent[seq] = (now_s, wall_us, follows)
        while len(self.sent) > SENT_KEPT:
            self.sent.popitem(last=False)

    def probed(self, probe: PeerProbe) -> None:
        """Take a round of probes in: a connection that the peer's kernel accepts is life."""
        self.probes.append(probe)
        if Answer.OPEN in probe.agent + probe.postgres:
            self.peer_postgres_seen_s = max(self.peer_postgres_seen_s, probe.at_s)

    def looked(self, status: PostgresStatus, now_s: float) -> None:
        """Take a look at the own Postgres in; the stream's last word is a sign of the peer's life."""
        self.postgres = status
        self.health = Health.UP
        ages = [status.subscription.heard_age_s] if status.subscription is not None else []
        ages += [status.standby.heard_age_s] if status.standby is not None else []
        heard = self.heard is not None and now_s - self.heard.at_s < HEARD_LATELY_S
        self.stream.look(status.subscription, now_s, leader_heard=heard)
        for age_s in ages:
            self.peer_postgres_seen_s = max(self.peer_postgres_seen_s, now_s - age_s)
        if self.heard is not None and self.heard.heartbeat.head == self.head:
            self.peer_lineage = status.lineage

    def stalled(self, now_s: float, *, clock_jumped: bool) -> None:
        """Note that this node did not run for a while: deadlines start again; a jump of the clocks voids the lease."""
        self.stalled_s = now_s
        self.probes.clear()
        if clock_jumped:
            self.sent.clear()
            self.samples.clear()  # what was measured against the clock before is worth nothing any more (R8)
            self.clock = NOTHING_KNOWN
            self.lease = self.lease.void(now_s)

    def write(self, **changes: object) -> Durable:
        """Return the durable state with changes, for saving; it is taken in when it has been saved."""
        return structs.replace(self.durable, **changes)


BOOT_SKEW_US = 5_000_000  # how far a peer's clock may step back over a restart of its supervisor
