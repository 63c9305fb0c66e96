"""One look at the own Postgres: what the statement tells, and what follows from the looks before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from failover.adapters import sql_files
from failover.core.model import DataState, LastChange, Lineage, LineageEntry, PostgresStatus, Standby, Subscription
from failover.ports import PostgresDownError

if TYPE_CHECKING:
    from failover.adapters.sessions import Session
    from failover.ports import Clock

NAMES_KEPT = 64  # of streams whose stamps are remembered; there are few, and old ones need not be kept


class _Standby(msgspec.Struct):
    name: str
    streaming: bool | None
    flush_lsn: int
    reply: float | None  # the follower's clock, seconds since the epoch
    flush_lag: float  # seconds


class _Subscription(msgspec.Struct):
    name: str
    enabled: bool
    worker: bool
    received: float | None  # this server's clock, seconds since the epoch
    age: float | None  # seconds since then, on the same clock
    tables_ready: bool
    apply_errors: int


class _NewestChange(msgspec.Struct):
    revision: int
    commit_us: int | None


class _Told(msgspec.Struct):
    """What sql/status.sql yields."""

    started_at_us: int
    data: DataState
    fence_term: int
    lineage_version: str
    lineage: Lineage | None  # None: as in the look before
    visible_revision: int
    wal_lsn: int
    is_open: bool | None
    waits_for: str
    standby: _Standby | None
    oldest_wait_s: float
    subscription: _Subscription | None
    last_change: _NewestChange | None
    changes: int
    slot_bytes: int
    slot_limit_bytes: int


_DECODER = msgspec.json.Decoder(_Told)


class Look:
    """The looks at one Postgres, one after the other."""

    def __init__(self, clock: Clock, kine_role: str) -> None:
        self._clock = clock
        self._kine_role = kine_role
        self._lineage: tuple[str, Lineage] = ("", ())  # with its version
        self._ages = _Ages(clock)
        self._changes = _Changes(clock)
        self._waits = _Waits(clock)

    async def take(self, session: Session) -> PostgresStatus:
        """Look once. Raises PostgresDownError where the database holds no node, psycopg.Error."""
        raw = await sql_files.ask(
            session, "status", scanned=self._changes.scanned, known=self._lineage[0], kine_role=self._kine_role
        )
        if raw is None:
            raise PostgresDownError(
                "the own Postgres has no row in kine_failover.local_state; run `kine-failover init`"
            )
        return self._read(_DECODER.decode(raw))

    def wait_anew(self) -> None:
        """Forget for how long commits have waited: whom they wait for was just changed."""
        self._waits = _Waits(self._clock)

    def _read(self, told: _Told) -> PostgresStatus:
        if told.lineage is not None:
            self._lineage = (told.lineage_version, told.lineage)
        lineage = self._lineage[1]
        last_change, changes = self._changes.take(told.last_change, told.changes, told.visible_revision, lineage)
        standby, stream = told.standby, told.subscription
        status = PostgresStatus(
            started_at_us=told.started_at_us,
            data=told.data,
            lineage=lineage,
            visible_revision=told.visible_revision,
            wal_lsn=told.wal_lsn,
            is_open=bool(told.is_open),
            fence_term=told.fence_term,
            waits_for=standby_name(told.waits_for),
            standby=None
            if standby is None
            else Standby(
                standby.name,
                bool(standby.streaming),
                standby.flush_lsn,
                self._ages.of(f"standby {standby.name}", standby.reply),
                standby.flush_lag,
            ),
            oldest_wait_s=self._waits.take(told.oldest_wait_s, standby.flush_lsn if standby is not None else 0),
            subscription=None
            if stream is None
            else Subscription(
                stream.name,
                stream.enabled,
                stream.worker,
                self._ages.of(f"subscription {stream.name}", stream.received, stream.age),
                stream.tables_ready,
                stream.apply_errors,
            ),
            last_change=last_change,
            changes=changes,
            slot_bytes=told.slot_bytes,
            slot_limit_bytes=told.slot_limit_bytes if told.slot_limit_bytes >= 0 else None,
        )
        self._ages.looked()
        return status


class _Ages:
    """How long ago a time stamp last changed, on the own clock.

    It may be somebody else's: then all that counts is between which looks it changed. Where the server says how old it is
    by its own clock, that is taken, as far as it lies between them: a wall clock that is set makes nothing look dead.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}
        self._looked_s: float | None = None

    def of(self, name: str, stamp: float | None, told_s: float | None = None) -> float:
        """Return the age, seconds; inf without a stamp."""
        if stamp is None:
            return float("inf")
        now_s = self._clock.now_s()
        known = self._seen.get(name)
        if known is None or known[0] != stamp:
            if len(self._seen) > NAMES_KEPT:
                self._seen.clear()
            before_s = self._looked_s if known is not None and self._looked_s is not None else now_s
            known = (stamp, max(before_s, now_s - max(0.0, told_s or 0.0)))
            self._seen[name] = known
        return now_s - known[1]

    def looked(self) -> None:
        """A look is through: what changes from now on is younger."""
        self._looked_s = self._clock.now_s()


class _Waits:
    """How long commits have waited in vain. Impatient clients cancel theirs and come again, so the age of the oldest one
    that waits now says too little: what counts is that somebody waited and the follower has flushed nothing since.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: tuple[int, float] | None = None  # the follower's flush position, and when somebody waited there

    def take(self, oldest_s: float, flush_lsn: int) -> float:
        now_s = self._clock.now_s()
        if self._since is not None and flush_lsn > self._since[0]:
            self._since = None
        if self._since is None and oldest_s > 0:
            self._since = (flush_lsn, now_s - oldest_s)
        return now_s - self._since[1] if self._since is not None else 0.0


class _Changes:
    """The newest change and how many there were since the newest lineage row, read on from look to look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.scanned = 0
        self._head = ""
        self._changes = 0
        self._last: tuple[int, int, float | None] | None = None

    def take(
        self, newest: _NewestChange | None, fresh: int, visible: int, lineage: tuple[LineageEntry, ...]
    ) -> tuple[LastChange | None, int]:
        now_s = self._clock.now_s()
        first_look = self.scanned == 0
        if visible < self.scanned:  # another table: begin anew with the next look
            self.scanned, self._last, self._changes = 0, None, 0
            return None, 0
        head = lineage[-1].id if lineage else ""
        if head != self._head:
            self._head, self._changes = head, 0
        self._changes += fresh
        if newest is not None:
            seen_s = None if first_look else now_s
            self._last = (newest.revision, newest.commit_us or 0, seen_s)
        self.scanned = visible
        if self._last is None:
            return None, self._changes
        revision, commit_us, seen_s = self._last
        return LastChange(revision, commit_us, None if seen_s is None else now_s - seen_s), self._changes


def standby_name(setting: str) -> str:
    """Return the name in synchronous_standby_names, without its quotes."""
    return setting.strip().strip('"')
