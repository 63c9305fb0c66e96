"""What a superuser and root do once for a node's Postgres, as text for psql, pg_hba.conf, pg_ident.conf and systemd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import PGconn
from psycopg.sql import SQL, Identifier, Literal

from failover.adapters import sql_files
from failover.adapters.postgres import FUNCTIONS_VERSION, set_up

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["FUNCTIONS_VERSION", "SETTINGS", "Setup", "apply", "drop_in", "hba", "ident", "sql"]

IDENT_MAP = "kine_failover"
EVERYWHERE = ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound
CLOSED = "kine_failover_closed"  # a role that does not exist: the included file may not be empty


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the server; `why` is told by doctor, None where other values are as safe: it has bounds for some."""

    value: str
    why: str | None = None


SETTINGS: Mapping[str, Setting] = {
    "wal_level": Setting("logical", "restart Postgres"),
    "track_commit_timestamp": Setting("on", "restart Postgres"),
    "restart_after_crash": Setting("off", "reload: a crash must start fenced (R11)"),
    "fsync": Setting("on", "reload: without it an acknowledged write may be lost"),
    "full_page_writes": Setting("on", "reload"),
    "password_encryption": Setting("scram-sha-256", "reload, and set the passwords again"),
    "max_slot_wal_keep_size": Setting("1GB"),
    "max_connections": Setting("500"),  # out of Kine's reach; doctor asks for as many at least
    "wal_receiver_status_interval": Setting("1s"),
    "wal_sender_timeout": Setting("5s"),
    "wal_receiver_timeout": Setting("5s"),
    "wal_retrieve_retry_interval": Setting("200ms"),
    # A Kine whose machine has lost its power or its network holds the revision that it had drawn, and with it every watch.
    "tcp_keepalives_idle": Setting("2"),
    "tcp_keepalives_interval": Setting("1"),
    "tcp_keepalives_count": Setting("3"),
    "tcp_user_timeout": Setting("5s"),
}


@dataclass(frozen=True, slots=True)
class Setup:
    """One node's Postgres, and who may reach it from where."""

    database: str
    supervisor: str  # role of both supervisors and of the peer's subscription
    kine_role: str
    os_user: str  # whom the supervisor runs as: peer authentication over the socket
    data: Path  # the server's data directory
    listen: tuple[str, ...]  # own addresses
    own: tuple[str, ...]  # from where the own Kine comes; empty for the socket alone
    peer: tuple[str, ...]  # from where the peer's supervisor, Postgres and Kine come
    supervisor_password: str | None = None  # None: certificates, or trust on loopback
    kine_password: str | None = None

    @property
    def open_file(self) -> Path:
        """The file that lets Kine in."""
        return self.data / "kine_failover_open"


def sql(setup: Setup) -> str:
    """Return a script for psql, run by a superuser; it holds verifiers of passwords, not passwords."""
    values = _values(setup)
    make = SQL(
        "SELECT format('CREATE DATABASE %I', {0}) WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = {0})"
    )
    return "\n".join(
        [
            *(f"{one};" for one in _settings(setup)),
            f"{make.format(Literal(setup.database)).as_string(None)} \\gexec",
            f"\\connect {Identifier(setup.database).as_string(None)}",
            *(f"BEGIN;\n{sql_files.filled(name, **values)};\nCOMMIT;" for name in ("setup_roles", "setup_functions")),
            *(f"{one};" for one in _passwords(setup)),
            "-- now restart Postgres",
            "",
        ]
    )


async def apply(setup: Setup, superuser: str) -> None:
    """Do as a superuser what `sql` prints. Postgres has to be restarted after it. Raises psycopg.Error."""
    connect = psycopg.AsyncConnection.connect
    async with await connect(superuser, dbname="postgres", autocommit=True) as session:
        for statement in _settings(setup):
            await session.execute(statement.encode())
        known = await session.execute("SELECT FROM pg_database WHERE datname = %s", [setup.database])
        if known.rowcount == 0:
            await session.execute(SQL("CREATE DATABASE {}").format(Identifier(setup.database)))
    async with await connect(superuser, dbname=setup.database, autocommit=True) as session:
        await set_up(session, setup.supervisor, setup.kine_role, password_required=_password_required(setup))
        for statement in _passwords(setup):
            await session.execute(statement.encode())


