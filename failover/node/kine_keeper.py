"""Where the node's Kine works while no plan has it for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from failover.core.evidence import Cell, Peer, Worth, peer_view
from failover.core.lineage import Relation
from failover.core.model import Health, Role
from failover.ports import PortError, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.observation import Observation
    from failover.core.timing import Timing
    from failover.node.memory import Memory
    from failover.ports import Ports

log = structlog.get_logger()

RETRY_S = 0.2
LOOK_S = 1.0  # whether it still answers, where nothing else has happened


class KineKeeper:
    """Keeps a Kine behind the symlink that is where the role says it belongs; plans have it for themselves."""

    def __init__(
        self, ports: Ports, memory: Memory, timing: Timing,
        *, observe: Callable[[], Observation], fence_key: Callable[[], str], pause_s: Callable[[float], float],
        busy: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._ports = ports
        self._memory = memory
        self._timing = timing
        self._observe = observe
        self._fence_key = fence_key
        self._pause_s = pause_s  # common moments
        self._busy = busy
        self._look_now = asyncio.Event()
        self._cell: Cell | None = None

    def look(self) -> None:
        """Something happened after which Kine may belong elsewhere."""
        self._look_now.set()

    def see(self, cell: Cell) -> None:
        """Take in what the node decides on now."""
        if cell != self._cell:
            self._cell = cell
            self.look()

    async def run(self) -> None:
        """Keep it until cancelled."""
        said = ""
        while True:
            await self._ports.clock.sleep_or(self._look_now, self._pause_s(LOOK_S))
            self._look_now.clear()
            wanted = self._wanted()
            if wanted is None and not self._busy():
                await self._let_clients_go()
            if wanted is None or (self._busy() and wanted[0] is Target.OWN):
                continue
            try:
                await self._ports.kine.serve(*wanted)
                said = ""
            except PortError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("Kine does not serve", target=str(wanted[0]), error=said)
                await self._ports.clock.sleep(RETRY_S)
                self.look()

    async def _let_clients_go(self) -> None:
        """Who waits for a Kine on the peer, whose Postgres is closed, is refused after a while. In a switchover it opens soon."""
        kine, heard = self._ports.kine.status(), self._memory.heard
        switching = heard is not None and heard.heartbeat.switching is not None
        if kine.target is Target.PEER and kine.frozen and not switching:
            await self._ports.kine.kill()

    def _wanted(self) -> tuple[Target, str] | None:
        memory, cell = self._memory, self._cell
        if cell is None or (memory.heard is None and memory.role is not Role.LEADER):
            return None
        key = self._fence_key()
        if memory.role is Role.LEADER:
            serving = memory.health is Health.UP and memory.postgres is not None and memory.postgres.is_open
            return (Target.OWN, key) if serving and cell.postgres == "open" else None
        assert memory.heard is not None
        leads = peer_view(self._observe(), Worth.STALE, self._timing) is Peer.LEADS
        follows = memory.role in (Role.FOLLOWER, Role.RESYNCING) or self._gave_everything_away(cell)
        # Before it is open a Kine would be refused, and try again only after a second.
        closed = memory.heard.heartbeat.switching is not None or not memory.heard.heartbeat.is_open
        return (Target.PEER, key) if leads and follows and not closed and key else None

    def _gave_everything_away(self, cell: Cell) -> bool:
        """Whether a starting node, its Postgres up or not, has shown its clients nothing that the leader may lack."""
        durable = self._memory.durable
        alone = durable.role is Role.LEADER and durable.synced_head is None
        contained = cell.relation in (Relation.BEHIND, Relation.EQUAL_MINE, Relation.EQUAL_THEIRS)
        unknown = cell.relation is Relation.UNKNOWN and self._memory.health is not Health.UP and not alone
        return self._memory.role is Role.STARTING and durable.acceptance is None and (contained or unknown)
