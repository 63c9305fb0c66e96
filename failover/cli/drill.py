"""`scrub`: are both databases equal? `drill`: a real switchover there and back, with checks and a report."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from failover import config, durable_file
from failover.cli.ask import Form, call, switch
from failover.cli.outcome import REFUSED, RefusedError, UnreachableError
from failover.etcd.client import EtcdClient, EtcdError

if TYPE_CHECKING:
    from collections.abc import Callable

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
Output = Annotated[Form, typer.Option("--output", "-o", help="table or json")]
PREFIX = "/kine-failover/drill/"  # left out of what people did, as the canary
PACE_S = 0.05  # between two writes of the probe client
WRITE_S = 10.0  # a write may wait for a whole switchover
KEYS_MAX = 5000
SYNC_S = 120.0  # from a switchover to the pair in sync again
LOOK_S = 0.1
FILE = "drill.json"


def scrub(
    file: File = config.DEFAULT_FILE,
    form: Output = Form.TABLE,
    wait_s: Annotated[float, typer.Option(min=1, help="how long to wait for the result, seconds")] = 3600.0,
    *,
    fast: Annotated[bool, typer.Option("--fast", help="as fast as Postgres answers, not paced")] = False,
) -> None:
    """Compare the leader's rows with the follower's while writes flow. Exit code 1 where they differ."""
    found = asyncio.run(compare(file, wait_s, paced=not fast))
    if form is Form.JSON:
        typer.echo(json.dumps(found, indent=2))
    elif found["ok"]:
        typer.echo(f"equal: {found['rows']} rows compared in {found['seconds']:.1f} s")
    else:
        typer.echo(f"{found['different']} rows differ: {_named(found)}; run `kine-failover resync` on the follower")
    if not found["ok"]:
        raise typer.Exit(REFUSED)


def _named(found: dict[str, Any]) -> str:
    parts = ((name, found[name]) for name in ("missing", "extra", "changed"))
    return ", ".join(f"{name} {' '.join(map(str, ids))}" for name, ids in parts if ids)


async def compare(file: Path, wait_s: float, *, paced: bool) -> dict[str, Any]:
    """Have this node's supervisor compare both, and return what it found. Raises RefusedError where it cannot."""
    before = (await call(file, "GET", "/v1/status"))["scrub"]["newest"]
    await call(file, "POST", "/v1/scrub", {"paced": paced})
    deadline_s = time.monotonic() + wait_s
    while True:
        told = (await call(file, "GET", "/v1/status"))["scrub"]
        if not told["running"]:
            if told["error"] is not None:
                raise RefusedError(told["error"])
            if told["newest"] != before:
                return dict(told["newest"])
        if time.monotonic() > deadline_s:
            raise RefusedError(
                f"not through after {wait_s:g} s; `kine-failover status -o json` shows the result when it is"
            )
        await asyncio.sleep(LOOK_S)


@dataclass(slots=True)
class Move:
    """One switchover. The gap is the longest time between two acknowledged writes while it went on."""

    to: int
    seconds: float
    in_sync_s: float
    gap_ms: float


@dataclass(slots=True)
class Report:
    """What a drill found; good where nothing has failed."""

    cluster: str
    node: int
    at_us: int = 0
    ok: bool = False
    seconds: float = 0.0
    moves: list[Move] = field(default_factory=list)
    acknowledged: int = 0
    unknown: int = 0
    lost: list[str] = field(default_factory=list)
    rows_before: int = 0
    rows_after: int = 0
    failures: list[str] = field(default_factory=list)


def drill(file: File = config.DEFAULT_FILE, form: Output = Form.TABLE, *, yes: Annotated[
    bool, typer.Option("--yes", "-y", help="do not ask")
] = False) -> None:  # fmt: skip
    """Switch over to the other node and back, under a client of its own, and check that nothing was lost. On either node."""
    settings = config.load(file)
    if not yes:
        typer.confirm("Move leadership to the other node and back now?", abort=True)
    folder = settings.node.state_dir
    if not os.access(folder, os.W_OK):
        raise RefusedError(f"{folder} cannot be written by this user; run it as root or as the supervisor's user")
    report = asyncio.run(_drill(file, settings))
    _keep(folder / FILE, report)
    if form is Form.JSON:
        typer.echo(json.dumps({**asdict(report), "lost": len(report.lost)}, indent=2))
    else:
        typer.echo(_text(report))
    if not report.ok:
        raise typer.Exit(REFUSED)


