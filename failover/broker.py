"""Wiring of what goes over a broker; imported only where the configuration names one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from failover.adapters.mqtt import Broker, Guest
from failover.adapters.mqtt_report import Report
from failover.adapters.mqtt_topics import Topics
from failover.adapters.relayed_link import RelayedLink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failover.parts import BrokerParts, Parts
    from failover.ports import Clock, History


def build(
    parts: Parts,
    mqtt: BrokerParts,
    node_id: str,
    status: Callable[[], Mapping[str, Any]],
    history: History,
    clock: Clock,
) -> tuple[Broker, RelayedLink | None]:
    """Return the connection to the broker, and the path to the peer over it where one is wanted."""
    topics = Topics(mqtt.prefix, parts.cluster, parts.number)
    report = Report(topics, status, history, clock, state_s=mqtt.state_s, discovery_prefix=mqtt.discovery_prefix)
    relayed = None
    if mqtt.relay is not None:
        fresh_s = parts.node.timing.promote_after_s
        relayed = RelayedLink(topics, mqtt.relay, clock, fresh_s=fresh_s, place=mqtt.place)
    guests: list[Guest] = [report] if relayed is None else [report, relayed]
    connection = replace(mqtt.connection, client=f"kine-failover-{node_id}", will=topics.of("availability"))
    return Broker(connection, clock, guests), relayed
