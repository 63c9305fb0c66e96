"""What is said to a broker, and under which names: docs/mqtt.md is the page for those who read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

ONLINE, OFFLINE = b"online", b"offline"
VERSION = 1  # of the payloads; fields may be added under the same number
TOPIC_PARTS = 3  # after the prefix: cluster, node, kind
# Of the status, what is worth telling the world: whatever a person at a desk far away would ask first.
TOLD = (
    "version", "cluster", "node", "role", "term", "sync", "provisional", "pair_paused", "halted", "rule", "why", "plan",
    "writes_at_risk", "isolated", "leaving", "disk_nearly_full", "at_risk",
)  # fmt: skip
TOLD_OF_POSTGRES = ("health", "revision", "lag_bytes")
TOLD_OF_PEER = ("view", "role", "sync", "term", "heard_age_s")


@dataclass(frozen=True, slots=True)
class Topics:
    """The names under which one node speaks."""

    prefix: str
    cluster: str
    node: int

    def of(self, kind: str) -> str:
        """Return a topic; characters that mean something in topics are written as in addresses of the web."""
        return f"{self.prefix}/{quote(self.cluster, safe='')}/{self.node}/{kind}"

    @property
    def peer(self) -> Topics:
        """Return the other node's."""
        return Topics(self.prefix, self.cluster, 1 - self.node)


def parse(prefix: str, topic: str) -> tuple[str, int, str] | None:
    """Return cluster, node and kind of a topic under `prefix`, None for anything else."""
    parts = topic.removeprefix(f"{prefix}/").split("/") if topic.startswith(f"{prefix}/") else []
    if len(parts) != TOPIC_PARTS or parts[1] not in ("0", "1"):
        return None
    return unquote(parts[0]), int(parts[1]), parts[2]


def state(status: Mapping[str, Any], at_us: int) -> bytes:
    """Return the payload of `state`: a part of what `kine-failover status` says, and when it was so."""
    told: dict[str, Any] = {"v": VERSION, "at_us": at_us}
    told |= {name: status.get(name) for name in TOLD}
    told["postgres"] = {name: status["postgres"].get(name) for name in TOLD_OF_POSTGRES}
    told["peer"] = {name: status["peer"].get(name) for name in TOLD_OF_PEER}
    told["paths"] = status["paths"]
    return json.dumps(told).encode()


def discovery(topics: Topics, version: str) -> dict[str, Any]:
    """Return the message by which Home Assistant, and what follows its convention, finds a node by itself."""
    name = f"kine_failover_{quote(topics.cluster, safe='').replace('%', '_').replace('.', '_')}_{topics.node}"

    def entity(key: str, title: str, template: str, **more: object) -> dict[str, object]:
        return {
            "platform": "sensor", "unique_id": f"{name}_{key}", "name": title, "value_template": template,
            "state_topic": topics.of("state"), **more,
        }  # fmt: skip

    return {
        "device": {
            "identifiers": [name],
            "name": f"{topics.cluster} node {topics.node}",
            "model": "kine-failover",
            "sw_version": version,
        },
        "origin": {"name": "kine-failover", "sw_version": version},
        "availability_topic": topics.of("availability"),
        "components": {
            "role": entity("role", "Role", "{{ value_json.role }}"),
            "sync": entity("sync", "Sync", "{{ value_json.sync or 'none' }}"),
            "term": entity("term", "Term", "{{ value_json.term }}"),
            "lag": entity(
                "lag", "Replication lag", "{{ value_json.postgres.lag_bytes }}",
                unit_of_measurement="B", device_class="data_size", state_class="measurement",
            ),
            "at_risk": entity(
                "at_risk", "At risk", "{{ 'ON' if value_json.at_risk else 'OFF' }}",
                platform="binary_sensor", device_class="problem",
            ),
        },
    }  # fmt: skip


def discovery_topic(prefix: str, topics: Topics) -> str:
    """Return where the message of `discovery` is kept."""
    return f"{prefix}/device/{discovery(topics, '')['device']['identifiers'][0]}/config"
