"""What can be asked of a pair, wherever its nodes run: on loopback, or on machines of their own."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import aiohttp
import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

WAIT_S = 60.0  # a generous bound on a hang, never a measurement


class NodeView:
    """One node by its folder: what its supervisor says, and what its Postgres holds."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.config = folder / "config.toml"
        self.run_dir = folder / "run"
        self.state_dir = folder / "state"
        self.log = folder / "supervisor.log"

    @property
    def kine_target(self) -> str:
        """Return what an etcd client of this node connects to."""
        return f"unix://{self.run_dir}/kine.sock"

    @property
    def conninfo(self) -> str:
        """Return how to ask this node's Postgres."""
        raise NotImplementedError

    async def status(self) -> dict[str, Any] | None:
        """Ask the supervisor; None when it does not answer."""
        connector = aiohttp.UnixConnector(str(self.run_dir / "control.sock"))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2.0)) as session,
                session.get("http://supervisor/v1/status") as response,
            ):
                told: dict[str, Any] = await response.json()
                return told
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def post(self, route: str, body: Mapping[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Ask the supervisor to do something. Returns the status code and the answer."""
        connector = aiohttp.UnixConnector(str(self.run_dir / "control.sock"))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10.0)) as session,
            session.post(f"http://supervisor/v1/{route}", json=body or {}) as response,
        ):
            return response.status, await response.json()

    def history(self) -> list[dict[str, Any]]:
        """Return this node's events from their file."""
        path = self.state_dir / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the whole kine table, by id."""
        with psycopg.connect(self.conninfo, autocommit=True) as session:
            return session.execute(
                "SELECT id, name, created, deleted, create_revision, prev_revision, lease, value, old_value "
                "FROM public.kine ORDER BY id"
            ).fetchall()

    def apply_worker(self) -> int:
        """Return the pid of what applies the leader's changes in this node's Postgres."""
        with psycopg.connect(self.conninfo, autocommit=True) as session:
            row = session.execute("SELECT pid FROM pg_stat_subscription WHERE pid IS NOT NULL").fetchone()
        assert row is not None, "nothing applies changes here"
        return int(row[0])


NodeT = TypeVar("NodeT", bound=NodeView)


class TwoNodes(Generic[NodeT]):
    """Both nodes, and waiting for what they do together."""

    nodes: tuple[NodeT, NodeT]
    wait_s = WAIT_S
    look_s = 0.02  # between two looks at both

    def last_words(self) -> str:
        """Return what tells a person more about a wait that was in vain, where there is something."""
        return ""

    async def until(self, what: str, condition: Callable[[Sequence[dict[str, Any] | None]], bool]) -> list[Any]:
        """Poll both nodes' status until the condition holds. Raises TimeoutError with both status."""
        deadline_s = time.monotonic() + self.wait_s
        while True:
            told = await asyncio.gather(*(node.status() for node in self.nodes))
            if condition(told):
                return told
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"waited {self.wait_s:g} s for {what}; {json.dumps(told)[:4000]}{self.last_words()}")
            await asyncio.sleep(self.look_s)

    async def until_in_sync(self) -> list[Any]:
        """Return when one node leads in sync, the other follows, and Kine runs on both."""
        return await self.until("in_sync on one node, the other following, Kine on both", in_sync)

    async def leader(self) -> NodeT:
        """Return the one node that leads."""
        told = await self.until("one leader", lambda both: sum(leads(one) for one in both) == 1)
        return self.nodes[[leads(one) for one in told].index(True)]

    def other(self, node: NodeT) -> NodeT:
        """Return the other node."""
        return self.nodes[1 - node.number]

    async def until_equal(self) -> list[tuple[Any, ...]]:
        """Return the rows of the kine table once both nodes hold the same ones. Raises TimeoutError."""
        deadline_s = time.monotonic() + self.wait_s
        while True:
            mine, theirs = await asyncio.gather(*(asyncio.to_thread(node.rows) for node in self.nodes))
            if mine == theirs:
                return mine
            if time.monotonic() > deadline_s:
                differing = set(mine) ^ set(theirs)
                raise TimeoutError(f"{len(differing)} rows differ: {sorted(differing)[:5]}")
            await asyncio.sleep(self.look_s)


def leads(told: dict[str, Any] | None) -> bool:
    """Whether a status is a leader's."""
    return told is not None and told["role"] == "leader"


def in_sync(both: Sequence[dict[str, Any] | None]) -> bool:
    """Whether one node leads in sync, the other follows, and Kine runs on both."""
    if any(one is None for one in both):
        return False
    told = [one for one in both if one is not None]
    return (
        sorted(one["role"] for one in told) == ["follower", "leader"]
        and any(one["sync"] == "in_sync" for one in told)
        and all(one["kine"]["target"] == ("own" if one["role"] == "leader" else "peer") for one in told)
        and all(not one["kine"]["frozen"] and one["plan"] is None for one in told)
    )
