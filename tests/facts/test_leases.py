"""What Kine makes of a lease: seconds in a row, counted by each Kine for itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING

from failover.etcd import etcd_pb2 as pb
from failover.etcd.client import _is_at, _read
from lab import binaries
from lab.servers import servers
from tests.facts.test_compaction import another
from tests.facts.test_plain_kine import ANSWER_S, client

if TYPE_CHECKING:
    from pathlib import Path

    from failover.etcd.client import EtcdClient

LEASE_S = 3
RENEWED_S = 0.3


async def hold(kine: EtcdClient, key: str, revision: int) -> int:
    """Write a key under a lease that must still be at a revision, 0 for a new one. Returns the new revision."""
    put = pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=b"x", lease=LEASE_S))
    failure = [_read(key)] if revision else []
    done = await kine._txn(pb.TxnRequest(compare=[_is_at(key, revision)], success=[put], failure=failure), ANSWER_S)
    assert done.succeeded
    return done.revision


async def until_gone(kine: EtcdClient, key: str) -> float:
    """Return when a key is gone, seconds on the monotonic clock."""
    async with asyncio.timeout(ANSWER_S):
        while (await kine.get(key)).kv is not None:
            await asyncio.sleep(0.05)
    return time.monotonic()


async def test_a_kine_that_starts_counts_a_lease_anew(tmp_path: Path) -> None:
    """So a key lives longer by all that a failover takes, and by what had passed before; never shorter."""
    with servers(binaries.postgres()) as (server,):
        async with another(server, f"unix://{tmp_path}/1"), client(f"unix://{tmp_path}/1") as kine:
            began_s = time.monotonic()
            await hold(kine, "/key", 0)
            await asyncio.sleep(0.7 * LEASE_S)
        started_s = time.monotonic()
        async with another(server, f"unix://{tmp_path}/2"), client(f"unix://{tmp_path}/2") as kine:
            gone_s = await until_gone(kine, "/key")
        assert gone_s - began_s > 1.5 * LEASE_S
        assert gone_s - started_s >= LEASE_S


async def test_a_kine_that_stood_still_ends_no_key_that_was_renewed(tmp_path: Path) -> None:
    """Its time has run out when it goes on, before it hears of the renewals; but it deletes only the revision that it knows."""
    with servers(binaries.postgres()) as (server,):
        async with (
            another(server, f"unix://{tmp_path}/1"), client(f"unix://{tmp_path}/1") as kine,
            another(server, f"unix://{tmp_path}/2") as process, client(f"unix://{tmp_path}/2") as other,
        ):  # fmt: skip
            written = await hold(kine, "/key", 0)
            assert (await other.get("/key")).kv is not None
            await asyncio.sleep(RENEWED_S)  # three polls: the other one counts too
            process.send_signal(signal.SIGSTOP)
            end_s, thaw_s = time.monotonic() + 3.0 * LEASE_S, time.monotonic() + 1.5 * LEASE_S
            with contextlib.ExitStack() as going_on:
                going_on.callback(process.send_signal, signal.SIGCONT)
                while time.monotonic() < end_s:
                    if time.monotonic() > thaw_s:
                        process.send_signal(signal.SIGCONT)
                    written = await hold(kine, "/key", written)  # nobody has deleted it
                    await asyncio.sleep(RENEWED_S)
            await until_gone(kine, "/key")  # nobody renews it any more
