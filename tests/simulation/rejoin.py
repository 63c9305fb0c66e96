"""The comparison and the copy by which a simulated node becomes a follower, and what it archives of its own before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failover.adapters.lost_rows import Newest, Tables, lost
from failover.core.model import DataState
from failover.ports import PeerPostgresError, PortError, PostgresDownError, PreconditionError, Progress, RejoinReport
from tests.simulation.part import Part
from tests.simulation.rows import deletion, live, name_of, newest_of_each, of_a_client, read
from tests.simulation.world import Subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.core.model import Acceptance, LineageEntry
    from failover.ports import RejoinOrder
    from tests.simulation.world import Postgres

COPY_S = 0.2
KNOWN_S = 5.0
HELD_S = 10.0


@dataclass(frozen=True, slots=True)
class Compared:
    """The leader's data at the moment from which a slot streams."""

    slot: str
    position: int
    rows: dict[int, str]
    lineage: tuple[LineageEntry, ...]
    sequence: int
    compacted: int


@dataclass(frozen=True, slots=True)
class Held:
    """What an archive has compared, while its sessions to both servers stand."""

    archive: str
    until_s: float
    runs: tuple[int, int]  # of the own server and of the leader's
    own: dict[int, str]
    seen: Compared


class SimRejoin(Part):
    """As `adapters/rejoin.py`: ids are compared everywhere, contents from the parting point on; after a split once, at the
    archive.
    """

    _held: Held | None = None

    def _leader(self) -> Postgres:
        self.here()
        postgres = self.peer.postgres
        if not self.world.reachable(self.node, 1 - self.node) or not postgres.up or postgres.hung:
            raise PeerPostgresError("the leader's Postgres cannot be reached")
        if not self.machine.postgres.up:
            raise PostgresDownError("down")
        return postgres

    async def rejoin(
        self, order: RejoinOrder, progress: Callable[[Progress], None], before_loss: Callable[[], Awaitable[None]]
    ) -> RejoinReport:
        seen, parting = await self._compared(order)
        own, rows, compacted = self.machine.postgres, seen.rows, seen.compacted
        extra = {id_: text for id_, text in own.rows.items() if _differs(rows.get(id_), text, id_ < parting)}
        same = {id_: text for id_, text in own.rows.items() if id_ in rows and id_ not in extra}
        tables = Tables(_newest(own.rows), _newest(rows), compacted)
        in_doubt = {id_: name_of(text) for id_, text in extra.items() if id_ >= parting and of_a_client(text)}
        ids, believed = lost(in_doubt, extra.keys(), tables)
        kept = {extra[id_] for id_ in ids}
        await self.pause(0.02)
        if order.archived is None and kept:
            self.machine.archive |= kept
            if believed:
                await before_loss()
        progress(Progress(0, len(rows), 0, 0.0))
        await self.pause(COPY_S)
        self._leader()
        self._nothing_is_lost(extra)
        own.replace(mended(rows, own.rows, same))
        own.lineage, own.data = seen.lineage, DataState.COMPLETE
        own.sequence, own.wal, own.synced_at = seen.sequence, [], 0
        own.compacted = own.compacted_before = compacted
        await self.pause()
        own.subscription = Subscription(seen.slot, self.world.now_s(), seen.position)
        await self._until_known(order.leader_head)
        return RejoinReport(
            "copy", len(rows), len(extra), len(rows), 0, COPY_S, None, 0 if order.archived else len(believed)
        )

    async def _compared(self, order: RejoinOrder) -> tuple[Compared, int]:
        """Return what is copied, and the id below which contents are equal: as of the archive, where that is still held."""
        held, self._held = self._held, None
        await self.pause(0.02)
        leader, own = self._leader(), self.machine.postgres
        if held is not None and held.archive == order.archived and self._stands(held, leader):
            assert own.rows == held.own, "somebody has written into a table that was locked"
            return held.seen, 0
        own.subscription = None
        if order.leader_head not in {row.id for row in leader.lineage}:
            raise PreconditionError("the leader's history is another one")
        return _look(leader, order.subscription), order.parting_revision

    def _stands(self, held: Held, leader: Postgres) -> bool:
        runs = (self.machine.postgres.runs, leader.runs)
        return runs == held.runs and self.world.now_s() < held.until_s and held.seen.slot in leader.slots

    async def _until_known(self, leader_head: str) -> None:
        """Return when the row that the rejoin was decided on has come by the stream."""
        end_s = self.world.now_s() + KNOWN_S
        while leader_head not in {row.id for row in self.machine.postgres.lineage}:
            if self.world.now_s() > end_s:
                raise PortError("the leader's newest leadership has not come by the stream")
            await self.pause(0.01)
            self._leader()

    def _nothing_is_lost(self, extra: dict[int, str]) -> None:
        """What goes is in an archive, or somebody compacted it (R2)."""
        lost = [
            text for text in extra.values()
            if of_a_client(text) and text not in self.machine.archive and not self.world.ledger.has(text)
        ]  # fmt: skip
        assert not lost, f"rows are dropped that are in no archive: {lost[:3]}"

    async def archive(self, acceptance: Acceptance) -> str:
        leader, own = self._leader(), self.machine.postgres
        own.subscription = None
        seen, runs = _look(leader, f"kf_{self.node}_{self.world.new_id()[:8]}"), (own.runs, leader.runs)
        only_here = {text for id_, text in own.rows.items() if leader.rows.get(id_) != text and of_a_client(text)}
        here, there = live(own.rows), live(leader.rows)
        gone_here = {deletion(name) for name in there if name not in here}
        await self.pause(0.03)
        await self.synced()
        self.machine.archive |= only_here | gone_here
        name = f"split-{acceptance.verdict.loser_head[:8]}"
        self._held = Held(name, self.world.now_s() + HELD_S, runs, dict(own.rows), seen)
        return name


def _look(leader: Postgres, slot: str) -> Compared:
    leader.slots = {slot: len(leader.wal)}
    return Compared(slot, len(leader.wal), dict(leader.rows), leader.lineage, leader.sequence, leader.compacted)


def _newest(rows: dict[int, str]) -> dict[str, Newest]:
    return {name: Newest(id_, read(rows[id_]).deleted) for name, id_ in newest_of_each(rows).items()}


def mended(rows: dict[int, str], own: dict[int, str], same: dict[int, str]) -> dict[int, str]:
    """Return what the table is after the copy: the leader's rows, and one's own where they were not looked at."""
    del own
    return rows | same


def _differs(there: str | None, text: str, common: bool) -> bool:
    return there is None or (there != text and not common)
