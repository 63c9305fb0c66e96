"""Wiring: from the configuration to a running node."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from failover import __version__, logs
from failover.adapters import systemd
from failover.adapters.address import Addresses, KeptAddress, Kind, NoAddress
from failover.adapters.all_paths import AllPaths
from failover.adapters.archive import Archive
from failover.adapters.canary_rows import CanaryRows
from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
from failover.adapters.hooks import Hooks
from failover.adapters.in_order import InOrder, OrderSettings
from failover.adapters.kine import KineProcess
from failover.adapters.peer_link import PeerLink
from failover.adapters.peer_postgres import PeerPostgres
from failover.adapters.postgres import OwnPostgres
from failover.adapters.probes import NetworkProbes
from failover.adapters.rejoin import Rejoiner
from failover.adapters.scrub import Scrubber
from failover.adapters.state_file import StateFile
from failover.adapters.superseded_rows import SupersededRows
from failover.api.handlers import Handlers
from failover.api.server import ApiServer
from failover.api.status import status
from failover.core.model import Role, Sync
from failover.errors import ConfigError
from failover.node.loop import Node
from failover.parts import read
from failover.ports import PortError, Ports, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from failover.adapters.mqtt import Broker
    from failover.adapters.relayed_link import RelayedLink
    from failover.core.model import Answer
    from failover.parts import Parts
    from failover.ports import History
    from failover.ports import PeerLink as Link

log = structlog.get_logger()

STATE = "state.json"
HISTORY = "history.jsonl"
ARCHIVES = "archives"
BEGIN_AGAIN_S = 1.0
RELOADABLE = frozenset({"log.level"})
LEAVE_POLL_S = 0.02
LEAVE_MAX_S = 8.0  # on SIGTERM; less than the unit's TimeoutStopSec


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
    superseded_rows: SupersededRows
    broker: Broker | None = None
    addresses: Addresses | None = None
    hooks: Hooks | None = None
    canary_rows: CanaryRows | None = None

    async def run(self) -> None:
        """Run until cancelled; Kine goes on after that."""
        await self.api.start()
        beside = [
            asyncio.create_task(systemd.keep_telling(self.describe, lambda: self.node.decided_age_s)),
            asyncio.create_task(systemd.delay_shutdown(self.leave, self.node.stay)),
        ]
        more = (self.broker, self.addresses, self.hooks, self.canary_rows, self.superseded_rows)
        beside += [asyncio.create_task(_keep_on(one)) for one in more if one is not None]
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
        leaves = self.node.memory.leaving  # logind has told already, and now systemd ends this service
        why = None if leaves else self.node.leave()
        if why is not None:
            log.warning("leadership cannot be given away", why=why)
            return
        while self._needed():
            await asyncio.sleep(LEAVE_POLL_S)

    async def end(self) -> None:
        """Leave before Kine and Postgres of this machine are ended; Kine is frozen where leadership stays here.

        A Postgres that ends under a running Kine could have it acknowledge what was never written (R20).
        """
        try:
            await asyncio.wait_for(self.leave(), LEAVE_MAX_S)
        except TimeoutError:
            log.warning("left without order", waited_s=LEAVE_MAX_S)
        if self.node.memory.role is Role.LEADER:
            self.node.ports.kine.freeze()

    def _needed(self) -> bool:
        memory, heard = self.node.memory, self.node.memory.heard
        beat = heard.heartbeat if heard is not None else None
        waits = beat is not None and beat.role is Role.LEADER and beat.sync is Sync.IN_SYNC
        return memory.role is Role.LEADER or (waits and memory.role is Role.FOLLOWER)


async def _keep_on(one: Broker | Addresses | Hooks | CanaryRows | SupersededRows) -> None:
    """Nothing that goes wrong beside the node may end it: it is tried again as long as the node runs."""
    while True:
        try:
            await one.run()
        except Exception:
            log.exception("failed, and is begun again", part=type(one).__name__)
        await asyncio.sleep(BEGIN_AGAIN_S)


def own_postgres(parts: Parts) -> OwnPostgres:
    """Return the own Postgres as configured."""
    postgres = parts.postgres
    return OwnPostgres(postgres.own, postgres.kine, SystemClock(), postgres.timeouts, postgres.kine_role)


def _in_order(parts: Parts, own: OwnPostgres, peer: PeerPostgres) -> InOrder | None:
    if parts.in_order_s == 0:
        return None
    return InOrder({Target.OWN: own.sessions, Target.PEER: peer.sessions}, OrderSettings(lasts_s=parts.in_order_s))


def state_file(parts: Parts) -> StateFile:
    """Return the state file as configured."""
    return StateFile(parts.state_dir / STATE)


def build(parts: Parts, file: Path) -> App:
    """Put a node together from what `file` asks for. Raises PortError where it is another's. Needs a running event loop."""
    state = state_file(parts)
    _same_node(parts, state)
    clock = SystemClock()
    timeouts, kine_role, peer = parts.postgres.timeouts, parts.postgres.kine_role, parts.postgres.peer
    postgres = own_postgres(parts)
    peer_postgres = PeerPostgres(peer, postgres, timeouts, kine_role)
    archive = Archive(parts.state_dir / ARCHIVES, parts.archive)
    rejoiner = Rejoiner(postgres, peer, parts.number, archive, timeouts, kine_role)
    history = HistoryFile(parts.state_dir / HISTORY, clock)
    direct = PeerLink(parts.link, clock)
    told: list[Node] = []
    broker, relayed, witnesses = _broker(parts, state, lambda: status(told[0]), history, clock)
    link: Link = direct if relayed is None else AllPaths(direct, relayed)
    addresses = _addresses(parts, clock)
    ports = Ports(
        postgres=postgres,
        peer_postgres=peer_postgres,
        rejoin=rejoiner,
        kine=KineProcess(parts.kine, _in_order(parts, postgres, peer_postgres)),
        link=link,
        probes=NetworkProbes(parts.probes, clock, witnesses),
        state=state,
        clock=clock,
        address=addresses or NoAddress(),
        history=history,
        broker=broker,
    )
    node = Node(ports, parts.node)

    async def reload() -> list[str]:
        now = await asyncio.to_thread(_read, file)
        logs.set_level(now.log[1])
        await direct.reload()
        if relayed is not None:
            relayed.reload()
        await api.reload()
        return changed(parts, now)

    api = ApiServer(Handlers(node, parts.api, archive, reload, Scrubber(parts.postgres.own, peer, timeouts)))
    told.append(node)
    hooks = None if parts.hooks is None else Hooks(parts.hooks, history)
    canary_rows = _canary_rows(parts, postgres)
    superseded_rows = SupersededRows(postgres.sessions, kine_role)
    return App(
        node, api, history, postgres, peer_postgres, rejoiner, reload, superseded_rows, broker, addresses, hooks,
        canary_rows,
    )  # fmt: skip


