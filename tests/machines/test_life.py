"""What happens to a machine in its life: it loses power, boots, hangs, is rebooted and switched off."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from lab.clients import Clients
from lab.two_nodes import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machines.machine import Machine, Machines

pytestmark = pytest.mark.timeout(1800)  # a package is built, Debian packages are installed

UNIT_STOPPED = "9d1aaa27d60140bd96365438aad20286"  # sd-messages(3): SD_MESSAGE_UNIT_STOPPED
LOCKS = "systemd-inhibit --list --no-pager --no-legend"
OPEN_FILE = "/var/lib/postgresql/15/main/kine_failover_open"


async def lead_on(machines: Machines, before: Machine) -> None:
    """Return when the other machine leads."""

    def condition(both: object) -> bool:
        told = both[1 - before.number]  # type: ignore[index]
        return told is not None and told["role"] == "leader" and bool(told["postgres"].get("open"))

    await machines.until("the other machine to lead", condition)


def report(name: str, clients: Clients, machine: Machine, since_s: float) -> None:
    """Say how long a client of this machine had no write acknowledged."""
    print(f"{name}: gap {clients.writers[machine.number].longest_gap(since_s).seconds * 1000:.0f} ms")


@pytest.mark.parametrize("which", [pytest.param("leader", marks=pytest.mark.short), "follower"])
async def test_power_loss_and_boot(machines: Machines, which: str) -> None:
    await machines.until_in_sync()
    leader = await machines.leader()
    struck = leader if which == "leader" else machines.other(leader)
    other = machines.other(struck)
    async with Clients(machines) as clients:
        await clients.until_writing(50)
        since_s = time.monotonic()
        await asyncio.to_thread(struck.kill)
        if which == "leader":
            await lead_on(machines, struck)
        await clients.until_writing(50, (other.number,))
        report(f"power loss of the {which}", clients, other, since_s)
        await asyncio.to_thread(struck.boot)
        await machines.until_in_sync()
        await clients.until_writing(50)
        await clients.verify()
    assert await machines.leader() is other
    assert struck.do(f"cat {OPEN_FILE}").strip() == "kine_failover_closed"  # it has not led since it booted


def reboot(machine: Machine) -> None:
    machine.do("systemctl reboot")


def poweroff(machine: Machine) -> None:
    machine.do("systemctl poweroff")


def stopped_by_pid_1(machine: Machine) -> None:
    """logind hears nothing of it: systemd itself is told to stop everything."""
    machine.do("kill -s RTMIN+4 1")


@pytest.mark.parametrize(
    "how", [pytest.param(reboot, marks=pytest.mark.short), poweroff, stopped_by_pid_1], ids=lambda how: how.__name__
)
async def test_an_orderly_end_hands_leadership_over(machines: Machines, how: Callable[[Machine], None]) -> None:
    await machines.until_in_sync()
    leader = await machines.leader()
    follower = machines.other(leader)
    assert re.search(r"^kine-failover .* shutdown .* delay *$", leader.do(LOCKS), re.MULTILINE), leader.do(LOCKS)
    async with Clients(machines) as clients:
        await clients.until_writing(50)
        since_s, began_s = time.monotonic(), int(time.time())
        await asyncio.to_thread(how, leader)
        await lead_on(machines, leader)
        await clients.until_writing(50, (follower.number,))
        report(how.__name__, clients, follower, since_s)
        await asyncio.to_thread(leader.until_off)
        await asyncio.to_thread(leader.boot)
        await machines.until_in_sync()
        await clients.until_writing(50)
        await clients.verify()
    promotion = [one for one in follower.history() if one["kind"] == "plan" and "promote" in one["message"]][-1]
    assert promotion["peer"] == "hands_over", promotion  # its word, and no silence
    said = leader.do(f"journalctl --no-pager --output cat --since @{began_s} --unit kine-failover")
    assert ("this machine shuts down" in said) is (how is not stopped_by_pid_1)  # logind's word, where it was asked
    stopped = stop_order(leader, began_s)
    assert stopped["kine-failover.service"] < stopped["postgresql@15-main.service"]


def stop_order(machine: Machine, since_s: int) -> dict[str, int]:
    """Return when each unit had stopped, microseconds; `since_s` is seconds since 1970."""
    query = f"journalctl --no-pager --output json --since @{since_s} MESSAGE_ID={UNIT_STOPPED}"
    entries = [json.loads(line) for line in machine.do(query).splitlines()]
    return {one["UNIT"]: int(one["__REALTIME_TIMESTAMP"]) for one in entries}


async def started_anew(machine: Machine, before: int) -> None:
    """Return when systemd has started another supervisor. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_S):
        while await asyncio.to_thread(machine.main_pid) in (0, before):
            await asyncio.sleep(0.1)


@pytest.mark.short
async def test_a_hung_supervisor_is_started_anew_and_nobody_else_leads(machines: Machines) -> None:
    await machines.until_in_sync()
    leader = await machines.leader()
    pid, kines = leader.main_pid(), leader.kines()
    async with Clients(machines) as clients:
        await clients.until_writing(50)
        since_s = time.monotonic()
        await asyncio.to_thread(leader.do, f"kill -STOP {pid}")
        await started_anew(leader, pid)
        await machines.until_in_sync()
        print(f"watchdog: {time.monotonic() - since_s:.1f} s from the hang to in_sync")
        await clients.until_writing(50)
        report("watchdog", clients, leader, since_s)
        await clients.verify()
    assert await machines.leader() is leader
    assert leader.kines() == kines  # the same one goes on


@pytest.mark.short
async def test_a_killed_supervisor_leaves_kine_alone(machines: Machines) -> None:
    await machines.until_in_sync()
    leader = await machines.leader()
    pid, kines = leader.main_pid(), leader.kines()
    async with Clients(machines) as clients:
        await clients.until_writing(50)
        await asyncio.to_thread(leader.do, f"kill -KILL {pid}")
        await started_anew(leader, pid)
        await machines.until_in_sync()
        await clients.until_writing(50)
        await clients.verify()
    assert await machines.leader() is leader
    assert leader.kines() == kines
