"""The steps of the plans: one method a step, each idempotent, each of them calling one or two ports."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from msgspec import structs

from failover.core.evidence import Worth, led_term
from failover.core.fences import Fence, fence_at_transaction
from failover.core.lineage import fence_row, parting_revision
from failover.core.model import Acceptance, HandOver, Kind, LineageEntry, Role, SwitchPhase
from failover.core.terms import next_term
from failover.ports import LeadOrder, PeerPostgresError, PortError, RejoinOrder, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.core.evidence import Policy
    from failover.core.model import PostgresStatus, Verdict
    from failover.core.observation import Observation
    from failover.core.plans import Step
    from failover.core.timing import Timing
    from failover.node.memory import Memory
    from failover.ports import Ports, Progress

log = structlog.get_logger()

MARGIN_LIGHT = 100  # revisions left out at a new leader's beginning
MARGIN_FULL = 10_000
FENCE_TIMEOUT_S = 1.0  # how long a promotion may wait for the old leader's Postgres
CLIENTS_FIRST_S = 0.5  # how long a rejoin may wait for this node's Kine to serve from the leader
KINE_POLL_S = 0.01
SWITCH_TIMEOUT_S = 3.0  # how long a switchover may wait for each of its conditions
PEER_STOPS_S = 1.0  # how long a database that was closed may wait for the peer's Kine to be stopped


@dataclass(frozen=True, slots=True)
class Errand:
    """Why a plan runs, as it was decided."""

    rule: str
    why: str
    worth: Worth
    peer_postgres_lives: bool = False  # the old leader is to be fenced over SQL
    ordered: bool = False  # by an operator
    verdict: Verdict | None = None
    acceptance: Acceptance | None = None  # the loser's, for its winner


class Steps:
    """The hands of a node: they do what a plan says, on the ports, and note in the memory what came of it."""

    def __init__(
        self,
        ports: Ports,
        memory: Memory,
        timing: Timing,
        policy: Policy,
        *,
        observe: Callable[[], Observation],
        look: Callable[[], Awaitable[PostgresStatus]],
        say: Callable[[], None],
        heard: Callable[[], Awaitable[None]],
    ) -> None:
        self.ports = ports
        self.memory = memory
        self.timing = timing
        self.policy = policy
        self._observe = observe
        self._look = look
        self._say = say
        self._heard = heard  # returns after the next heartbeat
        self._saving = asyncio.Lock()
        self._drained = False
        self._drain_lsn = 0

    async def do(self, step: Step, errand: Errand) -> None:
        """Execute one step. Raises PortError when it cannot be done now."""
        method: Callable[[Errand], Awaitable[None]] = getattr(self, f"_{step}")
        await method(errand)

    async def save(self, **changes: object) -> None:
        """Make a change of the durable state durable, then take it in.

        One at a time, else the later of two would undo the earlier; and one that has begun is taken in even when its plan
        is given up: the file may hold it already.
        """
        if self._saving.locked() or self.memory.write(**changes) != self.memory.durable:
            await asyncio.shield(asyncio.ensure_future(self._save(changes)))

    async def _save(self, changes: dict[str, object]) -> None:
        async with self._saving:
            durable = self.memory.write(**changes)
            if durable != self.memory.durable:
                await self.ports.state.save(durable)
                self.memory.durable = durable

    def fence_key(self) -> str:
        """Return the row whose fence the leader's Kine serves under: another one, another Kine on both nodes (R14)."""
        leads = self.memory.role is not Role.FOLLOWER and self.memory.role is not Role.RESYNCING
        lineage = (
            self.memory.postgres.lineage if leads and self.memory.postgres is not None else self.memory.peer_lineage
        )
        return fence_row(lineage)

    async def _freeze_kine(self, _: Errand) -> None:
        self.ports.kine.freeze()

    async def _kill_kine(self, _: Errand) -> None:
        await self.ports.kine.kill()

    async def _freeze_both(self, _: Errand) -> None:
        self.memory.switching = SwitchPhase.FREEZE
        self.ports.kine.freeze()
        self._say()
        await self._until(
            lambda: self.memory.heard is not None and self.memory.heard.heartbeat.frozen, "the peer to freeze its Kine"
        )

    async def _take_term(self, errand: Errand) -> None:
        seen = self.memory.heard.heartbeat.term if self.memory.heard is not None else 0
        highest = max(self.memory.durable.highest_term, seen)
        known = -1
        if self.memory.postgres is not None:
            known = max(self.memory.postgres.fence_term, *(row.term for row in self.memory.postgres.lineage))
        highest = max(highest, known)
        # A try that failed leaves its term behind: it serves again as long as nobody has led or been fenced in it.
        unused = highest == self.memory.taken_term > known
        if not unused and (errand.acceptance is not None or not self._begun(highest)):
            await self.save(highest_term=next_term(highest, self.memory.me))
            self.memory.taken_term = self.memory.durable.highest_term
        self._say()

    def _begun(self, term: int) -> bool:
        """Whether this node's data ends with a leadership of its own in `term`, and nothing was written under it.

        A promotion that failed after its transaction is then begun again in the same row, so that trying for hours adds
        neither terms nor rows. Its fence must have been a full one, and by this run: any other is not good for ever.
        """
        status = self.memory.postgres
        if status is None or not status.lineage or not self.memory.fenced_fully:
            return False
        head = status.lineage[-1]
        own = head.node == self.memory.me and head.kind is Kind.LEAD and head.term == term
        return own and status.fence_term < term and status.visible_revision == head.first_revision

    async def _fence_peer(self, errand: Errand) -> None:
        """Only where the old leader's Postgres lives: elsewhere there is nobody to fence, and no time to lose."""
        word = self.memory.heard.heartbeat.hand_over if self.memory.heard is not None else None
        told_all = word is not None and word.drained
        self._drained = told_all
        if not errand.peer_postgres_lives and not told_all:
            return
        try:
            async with asyncio.timeout(FENCE_TIMEOUT_S):
                await self.ports.peer_postgres.fence(self.memory.durable.highest_term)
                if not told_all:
                    await self.ports.peer_postgres.drain()
            self._drained = True
        except (TimeoutError, PeerPostgresError) as error:
            log.warning("old leader could not be fenced over SQL", error=str(error) or "time-out")

    async def _detach(self, _: Errand) -> None:
        await self.ports.postgres.detach()

    async def _lead(self, errand: Errand) -> None:
        status = await self._look()
        seen = self._observe()
        if errand.rule == "lead/ghosts":
            fence = Fence(full=True, provisional=False, clear_revision=status.visible_revision, why=errand.why)
        else:
            fence = fence_at_transaction(
                seen, errand.worth, self.policy.mode,
                drained=self._drained, ordered=errand.ordered, served_revision=self.memory.served_revision,
            )  # fmt: skip
            if self._begun(self.memory.durable.highest_term):
                self._lead_on()
                return
        await self._write_lead(Kind.LEAD, fence, errand, absorbs=None)

    async def _absorb(self, errand: Errand) -> None:
        assert errand.acceptance is not None
        assert errand.acceptance.final_revision is not None
        status = await self._look()
        clear = max(status.visible_revision, errand.acceptance.final_revision)
        why = errand.acceptance.verdict.reason
        fence = Fence(full=True, provisional=False, clear_revision=clear, why=why)
        await self._write_lead(Kind.VERDICT, fence, errand, absorbs=errand.acceptance.verdict.loser_head)

    async def _write_lead(self, kind: Kind, fence: Fence, errand: Errand, *, absorbs: str | None) -> None:
        heard = self.memory.heard
        if heard is not None and heard.heartbeat.term > self.memory.durable.highest_term:
            await self._take_term(errand)  # seen since this plan took its own (R15)
        row = self._row(
            kind, f"{errand.rule}: {errand.why}; {fence.why}", provisional=fence.provisional, absorbs=absorbs
        )
        order = LeadOrder(row, fence.clear_revision, self._margin(fence), fence.full)
        written = await self.ports.postgres.lead(order)
        await self._look()  # before the role is said: a leader whose own row is not seen yet would yield
        self.memory.fenced_fully = fence.full
        self._lead_on()
        self.ports.history.append(
            "leads", f"leads in term {row.term}: {errand.why}", term=row.term, fence="full" if fence.full else "light",
            provisional=fence.provisional, why=fence.why, first_revision=written.first_revision, rule=errand.rule,
        )  # fmt: skip
        if kind is Kind.VERDICT:
            self.ports.history.append("healed", "the split is over: this node has won it", winner=self.memory.me)

    def _lead_on(self) -> None:
        """Say that this node leads, under the row that its data ends with."""
        self.memory.role = Role.LEADER
        self.memory.hand_over = None
        self._say()

    def _margin(self, fence: Fence) -> int:
        """Revisions to leave out: what the old leader may have given to clients since its last message, bounded."""
        return MARGIN_FULL if fence.full else MARGIN_LIGHT

    def _row(self, kind: Kind, reason: str, *, provisional: bool = False, absorbs: str | None = None) -> LineageEntry:
        clock, memory = self.ports.clock, self.memory
        term = memory.durable.highest_term if kind in (Kind.LEAD, Kind.VERDICT) else led_term(self._observe())
        assert term >= 0, f"a row {kind} without a leadership"
        return LineageEntry(
            id=clock.new_id(), term=term, node=memory.me, kind=kind, reason=reason[:500], started_at_us=clock.wall_us(),
            first_revision=0, parent_revision=0,  # the transaction knows
            provisional=provisional, absorbs=absorbs,
        )  # fmt: skip

    async def _align_waits(self, _: Errand) -> None:
        """Before a database is opened, its waits must be what its newest row says (R5, R9)."""
        status = await self._look()
        if status.lineage[-1].kind is not Kind.SYNCED:
            if status.waits_for:
                await self.ports.postgres.waits_off()
            return
        name = status.waits_for or (status.standby.name if status.standby is not None else "")
        if not name:
            raise PortError("the lineage says in_sync, and no standby name is set; waiting for the follower to stream")
        if not status.is_open:  # a Postgres that was not restarted has taken them already
            await self.ports.postgres.waits_on(name)

    async def _open(self, _: Errand) -> None:
        if self.memory.postgres is None or not self.memory.postgres.is_open:
            await self._peer_kine_stopped()
        await self.ports.postgres.open_to_kine(led_term(self._observe()))
        await self._look()
        self._say()  # the follower's Kine moves here now

    async def _peer_kine_stopped(self) -> None:
        """A Kine that ran on this database while it was closed would acknowledge what failed meanwhile (R20).

        The peer stops it when it hears that the database is closed. Where nobody is heard there is nobody to wait for.
        """
        self._say()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PEER_STOPS_S):
                while self._peer_kine_runs():
                    await self._heard()

    def _peer_kine_runs(self) -> bool:
        heard = self.memory.heard
        if heard is None or self.ports.clock.now_s() - heard.at_s >= PEER_STOPS_S:
            return False
        return heard.heartbeat.uses_peer

    async def _serve(self, _: Errand) -> None:
        await self.ports.kine.serve(Target.OWN, self.fence_key())

    async def _acquire_address(self, _: Errand) -> None:
        await self.ports.address.acquire()

    async def _release_address(self, _: Errand) -> None:
        await self.ports.address.release()

    async def _record_alone(self, errand: Errand) -> None:
        self.memory.going_alone = True
        self._say()
        try:
            # First the hint, then the row: after a crash in between it only says too little.
            await self.save(synced_head=None)
            await self.ports.postgres.record(self._row(Kind.ALONE, f"{errand.rule}: {errand.why}"))
            await self._look()
        finally:
            self.memory.going_alone = False
        self.ports.history.append("alone", f"acknowledges writes alone: {errand.why}", rule=errand.rule)

    async def _waits_off(self, _: Errand) -> None:
        if self.memory.postgres is None or self.memory.postgres.waits_for:
            await self.ports.postgres.waits_off()
            await self._look()

    async def _catch_up(self, _: Errand) -> None:
        """A stream is all sent long before it is applied: what lies between may take a follower many seconds."""
        status = await self._look()
        await self.ports.postgres.flushed(_standby(status), status.wal_lsn)

    async def _waits_on(self, _: Errand) -> None:
        await self.ports.postgres.waits_on(_standby(await self._look()))

    async def _drain_standby(self, _: Errand) -> None:
        status = await self._look()  # a position read after the CHECKPOINT has returned
        await self.ports.postgres.flushed(status.waits_for, status.wal_lsn)

    async def _record_synced(self, errand: Errand) -> None:
        heard = self.memory.heard
        if heard is None or heard.heartbeat.ready_for != self.memory.head:
            raise PortError("the follower is not ready any more")
        await self.ports.postgres.record(self._row(Kind.SYNCED, errand.why))
        status = await self._look()
        await self.save(synced_head=status.lineage[-1].id)
        self.ports.history.append("in_sync", "in sync: no write is acknowledged without the follower")

    async def _close(self, _: Errand) -> None:
        memory = self.memory
        term = max(memory.durable.highest_term, memory.heard.heartbeat.term if memory.heard is not None else 0)
        await self.ports.postgres.close_to_kine(term)
        await self._look()

    async def _close_quietly(self, _: Errand) -> None:
        self._drain_lsn = await self.ports.postgres.close_quietly()

    async def _drain_switch(self, _: Errand) -> None:
        self.memory.switching = SwitchPhase.DRAIN
        status = await self._look()
        await self.ports.postgres.flushed(status.waits_for, self._drain_lsn)

    async def _hand_over(self, errand: Errand) -> None:
        memory = self.memory
        drained = memory.switching is SwitchPhase.DRAIN
        revision = memory.postgres.visible_revision if memory.postgres is not None else 0
        head = memory.head or memory.durable.synced_head
        assert head is not None, "only a leader that was in sync gives its leadership away"
        await self.save(handed_over=head, role=Role.STARTING, synced_head=None)
        memory.hand_over = HandOver(errand.why, drained, revision)
        memory.role, memory.started_s = Role.STARTING, self.ports.clock.now_s()
        memory.switching = None
        self._say()
        self.ports.history.append(
            "hands_over", f"gives leadership away: {errand.why}", drained=drained, revision=revision
        )

    async def _accept(self, errand: Errand) -> None:
        assert errand.verdict is not None
        before = self.memory.durable.acceptance
        if before is None:
            await self.save(acceptance=Acceptance(errand.verdict), role=Role.STARTING, synced_head=None)
            self.ports.history.append(
                "accepts", f"accepts that node {errand.verdict.winner} leads on: {errand.verdict.reason}",
                choice=str(errand.verdict.choice),
            )  # fmt: skip
        self._say()

    async def _final_revision(self, _: Errand) -> None:
        acceptance = self.memory.durable.acceptance
        assert acceptance is not None
        status = await self._look()
        await self.save(acceptance=structs.replace(acceptance, final_revision=status.visible_revision))

    async def _archive(self, _: Errand) -> None:
        acceptance = self.memory.durable.acceptance
        assert acceptance is not None
        name = await self.ports.rejoin.archive(acceptance)
        await self.save(acceptance=structs.replace(acceptance, archive=name))
        self.ports.history.append("archived", f"what only this node had is in {name}", archive=name)
        self._say()

    async def _drop_slots(self, _: Errand) -> None:
        await self.ports.postgres.drop_slots(None)

    async def _clients_first(self, _: Errand) -> None:
        """Clients that wait for this node's next Kine, after a switchover or a split, come before a copy: its start is not to
        share the processors.
        """
        clock, kine = self.ports.clock, self.ports.kine
        end_s = clock.now_s() + CLIENTS_FIRST_S
        while kine.status().waited_for and clock.now_s() < end_s:
            await clock.sleep(KINE_POLL_S)

    async def _copy(self, errand: Errand) -> None:
        memory, seen = self.memory, self._observe()
        assert memory.heard is not None
        leader = memory.heard.heartbeat
        mine = seen.postgres.lineage if seen.postgres is not None else ()
        acceptance = memory.durable.acceptance
        if errand.ordered:
            await self.save(doubted=True)
        fence, led = fence_row(memory.peer_lineage), bool(mine) and mine[-1].node == memory.me

        async def before_loss() -> None:
            # A light fence is only right while nothing is missing: the leader hears of what it lacked (R13). Durable before
            # it is gone: no later copy would find those rows.
            if led:
                await self.save(ghosts_under=fence)

        order = RejoinOrder(
            leader_head=leader.head,
            parting_revision=parting_revision(mine, memory.peer_lineage) if mine and not memory.durable.doubted else 0,
            subscription=f"kf_{memory.me}_{self.ports.clock.new_id()[:8]}",
            reason=errand.why,
            archived=acceptance.archive if acceptance is not None else None,
        )
        report = await self.ports.rejoin.rejoin(order, self._progress, before_loss)
        memory.progress = None
        memory.timings.rejoins[report.kind].took(report.seconds)
        memory.lease = memory.lease.renounce()
        await self._look()
        await self.save(
            role=Role.FOLLOWER, acceptance=None, handed_over=None, renounced=None, synced_head=None, doubted=False
        )
        memory.hand_over = None
        if acceptance is not None:
            self.ports.history.append(
                "healed", "the split is over: the other node has won it", winner=acceptance.verdict.winner
            )
        self.ports.history.append(
            "rejoined",
            f"follows again ({report.kind}): {report.rows_copied} rows copied, {report.rows_deleted} deleted",
            kind_of_rejoin=report.kind, seconds=report.seconds, archive=report.archive, only_here=report.only_here,
            rows_compared=report.rows_compared, bytes_copied=report.bytes_copied,
        )  # fmt: skip

    def _progress(self, progress: Progress) -> None:
        self.memory.progress = progress

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for heartbeats until the condition holds; PortError after SWITCH_TIMEOUT_S."""
        try:
            async with asyncio.timeout(SWITCH_TIMEOUT_S):
                while not condition():
                    await self._heard()
        except TimeoutError:
            raise PortError(f"waited {SWITCH_TIMEOUT_S:g} s for {what}") from None


def _standby(status: PostgresStatus) -> str:
    """Return the name of the follower's stream. Raises PortError where there is none."""
    if status.standby is None:
        raise PortError("the follower's stream has gone away before it could be waited for")
    return status.standby.name
