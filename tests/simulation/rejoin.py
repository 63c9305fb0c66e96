"""The comparison and the copy by which a simulated node becomes a follower, and what it archives of its own before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failover.adapters.lost_rows import Newest, Tables, lost
from failover.core.model import DataState
from failover.ports import PeerPostgresError, PostgresDownError, PreconditionError, Progress, RejoinReport
from tests.simulation.part import Part
from tests.simulation.rows import deletion, live, name_of, newest_of_each, of_a_client, read
from tests.simulation.world import Subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.core.model import Acceptance
    from failover.ports import RejoinOrder
    from tests.simulation.world import Postgres

COPY_S = 0.2


class SimRejoin(Part):
    """As `adapters/rejoin.py`: ids are compared everywhere, contents from the parting point on."""

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
        await self.pause(0.02)
        leader, own = self._leader(), self.machine.postgres
        own.subscription = None
        if order.leader_head not in {row.id for row in leader.lineage}:
            raise PreconditionError("the leader's history is another one")
        position, parting = len(leader.wal), order.parting_revision
        leader.slots = {order.subscription: position}
        rows, lineage, sequence, compacted = dict(leader.rows), leader.lineage, leader.sequence, leader.compacted
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
        own.lineage, own.data = lineage, DataState.COMPLETE
        own.sequence, own.wal, own.synced_at = sequence, [], 0
        own.compacted = own.compacted_before = compacted
        await self.pause()
        own.subscription = Subscription(order.subscription, self.world.now_s(), position)
        return RejoinReport(
            "copy", len(rows), len(extra), len(rows), 0, COPY_S, None, 0 if order.archived else len(believed)
        )

    def _nothing_is_lost(self, extra: dict[int, str]) -> None:
        """What goes is in an archive, or somebody compacted it (R2)."""
        lost = [
            text for text in extra.values()
            if of_a_client(text) and text not in self.machine.archive and not self.world.ledger.has(text)
        ]  # fmt: skip
        assert not lost, f"rows are dropped that are in no archive: {lost[:3]}"

    async def archive(self, acceptance: Acceptance) -> str:
        leader, own = self._leader(), self.machine.postgres
        only_here = {text for id_, text in own.rows.items() if leader.rows.get(id_) != text and of_a_client(text)}
        here, there = live(own.rows), live(leader.rows)
        gone_here = {deletion(name) for name in there if name not in here}
        await self.pause(0.03)
        await self.synced()
        self.machine.archive |= only_here | gone_here
        return f"split-{acceptance.verdict.loser_head[:8]}"


def _newest(rows: dict[int, str]) -> dict[str, Newest]:
    return {name: Newest(id_, read(rows[id_]).deleted) for name, id_ in newest_of_each(rows).items()}


def mended(rows: dict[int, str], own: dict[int, str], same: dict[int, str]) -> dict[int, str]:
    """Return what the table is after the copy: the leader's rows, and one's own where they were not looked at."""
    del own
    return rows | same


def _differs(there: str | None, text: str, common: bool) -> bool:
    return there is None or (there != text and not common)
