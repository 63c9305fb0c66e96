"""Comparison and copy between the own Postgres and the leader's.

One mechanism for every case. A slot on the leader exports a snapshot; both tables are digested in chunks, the chunks that
differ are compared row by row. What only this node has is archived; then one transaction deletes it, copies what is
missing and takes the leader's lineage over. The stream goes on from the slot, so there is no moment in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import Identifier, Literal

from failover.adapters import sql_files
from failover.adapters.archive import Archive, object_line, row_line
from failover.adapters.lost_rows import Newest, Tables, lost
from failover.adapters.paths import KEEPALIVES, answering_first
from failover.adapters.postgres import POLL_S, drop_slots, dump_lineage
from failover.adapters.sessions import PostgresTimeouts, Session, Sessions
from failover.ports import (
    PeerPostgresError,
    PortError,
    PostgresDownError,
    PreconditionError,
    Progress,
    RejoinOrder,
    RejoinReport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from failover.adapters.postgres import OwnPostgres
    from failover.core.model import Acceptance

log = structlog.get_logger()

Item = TypeVar("Item")

BATCH = 5_000  # rows fetched at once
COPY_SHARE = 0.5  # more missing than this share of the table: a fresh table is cheaper than mending the old one
COPY_BLOCK = 256 * 1024  # bytes written at once: row by row, waiting costs more than copying
# How a subscription finds out that a path is dead. Postgres gives `connect_timeout` no effect there: the time-out of what is
# sent holds for connecting too (docs/facts.md).
STREAM = {"tcp_user_timeout": 3000, **KEEPALIVES}
COPY_ROWS = 20_000  # below this many rows it does not matter


@dataclass(frozen=True, slots=True)
class Difference:
    """Ids of rows, by where they are."""

    compared: int
    total_there: int
    extra: list[int]  # here, and not there or with another content there
    missing: list[int]  # there, and not here or with another content here


@dataclass(frozen=True, slots=True)
class Compared:
    """Both tables, each in a session, and how they differ."""

    own: Session
    leader: Session
    slot: str  # on the leader; it streams what has changed since
    lineage: list[dict[str, Any]]  # the leader's, at that moment
    difference: Difference


@dataclass(frozen=True, slots=True)
class Held:
    """What an archive has compared, in transactions that stand until the rejoin or for `held_s`: the servers end them then."""

    archive: str
    both: Compared
    sessions: contextlib.AsyncExitStack


class Rejoiner:
    """Implements `ports.Rejoin`."""

    def __init__(
        self,
        own: OwnPostgres,
        peer_conninfo: str,
        node: int,
        archive: Archive,
        timeouts: PostgresTimeouts,
        kine_role: str = "kine",
    ) -> None:
        self._own = own.sessions
        self._leader = Sessions(peer_conninfo, timeouts, "the leader's Postgres")
        self._peer_conninfo = peer_conninfo
        self._node = node
        self._archive = archive
        self._timeouts = timeouts
        self._kine_role = kine_role
        self._prepare = own.prepare
        self._detach = own.detach
        self._held: Held | None = None

    async def rejoin(
        self, order: RejoinOrder, progress: Callable[[Progress], None], before_loss: Callable[[], Awaitable[None]]
    ) -> RejoinReport:
        """Make the own data the leader's; see `ports.RejoinOrder`."""
        began_s = time.monotonic()
        async with self._compared(order) as both:
            difference = both.difference
            archive, only_here = await self._keep(both, order)
            if only_here:
                await before_loss()
            anew = difference.total_there > COPY_ROWS and len(difference.missing) > COPY_SHARE * difference.total_there
            mend = self._copy_anew if anew else self._mend
            copied, copied_bytes = await mend(both, progress, began_s)
        await self._stream_on(both.slot, order.leader_head)
        return RejoinReport(
            kind="copy" if anew else "incremental",
            rows_compared=difference.compared,
            rows_deleted=len(difference.extra),
            rows_copied=copied,
            bytes_copied=copied_bytes,
            seconds=time.monotonic() - began_s,
            archive=archive,
            only_here=only_here,
        )

    async def archive(self, acceptance: Acceptance) -> str:
        """Archive what differs from the winner's, before anything is dropped. Returns the archive's name.

        The rejoin that follows goes on from this comparison (`_compared`) instead of making it once more.
        """
        await self._let_go()
        await self._detach()  # nothing streams into what is compared
        slot = f"kf_{self._node}_{secrets.token_hex(4)}"
        try:
            sessions, own, leader = await self._sessions(slot)
        except PortError as error:  # a vacuum, or no slot to be had: clients wait for the archive
            log.info("this archive's comparison will not serve the rejoin", error=str(error))
            slot = ""
            sessions, own, leader = await self._sessions(slot)
        async with sessions:
            lineage = (await sql_files.run(leader, "lineage"))[0]["lineage"]
            # Contents of every row: where the two parted is for the comparison to find out.
            both = Compared(own, leader, slot, lineage, await compare(own, leader, 0))
            name = await self._write_split(both, acceptance)
            if slot:
                for session in (own, leader):
                    await sql_files.run(session, "idle_at_most", ms=round(self._timeouts.held_s * 1000))
                self._held = Held(name, both, sessions.pop_all())
        return name

    async def _sessions(self, slot: str) -> tuple[contextlib.AsyncExitStack, Session, Session]:
        """Sessions to both, for an archive: with a slot's name the own table is locked, and the slot streams what comes after."""
        async with contextlib.AsyncExitStack() as stack:
            own = await stack.enter_async_context(self._own.apart("archive", PostgresDownError))
            await stack.enter_async_context(own.transaction())
            if slot:
                await sql_files.run(own, "hold_still")
                leader = await stack.enter_async_context(self._snapshot(slot))
            else:
                leader = await stack.enter_async_context(self._leader.apart("archive", PeerPostgresError))
                await leader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return stack.pop_all(), own, leader

    async def _write_split(self, both: Compared, acceptance: Acceptance) -> str:
        extra = [row async for row in _rows(both.own, both.difference.extra)]
        lines = await _objects(both.own, both.leader, both.difference, {row["name"] for row in extra})
        rows = [row_line(row) for row in extra]
        verdict = acceptance.verdict
        header = {
            "why": "split",
            "node": self._node,
            "verdict": {"winner": verdict.winner, "choice": str(verdict.choice), "reason": verdict.reason},
            "head": verdict.loser_head,
            "other_head": verdict.winner_head,
            "objects": len(lines),
            "rows": len(rows),
            "at_us": time.time_ns() // 1000,
        }
        return await asyncio.to_thread(self._archive.write, f"split-{verdict.loser_head[:12]}", header, lines + rows)

    async def close(self) -> None:
        """Close all sessions."""
        await self._let_go()
        await self._leader.close()

    @contextlib.asynccontextmanager
    async def _compared(self, order: RejoinOrder) -> AsyncIterator[Compared]:
        """Both tables and how they differ, seen at the moment from which a slot streams.

        After a split that is the moment of the archive, where it was made seconds ago and its sessions stand: this node's table
        has been locked since, and what the leader has changed since, its verdict too, comes by the stream.
        """
        held, self._held = self._held, None
        if held is not None and await _stands(held, order):
            async with held.sessions:
                yield held.both
            return
        await _end(held)
        await self._prepare()
        await self._detach()
        async with self._snapshot(order.subscription) as leader, self._own.session(self._timeouts.copy_s) as own:
            lineage = (await sql_files.run(leader, "lineage"))[0]["lineage"]
            if order.leader_head not in {row["id"] for row in lineage}:
                raise PreconditionError("the leader's history is not the one any more that the rejoin was decided on")
            difference = await compare(own, leader, order.parting_revision)
            yield Compared(own, leader, order.subscription, lineage, difference)

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        await _end(held)

    @contextlib.asynccontextmanager
    async def _snapshot(self, slot: str) -> AsyncIterator[Session]:
        """A session to the leader that sees exactly the moment from which the new slot streams."""
        async with self._leader.apart("rejoin", PeerPostgresError) as leader:
            await drop_slots(leader, f"kf\\_{self._node}\\_%", None)
            slots = await self._leader.connect(replication="database")
            try:
                cursor = await slots.execute(sql_files.compose("create_slot", slot=Identifier(slot)))
                made = await cursor.fetchone()
                assert made is not None
                await leader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                await leader.execute(sql_files.compose("set_snapshot", snapshot=Literal(made[2])))
            finally:
                await slots.close()
            yield leader

    async def _keep(self, both: Compared, order: RejoinOrder) -> tuple[str | None, int]:
        """Archive the rows that the leader has never had, before they go (R2). Returns the archive and the number of rows in
        which somebody may still believe (R13).

        Rows below the parting point are common history that the leader has compacted away.
        """
        if order.archived is not None:
            return order.archived, 0
        extra = [id_ for id_ in both.difference.extra if id_ >= order.parting_revision]
        here = [row async for row in _rows(both.own, extra) if _is_of_a_client(row["name"])]
        if not here:
            return None, 0
        tables = await _tables(both.own, both.leader, here)
        kept, believed = lost({row["id"]: row["name"] for row in here}, set(both.difference.extra), tables)
        rows = [row_line(row) for row in here if row["id"] in kept]
        if not rows:
            return None, 0
        header = {
            "why": order.reason,
            "node": self._node,
            "other_head": str(both.lineage[-1]["id"]),
            "objects": 0,
            "rows": len(rows),
            "at_us": time.time_ns() // 1000,
        }
        name = f"rejoin-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{order.subscription}"
        return await asyncio.to_thread(self._archive.write, name, header, rows), len(believed)

    async def _mend(self, both: Compared, progress: Callable[[Progress], None], began_s: float) -> tuple[int, int]:
        """One transaction: what is extra goes, what is missing comes, and the database says what it now is."""
        own, difference, copied_bytes = both.own, both.difference, 0
        async with own.transaction():
            for batch in _batches(difference.extra):
                await sql_files.run(own, "delete_rows", ids=batch)
            total = len(difference.missing)
            for number, batch in enumerate(_batches(difference.missing)):
                copied_bytes += await _copy(both.leader, "copy_out", own, "copy_in", ids=batch)
                done = min(total, (number + 1) * BATCH)
                progress(Progress(done, total, copied_bytes, time.monotonic() - began_s))
            await sql_files.run(own, "take_lineage", lineage=dump_lineage(both.lineage))
        return len(difference.missing), copied_bytes

    async def _copy_anew(self, both: Compared, progress: Callable[[Progress], None], began_s: float) -> tuple[int, int]:
        """Copy beside the table in use, and swap when it is complete: a crash leaves the old one or the new one."""
        own, total = both.own, both.difference.total_there
        await sql_files.run(own, "create_fresh")

        def told(copied_bytes: int) -> None:
            progress(Progress(0, total, copied_bytes, time.monotonic() - began_s))

        copied_bytes = await _copy(both.leader, "copy_out_all", own, "copy_in_fresh", told)
        await sql_files.run(own, "index_fresh")
        async with own.transaction():
            await sql_files.run(own, "swap_fresh", kine_role=self._kine_role)
            await sql_files.run(own, "take_lineage", lineage=dump_lineage(both.lineage))
        return total, copied_bytes

    async def _stream_on(self, slot: str, leader_head: str) -> None:
        """Subscribe, and return when the row of the leader's that the rejoin was decided on is here. Raises PortError."""
        conninfo = make_conninfo("", **{**STREAM, **conninfo_to_dict(await answering_first(self._peer_conninfo))})
        async with self._own.session(self._timeouts.statement_s) as own:
            await own.execute(sql_files.text("subscribe").encode(), {"subscription": slot, "conninfo": conninfo})
        try:
            async with asyncio.timeout(self._timeouts.drain_s), self._own.session(self._timeouts.statement_s) as own:
                while not (await sql_files.run(own, "knows", id=leader_head))[0]["known"]:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise PortError(
                f"the leader's newest leadership has not come by the stream within {self._timeouts.drain_s:g} s"
            ) from None


