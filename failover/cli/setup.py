"""Begin a pair: `init` on one node, `join` on the other, `certs` once for both."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from failover import certificates, config
from failover.adapters.clock import SystemClock
from failover.adapters.front import haproxy
from failover.cli.outcome import RefusedError
from failover.core.model import Durable, Kind, LineageEntry, Role
from failover.core.terms import next_term
from failover.endpoints import is_loopback, split_endpoint

if TYPE_CHECKING:
    from failover.config import Settings

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]


def init(file: File = config.DEFAULT_FILE) -> None:
    """Begin a new pair on this node: its database becomes the first leader's. Refuses a node that has been one before."""
    settings = config.load(file)
    asyncio.run(_init(settings))
    typer.echo(
        f"node {settings.node.number} begins the pair {settings.node.cluster!r}; now `kine-failover join` on the other"
    )


def join(
    file: File = config.DEFAULT_FILE,
    *,
    replace: Annotated[bool, typer.Option(help="give up an identity that this node has had before")] = False,
) -> None:
    """Make this node the second one of a pair that another one began. Its database becomes a copy of the leader's."""
    settings = config.load(file)
    asyncio.run(_join(settings, replace=replace))
    typer.echo(f"node {settings.node.number} joins the pair {settings.node.cluster!r}; start the supervisor now")


def certs(
    folder: Annotated[Path, typer.Argument(help="where the files go; the authority's key stays there")],
    cluster: Annotated[str, typer.Option(help="name of the pair")] = "kine-failover",
    days: Annotated[int, typer.Option(min=1, help="how long a node's certificate is good")] = certificates.DAYS_NODE,
    *,
    new_authority: Annotated[bool, typer.Option(help="make another authority; ca.crt accepts the old one too")] = False,
    drop_old: Annotated[
        bool, typer.Option(help="leave only the newest authority in ca.crt, and do nothing else")
    ] = False,
) -> None:
    """Make the private authority of a pair, and certificates for both nodes, operators and metrics. Run again to renew."""
    try:
        if drop_old:
            written = [certificates.drop_old_authorities(folder)]
        else:
            written = certificates.create(folder, cluster, days=days, new_authority=new_authority)
    except (OSError, ValueError) as error:
        raise RefusedError(f"{folder}: {error}") from None
    for path in written:
        typer.echo(str(path))
    typer.echo("copy ca.crt and node-N.* to node N as they are, and keep ca.key away from both")


def front(
    file: File = config.DEFAULT_FILE,
    listen: Annotated[list[str] | None, typer.Option(help="host:port; may be given several times")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM with certificate and key: speak TLS")] = None,
    authority: Annotated[Path | None, typer.Option(help="PEM of the authority of the clients' certificates")] = None,
) -> None:
    """Print a configuration for HAProxy in front of this node's Kine, for clients that need TCP."""
    settings = config.load(file)
    try:
        places = [split_endpoint(config.check_endpoint(one)) for one in listen or ["127.0.0.1:2379"]]
    except ValueError as error:
        raise RefusedError(str(error)) from None
    if authority is None and not all(is_loopback(host) for host, _ in places):
        raise RefusedError("beyond loopback the front needs --certificate and --authority: it asks clients for theirs")
    socket = settings.node.run_dir / "kine.sock"
    typer.echo(haproxy(socket, places, certificate=certificate, authority=authority), nl=False)


async def _init(settings: Settings) -> None:
    from failover import app  # noqa: PLC0415 - a part that only some commands need
    from failover.parts import parts_of  # noqa: PLC0415

    parts = parts_of(settings)
    clock, node = SystemClock(), settings.node.number
    store = app.state_file(parts)
    if store.load() is not None:
        raise RefusedError(f"{store.path} says that this node belongs to a pair already; nothing was changed")
    postgres = app.own_postgres(parts)
    term = next_term(0, node)
    try:
        await postgres.found(LineageEntry(clock.new_id(), term, node, Kind.LEAD, "init", time.time_ns() // 1000, 0, 0))
        await store.save(Durable(settings.node.cluster, node, clock.new_id(), highest_term=term, role=Role.STARTING))
    finally:
        await postgres.close()


async def _join(settings: Settings, *, replace: bool) -> None:
    from failover import app  # noqa: PLC0415 - a part that only some commands need
    from failover.parts import parts_of  # noqa: PLC0415

    parts = parts_of(settings)
    store = app.state_file(parts)
    if not replace and store.load() is not None:
        raise RefusedError(
            f"{store.path} says that this node belongs to a pair already; nothing was changed. "
            "`--replace` gives that identity up, and the leader's copy takes its data's place"
        )
    postgres = app.own_postgres(parts)
    try:
        await postgres.prepare()
        await store.save(Durable(settings.node.cluster, settings.node.number, SystemClock().new_id()))
    finally:
        await postgres.close()
