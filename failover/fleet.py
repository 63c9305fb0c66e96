"""All pairs that are seen on a broker: what each says of itself, and what that comes to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from failover.adapters.mqtt_topics import ONLINE, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failover.adapters.mqtt import Publish

NODES_MAX = 20_000  # what is seen beyond is counted, not kept
STATE_BYTES_MAX = 16 * 1024
WORST_FIRST = ("two leaders", "halted", "no leader", "node offline", "alone", "catching up", "in sync")


@dataclass(slots=True)
class NodeSeen:
    """The newest that a node has said."""

    online: bool = False
    role: str = "unknown"
    sync: str | None = None
    term: int = 0
    lag_bytes: int | None = None
    at_risk: tuple[str, ...] = ()
    at_us: int = 0


@dataclass(slots=True)
class Fleet:
    """A guest of the broker that only listens."""

    prefix: str
    pairs: dict[str, dict[int, NodeSeen]] = field(default_factory=dict)
    refused: int = 0  # messages that no node of this product sends
    nodes: int = 0

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """Availability and state of all."""
        return ((f"{self.prefix}/+/+/availability", 1), (f"{self.prefix}/+/+/state", 1))

    async def speak(self, publish: Publish) -> None:
        """Say nothing."""

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message in; whoever may publish may send anything."""
        del retained
        place = parse(self.prefix, topic)
        if place is None or len(payload) > STATE_BYTES_MAX:
            self.refused += 1
            return
        cluster, number, kind = place
        pair = self.pairs.get(cluster, {})
        if number not in pair and self.nodes >= NODES_MAX:
            self.refused += 1
            return
        node = pair.get(number, NodeSeen())
        if kind == "availability":
            node.online = payload == ONLINE
        elif not _take(node, payload):
            self.refused += 1
            return
        self.nodes += number not in pair
        self.pairs.setdefault(cluster, pair)[number] = node

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a pair, those first that need somebody."""
        rows = [
            {
                "cluster": cluster,
                "condition": condition(nodes),
                "leader": next((n for n, one in sorted(nodes.items()) if one.online and one.role == "leader"), None),
                "term": max(one.term for one in nodes.values()),
                "lag_bytes": next((one.lag_bytes for one in nodes.values() if one.role == "leader"), None),
                "at_risk": sorted({text for one in nodes.values() if one.online for text in one.at_risk}),
                "nodes": {str(n): {"online": one.online, "role": one.role} for n, one in sorted(nodes.items())},
            }
            for cluster, nodes in self.pairs.items()
        ]
        return sorted(rows, key=lambda row: (WORST_FIRST.index(row["condition"]), row["cluster"]))


def condition(nodes: dict[int, NodeSeen]) -> str:
    """Say in two words how a pair is."""
    there = [one for one in nodes.values() if one.online]
    leaders = [one for one in there if one.role == "leader"]
    if len(leaders) > 1:
        return "two leaders"
    if any(one.role == "halted" for one in there):
        return "halted"
    if not leaders:
        return "no leader"
    if len(there) < 2:  # noqa: PLR2004 - a pair
        return "node offline"
    return {"in_sync": "in sync", "catching_up": "catching up"}.get(leaders[0].sync or "", "alone")


def _take(node: NodeSeen, payload: bytes) -> bool:
    try:
        told = json.loads(payload)
        postgres = told["postgres"]
        lag, sync, risks = postgres.get("lag_bytes"), told["sync"], told["at_risk"]
        role, term, at_us = told["role"], told["term"], told["at_us"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False
    texts = isinstance(risks, list) and all(isinstance(one, str) for one in risks)
    whole = all(isinstance(one, int) for one in (term, at_us)) and isinstance(lag, int | None)
    if not (texts and whole and isinstance(role, str) and isinstance(sync, str | None)):
        return False
    node.role, node.sync, node.term, node.lag_bytes, node.at_us = role[:20], sync, term, lag, at_us
    node.at_risk = tuple(one[:200] for one in risks[:10])
    return True
