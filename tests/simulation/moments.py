"""Moments that scenarios wait for or make: just before a step, while a node hangs, once a leader has gone alone."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

from failover.core.model import Kind
from tests.simulation.rejoin import SimRejoin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from failover.core.plans import Step
    from failover.node.loop import Node
    from failover.ports import Progress, RejoinOrder, RejoinReport
    from tests.simulation.pair import SimPair
    from tests.simulation.world import Postgres


def living(pair: SimPair, node: int) -> Node:
    made = pair.nodes[node]
    assert made is not None
    return made


def once(pair: SimPair, node: int, plan: str, step: Step, act: Callable[[], None]) -> None:
    """Have something happen before a node's step, the first time that it comes to it."""
    left = [act]

    def before(acting: int, running: str, next_step: Step) -> None:
        if (acting, running, next_step) == (node, plan, step) and left:
            left.pop()()

    pair.before_step = before


def hang(pair: SimPair, node: int, *, hung: bool) -> None:
    """The supervisor hangs, and so does whatever is synced: a fence of the living Postgres does not come back."""
    machine = pair.world.machines[node]
    machine.stalled = machine.disk_stalled = hung


async def until_split(pair: SimPair, alone_s: float = 2.0) -> None:
    """Cut the network, and return when both have led and acknowledged alone for a while."""
    pair.partition()
    await pair.until("both to lead", lambda: pair.leads(0) and pair.leads(1), 5.0)
    await pair.quiet(alone_s)


async def until_promoting(pair: SimPair, node: int) -> None:
    await pair.until("it to be about to lead", lambda: pair.role(node) == "promoting", 30.0)


async def until_alone(pair: SimPair, leader: int, *, stuck: bool = True) -> None:
    """Have the follower apply nothing more, or leave it as it is, and return when the leader has gone alone over it."""
    pair.world.machines[1 - leader].postgres.stuck = stuck
    await pair.until(
        "it to go alone", lambda: pair.world.machines[leader].postgres.lineage[-1].kind is Kind.ALONE, 30.0
    )
    await pair.quiet(1.0)


@contextlib.contextmanager
def after_each_copy(act: Callable[[SimRejoin, int], Awaitable[None]]) -> Iterator[list[int]]:
    """Have something happen right after a rejoin has copied, told the number of copies so far: before the node knows of it.

    Yields how many rows, believed in by somebody, the leader lacked at each copy so far.
    """
    lacked: list[int] = []
    rejoin = SimRejoin.rejoin

    async def acts(
        self: SimRejoin,
        order: RejoinOrder,
        progress: Callable[[Progress], None],
        before_loss: Callable[[], Awaitable[None]],
    ) -> RejoinReport:
        report = await rejoin(self, order, progress, before_loss)
        lacked.append(report.only_here)
        await act(self, len(lacked))
        return report

    with mock.patch.object(SimRejoin, "rejoin", acts):
        yield lacked


def disk_as_it_is(pair: SimPair, node: int) -> Postgres:
    """Return a copy of what the node's Postgres has on its disk, to be put back later."""
    own = pair.world.machines[node].postgres
    return replace(
        own, up=False, streaming=None, rows=dict(own.rows), heads=dict(own.heads), wal=list(own.wal), slots=dict(own.slots),
        subscription=replace(own.subscription) if own.subscription is not None else None,
        sessions={}, under_way={}, inserting={}, lost=[],
    )  # fmt: skip


def put_disk_back(pair: SimPair, node: int, disk: Postgres) -> None:
    """Give a machine without power another disk than it had."""
    assert not pair.world.machines[node].powered
    pair.world.machines[node].postgres = replace(disk, runs=pair.world.machines[node].postgres.runs)
