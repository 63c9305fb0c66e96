"""Wiring: from the configuration to a running node."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from failover import __version__, config
from failover.adapters import systemd
from failover.adapters.address import Addresses, KeptAddress, Kind, NoAddress, VirtualIp
from failover.adapters.all_paths import AllPaths
from failover.adapters.archive import Archive, Limits
from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
from failover.adapters.kine import KineProcess, KineSettings
from failover.adapters.peer_link import LinkSettings, PeerLink, TlsFiles
from failover.adapters.peer_postgres import PeerPostgres
from failover.adapters.postgres import OwnPostgres
from failover.adapters.probes import NetworkProbes, ProbeSettings
from failover.adapters.rejoin import Rejoiner
from failover.adapters.state_file import StateFile
from failover.api.server import ApiServer, ApiSettings, Listener
from failover.api.status import status
from failover.config import split_endpoint
from failover.core.evidence import Policy
from failover.core.model import Role, Sync
from failover.node.loop import Node, NodeSettings
from failover.ports import PortError, Ports, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failover.adapters.mqtt import Broker
    from failover.adapters.relayed_link import RelayedLink
    from failover.config import Settings
    from failover.core.model import Answer
    from failover.ports import History
    from failover.ports import PeerLink as Link

log = structlog.get_logger()

STATE = "state.json"
HISTORY = "history.jsonl"
ARCHIVES = "archives"
CONTROL = "control.sock"
BEGIN_AGAIN_S = 1.0
LEAVE_POLL_S = 0.02


@dataclass(slots=True)
class App:
    """One node with everything that belongs to it."""

    node: Node
    api: ApiServer
    history: HistoryFile
    postgres: OwnPostgres
    peer_postgres: PeerPostgres
    rejoiner: Rejoiner
    reload: Callable[[], Awaitable[list[str]]]
    broker: Broker | None = None
    addresses: Addresses | None = None

    async def run(self) -> None:
        """Run until cancelled; Kine goes on after that."""
        await self.api.start()
        beside = [
            asyncio.create_task(systemd.keep_telling(self.describe, lambda: self.node.decided_age_s)),
            asyncio.create_task(systemd.delay_shutdown(self.leave, self.node.stay)),
        ]
        beside += [asyncio.create_task(_keep_on(one)) for one in (self.broker, self.addresses) if one is not None]
        try:
            await self.node.run()
        finally:
            systemd.notify("STOPPING=1")
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await self.api.stop()
            await self.postgres.close()
            await self.peer_postgres.close()
            await self.rejoiner.close()
            self.history.close()

    def describe(self) -> str:
        """Return one line for the service manager."""
        memory = self.node.memory
        sync = f", {memory.sync}" if memory.role is Role.LEADER else ""
        return f"{memory.role}{sync}" + (f", {self.node.step}" if self.node.step else "")

    async def leave(self) -> None:
        """Leave in order before this machine ends; returns when it may end, which the service manager bounds."""
        why = self.node.leave()
        if why is not None:
            log.warning("leadership cannot be given away", why=why)
            return
        while self._needed():
            await asyncio.sleep(LEAVE_POLL_S)

    def _needed(self) -> bool:
        memory, heard = self.node.memory, self.node.memory.heard
        beat = heard.heartbeat if heard is not None else None
        waits = beat is not None and beat.role is Role.LEADER and beat.sync is Sync.IN_SYNC
        return memory.role is Role.LEADER or (waits and memory.role is Role.FOLLOWER)


async def _keep_on(one: Broker | Addresses) -> None:
    """Nothing that goes wrong beside the node may end it: it is tried again as long as the node runs."""
    while True:
        try:
            await one.run()
        except Exception:
            log.exception("failed, and is begun again", part=type(one).__name__)
        await asyncio.sleep(BEGIN_AGAIN_S)


def own_postgres(settings: Settings) -> OwnPostgres:
    """Return the own Postgres as configured."""
    return OwnPostgres(
        settings.postgres.own.get_secret_value(),
        settings.kine.own.get_secret_value(),
        SystemClock(),
        settings.postgres.timeouts.timeouts(),
        settings.postgres.kine_role,
    )


def state_file(settings: Settings) -> StateFile:
    """Return the state file as configured."""
    return StateFile(settings.node.state_dir / STATE)


def archives(settings: Settings) -> Archive:
    """Return the archives as configured."""
    limits = Limits(settings.archive.total_mib << 20, settings.archive.count)
    return Archive(settings.node.state_dir / ARCHIVES, limits)


def build(settings: Settings, file: Path | None = None) -> App:
    """Put a node together. Raises PortError where it has no identity yet. Needs a running event loop."""
    state = state_file(settings)
    _same_node(settings, state)
    clock = SystemClock()
    timeouts = settings.postgres.timeouts.timeouts()
    peer_conninfo = settings.postgres.peer.get_secret_value()
    postgres = own_postgres(settings)
    peer_postgres = PeerPostgres(peer_conninfo, postgres, timeouts, settings.postgres.kine_role)
    archive = archives(settings)
    rejoiner = Rejoiner(postgres, peer_conninfo, settings.node.number, archive, timeouts, settings.postgres.kine_role)
    history = HistoryFile(settings.node.state_dir / HISTORY, clock)
    direct = PeerLink(_link(settings), clock)
    told: list[Node] = []
    broker, relayed, witnesses = _broker(settings, state, lambda: status(told[0]), history, clock)
    link: Link = direct if relayed is None else AllPaths(direct, relayed)
    addresses = _addresses(settings, clock)
    ports = Ports(
        postgres=postgres,
        peer_postgres=peer_postgres,
        rejoin=rejoiner,
        kine=KineProcess(_kine(settings)),
        link=link,
        probes=NetworkProbes(_probes(settings), clock, witnesses),
        state=state,
        clock=clock,
        address=addresses or NoAddress(),
        history=history,
        broker=broker,
    )
    policy = Policy(settings.policy.mode, settings.policy.step_down_when_isolated)
    node = Node(
        ports,
        NodeSettings(
            timing=settings.timing.timing(),
            policy=policy,
            split=settings.policy.split,
            preferred_node=settings.policy.preferred_node,
        ),
    )

    async def reload() -> list[str]:
        needs_restart = [] if file is None else await asyncio.to_thread(changed, settings, file)
        await direct.reload()
        if relayed is not None:
            relayed.reload()
        api.reload()
        return needs_restart

    api = ApiServer(node, _api(settings), archive, reload)
    told.append(node)
    return App(node, api, history, postgres, peer_postgres, rejoiner, reload, broker, addresses)


def _addresses(settings: Settings, clock: SystemClock) -> Addresses | None:
    ip, name = settings.address.virtual_ip, settings.address.dns
    kinds: list[Kind] = []
    if ip is not None:
        # A supervisor that is silent for grace_s is fenced by its peer: by then the address must be gone here, and the
        # kernel takes up to two seconds more than it is told.
        lifetime_s = ip.lifetime_s or max(2, int(settings.timing.timing().grace_s) - 2)
        kinds.append(VirtualIp(ip.interface, ip.address, lifetime_s))
    if name is not None:
        from failover.adapters.dynamic_dns import DnsSettings, DynamicDns  # noqa: PLC0415 - a library few nodes need

        server = split_endpoint(name.server)
        kinds.append(DynamicDns(DnsSettings(server, name.zone, name.name, str(name.own), name.ttl_s, name.key_file)))
    return Addresses([KeptAddress(one, clock) for one in kinds]) if kinds else None


def _broker(
    settings: Settings, state: StateFile, told: Callable[[], dict[str, Any]], history: History, clock: SystemClock
) -> tuple[Broker | None, RelayedLink | None, dict[str, Callable[[], Awaitable[Answer]]]]:
    """Return the broker, the path over it, and it as a witness; what it needs is loaded only where one is configured."""
    durable = state.load()
    if settings.mqtt is None or durable is None:
        return None, None, {}
    from failover import broker as wiring  # noqa: PLC0415 - two libraries that most nodes do without

    broker, relayed = wiring.build(settings, durable.node_id, told, history, clock)
    return broker, relayed, {"broker": broker.answers} if wiring.is_witness(settings) else {}


async def run(settings: Settings, file: Path | None = None) -> None:
    """Run a node until SIGTERM or SIGINT; `file` is where the settings are from."""
    app = build(settings, file)
    log.info("starts", version=__version__, cluster=settings.node.cluster, node=settings.node.number)
    running = asyncio.create_task(app.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    reloads: set[asyncio.Task[None]] = set()

    def on_hangup() -> None:
        reloads.add(task := asyncio.create_task(_reload(app)))
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    log.info("ends; Kine goes on")


async def _reload(app: App) -> None:
    """What SIGHUP asks for: new certificates, and a word on what only a restart changes."""
    try:
        log.info("reloaded", needs_restart=await app.reload())
    except PortError as error:
        log.warning("not reloaded; what was in force is", error=str(error))


def _same_node(settings: Settings, state: StateFile) -> None:
    """Refuse a state file of another node: its promises are not this one's."""
    durable = state.load()
    told = (settings.node.cluster, settings.node.number)
    if durable is not None and (durable.cluster, durable.node) != told:
        raise PortError(
            f"{state.path} belongs to node {durable.node} of {durable.cluster!r}, and the configuration says node "
            f"{told[1]} of {told[0]!r}; correct [node], or make this node a new one with `join --replace`"
        )