def hba(setup: Setup) -> str:
    """Return the lines of pg_hba.conf, before any line that names `all` roles. Relative paths would start at its folder."""
    method = "scram-sha-256" if setup.supervisor_password is not None else "cert clientcert=verify-full"
    kine_method = "scram-sha-256" if setup.kine_password is not None else "cert clientcert=verify-full"
    lines = [("local", setup.database, setup.supervisor, "", f"peer map={IDENT_MAP}")]
    lines += [("hostssl", setup.database, setup.supervisor, _net(one), method) for one in setup.peer]
    lines += [("local", setup.database, f"@{setup.open_file}", "", "scram-sha-256")] if setup.kine_password else []
    lines += [
        ("hostssl", setup.database, f"@{setup.open_file}", _net(one), kine_method)
        for one in dict.fromkeys((*setup.own, *setup.peer))
    ]
    # Whatever comes after them for all roles is not for Kine.
    lines += [("local", "all", setup.kine_role, "", "reject"), ("host", "all", setup.kine_role, "all", "reject")]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "".join(
        "  ".join(part.ljust(width) for part, width in zip(line, (*widths, 0), strict=True)) + "\n" for line in lines
    )


def ident(setup: Setup) -> str:
    """Return the lines of pg_ident.conf that let the supervisor's user, and root for `doctor`, in over the socket."""
    users = dict.fromkeys((setup.os_user, "root"))
    return "".join(f"{IDENT_MAP}  {user}  {setup.supervisor}\n" for user in users)


def drop_in(setup: Setup) -> str:
    """Return a drop-in for Postgres's unit: it starts fenced, and starts again when it has crashed (R11)."""
    # Debian's unit runs this as root: the file has to be the server's own, which lifts the fence by writing to it.
    fence = f"echo {CLOSED} > {setup.open_file} && chown --reference={setup.data} {setup.open_file}"
    return f"[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nExecStartPre=/bin/sh -c '{fence}'\nRestart=always\nRestartSec=1\n"


def _settings(setup: Setup) -> list[str]:
    # Beside localhost an address that stands for all could not be bound, and Postgres would go on without it.
    everywhere = any(one in EVERYWHERE for one in setup.listen)
    listen = "*" if everywhere else ", ".join(("localhost", *setup.listen))
    told = {**{name: one.value for name, one in SETTINGS.items()}, "listen_addresses": listen}
    return [
        SQL("ALTER SYSTEM SET {} = {}").format(Identifier(name), Literal(value)).as_string(None)
        for name, value in told.items()
    ]


def _values(setup: Setup) -> dict[str, str]:
    return {
        "supervisor": setup.supervisor,
        "kine_role": setup.kine_role,
        "password_required": str(_password_required(setup)).lower(),
    }


def _password_required(setup: Setup) -> bool:
    """Whether the subscription has to bring a password: without one it could use what the server's own user may."""
    return setup.supervisor_password is not None


def _passwords(setup: Setup) -> list[str]:
    told = {setup.supervisor: setup.supervisor_password, setup.kine_role: setup.kine_password}
    return [
        SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(role), Literal(_verifier(role, secret))).as_string(None)
        for role, secret in told.items()
        if secret is not None
    ]


def _verifier(role: str, secret: str) -> str:
    """Return what Postgres stores instead of a password; libpq makes it, without a server."""
    unconnected = PGconn.connect_start(b"host=/nonexistent")
    try:
        return unconnected.encrypt_password(secret.encode(), role.encode(), b"scram-sha-256").decode()
    finally:
        unconnected.finish()


def _net(host: str) -> str:
    """Return an address as a network of one; a name as it is."""
    if ":" in host:
        return f"{host}/128"
    return f"{host}/32" if host.replace(".", "").isdigit() else host
