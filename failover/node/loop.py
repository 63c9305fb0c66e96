"""The node loop: it observes, asks the core, and has the plan executed.

This package is the only place that joins the core to the ports. Every other task of a node only fills the memory and
wakes the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from failover.core import plans
from failover.core.evidence import LOST, Cell, Peer, Policy, Stream, Worth, peer_view, read
from failover.core.lease import NEVER
from failover.core.lineage import Relation
from failover.core.membership import meet
from failover.core.model import HandOver, Health, Kind, Role, Sync
from failover.core.observation import Request
from failover.core.plans import Step
from failover.core.requests import refusal
from failover.core.resolve import Move, concerns, next_move, propose
from failover.core.rules import Decision, Rule, decide
from failover.core.speak import Words, compose, ready, why_renounce
from failover.core.verdict import SplitPolicy
from failover.node.memory import Memory
from failover.node.steps import Errand, Steps
from failover.ports import PortError, PostgresDownError, PostgresHungError, Target

if TYPE_CHECKING:
    from failover.core.model import Heartbeat, PostgresStatus
    from failover.core.observation import Observation
    from failover.core.plans import Plan
    from failover.core.timing import Timing
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
TIME_OUTS_SLEPT_MAX = 2  # looks at the own Postgres in a row that a stall of this node may excuse
CLOCK_JUMP_US = 500_000
SLOT_WARN = 0.8  # of max_slot_wal_keep_size
SLOT_SMALL_BYTES = 64 << 20  # less is not worth giving up for a disk that is nearly full
WISH_S = 5.0  # how long a follower asks its leader for leadership


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything that a node is told."""

    timing: Timing
    policy: Policy = Policy()  # noqa: RUF009 - frozen
    split: SplitPolicy = SplitPolicy.NEWEST
    preferred_node: int = 0
    look_s: float = 0.2  # between two looks at a healthy own Postgres
    look_trouble_s: float = 0.03  # while it is down
    probe_world_s: float = 1.0  # isolation, disk, Kine's revision
    retry_max_s: float = 5.0  # between two tries of what fails again and again
    slot_keep_bytes: int = 4 << 30  # WAL that a leader keeps for a follower that it does not wait for


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
        self.steps = Steps(
            ports, self.memory, settings.timing, settings.policy,
            observe=self.observe, look=self.look, say=self.say, heard=self._next_heartbeat,
        )  # fmt: skip
        self.cell: Cell | None = None
        self.rule: Rule | None = None
        self.running: tuple[Plan, Decision, asyncio.Task[None]] | None = None
        self.step: str | None = None
        self._wake = asyncio.Event()
        self._heard = asyncio.Event()
        self._look_now = asyncio.Event()
        self._move_kine = asyncio.Event()
        self._retries: dict[str, Retry] = {}  # by the name of the rule whose plan failed
        self._refused: str | None = None
        self._wall_minus_boot_us: int | None = None
        self._last_tick_s = NEVER
        self._time_outs_slept = 0  # in a row

    # ---- what the tasks do -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled. Kine goes on after that, and is adopted by the next run."""
        self.ports.postgres.watch(self._postgres_lost)
        self.ports.kine.watch(self.wake)
        await self.ports.link.start(self._received, self._path_closed)
        try:
            async with asyncio.TaskGroup() as tasks:
                for task in (
                    self._speak,
                    self._look_on,
                    self._probe_peer,
                    self._probe_witnesses,
                    self._probe_world,
                    self._decide,
                    self._keep_kine,
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
        if self.running is not None and not self.running[2].done():
            return f"this node is busy: {self.step}; ask again when that is through"
        why = refusal(request, self.cell)
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
        return self.ports.clock.now_s() - self._last_tick_s if self._last_tick_s != NEVER else None

    async def look(self) -> PostgresStatus:
        """Look at the own Postgres now. Raises PostgresDownError or PostgresHungError."""
        began_s = self.ports.clock.now_s()
        try:
            status = await self.ports.postgres.status()
        except PostgresDownError:
            self.memory.health = Health.DOWN
            self.wake()
            raise
        except PostgresHungError:
            # A time-out that this node slept through itself says nothing of Postgres; but not for ever.
            if self._slept_since(began_s) and self._time_outs_slept < TIME_OUTS_SLEPT_MAX:
                self._time_outs_slept += 1
            else:
                self.memory.health = Health.HUNG
                self.wake()
            raise
        self._time_outs_slept = 0
        self.memory.looked(status, self.ports.clock.now_s())
        return status

    def _slept_since(self, moment_s: float) -> bool:
        """Whether this node did not run for a while since then, noticed already or not."""
        asleep_s = self.ports.clock.now_s() - self._last_tick_s
        late = self._last_tick_s != NEVER and asleep_s > self.settings.timing.stall_s
        return late or self.memory.stalled_s >= moment_s

    def say(self) -> None:
        """Send a heartbeat now."""
        memory, seen = self.memory, self.observe()
        memory.seq += 1
        if memory.wish is not None and (memory.role is not Role.FOLLOWER or seen.now_s > memory.wish[1]):
            memory.wish = None
        heard = memory.heard.heartbeat if memory.heard is not None else None
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
            frozen=self.ports.kine.status().frozen,
            wish=memory.wish[0] if memory.wish is not None else None,
            verdict=memory.verdict,
            ghosts_under=memory.ghosts_under,
        )
        timing, policy = self.settings.timing, self.settings.policy
        follows = ready(seen, timing, policy)
        memory.remember_sent(memory.seq, seen.now_s, seen.wall_us, follows=follows)
        heartbeat = compose(seen, words, timing, policy)
        if heartbeat.role is Role.LEADER and heartbeat.sync is Sync.IN_SYNC and not heartbeat.asks_renounce:
            memory.granted_s = seen.now_s
        self.ports.link.send(heartbeat)

    _echo_wall_us = 0

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
        self._keep_switching(heartbeat)
        self._hear_wish(heartbeat)
        if before is None or _told(before) != _told(heartbeat):
            self.wake()
            self._move_kine.set()

    def _keep_switching(self, heartbeat: Heartbeat) -> None:
        """A switchover freezes this node's Kine too, at once: clients wait instead of failing."""
        if self.memory.role is not Role.FOLLOWER:
            return
        frozen = self.ports.kine.status().frozen
        if heartbeat.switching is not None and not frozen:
            self.ports.kine.freeze()
            self.say()
        elif heartbeat.switching is None and heartbeat.role is Role.LEADER and frozen and self.running is None:
            self.ports.kine.thaw()

    def _hear_wish(self, heartbeat: Heartbeat) -> None:
        """A follower's operator wants it to lead: as if this node's own had asked for a switchover, once a wish."""
        if heartbeat.wish is None or heartbeat.wish == self.memory.wish_heard or self.memory.role is not Role.LEADER:
            return
        self.memory.wish_heard = heartbeat.wish
        why = self.ask(Request.SWITCHOVER)
        if why is not None:
            self.ports.history.append("refused", f"the peer asks for leadership: {why}")

    def _path_closed(self, _path: str) -> None:
        self.wake()
        self._look_now.set()

    def _postgres_lost(self) -> None:
        """Kine first (R20): with its database gone it must not be left to reconnect and acknowledge."""
        if self.memory.role is Role.LEADER:
            self.ports.kine.freeze()
        self.memory.health = Health.DOWN
        self._look_now.set()
        self.wake()

    async def _next_heartbeat(self) -> None:
        self._heard.clear()
        await self._heard.wait()

    async def _speak(self) -> None:
        while True:
            self.say()
            await self.ports.clock.sleep(self.settings.timing.heartbeat_s)

    async def _look_on(self) -> None:
        while True:
            self._look_now.clear()
            before = self.memory.health, self.memory.head
            with contextlib.suppress(PostgresDownError, PostgresHungError):  # noted in the memory by look()
                await self.look()
            if before != (self.memory.health, self.memory.head):
                self.wake()
            up = self.memory.health is Health.UP
            await self.ports.clock.sleep_or(
                self._look_now, self.settings.look_s if up else self.settings.look_trouble_s
            )

    async def _probe_peer(self) -> None:
        """Ask the peer's ports while its heartbeats are missing; a closed connection starts the questions at once."""
        timing = self.settings.timing
        while True:
            heard = self.memory.heard
            late_s = heard.at_s + 1.2 * timing.heartbeat_s - self.ports.clock.now_s() if heard is not None else 0.0
            if late_s > 0.0:
                await self.ports.clock.sleep(late_s)
                continue
            self.memory.probed(await self.ports.probes.peer())
            self.wake()
            await self.ports.clock.sleep(timing.probe_gap_s)

    async def _probe_witnesses(self) -> None:
        """Ask whether this node is the one that is cut off: now and then, and all the time while heartbeats are missing.

        An answer from before the silence says nothing about it, and a follower would promote on it.
        """
        timing, clock = self.settings.timing, self.ports.clock
        asked_s = NEVER
        while True:
            now_s, heard = clock.now_s(), self.memory.heard
            late_s = heard.at_s + 1.2 * timing.heartbeat_s - now_s if heard is not None else 0.0
            due_s = asked_s + self.settings.probe_world_s - now_s
            if late_s > 0.0 and due_s > 0.0:
                await clock.sleep(min(late_s, due_s))
                continue
            asked_s = now_s
            self.memory.isolated = await self.ports.probes.isolated()
            await clock.sleep(timing.probe_gap_s)

    async def _probe_world(self) -> None:
        while True:
            self.memory.disk_nearly_full = await self.ports.probes.disk_nearly_full()
            self.memory.served_revision = max(self.memory.served_revision, self.ports.kine.status().revision)
            try:
                await self._guard_wal()
            except PortError as error:
                log.warning("the slot that keeps too much WAL is still there", error=str(error))
            await self.ports.clock.sleep(self.settings.probe_world_s)

    async def _guard_wal(self) -> None:
        """A follower that is away must never fill the leader's disk: it comes back by comparison without its slot.

        A slot that commits wait for is left alone: it moves, or the leader goes alone first.
        """
        memory, status = self.memory, self.memory.postgres
        if status is None or memory.health is not Health.UP:
            return
        limit = status.slot_limit_bytes
        near = memory.role is Role.LEADER and limit is not None and status.slot_bytes > SLOT_WARN * limit
        if near and not memory.slot_near:
            self.ports.history.append(
                "slot_near_limit", "the WAL kept for the follower nears max_slot_wal_keep_size; past it the follower "
                "comes back by comparison", slot_bytes=status.slot_bytes, limit_bytes=limit,
            )  # fmt: skip
        memory.slot_near = near
        kept = status.slot_bytes
        too_much = kept > self.settings.slot_keep_bytes or (memory.disk_nearly_full and kept > SLOT_SMALL_BYTES)
        waited_for = memory.sync is Sync.IN_SYNC or bool(status.waits_for)
        busy = self.running is not None and not self.running[2].done()
        if memory.role is Role.LEADER and too_much and not waited_for and not busy:
            await self.ports.postgres.drop_slots(None)
            self.ports.history.append(
                "slot_dropped", "the slot of the follower that is away is given up: it kept too much WAL, and the "
                "follower comes back by comparison", slot_bytes=kept, disk_nearly_full=memory.disk_nearly_full,
            )  # fmt: skip
            await self.look()

    # ---- deciding ----------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        timing = self.settings.timing
        while True:
            self._wake.clear()
            self._notice_stalls()
            try:
                await self._decide_once()
            except PortError as error:
                log.warning("not done", error=str(error))
            heard = self.memory.heard
            quiet = heard is not None and self.ports.clock.now_s() - heard.at_s < 2 * timing.heartbeat_s
            await self.ports.clock.sleep_or(self._wake, timing.heartbeat_s if quiet else timing.granularity_s)

    def _notice_stalls(self) -> None:
        now_s, wall_us = self.ports.clock.now_s(), self.ports.clock.wall_us()
        offset = wall_us - int(now_s * 1e6)
        jumped = self._wall_minus_boot_us is not None and abs(offset - self._wall_minus_boot_us) > CLOCK_JUMP_US
        late = now_s - self._last_tick_s > self.settings.timing.stall_s and self._last_tick_s != NEVER
        self._wall_minus_boot_us, self._last_tick_s = offset, now_s
        if late or jumped:
            self.memory.stalled(now_s, clock_jumped=jumped)
            log.warning("this node did not run for a while, or its clock was set", late=late, clock_jumped=jumped)

    async def _decide_once(self) -> None:
        seen = self.observe()
        if seen.heard is not None:
            met = meet(seen.durable, seen.heard.heartbeat)
            await self.steps.save(peer_id=met.peer_id, replaced=met.replaced)
        await self._keep_word(seen)
        cell = read(seen, self.settings.timing, self.settings.policy)
        rule = decide(cell)
        if rule != self.rule:
            log.info("decides", rule=rule.name, decision=str(rule.decision), why=rule.why, **evidence(seen, cell))
        if self.ports.clock.now_s() - self._last_tick_s > self.settings.timing.stall_s:
            self.wake()  # it stalled on the way here: what it saw is old, and what came meanwhile was not read
            return
        resolving = self.rule is not None and self.rule.decision is Decision.RESOLVE
        if rule.decision is Decision.RESOLVE and not resolving:
            self.ports.history.append("split", f"both nodes lead: {rule.why}", rule=rule.name)
        self.cell, self.rule = cell, rule
        # Until going alone is said, a message that does not ask any more would extend the lease again.
        unanswered = rule.decision is Decision.GO_ALONE and cell.stream is Stream.UNANSWERED
        self.memory.asks_renounce = unanswered or rule.decision is Decision.ASK_RENOUNCE
        if rule.decision is not Decision.RESOLVE:
            self.memory.verdict = None
        elif seen.me == 1 or self.memory.verdict is None or not concerns(self.memory.verdict, seen):
            self.memory.verdict = propose(seen, self.settings.split, self.settings.preferred_node)
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
        why = why_renounce(seen, self.settings.timing, self.settings.policy)
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
        log.info("role", before=str(self.memory.role), now=str(role), why=why)
        before = str(self.memory.role)
        self.ports.history.append("role", f"{before} -> {role}: {why}", before=before, now=str(role))
        self.memory.role = role
        self._move_kine.set()
        if role is Role.STARTING:
            self.memory.started_s = max(self.memory.started_s, self.ports.clock.now_s())
        self.say()
        self.wake()

    # ---- executing ---------------------------------------------------------------------------------------------

    def _start(self, plan: Plan, decision: Decision, errand: Errand) -> None:
        log.info("plan", plan=plan.name, rule=errand.rule, why=errand.why)
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
        task.add_done_callback(lambda _: self.wake())

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
        rule = decide(read(self.observe(), self.settings.timing, self.settings.policy))
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
        log.warning("plan failed", plan=plan.name, step=self.step, error=error)
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

    # ---- Kine --------------------------------------------------------------------------------------------------

    async def _keep_kine(self) -> None:
        """Keep a Kine behind the symlink that is where the role says it belongs; plans have it for themselves."""
        while True:
            await self.ports.clock.sleep_or(self._move_kine, 2 * self.settings.timing.heartbeat_s)
            self._move_kine.clear()
            wanted = self._wanted_kine()
            if wanted is None or (self.running is not None and not self.running[2].done() and wanted[0] is Target.OWN):
                continue
            try:
                await self.ports.kine.serve(*wanted)
            except PortError as error:
                log.warning("Kine does not serve", target=str(wanted[0]), error=str(error))
                await self.ports.clock.sleep(RETRY_MIN_S)

    def _wanted_kine(self) -> tuple[Target, str] | None:
        memory, cell = self.memory, self.cell
        if cell is None or (memory.heard is None and memory.role is not Role.LEADER):
            return None
        if memory.role is Role.LEADER:
            serving = memory.health is Health.UP and memory.postgres is not None and memory.postgres.is_open
            return (Target.OWN, self.steps.fence_key()) if serving and cell.postgres == "open" else None
        assert memory.heard is not None
        leads = peer_view(self.observe(), Worth.STALE, self.settings.timing) is Peer.LEADS
        follows = memory.role in (Role.FOLLOWER, Role.RESYNCING) or self._gave_everything_away(cell)
        # Before it is open a Kine would be refused, and try again only after a second.
        closed = memory.heard.heartbeat.switching is not None or not memory.heard.heartbeat.is_open
        key = self.steps.fence_key()
        return (Target.PEER, key) if leads and follows and not closed and key else None

    def _gave_everything_away(self, cell: Cell) -> bool:
        """Whether a starting node, its Postgres up or not, has shown its clients nothing that the leader may lack."""
        durable = self.memory.durable
        alone = durable.role is Role.LEADER and durable.synced_head is None
        contained = cell.relation in (Relation.BEHIND, Relation.EQUAL_MINE, Relation.EQUAL_THEIRS)
        unknown = cell.relation is Relation.UNKNOWN and self.memory.health is not Health.UP and not alone
        return self.memory.role is Role.STARTING and durable.acceptance is None and (contained or unknown)


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
