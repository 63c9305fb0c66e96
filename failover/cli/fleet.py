"""`fleet`: all pairs that are seen on a broker, live."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from failover import config
from failover.cli.ask import Form
from failover.cli.outcome import RefusedError, UnreachableError

if TYPE_CHECKING:
    from rich.table import Table

    from failover.fleet import Fleet

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
SHOWN_MAX = 40  # rows of the live table: those first that need somebody
REFRESH_S = 1.0


def fleet(
    file: File = config.DEFAULT_FILE,
    form: Annotated[Form, typer.Option("--output", "-o", help="table (live) or json (once)")] = Form.TABLE,
    wait_s: Annotated[
        float, typer.Option(min=0.1, help="json: listen until no further node was seen for so long")
    ] = 2.0,
) -> None:
    """Show all pairs that speak on the broker of [mqtt], those first that need somebody."""
    settings = config.load(file)
    if settings.mqtt is None:
        raise RefusedError(f"{file} names no broker; add [mqtt] with broker = host:port")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_listen(settings.mqtt, None if form is Form.TABLE else wait_s))


async def _listen(mqtt: config.MqttSection, wait_s: float | None) -> None:
    from failover.adapters.clock import SystemClock  # noqa: PLC0415 - parts that only this command needs
    from failover.adapters.mqtt import Broker  # noqa: PLC0415
    from failover.fleet import NODES_MAX, Fleet  # noqa: PLC0415
    from failover.parts import connection  # noqa: PLC0415

    clock = SystemClock()
    seen = Fleet(mqtt.prefix)
    settings = replace(
        connection(mqtt), client=f"kine-failover-fleet-{clock.new_id()[:12]}", incoming_max=2 * NODES_MAX
    )
    broker = Broker(settings, clock, [seen])
    task = asyncio.create_task(broker.run())
    try:
        if wait_s is not None:
            before = -1
            while seen.nodes > before:
                before = seen.nodes
                await asyncio.wait({task}, timeout=wait_s)
            status = broker.status()
            if not status.connected:
                raise UnreachableError(
                    f"the broker {status.name} does not answer: {status.error or 'no answer in time'}"
                )
            typer.echo(json.dumps({"pairs": seen.rows(), "refused": seen.refused}, indent=2))
            return
        await _show(seen, lambda: broker.status().error)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _show(seen: Fleet, error: Any) -> None:
    from rich.live import Live  # noqa: PLC0415

    with Live(auto_refresh=False) as live:
        while True:
            live.update(table(seen.rows(), error()), refresh=True)
            await asyncio.sleep(REFRESH_S)


def table(rows: list[dict[str, Any]], error: str | None) -> Table:
    """Return the live table."""
    from rich.table import Table  # noqa: PLC0415

    well = sum(row["condition"] == "in sync" for row in rows)
    title = f"{len(rows)} pairs, {well} in sync" + (f"; broker: {error}" if error else "")
    shown = Table(title=title)
    for name in ("pair", "condition", "leader", "term", "lag", "at risk"):
        shown.add_column(name)
    for row in rows[:SHOWN_MAX]:
        style = None if row["condition"] == "in sync" else "yellow" if row["leader"] is not None else "red"
        lag = "" if row["lag_bytes"] is None else str(row["lag_bytes"])
        leader = "" if row["leader"] is None else str(row["leader"])
        shown.add_row(
            row["cluster"], row["condition"], leader, str(row["term"]), lag, "; ".join(row["at_risk"]), style=style
        )
    if len(rows) > SHOWN_MAX:
        shown.caption = f"and {len(rows) - SHOWN_MAX} more"
    return shown
