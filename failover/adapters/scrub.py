"""Scrub: the leader's rows and the follower's compared while writes flow, exactly, and without being felt.

Windows of revisions are digested on both; what differs is compared row by row, again and again. A row counts as different
only when it shows up the same way in two rounds that follow each other. That is exact: before the follower is read in a round
it has applied all that the leader showed, every write that the follower may have shown is over on the leader before that is
read again (it shows a write last: when the follower has acknowledged it), a revision is never given twice, and a row never
goes back to a content that it had before. So a row that the leader shows in both rounds has been there in between, when the
follower lacked it; and a row that the leader lacks in both and the follower has in both was gone for good, or never there,
before the follower was read the second time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from failover.adapters import sql_files
from failover.adapters.postgres import POLL_S, until_flushed
from failover.adapters.sessions import PostgresTimeouts, Session, Sessions
from failover.ports import PeerPostgresError, PortError, PostgresDownError, PostgresHungError, ScrubReport

CHUNK = 1024  # revisions in a line of digest_range.sql
WINDOW = 64 * CHUNK  # revisions that one statement reads
BEGIN = -(1 << 62)  # no revision is below 1, and a row that says so must be found as well
ROUNDS_MAX = 6  # of comparing the same rows again
DIFFERENT_MAX = 1000  # rows that are named; a scrub that has found so many ends there
PAUSE_MAX_S = 5.0


@dataclass(slots=True)
class _Found:
    """What has come of a scrub so far."""

    rows: int = 0
    again: int = 0
    missing: list[int] = field(default_factory=list)
    extra: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    unsettled: int = 0

    @property
    def different(self) -> int:
        """Return how many rows differ."""
        return len(self.missing) + len(self.extra) + len(self.changed)


class Scrubber:
    """Implements `ports.Scrub`."""

    def __init__(self, own_conninfo: str, peer_conninfo: str, timeouts: PostgresTimeouts) -> None:
        self._own = Sessions(own_conninfo, timeouts, "the own Postgres")
        self._peer = Sessions(peer_conninfo, timeouts, "the peer's Postgres")
        self._timeouts = timeouts

    async def scrub(self, *, leads: bool, share: float) -> ScrubReport:
        """Compare the whole table; see `ports.Scrub`."""
        began_s = time.monotonic()
        try:
            async with (
                asyncio.timeout(self._timeouts.copy_s),
                self._own.apart("scrub", PostgresDownError) as own,
                self._peer.apart("scrub", PeerPostgresError) as peer,
            ):
                leader, follower = (own, peer) if leads else (peer, own)
                found = await self._all(leader, follower, share)
        except TimeoutError:
            raise PortError(f"a scrub did not get through within {self._timeouts.copy_s:g} s") from None
        return ScrubReport(
            rows=found.rows,
            compared_again=found.again,
            missing=tuple(found.missing),
            extra=tuple(found.extra),
            changed=tuple(found.changed),
            unsettled=found.unsettled,
            seconds=time.monotonic() - began_s,
        )

    async def _all(self, leader: Session, follower: Session, share: float) -> _Found:
        standby = await self._standby(leader)
        found, low = _Found(), BEGIN
        tops = await asyncio.gather(_next(leader, low), _next(follower, low))
        end = max((top or 0 for _, top in tops), default=0) + 1
        while found.different < DIFFERENT_MAX:
            firsts = [first for first, _ in await asyncio.gather(_next(leader, low), _next(follower, low))]
            there = [first for first in firsts if first is not None and first < end]
            if not there:
                break
            low = min(there) // CHUNK * CHUNK
            high = min(low + WINDOW, end)
            began_s = time.monotonic()
            await self._window(leader, follower, standby, low, high, found)
            low = high
            await asyncio.sleep(min(PAUSE_MAX_S, (time.monotonic() - began_s) * (1 / share - 1)))
        if await self._standby(leader) != standby:
            raise PortError("the follower has begun to follow anew meanwhile; what was found says nothing")
        return found

    async def _standby(self, leader: Session) -> str:
        rows = await sql_files.run(leader, "streaming_standby")
        if not rows:
            raise PortError("the follower does not stream from the leader; a scrub needs it to")
        return str(rows[0]["name"])

    async def _window(
        self, leader: Session, follower: Session, standby: str, low: int, high: int, found: _Found
    ) -> None:
        there = await self._digests(leader, low, high)
        await self._applied(leader, standby)
        here = await self._digests(follower, low, high)
        found.rows += sum(rows for rows, _ in there.values())
        chunks = sorted(chunk for chunk in there.keys() | here.keys() if there.get(chunk) != here.get(chunk))
        found.again += len(chunks)
        if chunks:
            await self._settle(leader, follower, standby, chunks, high, found)

    async def _settle(
        self, leader: Session, follower: Session, standby: str, chunks: list[int], high: int, found: _Found
    ) -> None:
        """Compare these chunks again until each row that differed at first is explained, or shown to differ."""
        waiting: dict[int, tuple[int | None, int | None]] = {}
        for number in range(ROUNDS_MAX):
            there = await self._contents(leader, chunks, high)
            await self._applied(leader, standby)
            here = await self._contents(follower, chunks, high)
            now = {
                one: (there.get(one), here.get(one))
                for one in there.keys() | here.keys()
                if there.get(one) != here.get(one)
            }
            if number == 0:
                waiting = now
            else:
                for one in [one for one, pair in waiting.items() if now.get(one) == pair]:
                    _sort_in(one, waiting.pop(one), found)
                waiting = {one: now[one] for one in waiting if one in now}
            if not waiting:
                return
            chunks = sorted({one // CHUNK for one in waiting})
            await self._written(leader)
        found.unsettled += len(waiting)

    async def _applied(self, leader: Session, standby: str) -> None:
        """Return when the follower has applied all that the leader shows now."""
        lsn = int((await sql_files.run(leader, "wal_position"))[0]["lsn"])
        try:
            async with asyncio.timeout(self._timeouts.drain_s):
                await until_flushed(leader, standby, lsn)
        except TimeoutError:
            raise PortError(
                f"the follower has not caught up within {self._timeouts.drain_s:g} s; try again when it has"
            ) from None

    async def _written(self, leader: Session) -> None:
        """Return when every write of the leader's that is under way now is over."""
        number = int((await sql_files.run(leader, "new_transaction"))[0]["number"])
        try:
            async with asyncio.timeout(self._timeouts.drain_s):
                while int((await sql_files.run(leader, "oldest_transaction"))[0]["number"]) < number:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise PortError(
                f"a transaction has been under way in the leader's Postgres for {self._timeouts.drain_s:g} s; "
                "see pg_stat_activity there, and try again when it has ended"
            ) from None

    async def _digests(self, session: Session, low: int, high: int) -> dict[int, tuple[int, int]]:
        rows = await self._ask(session, "digest_range", low=low, high=high)
        return {row["chunk"]: (row["rows"], row["digest"]) for row in rows}

    async def _contents(self, session: Session, chunks: list[int], high: int) -> dict[int, int]:
        rows = await self._ask(session, "chunk_rows", chunks=chunks)
        return {row["id"]: row["content"] for row in rows if row["id"] < high}

    async def _ask(self, session: Session, name: str, **values: object) -> list[sql_files.Row]:
        try:
            async with asyncio.timeout(self._timeouts.statement_s):
                return await sql_files.run(session, name, **values)
        except TimeoutError:
            raise PostgresHungError(f"no answer to a scrub within {self._timeouts.statement_s:g} s") from None


async def _next(session: Session, low: int) -> tuple[int | None, int | None]:
    row = (await sql_files.run(session, "next_id", low=low))[0]
    return row["id"], row["newest"]


def _sort_in(one: int, contents: tuple[int | None, int | None], found: _Found) -> None:
    there, here = contents
    (found.missing if here is None else found.extra if there is None else found.changed).append(one)
