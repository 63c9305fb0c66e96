"""A run: faults drawn by a seed, played on a fresh pair, judged, and made as short as possible when it fails."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from unittest import mock

from failover.core.model import Role
from failover.node import loop as node_loop
from tests.simulation import virtual_loop
from tests.simulation.faults import FAULTS
from tests.simulation.pair import SimPair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from failover.core.evidence import Cell
    from failover.core.rules import Rule

    Scenario = Callable[[SimPair], Awaitable[None]]

SINGLE_FAULTS = 5
OVERLAPPING_FAULTS = 7
GAPS_S = (0.02, 0.1, 0.3, 0.6, 1.0, 3.0)
WRITES_AGAIN_S = 25.0
IN_SYNC_S = 120.0
RESUMED_S = 0.5  # after the last mend a patient operator looks whether a pause is left


@dataclass(frozen=True, slots=True)
class Event:
    """One fault: `after_s` after the one before, on `node`, for `lasts_s`."""

    fault: str
    node: int
    after_s: float
    lasts_s: float


@dataclass(slots=True)
class Run:
    """What came of a scenario."""

    error: str | None = None
    log: list[str] = field(default_factory=list)
    simulated_s: float = 0.0
    reached: set[str] = field(default_factory=set)  # names of rules, steps as plan/step, evidence as role: axis = value


def draw(seed: int) -> tuple[bool, list[Event]]:
    """Return whether the faults come one after another, and the faults. An even seed draws single ones."""
    drawn = random.Random(seed)  # noqa: S311 - reproducible on purpose
    single = seed % 2 == 0
    events = []
    for _ in range(SINGLE_FAULTS if single else OVERLAPPING_FAULTS):
        name = drawn.choice(list(FAULTS))
        lasts_s = drawn.choice(FAULTS[name].lasts_s) * drawn.uniform(0.8, 1.2)
        events.append(Event(name, drawn.randrange(2), drawn.choice(GAPS_S), lasts_s))
    return single, events


def play_seed(seed: int, events: Sequence[Event] | None = None, *, planted: bool = False) -> Run:
    """Play what the seed draws, or a part of it."""
    single, drawn = draw(seed)
    chosen = drawn if events is None else events

    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_moving()
        pair.clients.begin_leases()
        await (one_by_one if single else overlapping)(pair, chosen)

    return play(scenario, seed, planted=planted)


def play_quiet(seconds: float) -> Run:
    """Play so long without a fault: in the end as much as ever must be there and equal."""

    async def scenario(pair: SimPair) -> None:
        pair.clients.begin_moving()
        pair.clients.begin_leases()
        await pair.quiet(seconds)
        await pair.verify()

    return play(scenario)


REACHED: set[str] = set()  # by every run of this process that had no planted mistake in it


def play(scenario: Scenario, seed: int = 1, *, planted: bool = False) -> Run:
    """Play a scenario on a fresh pair that is in sync and under load. What goes wrong is in the returned run."""
    run = Run()

    async def main() -> None:
        pair = SimPair(seed)
        pair.before_step = lambda _node, plan, step: run.reached.add(f"{plan}/{step}")
        try:
            await pair.begin()
            await scenario(pair)
        finally:
            run.simulated_s = pair.world.now_s()
            run.log = pair.world.log
            await pair.end()

    with recorded(run.reached), uncollected():
        try:
            virtual_loop.run(main())
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the result
            run.error = f"{type(error).__name__}: {error}"
    if not planted:
        REACHED.update(run.reached)
    return run


@contextmanager
def uncollected() -> Iterator[None]:
    """A run keeps all its rows to its end: looking through them for garbage again and again is a quarter of a long one."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def recorded(reached: set[str]) -> Iterator[None]:
    """Add the rows and the evidence that a node comes to while the context is open."""
    inner = node_loop.decide  # type: ignore[attr-defined] # which a test may have replaced

    def watched(cell: Cell) -> Rule:
        rule = inner(cell)
        reached.add(rule.name)
        if cell.role in DECIDING:
            reached.update(values_of(cell))
        return rule

    with mock.patch.object(node_loop, "decide", watched):
        yield


DECIDING = frozenset({Role.STARTING, Role.FOLLOWER, Role.LEADER})


@lru_cache(maxsize=4096)
def values_of(cell: Cell) -> frozenset[str]:
    """Return the evidence of a cell as `role: axis = value`."""
    axes = (axis for axis in cell.__struct_fields__ if axis != "role")
    return frozenset(f"{cell.role}: {axis} = {getattr(cell, axis)}" for axis in axes)


async def one_by_one(pair: SimPair, events: Sequence[Event]) -> None:
    """One fault after another, each mended before the next: nothing at all may be lost but by a cut of the network."""
    for event in events:
        fault = FAULTS[event.fault]
        await pair.quiet(event.after_s)
        pair.split = fault.splits
        fault.strike(pair, event.node)
        await pair.quiet(event.lasts_s)
        fault.mend(pair, event.node)
        await pair.until_in_sync(IN_SYNC_S)
        pair.split = False
        await pair.until_believed()
        before = len(pair.acked)
        await pair.until("writes", lambda before=before: len(pair.acked) > before, WRITES_AGAIN_S)  # type: ignore[misc]
    await pair.verify()


async def overlapping(pair: SimPair, events: Sequence[Event]) -> None:
    """Faults during faults and during recovery; then quiet. What was acknowledged may have ended in an archive."""
    loop = asyncio.get_running_loop()
    mends = []
    for event in events:
        await pair.quiet(event.after_s)
        FAULTS[event.fault].strike(pair, event.node)
        mends.append(loop.call_later(event.lasts_s, FAULTS[event.fault].mend, pair, event.node))
    await pair.quiet(max((event.lasts_s for event in events), default=0.0))
    for mend in mends:
        mend.cancel()
    for event in events:
        FAULTS[event.fault].mend(pair, event.node)
    for node in (0, 1):
        pair.start(node)
    await pair.quiet(RESUMED_S)
    for node in (0, 1):
        pair.resume(node)  # a supervisor that was killed over it has not heard of the end of a pause
    await pair.until_in_sync(IN_SYNC_S)
    await pair.verify(split=True)


def shrink(seed: int, fails: Callable[[Run], bool]) -> list[Event]:
    """Return the shortest part of what the seed draws that still fails, as far as leaving out one at a time gets."""
    _, events = draw(seed)
    index = 0
    while index < len(events):
        shorter = events[:index] + events[index + 1 :]
        if fails(play_seed(seed, shorter)):
            events = shorter
        else:
            index += 1
    return events
