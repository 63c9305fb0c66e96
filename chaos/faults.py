"""Everything that can go wrong: each fault by its name, how it is done, how it is undone, and what it may cost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from chaos.machine import broker_program, faketime, stress_program
from chaos.network import NUMBERS, Lost, Path, cut_between, cut_off
from chaos.node import KINE_PROGRAM, SUPERVISOR_PROGRAM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chaos.node import MachineNode
    from chaos.site import Site

CLOCK_STEP_S = 30.0
LOW_LOSS, HIGH_LOSS = 40, 250  # per mille, each way
STRESS = "stress-ng"


class Needs(StrEnum):
    """A program that has to be installed."""

    FAKETIME = "libfaketime"
    STRESS = "stress-ng"
    BROKER = "mosquitto"


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` does it to a node and returns at once or when it is over; `undo` ends it. Undoing twice is harmless.

    `splits`: both nodes may come to lead. What dies is started again by `Site.mend`.
    """

    name: str
    strike: Callable[[Site, MachineNode], Awaitable[None]]
    undo: Callable[[Site, MachineNode], Awaitable[None]] | None = None
    splits: bool = False
    needs: Needs | None = None

    def obstacle(self) -> str | None:
        """Say what is missing for it."""
        if self.needs is Needs.FAKETIME and faketime() is None:
            return "libfaketime is not installed"
        if self.needs is Needs.STRESS and stress_program() is None:
            return "stress-ng is not installed"
        if self.needs is Needs.BROKER and broker_program() is None:
            return "mosquitto is not installed"
        return None


async def _kill_everything(_: Site, node: MachineNode) -> None:
    node.kill()


async def _kill_postgres(_: Site, node: MachineNode) -> None:
    node.postgres.kill()


async def _kill_supervisor(_: Site, node: MachineNode) -> None:
    node.machine.kill(containing=SUPERVISOR_PROGRAM)


async def _kill_kine(_: Site, node: MachineNode) -> None:
    node.machine.signal(signal.SIGKILL, containing=KINE_PROGRAM)


async def _stop(_: Site, node: MachineNode) -> None:
    node.machine.signal(signal.SIGSTOP)


async def _continue(_: Site, node: MachineNode) -> None:
    node.machine.signal(signal.SIGCONT)


async def _stop_postgres(_: Site, node: MachineNode) -> None:
    node.postgres.signal(signal.SIGSTOP)


async def _lose_power(_: Site, node: MachineNode) -> None:
    await asyncio.to_thread(node.lose_power)


async def _lose_power_in_a_write(site: Site, node: MachineNode) -> None:
    """A transaction has drawn a revision, and its end never comes: worse than Kine's own inserts, which are single statements."""
    leader = await site.leader()
    await asyncio.to_thread(node.begin_a_write, leader)
    await _lose_power(site, node)


async def _lose_power_everywhere(site: Site, _: MachineNode) -> None:
    for node in site.nodes:
        node.machine.power_off()
    for node in site.nodes:
        await asyncio.to_thread(node.disk.lose_unsynced)


async def _fill_disk(_: Site, node: MachineNode) -> None:
    node.disk.fill(leave_bytes=30 << 20)


async def _empty_disk(_: Site, node: MachineNode) -> None:
    node.disk.empty()


async def _stall_disk(_: Site, node: MachineNode) -> None:
    node.disk.freeze()


async def _thaw_disk(_: Site, node: MachineNode) -> None:
    node.disk.thaw()


async def _slow_disk(_site: Site, node: MachineNode) -> None:
    """Writes wait for 60 of each 90 ms."""
    for _ in range(40):
        node.disk.freeze()
        try:
            await asyncio.sleep(0.06)
        finally:
            node.disk.thaw()
        await asyncio.sleep(0.03)


def _clock(offset_s: float) -> Callable[[Site, MachineNode], Awaitable[None]]:
    async def step(_: Site, node: MachineNode) -> None:
        node.machine.set_clock(offset_s)

    return step


def stress(*arguments: str) -> Callable[[Site, MachineNode], Awaitable[None]]:
    """Return what starts stress-ng with these arguments on a node, on its disk."""

    async def start(_: Site, node: MachineNode) -> None:
        program = stress_program()
        assert program is not None
        argv = [program, "--quiet", "--temp-path", str(node.folder), *arguments]
        node.machine.start(argv, node.folder / "stress.log", clock=False)

    return start


