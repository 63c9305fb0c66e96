"""What people do to a pair, on real Postgres and real Kine: reboots, certificates, a Postgres that hangs in their hands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

from failover import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from lab.clients import Clients
    from lab.pair import NodeProcesses, Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]


async def test_orderly_reboot_of_the_leader(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        await asyncio.to_thread(leader.command, "leave")
        await pair.until("the other node to lead", leads(pair.other(leader)))
        leader.stop_supervisor()
        leader.kill_kine()
        await asyncio.to_thread(leader.postgres.stop)
        await clients.until_writing(30, (1 - leader.number,))
        leader.start()
        await clients.verify()
        assert (await pair.leader()) is pair.other(leader)


async def test_orderly_reboot_of_the_follower(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        follower = pair.other(leader)
        await asyncio.to_thread(follower.command, "leave")
        await pair.until("the leader to go on alone", says(leader, "sync", "alone", "catching_up"))
        follower.stop_supervisor()
        follower.kill_kine()
        await asyncio.to_thread(follower.postgres.stop)
        await clients.until_writing(30, (leader.number,))
        follower.start()
        await clients.verify()
        assert (await pair.leader()) is leader


async def test_leaders_postgres_hangs(running_pair: Start) -> None:
    async with running_pair() as (pair, clients):
        leader = await pair.leader()
        stopped = leader.postgres.pids()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        await pair.until("the follower to lead", leads(pair.other(leader)))
        await clients.until_writing(30, (1 - leader.number,))
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        await clients.verify()


async def test_a_certificate_of_another_authority_costs_the_follower_and_nothing_else(
    running_pair: Start, tmp_path: Path
) -> None:
    await asyncio.to_thread(certificates.create, tmp_path / "pair", "right")
    await asyncio.to_thread(certificates.create, tmp_path / "foreign", "foreign")
    async with running_pair() as (pair, clients):
        for node in pair.nodes:
            node.stop_supervisor()
            node.config.write_text(with_tls(node, tmp_path / "pair"), encoding="utf-8")
            node.start_supervisor()
        await pair.until_in_sync()
        leader = await pair.leader()
        follower = pair.other(leader)
        follower.stop_supervisor()
        good = follower.config.read_text(encoding="utf-8")
        follower.config.write_text(good.replace(str(tmp_path / "pair"), str(tmp_path / "foreign")), encoding="utf-8")
        follower.start_supervisor()
        await pair.until("both to refuse the other", lambda both: all(refuses_certificate(told) for told in both))
        await clients.until_writing(30, (leader.number,))
        told = await asyncio.gather(*(node.status() for node in pair.nodes))
        assert [(one or {})["role"] == "leader" for one in told] == [node is leader for node in pair.nodes]
        follower.stop_supervisor()
        follower.config.write_text(good, encoding="utf-8")
        follower.start_supervisor()
        await clients.verify()
        assert (await pair.leader()) is leader


def with_tls(node: NodeProcesses, folder: Path) -> str:
    """Return the node's configuration with mutual TLS between the nodes."""
    name = f"node-{node.number}"
    return node.config.read_text(encoding="utf-8") + (
        f'\n[link.tls]\nauthority = "{folder}/ca.crt"\ncertificate = "{folder}/{name}.crt"\nkey = "{folder}/{name}.key"\n'
    )


def refuses_certificate(told: dict[str, Any] | None) -> bool:
    """Whether this node's status names the certificate as what is wrong with every path."""
    paths = (told or {}).get("paths", [])
    return bool(paths) and all("certificate" in (path["error"] or "") for path in paths)


def leads(node: NodeProcesses) -> Callable[[Sequence[dict[str, Any] | None]], bool]:
    """Return the condition that this node leads and Kine may use its Postgres."""

    def holds(both: Sequence[dict[str, Any] | None]) -> bool:
        told = both[node.number] or {}
        return told.get("role") == "leader" and bool(told["postgres"].get("open"))

    return holds


def says(node: NodeProcesses, what: str, *values: str) -> Callable[[Sequence[dict[str, Any] | None]], bool]:
    """Return the condition that this node's status has one of these values there."""
    return lambda both: (both[node.number] or {}).get(what) in values


async def test_a_new_log_level_is_taken_without_a_restart(running_pair: Start) -> None:
    async with running_pair(extra={"log": 'level = "error"\nformat = "json"'}) as (pair, clients):
        node = pair.nodes[1]
        running = node.supervisor_pid
        assert running is not None
        text = node.config.read_text(encoding="utf-8")
        assert logged(node) == set()
        node.config.write_text(text.replace('level = "error"', 'level = "info"'), encoding="utf-8")
        os.kill(running, signal.SIGHUP)
        await pair.until("a word of the signal's", lambda _: "reloaded" in logged(node))
        await asyncio.to_thread(node.command, "switchover", "--to", str(1 - (await pair.leader()).number), "--yes")
        await pair.until("a word of the switchover", lambda _: "plan" in logged(node))
        node.config.write_text(text, encoding="utf-8")
        told = await asyncio.to_thread(node.command, "reload")
        assert "restart" not in told.stdout
        await pair.until_in_sync()
        node.log.write_bytes(b"")
        await asyncio.to_thread(node.command, "switchover", "--to", str(1 - (await pair.leader()).number), "--yes")
        await pair.until_in_sync()
        await clients.verify()
        assert logged(node) == set()
        assert node.supervisor_pid == running


def logged(node: NodeProcesses) -> set[str]:
    """What the lines of a node's log that are no errors say."""
    lines = [json.loads(line) for line in node.log.read_text(encoding="utf-8").splitlines()]
    return {line["event"] for line in lines if line["level"] != "error"}