async def _stands(held: Held, order: RejoinOrder) -> bool:
    """Whether a rejoin may go on from what its archive has compared."""
    if held.archive != order.archived:
        return False
    try:
        for session in (held.both.own, held.both.leader):
            await sql_files.run(session, "idle_at_most", ms=0)
        return bool(await sql_files.run(held.both.leader, "list_slots", pattern=held.both.slot, keep=None))
    except psycopg.Error:  # a server that was restarted, or has ended what took too long
        return False


async def _end(held: Held | None) -> None:
    if held is not None:
        with contextlib.suppress(psycopg.Error, PortError):
            await held.sessions.aclose()


async def compare(own: Session, leader: Session, parting: int) -> Difference:
    """Compare two kine tables: ids everywhere, contents of every row from `parting` on (0: of all)."""
    mine, theirs = await asyncio.gather(_digests(own, parting), _digests(leader, parting))
    chunks = [chunk for chunk in mine.keys() | theirs.keys() if mine.get(chunk) != theirs.get(chunk)]
    extra: list[int] = []
    missing: list[int] = []
    for batch in _batches(sorted(chunks), BATCH // 100):
        here, there = await asyncio.gather(_contents(own, batch), _contents(leader, batch))
        extra += sorted(id_ for id_, content in here.items() if there.get(id_) != content)
        missing += sorted(id_ for id_, content in there.items() if here.get(id_) != content)
    total = sum(rows for rows, _ in theirs.values())
    return Difference(sum(rows for rows, _ in mine.values()) + total, total, extra, missing)


async def _digests(session: Session, parting: int) -> dict[int, tuple[int, int]]:
    rows = await sql_files.run(session, "digest", parting=parting)
    return {row["chunk"]: (row["rows"], row["digest"]) for row in rows}


async def _contents(session: Session, chunks: list[int]) -> dict[int, int]:
    return {row["id"]: row["content"] for row in await sql_files.run(session, "chunk_rows", chunks=chunks)}


async def _rows(session: Session, ids: list[int]) -> AsyncIterator[sql_files.Row]:
    for batch in _batches(ids):
        for row in await sql_files.run(session, "rows_by_id", ids=batch):
            yield row


async def _tables(own: Session, leader: Session, rows: list[sql_files.Row]) -> Tables:
    """Ask both tables for the newest row of each key of these rows."""
    names = sorted({row["name"] for row in rows})
    mine, theirs = await asyncio.gather(_newest_of(own, names), _newest_of(leader, names))
    compacted = (await sql_files.run(leader, "compacted"))[0]["revision"]
    return Tables(mine, theirs, compacted)


async def _newest_of(session: Session, names: list[str]) -> dict[str, Newest]:
    found: dict[str, Newest] = {}
    for batch in _batches(names):
        rows = await sql_files.run(session, "newest_of", names=batch)
        found |= {row["name"]: Newest(row["id"], row["deleted"]) for row in rows}
    return found


async def _live_of(session: Session, names: list[str]) -> dict[str, int]:
    return {name: newest.id for name, newest in (await _newest_of(session, names)).items() if not newest.deleted}


async def _names_of(session: Session, ids: list[int]) -> set[str]:
    return {row["name"] for batch in _batches(ids) for row in await sql_files.run(session, "names_of", ids=batch)}


async def _objects(
    own: Session, leader: Session, difference: Difference, written_here: set[str]
) -> list[dict[str, Any]]:
    """Return a line for each key whose newest state differs, whoever changed it, also where a tombstone is gone.

    Only keys of rows that differ are asked for: of any other key both tables hold the same rows, and so the same newest one.
    """
    extra, missing = set(difference.extra), set(difference.missing)
    keys = sorted(filter(_is_of_a_client, written_here | await _names_of(leader, difference.missing)))
    here, there = await asyncio.gather(_live_of(own, keys), _live_of(leader, keys))
    differing = [
        key for key in keys if here.get(key) != there.get(key) or here.get(key) in extra or there.get(key) in missing
    ]
    mine = {row["id"]: row async for row in _rows(own, [here[key] for key in differing if key in here])}
    theirs = {row["id"]: row async for row in _rows(leader, [there[key] for key in differing if key in there])}
    lines = []
    for key in differing:
        one, other = mine.get(here.get(key, -1)), theirs.get(there.get(key, -1))
        by_leader = key not in written_here and (one is not None or there.get(key) in missing)
        change = "changed" if one is not None and other is not None else "deleted" if one is None else "created"
        lines.append(object_line("by_leader" if by_leader else change, key, one, other))
    return lines


async def _copy(
    source: Session, out: str, target: Session, into: str, told: Callable[[int], None] | None = None, **values: object
) -> int:
    """Pipe a COPY from one server into the other. Returns the number of bytes."""
    size = 0
    async with (
        psycopg.AsyncClientCursor(source) as reader,
        psycopg.AsyncClientCursor(target) as writer,
        reader.copy(sql_files.text(out).encode(), values) as rows,
        writer.copy(sql_files.text(into).encode()) as sink,
    ):
        gathered = bytearray()
        async for row in rows:
            gathered += row
            if len(gathered) >= COPY_BLOCK:
                size += len(gathered)
                await sink.write(bytes(gathered))
                gathered.clear()
                if told is not None:
                    told(size)
        await sink.write(bytes(gathered))
    return size + len(gathered)


def _batches(all_: Sequence[Item], size: int = BATCH) -> list[list[Item]]:
    return [list(all_[start : start + size]) for start in range(0, len(all_), size)]


def _is_of_a_client(name: str) -> bool:
    """Whether a row holds something that a client wrote, rather than Kine, a fence or the canary."""
    return name != "compact_rev_key" and not name.startswith(("gap-", "/kine-failover/"))
