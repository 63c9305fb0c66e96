"""Commands that ask this node's supervisor over its local socket."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from failover import config
from failover.cli.outcome import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
ANSWER_S = 10.0
DONE_S = 120.0
FAILURE_AMONG = 50  # newest events: a plan that failed a moment ago is one of them
SWITCH_S = 30.0  # a switchover is through or taken back long before


class Form(StrEnum):
    """How an answer is shown."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def status(
    file: File = config.DEFAULT_FILE,
    form: Annotated[Form, typer.Option("--output", "-o", help="table, json or yaml")] = Form.TABLE,
) -> None:
    """Show this node, its peer as it hears it, and what is at risk right now."""
    told = _get(file, "/v1/status")
    if form is Form.JSON:
        typer.echo(json.dumps(told, indent=2))
    elif form is Form.YAML:
        typer.echo("\n".join(_yaml(told)))
    else:
        Console().print(_table(told))


def watch(
    file: File = config.DEFAULT_FILE,
    interval_s: Annotated[float, typer.Option(min=0.1, help="seconds between two looks")] = 1.0,
) -> None:
    """Show the status live until Ctrl-C."""

    async def look_on() -> None:
        with Live(refresh_per_second=10) as live:
            while True:
                live.update(_table(await call(file, "GET", "/v1/status")))
                await asyncio.sleep(interval_s)

    try:
        asyncio.run(look_on())
    except KeyboardInterrupt:
        return


def history(
    file: File = config.DEFAULT_FILE,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000)] = 50,
    form: Annotated[Form, typer.Option("--output", "-o", help="table or json")] = Form.TABLE,
) -> None:
    """Show the newest events, each with its reason."""
    events = _get(file, f"/v1/history?count={count}")
    if form is not Form.TABLE:
        typer.echo(json.dumps(events, indent=2))
        return
    for event in events:
        at = datetime.datetime.fromtimestamp(event["at_us"] / 1e6, datetime.UTC)
        rest = {name: value for name, value in event.items() if name not in ("at_us", "kind", "message")}
        typer.echo(f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"  {event['kind']:<12} {event['message']}")
        if rest:
            typer.echo(f"{'':25}{rest}")


def switchover(
    file: File = config.DEFAULT_FILE,
    at: Annotated[str | None, typer.Option("--at", help="when, with its zone: 2031-05-01T03:00:00Z")] = None,
    to: Annotated[
        int | None, typer.Option("--to", min=0, max=1, help="the node that is to lead; on either node")
    ] = None,
    *,
    call_off: Annotated[bool, typer.Option("--call-off", help="drop the one that is planned")] = False,
    yes: Yes = False,
) -> None:
    """Give leadership to the follower, in order: clients wait for a moment and lose nothing. On the leader, or with --to."""
    if to is not None and (call_off or at is not None):
        raise typer.BadParameter("--to goes without --at and --call-off")
    if call_off:
        asyncio.run(call(file, "DELETE", "/v1/switchover"))
        typer.echo("the planned switchover is called off")
        return
    if at is not None:
        _post(file, "/v1/switchover", {"at": at})
        typer.echo(f"this node gives leadership away at {at}, if it leads then; `status` and `history` tell")
        return
    _confirm("Hand leadership to the other node now?", yes=yes)
    if to is not None:
        asyncio.run(switch(file, to))
        typer.echo(f"node {to} leads")
        return
    _act(file, "/v1/switchover", lambda told: told["role"] != "leader")
    typer.echo("this node has given leadership away")


async def switch(file: Path, to: int) -> None:
    """Have node `to` lead, from either node. Raises RefusedError where it does not come to it."""
    await call(file, "POST", "/v1/switchover", {"to": to})
    deadline_s, begun = time.monotonic() + SWITCH_S, False
    while time.monotonic() < deadline_s:
        told = await call(file, "GET", "/v1/status")
        if told["role"] == "leader" if told["node"] == to else told["peer"]["view"] == "leads":
            return
        begun = begun or told["plan"] == "switchover"
        if told["node"] != to and told["role"] == "leader" and told["plan"] is None and begun:
            break  # it leads on: the switchover was taken back
        await asyncio.sleep(0.02)
    raise RefusedError(f"node {to} has not come to lead; `kine-failover history` on the other node says why")


def failover(file: File = config.DEFAULT_FILE, *, yes: Yes = False) -> None:
    """Make this node lead although its leader does not say that it may. What the leader alone has may be lost."""
    _confirm("Lead on this node's data NOW? Writes that only the other node has end up in an archive at best.", yes=yes)
    _act(file, "/v1/failover", lambda told: told["role"] == "leader")
    typer.echo("this node leads")


def resync(file: File = config.DEFAULT_FILE, *, yes: Yes = False) -> None:
    """Compare this follower's data with the leader's and make it equal; what only this node has is archived first."""
    _confirm("Compare with the leader and make this node's data equal?", yes=yes)
    _act(file, "/v1/resync", lambda told: told["role"] == "follower")
    typer.echo("this node follows; `kine-failover history` says what was copied")


