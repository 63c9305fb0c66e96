"""Wiring: from the configuration to a running node."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from failover import __version__
from failover.adapters.address import NoAddress
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
from failover.config import split_endpoint
from failover.control.server import ControlServer
from failover.core.evidence import Policy
from failover.node.loop import Node, NodeSettings
from failover.ports import PortError, Ports, Target

if TYPE_CHECKING:
    from failover.config import Settings

log = structlog.get_logger()

STATE = "state.json"
HISTORY = "history.jsonl"
ARCHIVES = "archives"
CONTROL = "control.sock"


@dataclass(slots=True)
class App:
    """One node with everything that belongs to it."""

    node: Node
    control: ControlServer
    history: HistoryFile
    postgres: OwnPostgres
    peer_postgres: PeerPostgres
    rejoiner: Rejoiner

    async def run(self) -> None:
        """Run until cancelled; Kine goes on after that."""
        await self.control.start()
        try:
            await self.node.run()
        finally:
            await self.control.stop()
            await self.postgres.close()
            await self.peer_postgres.close()
            await self.rejoiner.close()
            self.history.close()


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


def build(settings: Settings) -> App:
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
    link = PeerLink(_link(settings), clock)
    ports = Ports(
        postgres=postgres,
        peer_postgres=peer_postgres,
        rejoin=rejoiner,
        kine=KineProcess(_kine(settings)),
        link=link,
        probes=NetworkProbes(_probes(settings), clock),
        state=state,
        clock=clock,
        address=NoAddress(),
        history=history,
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
    control = ControlServer(node, settings.node.run_dir / CONTROL)
    return App(node, control, history, postgres, peer_postgres, rejoiner)


async def run(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    app = build(settings)
    log.info("starts", version=__version__, cluster=settings.node.cluster, node=settings.node.number)
    running = asyncio.create_task(app.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    log.info("ends; Kine goes on")


def _same_node(settings: Settings, state: StateFile) -> None:
    """Refuse a state file of another node: its promises are not this one's."""
    durable = state.load()
    told = (settings.node.cluster, settings.node.number)
    if durable is not None and (durable.cluster, durable.node) != told:
        raise PortError(
            f"{state.path} belongs to node {durable.node} of {durable.cluster!r}, and the configuration says node "
            f"{told[1]} of {told[0]!r}; correct [node], or make this node a new one with `join --replace`"
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
    )


def _probes(settings: Settings) -> ProbeSettings:
    return ProbeSettings(
        agent=tuple(map(split_endpoint, settings.link.peer)),
        postgres=settings.postgres.peer_endpoints(),
        witnesses=tuple(map(split_endpoint, settings.probes.witnesses)),
        folders=(settings.node.state_dir, *settings.probes.folders),
        free_min_bytes=settings.probes.free_min_mib << 20,
    )
