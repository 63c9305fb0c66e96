"""Sessions to one Postgres: bounded in number and in time, new ones made as soon as they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from failover.adapters.paths import KEEPALIVES, answering_first
from failover.ports import PortError, PostgresDownError, PostgresHungError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Session = psycopg.AsyncConnection[Any]

SESSIONS_MAX = 6
APPLICATION = "kine-failover"
OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "synchronous_commit=local",
        "lock_timeout=5s",
        "client_min_messages=warning",
        "search_path=public",
        "jit=off",
        "plan_cache_mode=force_generic_plan",  # what is prepared is asked again and again (sql/status.sql)
    )
)


@dataclass(frozen=True, slots=True)
class PostgresTimeouts:
    """Seconds."""

    connect_s: float = 1.0  # a new session, where nothing refuses it
    look_s: float = 2.0  # one look at the own Postgres; a longer one means that it hangs
    statement_s: float = 10.0  # any other statement
    checkpoint_s: float = 120.0  # the CHECKPOINT before in_sync
    fence_s: float = 5.0  # ending Kine's sessions
    drain_s: float = 5.0  # the follower's way to a position
    copy_s: float = 3600.0  # a whole rejoin
    held_s: float = 10.0  # from the archive of a split to the rejoin that goes on from its comparison


class Sessions:
    """A free list of sessions to one server. All of them acknowledge locally: the supervisor never waits for the peer."""

    def __init__(self, conninfo: str, timeouts: PostgresTimeouts, where: str) -> None:
        self.conninfo = conninfo
        self.timeouts = timeouts
        self.where = where
        self._idle: list[Session] = []
        self._room = asyncio.Semaphore(SESSIONS_MAX)
        self._canary: _Canary | None = None

    @contextlib.asynccontextmanager
    async def session(self, timeout_s: float) -> AsyncIterator[Session]:
        """Lend a session for at most `timeout_s`. Raises PostgresDownError, PostgresHungError or PortError."""
        try:
            async with asyncio.timeout(timeout_s), self._room:
                connection = await self._take()
                try:
                    yield connection
                except BaseException:
                    await _discard(connection)
                    raise
                self._give_back(connection)
        except TimeoutError:
            raise PostgresHungError(f"{self.where} has not answered within {timeout_s:g} s") from None
        except (errors.QueryCanceled, errors.LockNotAvailable) as error:
            raise PostgresHungError(f"{self.where}: {_line(error)}") from None
        except psycopg.OperationalError as error:
            raise PostgresDownError(f"{self.where}: {_line(error)}") from None
        except psycopg.Error as error:
            raise PortError(f"{self.where} refused a statement: {_line(error)}") from None

    @contextlib.asynccontextmanager
    async def apart(self, work: str, unreachable: type[PortError]) -> AsyncIterator[Session]:
        """Have a session beside the free list, for work that would keep one from the node for long; it is closed afterwards.

        Raises `unreachable` where none comes about, and PortError, naming the work, where a statement on it fails.
        """
        try:
            connection = await self.connect()
        except psycopg.Error as error:
            raise unreachable(f"{self.where}: {_line(error)}") from None
        try:
            yield connection
        except psycopg.Error as error:
            raise PortError(f"the {work} did not get through: {_line(error)}") from None
        finally:
            await connection.close()

    async def connect(self, **options: Any) -> Session:
        """Return a new session of the caller's own. Raises psycopg.OperationalError."""
        return await psycopg.AsyncConnection.connect(
            await answering_first(self.conninfo),
            autocommit=True,
            application_name=APPLICATION,
            connect_timeout=max(1, round(self.timeouts.connect_s)),
            tcp_user_timeout=5000,
            **KEEPALIVES,
            options=OPTIONS,
            client_encoding="utf8",  # else text of a SQL_ASCII database comes as bytes
            **options,
        )

    def watch(self, lost: Callable[[], None]) -> None:
        """Call `lost` at once when the server closes its sessions; a new look starts the watch again."""
        self._canary = _Canary(self, lost)

    async def keep_watch(self) -> None:
        """Have a session open whose end is noticed, where one is asked for."""
        if self._canary is not None:
            await self._canary.keep()

    async def close(self) -> None:
        """Close all sessions."""
        if self._canary is not None:
            await self._canary.close()
        while self._idle:
            await _discard(self._idle.pop())

    async def _take(self) -> Session:
        while self._idle:
            connection = self._idle.pop()
            if not _hung_up(connection):
                return connection
            await _discard(connection)
        return await self.connect()

    def _give_back(self, connection: Session) -> None:
        if not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE:
            self._idle.append(connection)


class _Canary:
    """A session on which nothing is ever said: the moment at which it can be read, its server is gone."""

    def __init__(self, sessions: Sessions, lost: Callable[[], None]) -> None:
        self._sessions = sessions
        self._lost = lost
        self._connection: Session | None = None
        self._socket: socket.socket | None = None

    async def keep(self) -> None:
        if self._socket is not None:
            return
        self._connection = await self._sessions.connect()
        # A descriptor of its own: the driver adds and removes its own reader on the original.
        self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            ended = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) in (b"", b"E")
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._forget()
            self._lost()
        else:
            self._socket.recv(65536, socket.MSG_DONTWAIT)

    def _forget(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None

    async def close(self) -> None:
        self._forget()


def _hung_up(connection: Session) -> bool:
    """Whether the server has ended a session that lay idle."""
    if connection.closed:
        return True
    something = select.poll()
    something.register(connection.fileno(), select.POLLIN)
    if not something.poll(0):
        return False
    with socket.socket(fileno=os.dup(connection.fileno())) as probe:
        try:
            return probe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) in (b"", b"E")
        except BlockingIOError:
            return False
        except OSError:
            return True


async def _discard(connection: Session) -> None:
    with contextlib.suppress(psycopg.Error, OSError):
        await connection.close()


def _line(error: BaseException) -> str:
    """What Postgres or libpq says, in one line of bounded length."""
    return " ".join(str(error).split())[:300]