async def _drill(file: Path, settings: config.Settings) -> Report:
    told = await call(file, "GET", "/v1/status")
    why = refusal(told)
    if why is not None:
        raise RefusedError(f"no drill now: {why}")
    before = await compare(file, SYNC_S, paced=False)
    if not before["ok"]:
        raise RefusedError(
            f"no drill now: {before['different']} rows differ; run `kine-failover resync` on the follower"
        )
    report = Report(settings.node.cluster, settings.node.number, rows_before=before["rows"])
    began_s = time.monotonic()
    first = told["node"] if told["role"] == "leader" else 1 - told["node"]
    probe = Probe(f"unix://{settings.node.run_dir}/kine.sock")
    try:
        await probe.clean()
        async with probe.writing():
            for to in (1 - first, first):
                report.moves.append(await _move(file, to, probe))
    except (RefusedError, UnreachableError, EtcdError) as error:
        report.failures.append(str(error))
    await _judge(file, probe, report)
    report.seconds = time.monotonic() - began_s
    report.at_us = time.time_ns() // 1000
    report.ok = not report.failures
    return report


def refusal(told: dict[str, Any]) -> str | None:
    """Say why a drill would be no drill but a risk, from this node's status; None where it may begin."""
    role, view = told["role"], told["peer"]["view"]
    if told["pair_paused"]:
        return "the pair is paused; resume first"
    if (role, view) not in (("leader", "follows"), ("follower", "leads")):
        return f"this node is {role} and its peer {view}; it needs one node that leads and one that follows"
    if told["plan"] is not None:
        return f"this node is busy: {told['step']}"
    if not told["in_sync"]:
        return "the pair is not in sync; see `kine-failover status`"
    if told["kine"]["target"] is None or told["kine"]["frozen"]:
        return "no Kine serves on this node"
    return f"at risk already: {told['at_risk'][0]}" if told["at_risk"] else None


async def _move(file: Path, to: int, probe: Probe) -> Move:
    """One switchover, until the pair is in sync again and the probe client writes. Raises RefusedError."""
    await probe.until_acknowledged(3)
    began_s = time.monotonic()
    await switch(file, to)
    led_s = time.monotonic()
    await _until_in_sync(file)
    in_sync_s = time.monotonic()
    await probe.until_acknowledged(3)
    gap_ms = probe.longest_gap_s(began_s) * 1000
    return Move(to, round(led_s - began_s, 3), round(in_sync_s - began_s, 3), round(gap_ms, 1))


async def _until_in_sync(file: Path) -> None:
    deadline_s, why = time.monotonic() + SYNC_S, ""
    while time.monotonic() < deadline_s:
        told = await call(file, "GET", "/v1/status")
        why = refusal(told) or ""
        if not why:
            return
        await asyncio.sleep(LOOK_S)
    raise RefusedError(f"the pair is not as before {SYNC_S:g} s after the switchover: {why}")


async def _judge(file: Path, probe: Probe, report: Report) -> None:
    """Ask for every acknowledged key, take the probe's keys away, and compare both databases."""
    report.acknowledged, report.unknown = len(probe.acknowledged), probe.unknown
    try:
        report.lost = await probe.lost()
        await probe.clean()
        after = await compare(file, SYNC_S, paced=False)
        report.rows_after = after["rows"]
        if not after["ok"]:
            report.failures.append(f"{after['different']} rows differ after it: {_named(after)}")
    except (RefusedError, UnreachableError, EtcdError) as error:
        report.failures.append(f"what came of it cannot be checked: {error}")
    if report.lost:
        report.failures.append(f"{len(report.lost)} acknowledged writes are lost, first {report.lost[0]}")