def changed(settings: Settings, file: Path) -> list[str]:
    """Return the keys whose value in the file is not the one in force. Raises PortError where the file is wrong."""
    try:
        now = config.load(file).model_dump(mode="json")
    except config.ConfigError as error:
        raise PortError(str(error)) from None
    before = settings.model_dump(mode="json")
    return sorted(
        f"{section}.{key}" for section, keys in now.items() for key in keys if keys[key] != before[section].get(key)
    )


def _api(settings: Settings) -> ApiSettings:
    api, tls = settings.api, settings.api.tls or settings.link.tls
    return ApiSettings(
        socket=settings.node.run_dir / CONTROL,
        state_dir=settings.node.state_dir,
        folders=tuple(dict.fromkeys((settings.node.state_dir, *settings.probes.folders))),
        listen=tuple(Listener(*split_endpoint(one), settings.api_over_tls(one)) for one in api.listen),
        tls=None if tls is None else TlsFiles(tls.authority, tls.certificate, tls.key),
        health_without_certificate=api.health_without_certificate,
        connections_max=api.connections_max,
        requests_per_s=api.requests_per_s,
    )


def _link(settings: Settings) -> LinkSettings:
    link = settings.link
    return LinkSettings(
        cluster=settings.node.cluster,
        node=settings.node.number,
        listen=tuple(map(split_endpoint, link.listen)),
        peer=tuple(map(split_endpoint, link.peer)),
        tls=None if link.tls is None else TlsFiles(link.tls.authority, link.tls.certificate, link.tls.key),
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
