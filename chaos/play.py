"""Plays one scenario on a running site, with clients all the time, and judges what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from chaos.events import Event, EventTail
from chaos.faults import FAULTS
from chaos.judge import judge
from chaos.scenarios import Effect, On, Promise, When
from lab.clients import Clients
from lab.contended import ContendedClient, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.node import MachineNode
    from chaos.scenarios import Scenario, Strike
    from chaos.site import Site

SAMPLE_S = 0.1
EFFECT_S = 30.0  # a bound on a hang
WRITES_BEFORE = 60  # acknowledged through each node before anything is struck
SWAPS_BEFORE = 12
TRAFFIC_S = 45.0
FALSE = "a false failover"


@dataclass(frozen=True, slots=True)
class Pace:
    """How busy each client is; rates are a second and node."""

    writes_s: float
    swaps_s: float
    timeout_s: float  # a unique write without an answer for so long stays unknown


PATIENT = 4  # clients a node that wait long for an answer: what one of them is told late it believes
PACE = Pace(writes_s=50.0, swaps_s=10.0, timeout_s=0.1)


@dataclass(frozen=True, slots=True)
class Sample:
    """What both supervisors said at a moment; None: nothing."""

    at_s: float
    roles: tuple[str | None, str | None]
    sync: str | None  # of the one that leads


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done, for the timeline."""

    at_s: float
    what: str