def leave(file: File = config.DEFAULT_FILE) -> None:
    """Before this machine shuts down or reboots: give leadership away, and let the other node go on alone at once."""

    def through(told: dict[str, Any]) -> bool:
        peer = told["peer"]
        return told["role"] != "leader" and not (peer["view"] == "leads" and peer.get("sync") == "in_sync")

    _act(file, "/v1/leave", through)
    typer.echo("this node may go now")


def pause(
    file: File = config.DEFAULT_FILE,
    seconds: Annotated[float, typer.Option("--for", min=1, max=7 * 86400, help="seconds; it ends by itself")] = 3600,
) -> None:
    """Stop promotion, switchover and verdicts of the pair; both nodes go on as they are."""
    _post(file, "/v1/pause", {"seconds": seconds})
    typer.echo(f"paused for {seconds:g} s")


def resume(file: File = config.DEFAULT_FILE) -> None:
    """End the pause that was begun on this node."""
    _post(file, "/v1/resume")
    typer.echo("resumed")


def reload(file: File = config.DEFAULT_FILE) -> None:
    """Check the configuration file and take new certificates; says which changes need a restart of the supervisor."""
    needs_restart = _post(file, "/v1/reload")["needs_restart"]
    typer.echo("certificates are taken" + (f"; a restart takes: {', '.join(needs_restart)}" if needs_restart else ""))


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        typer.confirm(question, abort=True)


def _get(file: Path, route: str) -> Any:
    return asyncio.run(call(file, "GET", route))


def _post(file: Path, route: str, body: dict[str, Any] | None = None) -> Any:
    return asyncio.run(call(file, "POST", route, body or {}))


def _act(file: Path, route: str, done: Callable[[dict[str, Any]], bool]) -> None:
    """Post a request and wait until its plan is through and the condition holds."""

    async def newest_events(count: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = await call(file, "GET", f"/v1/history?count={count}")
        return events

    async def act() -> None:
        before = [event["id"] for event in await newest_events(1)]
        await call(file, "POST", route, {})
        async with asyncio.timeout(DONE_S):
            while True:
                told = await call(file, "GET", "/v1/status")
                if told["plan"] is None:
                    if done(told):
                        return
                    for event in await newest_events(FAILURE_AMONG):
                        if event["kind"] == "plan_failed" and event["id"] > max(before, default=0):
                            raise RefusedError(f"it did not get through: {event['message']}")
                await asyncio.sleep(0.05)

    try:
        asyncio.run(act())
    except TimeoutError:
        raise RefusedError(f"not through after {DONE_S:g} s; see `kine-failover history`") from None


async def call(file: Path, method: str, route: str, body: dict[str, Any] | None = None) -> Any:
    """Ask this node's supervisor. Raises UnreachableError, or RefusedError with its reason."""
    socket = config.load(file).node.run_dir / "control.sock"
    connector = aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, f"http://supervisor{route}", json=body) as response,
        ):
            answer = await response.json()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise UnreachableError(
            f"no supervisor answers on {socket} ({error or 'time-out'}): does it run, and are you its user or root?"
        ) from None
    if response.status >= 400:  # noqa: PLR2004 - HTTP
        raise RefusedError(str(answer.get("why", answer)))
    return answer


def _table(told: dict[str, Any]) -> Table:
    table = Table(title=f"{told['cluster']} node {told['node']}: {told['role']}", show_header=True, expand=False)
    table.add_column("")
    table.add_column("this node")
    table.add_column("peer, as heard")
    postgres, peer = told["postgres"], told["peer"]
    rows = [
        ("role", told["role"], peer.get("role") or peer["view"]),
        ("term", told["term"], peer.get("term")),
        ("sync", told["sync"], peer.get("sync")),
        ("Postgres", postgres["health"], {True: "up", False: "down"}.get(peer.get("postgres_ok", ""))),
        ("revision", postgres.get("revision"), peer.get("revision")),
        ("lag", None if postgres.get("lag_bytes") is None else f"{postgres['lag_bytes']} bytes", None),
        ("Kine on", told["kine"]["target"], None),
        ("heard", None, None if peer["heard_age_s"] is None else f"{peer['heard_age_s'] * 1000:.0f} ms ago"),
        ("plan", told["step"], None),
        ("rule", told["rule"], None),
        ("why", told["why"], None),
    ]
    for name, mine, theirs in rows:
        table.add_row(name, *("" if value is None else str(value) for value in (mine, theirs)))
    for risk in told["at_risk"]:
        table.add_row("[red]at risk[/red]", f"[red]{risk}[/red]", "")
    return table


def _yaml(value: Any, indent: int = 0) -> list[str]:
    """Return plain nested values as YAML; scalars are written as JSON, which YAML contains."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            nested = isinstance(inner, (dict, list)) and inner
            lines += [f"{pad}{key}:", *_yaml(inner, indent + 1)] if nested else [f"{pad}{key}: {json.dumps(inner)}"]
        return lines
    if isinstance(value, list) and value:
        return [f"{pad}- {json.dumps(inner)}" for inner in value]
    return [f"{pad}{json.dumps(value)}"]
