"""What only one side of a split, or a node that was away, had: look at it, and bring single keys back."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from failover import config
from failover.adapters.archive import Archive, Limits
from failover.cli.outcome import RefusedError
from failover.etcd.client import EtcdClient, EtcdError

cli = typer.Typer(no_args_is_help=True)
File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
Name = Annotated[str, typer.Argument(help="an archive's name, as `list` shows it")]
SHOWN_BYTES = 60


def _archive(file: Path) -> tuple[Archive, config.Settings]:
    settings = config.load(file)
    limits = Limits(settings.archive.total_mib << 20, settings.archive.count)
    return Archive(settings.node.state_dir / "archives", limits), settings


@cli.command("list")
def list_(file: File = config.DEFAULT_FILE) -> None:
    """List the archives on this node, oldest first."""
    for one in _archive(file)[0].list():
        header = one.header
        typer.echo(
            f"{one.name}  {header['objects']} objects, {header['rows']} rows, {one.bytes} bytes: {header['why']}"
        )


@cli.command()
def show(name: Name, file: File = config.DEFAULT_FILE) -> None:
    """Print a whole archive as JSON lines."""
    for line in _archive(file)[0].read(name):
        typer.echo(json.dumps(line))


@cli.command()
def diff(name: Name, file: File = config.DEFAULT_FILE) -> None:
    """Show each object that differed: what this node had (-), and what the leader had (+)."""
    for line in _objects(_archive(file)[0], name):
        typer.echo(f"{line['change']}: {line['key']}")
        for sign, side in (("-", "mine"), ("+", "theirs")):
            if line[side] is not None:
                typer.echo(f"  {sign} revision {line[side]['revision']}: {_shown(line[side]['value'])}")


@cli.command()
def reapply(
    name: Name,
    key: Annotated[list[str], typer.Option("--key", help="a key to bring back; may be given several times")],
    file: File = config.DEFAULT_FILE,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Write keys as this node had them, each only where nobody has changed it since the archive was made."""
    archive, settings = _archive(file)
    lines = {line["key"]: line for line in _objects(archive, name) if line["key"] in key}
    absent = sorted(set(key) - lines.keys())
    if absent:
        raise RefusedError(f"not in {name}: {', '.join(absent)}")
    if not yes:
        typer.confirm(f"Write {len(lines)} keys as they were on this node?", abort=True)
    refused = asyncio.run(_reapply(settings.node.run_dir / "kine.sock", list(lines.values())))
    for one in refused:
        typer.echo(f"left alone, changed since: {one}", err=True)
    typer.echo(f"{len(lines) - len(refused)} of {len(lines)} keys written")
    if refused:
        raise typer.Exit(1)


async def _reapply(socket: Path, lines: list[dict[str, Any]]) -> list[str]:
    client, refused = EtcdClient(f"unix://{socket}"), []
    try:
        for line in lines:
            mine, theirs = line["mine"], line["theirs"]
            known = theirs["revision"] if theirs is not None else 0
            if mine is None:
                done = await client.delete(line["key"], known) if known else None
            else:
                value = base64.b64decode(mine["value"] or "")
                write = client.update(line["key"], value, known) if known else client.create(line["key"], value)
                done = await write
            if done is not None and not done.succeeded:
                refused.append(line["key"])
    except EtcdError as error:
        raise RefusedError(f"Kine on {socket}: {error}") from None
    finally:
        client.close()
    return refused


def _objects(archive: Archive, name: str) -> list[dict[str, Any]]:
    return [line for line in archive.read(name) if line["type"] == "object"]


def _shown(value: str | None) -> str:
    raw = base64.b64decode(value or "")
    return repr(raw[:SHOWN_BYTES]) + (f" ... {len(raw)} bytes" if len(raw) > SHOWN_BYTES else "")