@dataclass(slots=True)
class Band:
    """A fault while it lasts; without an end it lasts still."""

    began_s: float
    what: str
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One write of a client: when it was sent, and how long its answer took; None: no answer came."""

    sent_s: float
    took_s: float | None


@dataclass(slots=True)
class Result:
    """One scenario: good when there is no complaint. Times are seconds since its beginning."""

    scenario: str
    seed: str
    complaints: list[str] = field(default_factory=list)
    skipped: str | None = None
    finished: bool = False  # judged, or given up with a complaint
    promise: str = ""  # what was asked for, for a reader
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    asked: tuple[list[Asked], list[Asked]] = field(default_factory=lambda: ([], []))
    counts: dict[str, int] = field(default_factory=dict)
    gaps_s: tuple[float, float] = (0.0, 0.0)
    leadership_changes: int = 0
    load: list[float] = field(default_factory=list)  # of the host, a minute's average, at each sample


class Play:
    """One scenario on one site. The site is left in sync and without faults, or with a complaint."""

    def __init__(self, site: Site, scenario: Scenario, seed: str, pace: Pace = PACE) -> None:
        self.site = site
        self.scenario = scenario
        self.result = Result(scenario.name, seed, promise=scenario.promise_in_words())
        self.began_s = time.monotonic()
        self.leader: MachineNode | None = None
        self.struck: list[tuple[Strike, MachineNode]] = []
        self.clients = Clients(site, rate=pace.writes_s, timeout_s=pace.timeout_s, patient=PATIENT)
        run = secrets.token_hex(4)
        self.contended = [
            ContendedClient(node.kine_target, f"node-{node.number}", run, rate=pace.swaps_s) for node in site.nodes
        ]
        self._tails = [EventTail(node.number, node.state_dir / "history.jsonl") for node in site.nodes]
        self.prefix = f"/registry/contended/{run}/"

    async def run(self) -> Result:
        """Play it. Raises nothing: what goes wrong is a complaint."""
        missing = [why for one in self.scenario.strikes if (why := FAULTS[one.fault].obstacle()) is not None]
        if missing:
            self.result.skipped = missing[0]
            return self.result
        sampling = asyncio.create_task(self._sample_on())
        try:
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(self.clients)
                for client in self.contended:
                    await stack.enter_async_context(client)
                await self.play()
        except (TimeoutError, RuntimeError, OSError, psycopg.Error) as error:
            self.result.complaints.append(f"{type(error).__name__}: {error}")
        finally:
            sampling.cancel()
            self.collect()
            self.result.finished = True
        return self.result

    async def play(self) -> None:
        """Traffic, faults, their end, and the verdict."""
        await self.traffic()
        self.leader = await self.site.leader()
        for strike in self.scenario.strikes:
            if strike.when is When.RECOVERING:
                await self._undo()
                await self.mend()
            await self._strike(strike)
        await self._until_effect()
        await self._undo()
        await self.mend()
        await judge(self)
        self.mark("judged")

    async def traffic(self) -> None:
        """A fault that meets too little traffic proves nothing."""
        deadline = time.monotonic() + TRAFFIC_S
        while True:
            writes = min(len(writer.acknowledged) for writer in self.clients.writers)
            swaps = sum(
                one.is_write and one.outcome is Outcome.DONE for each in self.contended for one in each.operations
            )
            if writes >= WRITES_BEFORE and swaps >= SWAPS_BEFORE:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"too little traffic before the fault: {writes} writes through a node ({WRITES_BEFORE} needed), "
                    f"{swaps} swaps ({SWAPS_BEFORE} needed) within {TRAFFIC_S:g} s"
                )
            await asyncio.sleep(0.05)

    async def _strike(self, strike: Strike) -> None:
        assert self.leader is not None
        node = self.leader if strike.on is On.LEADER else self.site.other(self.leader)
        self.struck.append((strike, node))
        what = f"{strike.fault} on {node.name}"
        self.mark(what)
        self.result.bands.append(Band(self.now_s(), what))
        await FAULTS[strike.fault].strike(self.site, node)
        await asyncio.sleep(strike.hold_s)  # how long a fault lasts is a part of it

    async def _undo(self) -> None:
        while self.struck:
            strike, node = self.struck.pop()
            undo = FAULTS[strike.fault].undo
            if undo is not None:
                self.mark(f"end of {strike.fault}")
                await undo(self.site, node)
                self.end_bands(f"{strike.fault} on {node.name}")

    async def _until_effect(self) -> None:
        assert self.leader is not None
        leader, other = self.leader.number, 1 - self.leader.number
        seen: dict[Effect, Callable[[], bool]] = {
            Effect.FAILOVER: lambda: self._newest().roles[other] == "leader",
            Effect.BOTH_LEAD: lambda: self._newest().roles == ("leader", "leader"),
            Effect.ALONE: lambda: self._newest().roles[leader] == "leader" and self._newest().sync == "alone",
            Effect.WHOLE: lambda: self._newest().roles[leader] == "leader" and self._newest().sync == "in_sync",
        }
        condition = seen.get(self.scenario.effect)
        if condition is None:
            return
        deadline = time.monotonic() + EFFECT_S
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the fault did not do what it should: {self.scenario.effect} was not seen")
            await asyncio.sleep(SAMPLE_S)
        serving = {Effect.FAILOVER: (other,), Effect.ALONE: (leader,)}.get(self.scenario.effect, (0, 1))
        await self.clients.until_writing(20, serving)
        await self.clients.until_told(serving)

    def _newest(self) -> Sample:
        return self.result.samples[-1]

    async def _sample_on(self) -> None:
        while True:
            told = await asyncio.gather(*(node.status() for node in self.site.nodes))
            roles = tuple(one["role"] if one is not None else None for one in told)
            sync = next((one["sync"] for one in told if one is not None and one["role"] == "leader"), None)
            self.result.samples.append(Sample(self.now_s(), (roles[0], roles[1]), sync))
            self.result.load.append(os.getloadavg()[0])
            for tail in self._tails:
                self.result.events += tail.new(self.now_s())
            await asyncio.sleep(SAMPLE_S)

    def now_s(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self.began_s

    def mark(self, what: str) -> None:
        """Note something for the timeline."""
        self.result.marks.append(Mark(self.now_s(), what))

    async def mend(self) -> None:
        """End every fault, and start whatever does not run."""
        self.mark("mend")
        await asyncio.to_thread(self.site.mend)
        self.end_bands()

    def end_bands(self, what: str | None = None) -> None:
        """Note that a fault is over, or that all are."""
        for band in self.result.bands:
            if band.ended_s is None and what in (None, band.what):
                band.ended_s = self.now_s()

    def may_lose_to_archive(self) -> bool:
        """Whether an acknowledged write may be in an archive instead of the table."""
        strikes = self.scenario.strikes
        return self.scenario.promise is Promise.ARCHIVED and (
            len(strikes) > 1 or any(FAULTS[one.fault].splits for one in strikes)
        )

    def collect(self) -> None:
        """Take into the result what there is to say so far; it may be said again."""
        result = self.result
        result.seconds = round(self.now_s(), 1)
        for number, writer in enumerate(self.clients.writers):
            result.asked[number][:] = [
                Asked(write.sent_s - self.began_s, write.acked_s - write.sent_s if write.acked_s is not None else None)
                for write in writer.writes
            ]
        operations = [one for each in self.contended for one in each.operations]
        result.counts |= {
            "writes": len(self.clients.writes),
            "acknowledged": sum(write.acked_s is not None for write in self.clients.writes),
            "swaps": sum(one.is_write and one.outcome is Outcome.DONE for one in operations),
            "unknown": sum(one.outcome is Outcome.UNKNOWN for one in operations)
            + sum(write.acked_s is None for write in self.clients.writes),
            "reads": sum(not one.is_write for one in operations),
            "events": sum(len(watcher.seen) for watcher in self.clients.watchers),
            "promotions": sum(event.kind == "leads" for event in result.events),
            "went_alone": sum(event.kind == "alone" for event in result.events),
        }
        first, second = (longest_gap_s(asked) for asked in result.asked)
        result.gaps_s = (first, second)
        leading = [tuple(role == "leader" for role in sample.roles) for sample in result.samples]
        led = [one for one in leading if any(one)]
        result.leadership_changes = sum(before != after for before, after in itertools.pairwise(led))
        if self.scenario.effect in {Effect.KEPT, Effect.WHOLE, Effect.ALONE} and self.leader is not None:
            other = 1 - self.leader.number
            if any(one[other] for one in leading) and not any(FALSE in line for line in result.complaints):
                result.complaints.append(f"{FALSE}: node-{other} came to lead")


def longest_gap_s(asked: list[Asked]) -> float:
    """Return the longest time between two answers that follow each other, seconds."""
    times = sorted(one.sent_s + one.took_s for one in asked if one.took_s is not None)
    return round(max((after - before for before, after in itertools.pairwise(times)), default=0.0), 3)


def told(result: Result) -> dict[str, Any]:
    """Return what the JSON report says of a scenario."""
    return {
        "scenario": result.scenario, "seed": result.seed, "good": result.finished and not result.complaints,
        "finished": result.finished, "skipped": result.skipped, "complaints": result.complaints,
        "seconds": result.seconds, "counts": result.counts, "longest_gap_s": list(result.gaps_s),
        "leadership_changes": result.leadership_changes,
        "load_average": {
            "mean": round(sum(result.load) / max(1, len(result.load)), 2), "max": max(result.load, default=0.0),
        },
        "marks": [{"at_s": round(one.at_s, 2), "what": one.what} for one in result.marks],
        "events": [
            {"at_s": round(one.at_s, 2), "node": one.node, "kind": one.kind, "message": one.message}
            for one in result.events
        ],
    }  # fmt: skip
