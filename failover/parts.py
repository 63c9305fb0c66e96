"""What the configuration asks of each part of a node, as plain values.

The process that runs for years takes these and nothing else: the libraries that read and check the file are a sixth of its
memory and are needed for a moment. So a child reads the file, and what crosses over to its parent is this.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failover.adapters.address import VirtualIp
from failover.adapters.archive import Limits
from failover.adapters.hooks import HookSettings
from failover.adapters.kine import KineSettings
from failover.adapters.peer_link import LinkSettings, TlsFiles
from failover.adapters.probes import ProbeSettings
from failover.api.server import ApiSettings, Listener
from failover.core.evidence import Policy
from failover.endpoints import is_loopback, split_endpoint
from failover.errors import ConfigError
from failover.node.settings import NodeSettings
from failover.ports import Target

if TYPE_CHECKING:
    from pathlib import Path

    from failover.adapters.dynamic_dns import DnsSettings
    from failover.adapters.mqtt import BrokerSettings
    from failover.adapters.sessions import PostgresTimeouts
    from failover.config import MqttSection, Settings, TlsSection

CONTROL = "control.sock"
READ_S = 60.0  # a child that reads one small file; a busy machine may take a while to start it
USAGE = 2


@dataclass(frozen=True, slots=True)
class PostgresParts:
    """Both servers, and how long they may take."""

    own: str  # connection string of the supervisor
    peer: str
    kine: str  # Kine's endpoint on the own Postgres
    kine_role: str
    timeouts: PostgresTimeouts


@dataclass(frozen=True, slots=True)
class BrokerParts:
    """What goes over a broker. Durations are seconds."""

    connection: BrokerSettings
    prefix: str
    state_s: float
    discovery_prefix: str | None
    relay: TlsFiles | None  # heartbeats are signed with this key; None: no heartbeats
    place: str  # host:port, as the peer's path is called
    is_witness: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """A node, part by part."""

    cluster: str
    number: int
    state_dir: Path
    postgres: PostgresParts
    kine: KineSettings
    in_order_s: float
    link: LinkSettings
    probes: ProbeSettings
    node: NodeSettings
    api: ApiSettings
    hooks: HookSettings | None
    archive: Limits
    virtual_ip: VirtualIp | None
    dns: DnsSettings | None
    broker: BrokerParts | None
    log: tuple[str, str]  # format, level
    told: dict[str, Any]  # the file's content with defaults, secrets masked: to say what a restart would change


def read(file: Path) -> Parts:
    """Have a child read and check the file. Raises ConfigError, one line for each thing that is wrong."""
    command = [sys.executable, "-m", "failover.read_config", str(file)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=READ_S, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{file}: reading it took more than {READ_S:.0f} s; is the machine overloaded?") from None
    if child.returncode != 0:
        raise ConfigError(child.stderr.decode(errors="replace").strip() or f"{file}: cannot be read")
    parts: Parts = pickle.loads(child.stdout)  # noqa: S301 - written a moment ago by our own child
    return parts


def parts_of(settings: Settings) -> Parts:
    """Translate a checked configuration. Raises nothing: what does not fit was refused by the check."""
    return Parts(
        cluster=settings.node.cluster,
        number=settings.node.number,
        state_dir=settings.node.state_dir,
        postgres=PostgresParts(
            own=settings.postgres.own.get_secret_value(),
            peer=settings.postgres.peer.get_secret_value(),
            kine=settings.kine.own.get_secret_value(),
            kine_role=settings.postgres.kine_role,
            timeouts=settings.postgres.timeouts.timeouts(),
        ),
        kine=_kine(settings),
        in_order_s=settings.kine.in_order_s,
        link=_link(settings),
        probes=_probes(settings),
        node=NodeSettings(
            timing=settings.timing.timing(),
            policy=Policy(settings.policy.mode, settings.policy.step_down_when_isolated),
            split=settings.policy.split,
            preferred_node=settings.policy.preferred_node,
            retry_max_s=settings.timing.retry_max_s,
            slot_keep_bytes=settings.postgres.slot_keep_mib << 20,
        ),
        api=_api(settings),
        hooks=_hooks(settings),
        archive=Limits(settings.archive.total_mib << 20, settings.archive.count),
        virtual_ip=_virtual_ip(settings),
        dns=_dns(settings),
        broker=_broker(settings),
        log=(settings.log.format, settings.log.level),
        told=settings.model_dump(mode="json"),
    )


def connection(mqtt: MqttSection) -> BrokerSettings:
    """Return how the broker is spoken to; who speaks is filled in by who does."""
    from failover.adapters.mqtt import BrokerSettings, BrokerTls  # noqa: PLC0415 - a library that most nodes do without

    tls = None if mqtt.tls is None else BrokerTls(mqtt.tls.authority, mqtt.tls.certificate, mqtt.tls.key)
    host, port = split_endpoint(mqtt.broker)
    return BrokerSettings(
        host, port, "", None, mqtt.username, mqtt.password_file, tls, mqtt.answer_s, mqtt.keepalive_s
    )  # fmt: skip


def _broker(settings: Settings) -> BrokerParts | None:
    mqtt = settings.mqtt
    if mqtt is None:
        return None
    return BrokerParts(
        connection=connection(mqtt),
        prefix=mqtt.prefix,
        state_s=mqtt.state_s,
        discovery_prefix=mqtt.discovery_prefix,
        relay=_tls(settings.link.tls) if mqtt.relay else None,
        place=mqtt.broker,
        is_witness=_is_witness(settings, mqtt),
    )


def _is_witness(settings: Settings, mqtt: MqttSection) -> bool:
    """Whether the broker's silence says something: by default if it runs on neither of the two machines."""
    if mqtt.witness is not None:
        return mqtt.witness
    host = split_endpoint(mqtt.broker)[0]
    of_the_pair = {split_endpoint(one)[0] for one in (*settings.link.listen, *settings.link.peer)}
    of_the_pair |= {one for one, _ in settings.postgres.peer_endpoints()}
    return not is_loopback(host) and host not in of_the_pair