class Probe:
    """A client that creates keys, one after the other, and remembers which were acknowledged."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._client: EtcdClient | None = None
        self._run = secrets.token_hex(4)
        self.acknowledged: dict[str, float] = {}  # key -> when, on the monotonic clock
        self.unknown = 0

    @contextlib.asynccontextmanager
    async def writing(self) -> Any:
        """Write as long as the context is open."""
        task = asyncio.create_task(self._write_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self._drop()

    async def until_acknowledged(self, count: int) -> None:
        """Return when so many more writes have been acknowledged. Raises RefusedError after WRITE_S."""
        wanted, deadline_s = len(self.acknowledged) + count, time.monotonic() + WRITE_S
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline_s:
                raise RefusedError(f"no write was acknowledged through {self._target} for {WRITE_S:g} s")
            await asyncio.sleep(PACE_S)

    def longest_gap_s(self, since_s: float) -> float:
        """Return the longest time between two acknowledgements that follow each other, the later one after `since_s`."""
        times = list(self.acknowledged.values())
        return max((b - a for a, b in itertools.pairwise(times) if b >= since_s), default=float("inf"))

    async def lost(self) -> list[str]:
        """Return the acknowledged keys that are not there. Raises EtcdError."""
        listed = await self._patiently(lambda client: client.list(f"{PREFIX}{self._run}/", timeout_s=WRITE_S))
        there = {one.key for one in listed.kvs}
        return [key for key in self.acknowledged if key not in there]

    async def clean(self) -> None:
        """Delete every drill's keys, of an earlier one that was killed as well. Raises EtcdError."""
        listed = await self._patiently(lambda client: client.list(PREFIX, timeout_s=WRITE_S))
        for one in listed.kvs:
            await self._patiently(
                lambda client, one=one: client.delete(one.key, one.mod_revision, timeout_s=WRITE_S)  # type: ignore[misc]
            )

    async def _write_on(self) -> None:
        for number in range(KEYS_MAX):
            key = f"{PREFIX}{self._run}/{number:05d}"
            try:
                answer = await self._with_client(lambda client, key=key: client.create(key, b"x", timeout_s=WRITE_S))  # type: ignore[misc]
            except EtcdError:
                self.unknown += 1
            else:
                if answer.succeeded:
                    self.acknowledged[key] = time.monotonic()
            await asyncio.sleep(PACE_S)

    async def _patiently(self, ask: Callable[[EtcdClient], Any]) -> Any:
        """Ask again while Kine moves, for at most WRITE_S: what is asked may be asked twice."""
        deadline_s = time.monotonic() + WRITE_S
        while True:
            try:
                return await self._with_client(ask)
            except EtcdError:
                if time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(PACE_S)

    async def _with_client(self, ask: Callable[[EtcdClient], Any]) -> Any:
        """Ask on a connection that is kept until it fails: the symlink may lead elsewhere then."""
        if self._client is None:
            self._client = EtcdClient(self._target)
        try:
            return await ask(self._client)
        except EtcdError:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _keep(path: Path, report: Report) -> None:
    """Leave the report where the metrics find it, readable for the supervisor whoever runs this."""
    durable_file.replace(path, json.dumps({**asdict(report), "lost": len(report.lost)}).encode(), mode=0o644)


def _text(report: Report) -> str:
    lines = [
        f"to node {one.to}: led after {one.seconds:.2f} s, in sync after {one.in_sync_s:.2f} s, "
        f"longest gap between two writes {one.gap_ms:.0f} ms"
        for one in report.moves
    ]
    lines.append(
        f"{report.acknowledged} writes acknowledged, {len(report.lost)} lost, {report.unknown} without an answer; "
        f"both databases equal before ({report.rows_before} rows)"
        + (f" and after ({report.rows_after})" if report.ok else "")
    )
    return "\n".join(
        [*lines, *(f"FAILED: {one}" for one in report.failures), "good" if report.ok else "the drill failed"]
    )