async def end_stress(_: Site, node: MachineNode) -> None:
    """End all stress on the node, and remove its files."""
    node.machine.kill(containing=STRESS)
    for left in node.folder.glob("tmp-stress-ng*"):
        with contextlib.suppress(OSError):
            for file in left.iterdir():
                file.unlink()
            left.rmdir()


def _losing(
    which: Callable[[MachineNode], tuple[Lost, ...]], name: str, *, splits: bool = False, needs: Needs | None = None
) -> Fault:
    async def strike(site: Site, node: MachineNode) -> None:
        site.network.add(*which(node))

    async def undo(site: Site, node: MachineNode) -> None:
        site.network.remove(*which(node))

    return Fault(name, strike, undo, splits=splits, needs=needs)


def _peer(node: MachineNode) -> str:
    return f"node-{1 - node.number}"


def _cut_with_broker(node: MachineNode) -> tuple[Lost, ...]:
    """Both paths, and the way round by the broker; both nodes still reach the gateway."""
    return (*cut_between(node.name, _peer(node)), *cut_between(node.name, "broker", (Path.A,)))


def _lossy(per_mille: int) -> Callable[[MachineNode], tuple[Lost, ...]]:
    return lambda _: tuple(Lost(one, per_mille=per_mille) for one in NUMBERS)


async def _flap(site: Site, node: MachineNode) -> None:
    lost = cut_between(node.name, _peer(node))
    for _ in range(6):
        site.network.add(*lost)
        await asyncio.sleep(0.5)
        site.network.remove(*lost)
        await asyncio.sleep(0.3)


async def _storm(_: Site, node: MachineNode) -> None:
    """The supervisor is killed and started again and again, as by a unit that fails."""
    for pause_s in (0.3, 0.6, 0.9, 0.4, 0.7):
        node.machine.kill(containing=SUPERVISOR_PROGRAM)
        await asyncio.sleep(0.1)
        node.start_supervisor()
        await asyncio.sleep(pause_s)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-everything", _kill_everything),
        Fault("kill-postgres", _kill_postgres),
        Fault("kill-supervisor", _kill_supervisor),
        Fault("kill-kine", _kill_kine),
        Fault("stop-everything", _stop, _continue),
        Fault("stop-postgres", _stop_postgres, _continue),
        Fault("power-loss", _lose_power),
        Fault("power-loss-in-a-write", _lose_power_in_a_write),
        Fault("power-loss-of-both", _lose_power_everywhere),
        Fault("full-disk", _fill_disk, _empty_disk),
        Fault("stalled-disk", _stall_disk, _thaw_disk),
        Fault("slow-disk", _slow_disk),
        Fault("clock-ahead", _clock(CLOCK_STEP_S), _clock(0.0), needs=Needs.FAKETIME),
        Fault("clock-behind", _clock(-CLOCK_STEP_S), _clock(0.0), needs=Needs.FAKETIME),
        Fault("cpu-stress", stress("--cpu", "4"), end_stress, needs=Needs.STRESS),
        Fault("disk-stress", stress("--hdd", "1", "--hdd-bytes", "32m", "--hdd-opts", "fsync"), end_stress,
              needs=Needs.STRESS),
        _losing(_lossy(LOW_LOSS), "loss-4-percent"),
        _losing(_lossy(HIGH_LOSS), "loss-25-percent", splits=True),
        _losing(_cut_with_broker, "cut", splits=True),
        _losing(lambda node: cut_between(node.name, _peer(node)), "cut-but-broker", needs=Needs.BROKER),
        _losing(lambda node: (Lost(_peer(node), node.name),), "cut-one-way", splits=True),
        _losing(lambda node: cut_between(node.name, _peer(node), (Path.A,)), "cut-path-a"),
        _losing(lambda node: cut_between(node.name, _peer(node), (Path.B,)), "cut-path-b"),
        _losing(lambda node: (Lost(node.name, _peer(node), reset=True),), "reset", splits=True),
        _losing(lambda node: cut_off(node.name), "cut-off", splits=True),
        Fault("flapping", _flap, splits=True),
        Fault("restart-storm", _storm),
    )
}  # fmt: skip