def _virtual_ip(settings: Settings) -> VirtualIp | None:
    ip = settings.address.virtual_ip
    if ip is None:
        return None
    # A supervisor that is silent for grace_s is fenced by its peer: by then the address must be gone here, and the
    # kernel takes up to two seconds more than it is told.
    lifetime_s = ip.lifetime_s or max(2, int(settings.timing.timing().grace_s) - 2)
    return VirtualIp(ip.interface, ip.address, lifetime_s)


def _dns(settings: Settings) -> DnsSettings | None:
    name = settings.address.dns
    if name is None:
        return None
    from failover.adapters.dynamic_dns import DnsSettings  # noqa: PLC0415 - a library that few nodes need

    return DnsSettings(split_endpoint(name.server), name.zone, name.name, str(name.own), name.ttl_s, name.key_file)


def _tls(section: TlsSection | None) -> TlsFiles | None:
    return None if section is None else TlsFiles(section.authority, section.certificate, section.key)


def _api(settings: Settings) -> ApiSettings:
    api, tls = settings.api, settings.api.tls or settings.link.tls
    return ApiSettings(
        socket=settings.node.run_dir / CONTROL,
        state_dir=settings.node.state_dir,
        folders=tuple(dict.fromkeys((settings.node.state_dir, *settings.probes.folders))),
        listen=tuple(Listener(*split_endpoint(one), settings.api_over_tls(one)) for one in api.listen),
        tls=_tls(tls),
        health_without_certificate=api.health_without_certificate,
        connections_max=api.connections_max,
        requests_per_s=api.requests_per_s,
        scrub_every_s=settings.upkeep.scrub_every_s,
    )


def _hooks(settings: Settings) -> HookSettings | None:
    upkeep, node = settings.upkeep, settings.node
    if upkeep.hooks_dir is None:
        return None
    return HookSettings(upkeep.hooks_dir, upkeep.hook_s, node.cluster, node.number)


def _link(settings: Settings) -> LinkSettings:
    link = settings.link
    return LinkSettings(
        cluster=settings.node.cluster,
        node=settings.node.number,
        listen=tuple(map(split_endpoint, link.listen)),
        peer=tuple(map(split_endpoint, link.peer)),
        tls=_tls(link.tls),
    )


def _kine(settings: Settings) -> KineSettings:
    kine = settings.kine
    return KineSettings(
        program=kine.program,
        folder=settings.node.run_dir,
        endpoints={Target.OWN: kine.own.get_secret_value(), Target.PEER: kine.peer.get_secret_value()},
        arguments=kine.arguments,
        poll_s=kine.poll_s,
        ready_s=kine.ready_s,
        canary_s=kine.canary_s,
        answer_s=kine.answer_s,
        silent_s=kine.silent_s,
        hold_s=kine.hold_s,
        node=settings.node.number,
        watch_canary_s=kine.watch_canary_s,
    )


def _probes(settings: Settings) -> ProbeSettings:
    return ProbeSettings(
        agent=tuple(map(split_endpoint, settings.link.peer)),
        postgres=settings.postgres.peer_endpoints(),
        witnesses=tuple(map(split_endpoint, settings.probes.witnesses)),
        folders=(settings.node.state_dir, *settings.probes.folders),
        free_min_bytes=settings.probes.free_min_mib << 20,
    )
