"""The state file is changed by one at a time, and what has begun to be written is taken in."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from failover.core.evidence import Policy
from failover.core.model import Durable
from failover.core.timing import LAN
from failover.node.memory import Memory
from failover.node.steps import Steps

if TYPE_CHECKING:
    from failover.ports import Ports


class SlowDisk:
    """Remembers what was written, a while after it was asked to."""

    def __init__(self) -> None:
        self.saved: list[Durable] = []

    async def save(self, durable: Durable) -> None:
        await asyncio.sleep(0.01)
        self.saved.append(durable)


def steps() -> tuple[Steps, Memory, SlowDisk]:
    disk, memory = SlowDisk(), Memory(Durable("shop", 0, "id-0"), "boot", 0.0)
    ports = cast("Ports", SimpleNamespace(state=disk))

    async def nothing() -> None:
        return None

    unused: Any = None
    made = Steps(
        ports, memory, LAN, Policy(),
        observe=unused, look=unused, say=unused, heard=nothing,
    )  # fmt: skip
    return made, memory, disk


async def test_two_changes_at_once_are_both_kept() -> None:
    made, memory, disk = steps()
    await asyncio.gather(made.save(highest_term=4), made.save(renounced="head"))
    assert (disk.saved[-1].highest_term, disk.saved[-1].renounced) == (4, "head")
    assert memory.durable == disk.saved[-1]


async def test_a_change_whose_plan_is_given_up_is_not_forgotten() -> None:
    made, memory, disk = steps()
    giving_up = asyncio.ensure_future(made.save(highest_term=6))
    await asyncio.sleep(0.001)
    giving_up.cancel()
    await asyncio.wait({giving_up})
    await made.save(renounced="head")
    assert [one.highest_term for one in disk.saved] == [6, 6]  # I2
    assert memory.durable.highest_term == 6