def _canary_rows(parts: Parts, postgres: OwnPostgres) -> CanaryRows | None:
    interval_s = parts.kine.watch_canary_s
    return CanaryRows(postgres.sessions, interval_s, parts.postgres.kine_role) if interval_s > 0 else None


def _addresses(parts: Parts, clock: SystemClock) -> Addresses | None:
    kinds: list[Kind] = [] if parts.virtual_ip is None else [parts.virtual_ip]
    if parts.dns is not None:
        from failover.adapters.dynamic_dns import DynamicDns  # noqa: PLC0415 - a library few nodes need

        kinds.append(DynamicDns(parts.dns))
    return Addresses([KeptAddress(one, clock) for one in kinds]) if kinds else None


def _broker(
    parts: Parts, state: StateFile, told: Callable[[], dict[str, Any]], history: History, clock: SystemClock
) -> tuple[Broker | None, RelayedLink | None, dict[str, Callable[[], Awaitable[Answer]]]]:
    """Return the broker, the path over it, and it as a witness; what it needs is loaded only where one is configured."""
    durable = state.load()
    if parts.broker is None or durable is None:
        return None, None, {}
    from failover import broker as wiring  # noqa: PLC0415 - two libraries that most nodes do without

    broker, relayed = wiring.build(parts, parts.broker, durable.node_id, told, history, clock)
    return broker, relayed, {"broker": broker.answers} if parts.broker.is_witness else {}


async def run(parts: Parts, file: Path, *, ends_with_machine: bool = False) -> None:
    """Run a node until SIGTERM or SIGINT; `file` is where its parts are from.

    On SIGTERM it leaves in order first where the machine ends: systemd says so, or `ends_with_machine` (a container).
    """
    app = build(parts, file)
    log.info("starts", version=__version__, cluster=parts.cluster, node=parts.number)
    running = asyncio.create_task(app.run())
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[None]] = set()

    async def end() -> None:
        try:
            if ends_with_machine or await systemd.machine_ends():
                await app.end()
        finally:
            running.cancel()

    def on(number: signal.Signals, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def begin() -> None:
            asked.add(task := asyncio.create_task(act()))
            task.add_done_callback(asked.discard)

        loop.add_signal_handler(number, begin)

    on(signal.SIGTERM, end)
    on(signal.SIGHUP, lambda: _reload(app))
    loop.add_signal_handler(signal.SIGINT, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    log.info("ends; Kine goes on")


async def _reload(app: App) -> None:
    """What SIGHUP asks for: new certificates, and a word on what only a restart changes."""
    try:
        log.info("reloaded", needs_restart=await app.reload())
    except PortError as error:
        log.warning("not reloaded; what was in force is", error=str(error))


def _same_node(parts: Parts, state: StateFile) -> None:
    """Refuse a state file of another node: its promises are not this one's."""
    durable = state.load()
    told = (parts.cluster, parts.number)
    if durable is not None and (durable.cluster, durable.node) != told:
        raise PortError(
            f"{state.path} belongs to node {durable.node} of {durable.cluster!r}, and the configuration says node "
            f"{told[1]} of {told[0]!r}; correct [node], or make this node a new one with `join --replace`"
        )


def _read(file: Path) -> Parts:
    try:
        return read(file)
    except ConfigError as error:
        raise PortError(str(error)) from None


def changed(parts: Parts, now: Parts) -> list[str]:
    """Return the keys whose value is not the one in force, and that only a restart takes."""
    before, told = parts.told, now.told
    found = sorted(f"{section}.{key}" for section in told for key in _keys(told, before, section))
    return [key for key in found if key not in RELOADABLE]


def _keys(now: dict[str, Any], before: dict[str, Any], section: str) -> list[str]:
    ours, theirs = now[section] or {}, before[section] or {}
    return [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
