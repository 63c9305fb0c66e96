"""The address follows the leader of a real pair."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from lab.clients import Clients
    from lab.pair import Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]


@pytest.mark.skipif(os.geteuid() != 0, reason="an address of an interface needs root")
async def test_the_address_follows_the_leader(running_pair: Start) -> None:
    # One machine, so an address a node: who has it is asked of the nodes. They end with the supervisors, by their lifetime.
    extra = {
        "address.virtual_ip": f'address = "127.77.{os.getpid() % 250}.1{{node}}/32"\ninterface = "lo"\nlifetime_s = 2'
    }
    async with running_pair(extra=extra) as (pair, clients):
        leader = await pair.leader()
        other = pair.other(leader)
        await pair.until("the leader to have the address", lambda both: held(both, leader.number))
        assert (await leader.post("switchover"))[0] == 200
        await pair.until("the other to have the address", lambda both: held(both, other.number))
        await pair.until_in_sync()
        other.kill_supervisor()
        other.start_supervisor()
        await pair.until_in_sync()  # it goes on leading; on a slow machine the other has taken over
        leader = await pair.leader()
        await pair.until("the leader to have it again", lambda both: held(both, leader.number))
        await clients.verify()
        doctor = await asyncio.to_thread(leader.command, "doctor", check=False)
        assert "ok  virtual IP: the supervisor may set addresses" in doctor.stdout
        # The rights that count are the supervisor's, whatever those who ask may.
        follower = pair.other(leader)
        follower.stop_supervisor()
        follower.start_supervisor("setpriv", "--bounding-set", "-net_admin,-net_raw")
        await pair.until_in_sync()
        doctor = await asyncio.to_thread(follower.command, "doctor", check=False)
        assert "BAD virtual IP: the supervisor lacks CAP_NET_ADMIN and CAP_NET_RAW" in doctor.stdout


def held(both: Any, leader: int) -> bool:
    if any(one is None for one in both):
        return False
    return [one["address"][0]["held"] for one in both] == [number == leader for number in (0, 1)]
