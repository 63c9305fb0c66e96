"""`postgres-setup`: what a superuser and root do once for a node's Postgres, for the configured node."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict

from failover import config, secrets
from failover.adapters import postgres_setup as rendered
from failover.cli.outcome import RefusedError
from failover.endpoints import is_loopback, split_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failover.config import Settings

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
DEBIAN = Path("/var/lib/postgresql")


class Part(StrEnum):
    """One file to put something into."""

    SQL = "sql"
    HBA = "hba"
    IDENT = "ident"
    UNIT = "unit"


PARTS: Mapping[Part, tuple[str, Callable[[rendered.Setup], str]]] = {
    Part.SQL: ("for psql, as a superuser; then restart Postgres", rendered.sql),
    Part.HBA: ("for pg_hba.conf, before any line that names all roles", rendered.hba),
    Part.IDENT: ("for pg_ident.conf", rendered.ident),
    Part.UNIT: ("for a drop-in of Postgres's unit: systemctl edit postgresql@...", rendered.drop_in),
}


def postgres_setup(
    file: File = config.DEFAULT_FILE,
    part: Annotated[Part | None, typer.Option(help="print this part alone")] = None,
    data: Annotated[Path | None, typer.Option(help="data directory; found where Debian has just one")] = None,
    os_user: Annotated[str, typer.Option(help="whom the supervisor runs as")] = "kine-failover",
    superuser: Annotated[
        str | None, typer.Option("--apply", help="do the SQL part now, by this connection of a superuser")
    ] = None,
) -> None:
    """Print what gives the supervisor the rights that it needs in the own Postgres, and Kine those that it may have."""
    setup = of(config.load(file), data or _data_directory(), os_user)
    if superuser is not None:
        try:
            asyncio.run(rendered.apply(setup, superuser))
        except psycopg.Error as error:
            raise RefusedError(f"Postgres refused: {' '.join(str(error).split())}") from None
        typer.echo("roles, rights and settings are set; restart Postgres")
        return
    for one in Part if part is None else (part,):
        title, render = PARTS[one]
        if part is None:
            typer.echo(f"{'-- ' if one is Part.SQL else '# '}---- {title}")
        typer.echo(render(setup))


def of(settings: Settings, data: Path, os_user: str) -> rendered.Setup:
    """Return what the configuration says of this node's Postgres."""
    postgres, kine = settings.postgres, settings.kine
    own = conninfo_to_dict(postgres.own.get_secret_value())
    listen = tuple(dict.fromkeys(split_endpoint(one)[0] for one in settings.link.listen))
    return rendered.Setup(
        database=str(own.get("dbname", "kine")),
        supervisor=str(own.get("user", "kine_failover")),
        kine_role=postgres.kine_role,
        os_user=os_user,
        data=data,
        listen=tuple(one for one in listen if not is_loopback(one)),
        own=_hosts(kine.own.get_secret_value()),
        peer=_hosts(postgres.peer.get_secret_value()),
        supervisor_password=_secret(postgres.password_file),
        kine_password=_secret(kine.password_file),
    )


def _hosts(conninfo: str) -> tuple[str, ...]:
    """Return the addresses of a connection string, none for a socket."""
    told = str(conninfo_to_dict(conninfo).get("host") or "").split(",")
    return tuple(one for one in dict.fromkeys(told) if one and not one.startswith("/"))


def _secret(file: Path | None) -> str | None:
    try:
        return None if file is None else secrets.read(file)
    except ValueError as error:
        raise RefusedError(str(error)) from None


def _data_directory() -> Path:
    found = sorted(DEBIAN.glob("*/main")) if DEBIAN.is_dir() else []
    if len(found) != 1:
        raise RefusedError(f"{len(found)} data directories in {DEBIAN}; name the one with --data")
    return found[0]
