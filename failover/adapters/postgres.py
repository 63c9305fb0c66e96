"""The node's own Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import psycopg
from msgspec.structs import replace
from psycopg.sql import Identifier

from failover.adapters import sql_files
from failover.adapters.look import Look
from failover.adapters.sessions import PostgresTimeouts, Session, Sessions
from failover.core.model import DataState, LineageEntry
from failover.ports import FencedError, LeadOrder, PortError, PostgresDownError, PreconditionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import PostgresStatus
    from failover.ports import Clock

POLL_S = 0.005  # between two looks at something that Postgres is about to do
SLOT_PATTERN = "kf\\_%"
FUNCTIONS_VERSION = 1  # of sql/setup_functions.sql
COMPACTED_MOST = 100_000  # revisions that a full fence compacts itself: a fraction of a second


class OwnPostgres:
    """Implements `ports.LocalPostgres`."""

    def __init__(
        self, conninfo: str, kine_conninfo: str, clock: Clock, timeouts: PostgresTimeouts, kine_role: str = "kine"
    ) -> None:
        self._sessions = Sessions(conninfo, timeouts, "the own Postgres")
        self._timeouts = timeouts
        self._kine_conninfo = kine_conninfo
        self._kine_role = kine_role
        self._look = Look(clock, kine_role)

    @property
    def sessions(self) -> Sessions:
        """The sessions, for the rejoin that works on this Postgres and the leader's."""
        return self._sessions

    async def status(self) -> PostgresStatus:
        """One look, in one statement. Raises PostgresDownError or PostgresHungError."""
        try:
            async with self._sessions.session(self._timeouts.look_s) as session:
                await self._sessions.keep_watch()
                return await self._look.take(session)
        except PortError as error:
            if type(error) is not PortError:
                raise
            # A database without our schema answers, but it is of no use: as good as down, and doctor says why.
            raise PostgresDownError(f"{error}; see `kine-failover doctor`") from None

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost` at once when the server closes its sessions."""
        self._sessions.watch(lost)

    async def open_to_kine(self, term: int) -> None:
        """Let Kine's role in and return when it can log in. Raises FencedError (R19)."""
        async with self._sessions.session(self._timeouts.statement_s) as session:
            row = (await sql_files.run(session, "open_role", term=term))[0]
            if not row["below"]:
                raise FencedError(f"the own Postgres was fenced by term {row['fence_term']}, which is not below {term}")
            await sql_files.run(session, "lift_start_fence")
            await sql_files.run(session, "reload")
            await self._until_kine_gets_in()

    async def _until_kine_gets_in(self) -> None:
        """The postmaster reads its files some milliseconds after it was told to; Kine would back off for a second."""
        error: psycopg.Error | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeouts.fence_s):
                while True:
                    try:
                        connection = await psycopg.AsyncConnection.connect(self._kine_conninfo, connect_timeout=2)
                    except psycopg.OperationalError as refused:
                        error = refused
                        await asyncio.sleep(POLL_S)
                    else:
                        await connection.close()
                        return
        raise PortError(
            f"role {self._kine_role} cannot log in to the own Postgres although it was opened: {error}; "
            "compare pg_hba.conf with what `kine-failover doctor` says"
        )

    async def close_to_kine(self, term: int) -> None:
        """Fence: see `ports.LocalPostgres.close_to_kine`."""
        async with self._sessions.session(self._timeouts.fence_s) as session:
            await close_role(session, term, self._kine_role)

    async def close_quietly(self) -> int:
        """Nobody new comes in, statements that run are awaited. Returns the position in the WAL after, bytes."""
        async with self._sessions.session(self._timeouts.fence_s) as session:
            await sql_files.run(session, "close_role_only")
            while (await sql_files.run(session, "count_sessions", kine_role=self._kine_role))[0]["active"]:
                await asyncio.sleep(POLL_S)
            return int((await sql_files.run(session, "wal_position"))[0]["lsn"])

    async def lead(self, order: LeadOrder) -> LineageEntry:
        """See `ports.LeadOrder`. Raises PreconditionError where the data is not complete."""
        async with self._sessions.session(self._timeouts.statement_s) as session, session.transaction():
            await self._require_complete(session)
            rows = await sql_files.run(
                session,
                "lead",
                **_values(order.entry),
                clear=order.clear_revision,
                margin=order.margin,
                full=order.full_fence,
                compacted_most=COMPACTED_MOST,
                kine_role=self._kine_role,
            )
        return replace(order.entry, **rows[0])

    async def record(self, entry: LineageEntry) -> LineageEntry:
        """Write a lineage row within a leadership."""
        async with self._sessions.session(self._timeouts.statement_s) as session, session.transaction():
            await self._require_complete(session)
            rows = await sql_files.run(session, "record", **_values(entry))
        return replace(entry, **rows[0])

    async def _require_complete(self, session: Session) -> None:
        state = (await sql_files.run(session, "data_state"))[0]
        if state["data"] != DataState.COMPLETE or not state["rows"]:
            raise PreconditionError(f"the own data is {state['data']}: it never leads")

    async def found(self, entry: LineageEntry) -> None:
        """Begin a new cluster's history; again, if it was cut off. Raises PreconditionError where there is another."""
        await self.prepare()
        async with self._sessions.session(self._timeouts.statement_s) as session, session.transaction():
            state = (await sql_files.run(session, "data_state"))[0]
            first = _only((await sql_files.run(session, "lineage"))[0]["lineage"])
            if first is not None and all(
                first[key] == getattr(entry, key) for key in ("node", "term", "kind", "reason")
            ):
                return  # begun by a run that ended before it could store this node's identity
            if state["data"] != DataState.EMPTY or state["rows"]:
                raise PreconditionError("this database already holds a cluster's data; nothing was changed")
            await sql_files.run(session, "found", **_values(entry))

    async def prepare(self) -> None:
        """Create schema and publication where they are missing. What takes a superuser has been done by one before, or
        is done here by a role that is one. Raises PreconditionError where neither is so.
        """
        async with self._sessions.session(self._timeouts.statement_s) as session:
            may = (await sql_files.run(session, "may_set_up"))[0]
            if may["superuser"]:
                await set_up(session, session.info.user, self._kine_role, password_required=False)
            elif not may["set_up"]:
                raise PreconditionError(
                    f"no superuser has set this database up for role {session.info.user} yet; "
                    "run what `kine-failover postgres-setup` prints"
                )
            await sql_files.run(session, "prepare", kine_role=self._kine_role)

    async def waits_on(self, standby: str) -> None:
        """Have commits wait for `standby`, and return when they do (R9)."""
        async with self._sessions.session(self._timeouts.checkpoint_s) as session:
            await self._set_waits(session, str(Identifier(standby).as_string(None)))
            await sql_files.run(session, "checkpoint")
        self._look.wait_anew()

    async def waits_off(self) -> None:
        """Have no commit wait: those that wait are released."""
        async with self._sessions.session(self._timeouts.statement_s) as session:
            await self._set_waits(session, "")
        self._look.wait_anew()

    async def _set_waits(self, session: Session, value: str) -> None:
        await sql_files.run(session, "set_waits", standby=value)
        await sql_files.run(session, "reload")
        while (await sql_files.run(session, "waits_for"))[0]["waits_for"] != value:
            await asyncio.sleep(POLL_S)

    async def flushed(self, standby: str, lsn: int) -> None:
        """Return when `standby` has flushed past `lsn`. Raises PortError where that takes longer than `drain_s`."""
        drain_s = self._timeouts.drain_s
        async with self._sessions.session(drain_s + self._timeouts.look_s) as session:
            try:
                async with asyncio.timeout(drain_s):
                    await until_flushed(session, standby, lsn)
            except TimeoutError:
                raise PortError(f"the follower has not flushed what it was sent within {drain_s:g} s") from None

    async def detach(self) -> None:
        """Drop the subscription; the remote slot is left alone."""
        async with self._sessions.session(self._timeouts.statement_s) as session:
            await sql_files.run(session, "detach")

    async def drop_slots(self, keep: str | None) -> None:
        """Drop this product's slots but `keep`."""
        async with self._sessions.session(self._timeouts.statement_s) as session:
            await drop_slots(session, SLOT_PATTERN, keep)

    async def close(self) -> None:
        """Close all sessions."""
        await self._sessions.close()


async def set_up(session: Session, supervisor: str, kine_role: str, *, password_required: bool) -> None:
    """As a superuser: make both roles, and the functions by which the supervisor's does what takes a superuser."""
    await sql_files.run(session, "setup_roles", supervisor=supervisor, kine_role=kine_role)
    await sql_files.run(
        session, "setup_functions",
        supervisor=supervisor, kine_role=kine_role, password_required=str(password_required).lower(),
    )  # fmt: skip


async def close_role(session: Session, term: int, kine_role: str) -> None:
    """Close Kine's role under `term`, then end its sessions and return when all are gone."""
    await sql_files.run(session, "close_role", term=term)
    while True:
        await sql_files.run(session, "end_sessions", kine_role=kine_role)
        if not (await sql_files.run(session, "count_sessions", kine_role=kine_role))[0]["sessions"]:
            return
        await asyncio.sleep(POLL_S)


async def until_flushed(session: Session, standby: str, lsn: int) -> None:
    """Poll until the standby has flushed past `lsn`; the caller bounds the time."""
    while True:
        rows = await sql_files.run(session, "standby_flush", standby=standby)
        if rows and rows[0]["flush_lsn"] >= lsn:
            return
        await asyncio.sleep(POLL_S)


async def drop_slots(session: Session, pattern: str, keep: str | None) -> None:
    """Drop the slots that match, ending whoever uses them."""
    while slots := await sql_files.run(session, "list_slots", pattern=pattern, keep=keep):
        for slot in slots:
            if slot["active_pid"] is not None:
                await sql_files.run(session, "end_session", pid=slot["active_pid"])
                await asyncio.sleep(POLL_S)
            with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                await sql_files.run(session, "drop_slot", slot=slot["slot_name"])


def _only(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return rows[0] if len(rows) == 1 else None


def _values(row: LineageEntry) -> dict[str, Any]:
    return {
        "id": row.id,
        "term": row.term,
        "node": row.node,
        "kind": str(row.kind),
        "reason": row.reason,
        "started_at_us": row.started_at_us,
        "provisional": row.provisional,
        "absorbs": row.absorbs,
    }


def dump_lineage(rows: object) -> str:
    """Return lineage rows as the JSON that take_lineage.transaction.sql reads."""
    return json.dumps(rows)
