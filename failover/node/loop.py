"""The node loop: it observes, asks the core, and has the plan executed.

This package is the only place that joins the core to the ports. Every other task of a node only fills the memory and
wakes the loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from failover.core import plans
from failover.core.evidence import LOST, Cell, Peer, Stream, next_change_s, read
from failover.core.lease import NEVER
from failover.core.membership import meet
from failover.core.model import HandOver, Kind, Role, Sync
from failover.core.observation import Request
from failover.core.plans import Step
from failover.core.requests import refusal
from failover.core.resolve import Move, concerns, next_move, propose
from failover.core.rules import Decision, Rule, decide
from failover.core.speak import Words, compose, ready, why_renounce
from failover.node.kine_keeper import KineKeeper
from failover.node.memory import Memory
from failover.node.senses import Senses
from failover.node.steps import Errand, Steps
from failover.node.wal_guard import WalGuard
from failover.ports import PortError, Target

if TYPE_CHECKING:
    from failover.core.model import Heartbeat
    from failover.core.observation import Observation
    from failover.core.plans import Plan
    from failover.node.settings import NodeSettings
    from failover.ports import Ports

log = structlog.get_logger()

PLAN_OF = {
    Decision.PROMOTE: plans.PROMOTE,
    Decision.REOPEN: plans.REOPEN,
    Decision.RESUME: plans.RESUME,
    Decision.GO_ALONE: plans.GO_ALONE,
    Decision.SWITCH: plans.SWITCHOVER,
    Decision.ENTER_SYNC: plans.ENTER_SYNC,
    Decision.SUSPEND: plans.SUSPEND,
    Decision.HAND_OVER: plans.HAND_OVER,
    Decision.YIELD: plans.YIELD,
    Decision.REJOIN: plans.REJOIN,
    Decision.LATE_FENCE: plans.LATE_FENCE,
}
# What may break into a plan of a leader that is under way; every other decision waits for its end.
BREAKS_IN = frozenset({Decision.YIELD, Decision.SUSPEND, Decision.HAND_OVER, Decision.START_OVER, Decision.RESOLVE})
RETRY_MIN_S = 0.2
READ_AGAIN_S = 0.001  # a few rounds of the event loop: what the sockets hold is taken in
DECIDE_S = 1.0  # between two decisions at most
PAST_S = 0.001  # a deadline is looked at when it has passed for certain, whatever timers and clocks round to
WISH_S = 5.0  # how long a follower asks its leader for leadership


@dataclass(frozen=True, slots=True)
class Retry:
    """When what a rule asks for may be tried again after it has failed."""

    at_s: float
    wait_s: float


class Node:
    """One node of the pair."""

    def __init__(self, ports: Ports, settings: NodeSettings) -> None:
        durable = ports.state.load()
        if durable is None:
            raise PortError("this node has no identity yet; run `kine-failover init` or `kine-failover join` first")
        self.ports = ports
        self.settings = settings
        self.memory = Memory(durable=durable, boot=ports.clock.new_id(), started_s=ports.clock.now_s())
        self._wake = asyncio.Event()
        self._heard = asyncio.Event()
        self.senses = Senses(ports, settings, self.memory, self.wake)
        self.steps = Steps(
            ports, self.memory, settings.timing, settings.policy,
            observe=self.observe, look=self.senses.look, say=self.say, heard=self._next_heartbeat,
        )  # fmt: skip
        self.kine = KineKeeper(
            ports, self.memory, settings.timing,
            observe=self.observe, fence_key=self.steps.fence_key, pause_s=self.senses.pause_s, busy=self._busy,
        )  # fmt: skip
        self._wal = WalGuard(
            ports, settings, self.memory, look=self.senses.look, pause_s=self.senses.pause_s, busy=self._busy
        )
        self.cell: Cell | None = None
        self.rule: Rule | None = None
        self.running: tuple[Plan, Decision, asyncio.Task[None]] | None = None
        self.step: str | None = None
        self._retries: dict[str, Retry] = {}  # by the name of the rule whose plan failed
        self._refused: str | None = None
        self._echo_wall_us = 0  # own wall clock when the newest heartbeat came

    # ---- what the tasks do -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled. Kine goes on after that, and is adopted by the next run."""
        self.ports.postgres.watch(self._postgres_lost)
        self.ports.kine.watch(self._kine_ended)
        await self.ports.link.start(self._received, self._path_closed)
        try:
            async with asyncio.TaskGroup() as tasks:
                for task in (
                    self._speak,
                    self._decide,
                    self.senses.look_on,
                    self.senses.probe_peer,
                    self.senses.probe_witnesses,
                    self.senses.probe_world,
                    self._wal.run,
                    self.kine.run,
                ):
                    tasks.create_task(task())
        finally:
            if self.running is not None:
                self.running[2].cancel()
            await self.ports.link.stop()
            await self.ports.kine.release()

    def wake(self) -> None:
        """Have the loop decide now."""
        self._wake.set()

    def ask(self, request: Request) -> str | None:
        """Take an operator's request. Returns why it is refused, None when it is taken."""
        if self.cell is None:
            return "this node has not decided anything yet; ask again in a moment"
        if self._busy():
            return f"this node is busy: {self.step}; ask again when that is through"
        # By what is known now: the last decision may be from just before what its status already says.
        why = refusal(request, self._read_now())
        if why is None and request is Request.LEAD_HERE:
            self.memory.wish = (self.ports.clock.new_id(), self.ports.clock.now_s() + WISH_S)
            self.ports.history.append("request", "an operator asks the leader to give leadership to this node")
            self.say()
        elif why is None:
            self.memory.request = request
            self.ports.history.append("request", f"an operator asks for a {request}")
            self.wake()
        return why

    def leave(self) -> str | None:
        """Prepare for the end of this machine: a leader gives leadership away, a follower lets the leader go on alone.

        Returns why leadership cannot be given away, None when it is or need not be. It ends with this run.
        """
        self.memory.leaving = True
        self.wake()
        return self.ask(Request.SWITCHOVER) if self.memory.role is Role.LEADER else None

    def stay(self) -> None:
        """Take `leave` back: the machine goes on."""
        self.memory.leaving = False
        self.wake()

    async def pause(self, seconds: float) -> None:
        """Stop promotion, switchover and verdicts of the pair for so long; 0 resumes, which voids the lease (R18)."""
        until_us = self.ports.clock.wall_us() + int(seconds * 1e6) if seconds > 0 else 0
        await self.steps.save(paused_until_us=until_us)
        if seconds <= 0:
            self.memory.lease = self.memory.lease.void(self.ports.clock.now_s())
        kind, message = ("paused", f"paused for {seconds:g} s") if seconds > 0 else ("resumed", "the pause has ended")
        self.ports.history.append(kind, message)
        self.say()
        self.wake()

    def observe(self) -> Observation:
        """Return what is known at this moment."""
        return self.memory.observe(self.ports.clock.now_s(), self.ports.clock.wall_us())

    @property
    def decided_age_s(self) -> float | None:
        """Return how long ago the loop last came round, None before the first time."""
        ticked_s = self.senses.ticked_s
        return self.ports.clock.now_s() - ticked_s if ticked_s != NEVER else None

    def _read_now(self) -> Cell:
        """Return the cell that the node is in at this moment, whatever was decided last."""
        return read(self.observe(), self.settings.timing, self.settings.policy)

    def _busy(self) -> bool:
        """Whether a plan is under way."""
        return self.running is not None and not self.running[2].done()

    def say(self) -> None:
        """Send a heartbeat now."""
        memory, seen = self.memory, self.observe()
        memory.seq += 1
        if memory.wish is not None and (memory.role is not Role.FOLLOWER or seen.now_s > memory.wish[1]):
            memory.wish = None
        heard = memory.heard.heartbeat if memory.heard is not None else None
        kine = self.ports.kine.status()
        words = Words(
            boot=memory.boot,
            seq=memory.seq,
            echo_boot=heard.boot if heard is not None else "",
            echo_seq=heard.seq if heard is not None else 0,
            echo_wall_us=self._echo_wall_us,
            asks_renounce=memory.asks_renounce,
            own_pause_s=max(0.0, (memory.durable.paused_until_us - seen.wall_us) / 1e6),
            hand_over=self._word(),
            switching=memory.switching,
            frozen=kine.frozen,
            uses_peer=kine.target is Target.PEER and not kine.frozen,
            wish=memory.wish[0] if memory.wish is not None else None,
            verdict=memory.verdict,
        )
        follows = ready(seen)
        memory.remember_sent(memory.seq, seen.now_s, seen.wall_us, follows=follows)
        heartbeat = compose(seen, words)
        if heartbeat.role is Role.LEADER and heartbeat.sync is Sync.IN_SYNC and not heartbeat.asks_renounce:
            memory.granted_s = seen.now_s
        self.ports.link.send(heartbeat)

    def _word(self) -> HandOver | None:
        """Return the word that leadership was given away; it is said again after a restart."""
        memory = self.memory
        if memory.hand_over is not None or memory.durable.handed_over is None or memory.role is not Role.STARTING:
            return memory.hand_over
        if memory.head not in ("", memory.durable.handed_over):
            return None
        revision = memory.postgres.visible_revision if memory.postgres is not None else 0
        return HandOver("handed over before this run", False, revision)

    def _received(self, heartbeat: Heartbeat, _path: str) -> None:
        memory = self.memory
        refusal = meet(memory.durable, heartbeat).refusal
        if refusal is not None:
            if refusal != self._refused:
                log.warning("refused a message of the peer", why=refusal)
                self.ports.history.append("refused", refusal)
            self._refused = refusal
            return
        before = memory.heard.heartbeat if memory.heard is not None else None
        wall_us = self.ports.clock.wall_us()
        if not memory.hear(
            heartbeat, self.ports.clock.now_s(), wall_us, self.settings.timing, self.settings.policy.mode
        ):
            return
        self._echo_wall_us = wall_us
        self._heard.set()
        self.senses.heard()
        self._stop_kine(heartbeat)
        self._hear_wish(heartbeat)
        if before is None or _told(before) != _told(heartbeat):
            self.wake()
            self.kine.look()

    def _stop_kine(self, heartbeat: Heartbeat) -> None:
        """A Kine on the peer's Postgres never runs again once that is closed or gone, or about to be in a switchover.

        Running on, it would find the database open again in the middle of an insert that had failed, and acknowledge it (R20).
        Its clients wait for the next one.
        """
        kine = self.ports.kine.status()
        # A supervisor that has just started does not know yet: without a history it has not looked.
        closed = heartbeat.switching is not None or (bool(heartbeat.head) and not heartbeat.is_open)
        if closed and kine.target is Target.PEER and not kine.frozen:
            self.ports.kine.freeze()
            self.say()

    def _hear_wish(self, heartbeat: Heartbeat) -> None:
        """A follower's operator wants it to lead: as if this node's own had asked for a switchover, once a wish."""
        if heartbeat.wish is None or heartbeat.wish == self.memory.wish_heard or self.memory.role is not Role.LEADER:
            return
        self.memory.wish_heard = heartbeat.wish
        why = self.ask(Request.SWITCHOVER)
        if why is not None:
            self.ports.history.append("refused", f"the peer asks for leadership: {why}")

    def _path_closed(self, _path: str) -> None:
        self.senses.path_closed()
        self.wake()

    def _kine_ended(self) -> None:
        self.kine.look()
        self.wake()

    def _postgres_lost(self) -> None:
        """Kine first (R20): with its database gone it must not be left to reconnect and acknowledge."""
        if self.memory.role is Role.LEADER:
            self.ports.kine.freeze()
        self.senses.postgres_lost()
        self.say()  # the follower's Kine as well
        self.wake()

    async def _next_heartbeat(self) -> None:
        self._heard.clear()
        await self._heard.wait()

    async def _speak(self) -> None:
        """Say a heartbeat after the other, whatever happens in between."""
        while True:
            self.senses.tick()
            self.say()
            await self.ports.clock.sleep(self.senses.pause_s(self.settings.timing.heartbeat_s))

    # ---- deciding ----------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        """Decide with each look, when something has happened, and when time alone changes what is known."""
        while True:
            self._wake.clear()
            self.senses.tick()
            try:
                await self._decide_once()
            except PortError as error:
                log.warning("not done", error=str(error))
            await self.ports.clock.sleep_or(self._wake, self._quiet_s())

    def _quiet_s(self) -> float:
        """Return how long nothing comes due by time alone, bounded, seconds."""
        now_s = self.ports.clock.now_s()
        dues = [next_change_s(self.observe(), self.settings.timing, silent=self.senses.silent)]
        dues += [retry.at_s for retry in self._retries.values()]
        return min([DECIDE_S, *(due_s - now_s + PAST_S for due_s in dues if due_s >= now_s)])

    async def _decide_once(self) -> None:
        seen = self.observe()
        if seen.heard is not None:
            met = meet(seen.durable, seen.heard.heartbeat)
            await self.steps.save(peer_id=met.peer_id, replaced=met.replaced)
        await self._keep_word(seen)
        seen = self.observe()  # what came, or a stall that was noticed, while the disk was waited for
        cell = read(seen, self.settings.timing, self.settings.policy)
        rule = decide(cell)
        if rule != self.rule:
            log.info("decides", rule=rule.name, decision=str(rule.decision), why=rule.why, **evidence(seen, cell))
        if self.ports.clock.now_s() - self.senses.ticked_s > self.settings.timing.stall_s:
            self.wake()  # it stalled on the way here: what it saw is old, and what came meanwhile was not read
            return
        resolving = self.rule is not None and self.rule.decision is Decision.RESOLVE
        if rule.decision is Decision.RESOLVE and not resolving:
            self.ports.history.append("split", f"both nodes lead: {rule.why}", rule=rule.name)
        self.cell, self.rule = cell, rule
        self.kine.see(cell)
        # Until going alone is said, a message that does not ask any more would extend the lease again.
        unanswered = rule.decision is Decision.GO_ALONE and cell.stream is Stream.UNANSWERED
        self.memory.asks_renounce = unanswered or rule.decision is Decision.ASK_RENOUNCE
        before = self.memory.verdict
        if rule.decision is not Decision.RESOLVE:
            self.memory.verdict = None
        elif seen.me == 1 or before is None or not concerns(before, seen):
            self.memory.verdict = propose(seen, self.settings.split, self.settings.preferred_node)
        if self.memory.verdict not in (None, before):
            self.say()  # the peer's move waits for it
        if self.running is not None:
            plan, decision, task = self.running
            same = rule.decision is decision
            if not task.done() and (
                same or rule.decision not in BREAKS_IN or plan is plans.LOSE or plan is plans.YIELD
            ):
                return
            await self._stop_running()
            self.wake()
            return
        retry = self._retries.get(rule.name)
        if retry is not None and self.ports.clock.now_s() < retry.at_s:
            return
        self._act(seen, cell, rule)

    async def _stop_running(self) -> None:
        assert self.running is not None
        task = self.running[2]
        if not task.done():
            task.cancel()
        await asyncio.wait({task})
        self.running = None
        if not task.cancelled():
            task.result()  # what no step may raise ends this run: its role would be stuck

    async def _keep_word(self, seen: Observation) -> None:
        """Renounce by itself, durably, before anything else is decided (R5)."""
        why = why_renounce(seen)
        if why is None or seen.heard is None or seen.durable.renounced == seen.heard.heartbeat.head:
            return
        self.memory.lease = self.memory.lease.renounce()
        if not seen.heard.heartbeat.head:
            return
        await self.steps.save(renounced=seen.heard.heartbeat.head)
        self.say()
        self.ports.history.append("renounces", f"gives in_sync up: {why}")

    def _act(self, seen: Observation, cell: Cell, rule: Rule) -> None:
        if seen.request is not None and self._granted(seen, cell):
            return
        errand = Errand(rule.name, rule.why, cell.worth, peer_postgres_lives=cell.peer is Peer.HALF)
        match rule.decision:
            case Decision.CARRY_ON | Decision.WAIT | Decision.ASK_RENOUNCE:
                pass
            case Decision.START_OVER:
                self._become(Role.STARTING, rule.why)
            case Decision.FOLLOW:
                self._become(Role.FOLLOWER, rule.why)
            case Decision.HALT:
                self.memory.halted = f"{rule.why}; see `kine-failover doctor`"
                if self.memory.role is not Role.HALTED:
                    log.error("halts", why=self.memory.halted)
                self._become(Role.HALTED, rule.why)
            case Decision.SUSPEND:
                if not self.ports.kine.status().frozen:
                    self._start(plans.SUSPEND, rule.decision, errand)
            case Decision.HAND_OVER:
                if self.memory.hand_over is None:
                    self._start(plans.HAND_OVER, rule.decision, errand)
            case Decision.RESOLVE:
                self._resolve(seen, cell, rule)
            case _:
                self._start(PLAN_OF[rule.decision], rule.decision, errand)

    def _resolve(self, seen: Observation, cell: Cell, rule: Rule) -> None:
        move, verdict = next_move(seen, self.memory.verdict)
        yes = seen.heard.heartbeat.acceptance if seen.heard is not None else None
        errand = Errand(rule.name, rule.why, cell.worth, verdict=verdict, acceptance=yes)
        if move is Move.LOSE:
            self._start(plans.LOSE, rule.decision, errand)
        elif move is Move.WIN:
            self._start(plans.WIN, rule.decision, errand)

    def _granted(self, seen: Observation, cell: Cell) -> bool:
        request, self.memory.request = seen.request, None
        assert request is not None
        if refusal(request, cell) is not None:
            return False
        plan, decision = {
            Request.SWITCHOVER: (plans.SWITCHOVER, Decision.HAND_OVER),
            Request.FAILOVER: (plans.PROMOTE, Decision.PROMOTE),
            Request.RESYNC: (plans.REJOIN, Decision.REJOIN),
        }[request]
        errand = Errand(
            f"request/{request}", "an operator asked for it", cell.worth,
            peer_postgres_lives=cell.peer not in LOST, ordered=True,
        )  # fmt: skip
        self._start(plan, decision, errand)
        return True

    def _become(self, role: Role, why: str) -> None:
        if self.memory.role is role:
            return
        before = str(self.memory.role)
        self.ports.history.append("role", f"{before} -> {role}: {why}", before=before, now=str(role))
        self.memory.role = role
        self.kine.look()
        if role is Role.STARTING:
            self.memory.started_s = max(self.memory.started_s, self.ports.clock.now_s())
        self.say()
        self.wake()

    # ---- executing ---------------------------------------------------------------------------------------------

    def _start(self, plan: Plan, decision: Decision, errand: Errand) -> None:
        told = evidence(self.observe(), self.cell) if self.cell is not None else {}
        self.ports.history.append("plan", f"{plan.name}: {errand.why}", rule=errand.rule, **told)
        if plan is plans.PROMOTE and self.cell is not None and self.memory.heard is not None:
            silent_s = self.ports.clock.now_s() - self.memory.heard.at_s
            self.memory.timings.detection[str(self.cell.peer)].took(silent_s)
        if plan.role is not None:
            self.memory.role = plan.role
        self.memory.ordered = errand.ordered
        task = asyncio.ensure_future(self._execute(plan, errand))
        self.running = (plan, decision, task)
        task.add_done_callback(self._plan_ended)

    def _plan_ended(self, _task: asyncio.Task[None]) -> None:
        self.kine.look()
        self.wake()

    async def _execute(self, plan: Plan, errand: Errand) -> None:
        timings, plan_began_s = self.memory.timings, self.ports.clock.now_s()
        try:
            for step in plan.steps:
                self.step = f"{plan.name}/{step}"
                began_s = self.ports.clock.now_s()
                if step is plan.point_of_no_return:
                    await self._ask_again()
                await self.steps.do(step, errand)
                timings.steps[plan.name, str(step)].took(self.ports.clock.now_s() - began_s)
        except PortError as error:
            await self._fail(plan, errand, str(error))
        except asyncio.CancelledError:
            await self._fail(plan, errand, "something more urgent came in between")
            raise
        else:
            self._retries.pop(errand.rule, None)
            timings.plans[plan.name].took(self.ports.clock.now_s() - plan_began_s)
            await self._arrive(plan)
        finally:
            self.step = None
            self.memory.switching = None
            self.memory.ordered = False

    async def _ask_again(self) -> None:
        """Read what has come in, and give the plan up where the rules would stop it now. Raises PortError."""
        await self.ports.clock.sleep(READ_AGAIN_S)
        rule = decide(self._read_now())
        if rule.decision in BREAKS_IN:
            raise PortError(f"it does not hold any more: {rule.why} ({rule.name})")

    async def _arrive(self, plan: Plan) -> None:
        if self.memory.role is not plan.then:
            self._become(plan.then, plan.why)
        if plan.then is Role.LEADER and self.memory.durable.role is not Role.LEADER:
            synced = self.memory.postgres is not None and self.memory.postgres.lineage[-1].kind is Kind.SYNCED
            await self.steps.save(
                role=Role.LEADER, handed_over=None, renounced=None, synced_head=self.memory.head if synced else None
            )
        self.say()

    async def _fail(self, plan: Plan, errand: Errand, error: str) -> None:
        self.memory.timings.failures[plan.name] += 1
        self.ports.history.append("plan_failed", f"{self.step}: {error}", rule=errand.rule)
        self._back_off(errand.rule)
        # A word that was given stands: nothing that came before it is undone.
        handed_over = Step.HAND_OVER in plan.steps and self.memory.hand_over is not None
        if plan.undo and not handed_over:
            for step in plan.undo:
                try:
                    await self.steps.do(step, errand)
                except PortError as again:
                    log.warning("undo failed", step=str(step), error=str(again))
        if not handed_over:
            self._become(plan.failed, error)

    def _back_off(self, rule: str) -> None:
        """Let the next try of what this rule asks for wait, twice as long each time.

        Whatever succeeds in between says nothing about it, but a rule that has not failed for long begins anew.
        """
        now_s, longest_s = self.ports.clock.now_s(), self.settings.retry_max_s
        before = self._retries.get(rule)
        fresh = before is None or now_s - before.at_s > 2 * longest_s
        wait_s = RETRY_MIN_S if before is None or fresh else min(longest_s, before.wait_s * 2)
        self._retries[rule] = Retry(now_s + wait_s, wait_s)


