"""Wiring of what goes over a broker; imported only where the configuration names one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from failover.adapters.mqtt import INCOMING_MAX, Broker, BrokerSettings, BrokerTls, Guest
from failover.adapters.mqtt_report import Report
from failover.adapters.mqtt_topics import Topics
from failover.adapters.peer_link import TlsFiles
from failover.adapters.relayed_link import RelayedLink
from failover.config import is_loopback, split_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failover.config import MqttSection, Settings
    from failover.ports import Clock, History


def build(
    settings: Settings, node_id: str, status: Callable[[], Mapping[str, Any]], history: History, clock: Clock
) -> tuple[Broker, RelayedLink | None]:
    """Return the connection to the broker, and the path to the peer over it where one is wanted."""
    mqtt = settings.mqtt
    assert mqtt is not None
    topics = Topics(mqtt.prefix, settings.node.cluster, settings.node.number)
    report = Report(topics, status, history, clock, state_s=mqtt.state_s, discovery_prefix=mqtt.discovery_prefix)
    relayed = None
    if mqtt.relay:
        assert settings.link.tls is not None, "checked with the configuration"
        tls = settings.link.tls
        files = TlsFiles(tls.authority, tls.certificate, tls.key)
        fresh_s = settings.timing.timing().promote_after_s
        relayed = RelayedLink(topics, files, clock, fresh_s=fresh_s, place=mqtt.broker)
    guests: list[Guest] = [report] if relayed is None else [report, relayed]
    return Broker(connection(mqtt, f"kine-failover-{node_id}", topics.of("availability")), clock, guests), relayed


def connection(mqtt: MqttSection, client: str, will: str | None, *, incoming_max: int = INCOMING_MAX) -> BrokerSettings:
    """Return how the broker is spoken to; also for those that only listen."""
    host, port = split_endpoint(mqtt.broker)
    tls = None if mqtt.tls is None else BrokerTls(mqtt.tls.authority, mqtt.tls.certificate, mqtt.tls.key)
    return BrokerSettings(
        host, port, client, will, mqtt.username, mqtt.password_file, tls, mqtt.answer_s, mqtt.keepalive_s,
        incoming_max=incoming_max,
    )  # fmt: skip


def is_witness(settings: Settings) -> bool:
    """Whether the broker's silence says something: by default if it runs on neither of the two machines."""
    mqtt = settings.mqtt
    if mqtt is None or mqtt.witness is not None:
        return mqtt is not None and bool(mqtt.witness)
    host = split_endpoint(mqtt.broker)[0]
    of_the_pair = {split_endpoint(one)[0] for one in (*settings.link.listen, *settings.link.peer)}
    of_the_pair |= {one for one, _ in settings.postgres.peer_endpoints()}
    return not is_loopback(host) and host not in of_the_pair