def evidence(seen: Observation, cell: Cell) -> dict[str, object]:
    """Return what a decision rested on, for the log and the history; ages are seconds."""

    def age_s(at_s: float) -> float | None:
        return round(seen.now_s - at_s, 3) if at_s != NEVER else None

    return {
        "peer": str(cell.peer),
        "relation": str(cell.relation),
        "worth": str(cell.worth),
        "postgres": str(cell.postgres),
        "stream": str(cell.stream),
        "heard_age_s": age_s(seen.heard.at_s) if seen.heard is not None else None,
        "peer_postgres_age_s": age_s(seen.peer_postgres_seen_s),
        "stalled_age_s": age_s(seen.stalled_s),
        "probes": [f"{age_s(one.at_s)}: {' '.join(one.agent + one.postgres)}" for one in seen.probes],
    }


def _told(heartbeat: Heartbeat) -> tuple[object, ...]:
    """Return the part of a heartbeat whose change is worth deciding anew at once."""
    return (
        heartbeat.boot, heartbeat.role, heartbeat.sync, heartbeat.postgres_ok, heartbeat.head, heartbeat.renounced,
        heartbeat.ready_for, heartbeat.asks_renounce, heartbeat.hand_over, heartbeat.switching, heartbeat.frozen,
        heartbeat.verdict, heartbeat.acceptance, heartbeat.ghosts_under, heartbeat.paused_for_s > 0, heartbeat.is_open,
        bool(heartbeat.lineage),
    )  # fmt: skip
