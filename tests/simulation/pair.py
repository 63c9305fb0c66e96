"""Two real nodes in the simulated world, clients that write all the time, and the judge of what they saw."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from failover.core.model import DataState, Role, Sync
from failover.core.timing import FAST
from failover.node.loop import Node
from failover.node.settings import NodeSettings
from tests.simulation.clients import Acked, Clients
from tests.simulation.invariants import Invariants
from tests.simulation.leases import LEASE_S, left
from tests.simulation.ports import ports
from tests.simulation.world import PATHS, Crashed, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failover.core.plans import Step
    from failover.node.steps import Errand

TIMING = replace(FAST, boot_wait_s=2.0, long_wait_s=8.0, grace_s=3.0)
WAIT_S = 60.0
GHOSTS_S = 5.0  # so long after the last mend a client may believe in what is not there


class SimPair:
    """The pair under test."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.world.found()
        self.nodes: list[Node | None] = [None, None]
        self.runs: list[list[bool]] = [[False], [False]]
        self.tasks: list[asyncio.Task[None] | None] = [None, None]
        self.acked: list[Acked] = []
        self.invariants = Invariants(self)
        self.clients = Clients(self, seed)
        self.split = False  # from now on what is acknowledged may end in an archive
        self.before_step: Callable[[int, str, Step], None] = lambda *_: None
        self.failures: list[str] = []
        self.muted: set[int] = set()  # nodes whose client does not write
        self.pressed: list[asyncio.Task[None]] = []
        self._background: list[asyncio.Task[None]] = []

    # ---- supervisors -------------------------------------------------------------------------------------------

    def start_supervisor(self, node: int) -> None:
        """Begin a new run."""
        self.world.say(f"node {node}: supervisor starts")
        run = [True]
        self.runs[node] = run
        self.world.machines[node].alive = True
        made = Node(ports(self.world, node, run), NodeSettings(timing=TIMING, look_s=0.1))
        do = made.steps.do

        async def watched(step: Step, errand: Errand) -> None:
            plan = made.running[0].name if made.running is not None else ""
            try:
                self.before_step(node, plan, step)
            except AssertionError as error:  # the plan's task would keep it to itself
                self.failures.append(f"node {node}, before {plan}/{step}: {error}")
            self.failures += self.invariants.before_step(node, made, step)
            if not run[0]:
                raise Crashed
            await do(step, errand)

        made.steps.do = watched  # type: ignore[method-assign]
        self.nodes[node] = made
        self.tasks[node] = asyncio.get_running_loop().create_task(self._run(node, made, run))

    async def _run(self, node: int, made: Node, run: list[bool]) -> None:
        try:
            await made.run()
        except (asyncio.CancelledError, Crashed):
            pass
        except BaseException as error:  # noqa: BLE001 - whatever ends a run is judged here
            if run[0]:
                self.failures.append(f"node {node}: {error!r} {getattr(error, 'exceptions', '')}")

    def kill_supervisor(self, node: int) -> None:
        """Kill -9: not one more step, not one more word."""
        if not self.runs[node][0]:
            return
        self.world.say(f"node {node}: supervisor killed")
        self.runs[node][0] = False
        self.world.machines[node].alive = False
        task = self.tasks[node]
        assert task is not None
        task.cancel()
        closed = self.world.machines[1 - node].closed
        if closed is not None and self.world.reachable(node, 1 - node):
            asyncio.get_running_loop().call_later(0.001, closed, "path")

    def kill(self, node: int) -> None:
        """Kill everything on the node; its kernel stays up."""
        self.kill_supervisor(node)
        self.world.kill_postgres(node)
        kine = self.world.machines[node].kine
        kine.target, kine.frozen, kine.run = None, False, kine.run + 1

    def power_off(self, node: int) -> None:
        """From now on nothing answers."""
        self.world.machines[node].powered = False
        self.kill(node)
        self.world.lose_power(node)

    def start(self, node: int) -> None:
        """The machine comes up."""
        self.world.machines[node].powered = True
        if not self.world.machines[node].postgres.up:
            self.world.start_postgres(node)
        if not self.runs[node][0]:
            self.start_supervisor(node)

    def new_disk(self, node: int) -> None:
        """The machine comes back with an empty database under the old state file."""
        postgres = self.world.machines[node].postgres
        postgres.replace({})
        postgres.lineage, postgres.data, postgres.wal, postgres.slots = (), DataState.EMPTY, [], {}
        postgres.sequence = postgres.synced_at = 0
        postgres.compacted = postgres.compacted_before = postgres.fenced = 0
        postgres.subscription, postgres.waits_for, postgres.waits_taken = None, "", ""
        postgres.login, postgres.fence_term = False, -1

    def restart_supervisor(self, node: int) -> None:
        """End this run, whatever it does, and begin another."""
        self.kill_supervisor(node)
        self.start(node)

    def living(self, node: int) -> Node | None:
        """Return the supervisor that runs there, None while it is dead or stalled."""
        return self.nodes[node] if self.runs[node][0] and not self.world.machines[node].stalled else None

    def press(self, node: int, act: Callable[[Node], Awaitable[None]]) -> None:
        """An operator asks a living supervisor for something that takes time; it may die over it."""
        made = self.living(node)
        if made is None:
            return

        async def pressed() -> None:
            with contextlib.suppress(Crashed):
                await act(made)

        self.pressed.append(asyncio.get_running_loop().create_task(pressed()))

    def resume(self, node: int) -> None:
        """End a pause that a living supervisor is in."""
        made = self.living(node)
        if made is not None and made.memory.durable.paused_until_us:
            self.press(node, lambda living: living.pause(0.0))

    def partition(self, *, only_from: int | None = None) -> None:
        """Cut the network both ways, or what one node sends."""
        self.world.say("network cut" if only_from is None else f"network cut from node {only_from}")
        self.world.cut = {path: [only_from in (None, 0), only_from in (None, 1)] for path in PATHS}

    def cut_path(self, path: str) -> None:
        """Cut one path both ways: the first one carries the data too, the second one heartbeats only."""
        self.world.say(f"path {path} cut")
        self.world.cut[path] = [True, True]

    def heal(self) -> None:
        """Mend it."""
        self.world.say("network healed")
        self.world.cut = {path: [False, False] for path in PATHS}

    # ---- looking -----------------------------------------------------------------------------------------------

    def role(self, node: int) -> str:
        """Return the node's role, "" while its supervisor is dead."""
        made = self.nodes[node]
        return str(made.memory.role) if made is not None and self.runs[node][0] else ""

    def leads(self, node: int) -> bool:
        """Whether the node leads and serves."""
        made = self.nodes[node]
        serving = self.world.is_open(node) and self.world.machines[node].kine.target == "own"
        return made is not None and self.runs[node][0] and made.memory.role is Role.LEADER and serving

    def leader(self) -> int:
        """Return the only leader."""
        leaders = [node for node in (0, 1) if self.leads(node)]
        assert len(leaders) == 1, f"leaders: {leaders}"
        return leaders[0]

    def in_sync(self) -> bool:
        """Whether one node leads in sync, the other follows, and both serve."""
        if sorted((self.role(0), self.role(1))) != ["follower", "leader"]:
            return False
        leader = 0 if self.role(0) == "leader" else 1
        made = self.nodes[leader]
        busy = any(node is None or (node.running is not None and not node.running[2].done()) for node in self.nodes)
        kines = [machine.kine for machine in self.world.machines]
        served = kines[leader].target == "own" and kines[1 - leader].target == "peer"
        quiet = served and not busy and not any(kine.frozen for kine in kines)
        return made is not None and made.memory.sync is Sync.IN_SYNC and quiet

    async def until(self, what: str, condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
        """Wait in virtual time. Raises AssertionError with the timeline."""
        deadline_s = self.world.now_s() + seconds
        while not condition():
            self.judge()
            assert self.world.now_s() < deadline_s, f"waited {seconds} s for {what}: {self.role(0)}, {self.role(1)}"
            await self.world.sleep(0.01)

    def judge(self) -> None:
        """Raise AssertionError for anything that went wrong so far."""
        assert not self.failures, self.failures
        for task in (*self._background, *self.clients.tasks, *self.pressed):
            if task.done() and not task.cancelled():
                task.result()
        self.pressed = [task for task in self.pressed if not task.done()]

    async def until_in_sync(self, seconds: float = WAIT_S) -> None:
        """Wait until all is well (L1, L2)."""
        await self.until("in_sync", self.in_sync, seconds)

    async def quiet(self, seconds: float) -> None:
        """Let virtual time pass."""
        await self.world.sleep(seconds)

    # ---- clients and judge -------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start everything, clients included, and wait until the pair is in sync."""
        loop = asyncio.get_running_loop()
        self._background = [loop.create_task(self.world.stream()), loop.create_task(self._watch())]
        for node in (0, 1):
            self.start_supervisor(node)
        await self.until_in_sync()
        self.clients.begin()
        await self.quiet(0.5)

    @property
    def terms(self) -> dict[int, int]:
        """Return who led in each term."""
        return self.invariants.leaders

    async def _watch(self) -> None:
        """Hold the invariants at every moment."""
        while True:
            self.failures += self.invariants.at_every_moment()
            await self.world.sleep(0.05)

    async def until_believed(self) -> None:
        """Wait until every client believes what is there: a fence that comes late has come by then, and all have listed anew."""
        deadline_s = self.world.now_s() + GHOSTS_S
        while True:
            leaders = [node for node in (0, 1) if self.leads(node)]
            told = [
                wrong for node in leaders for wrong in self.clients.complaints(self.world.machines[node].postgres.rows)
            ]
            if len(leaders) == 1 and not told:
                return
            assert self.world.now_s() < deadline_s, told
            await self.quiet(0.2)

    async def verify(self, *, split: bool = False) -> None:
        """After quiet: in sync, equal, nothing lost but into an archive, no revision used twice."""
        await self.until_in_sync()
        before = len(self.acked)
        await self.until("writes through both nodes", lambda: len({one.node for one in self.acked[before:]}) == 2)
        self.clients.stop_writing()
        await self.quiet(1.0)
        await self.until_in_sync()  # what was decided late is through as well
        table = self.world.machines[self.leader()].postgres
        ending = left(table)
        await self.until("all leases to end", lambda: not left(table, ending) and not left(table), LEASE_S + 1.0)
        await self.quiet(0.1)  # the follower hears of that
        newest = max(self.world.machines[0].postgres.rows)
        await self.until(
            "all clients to have seen all", lambda: all(one.at == newest for one in self.clients.everybody())
        )
        await self.quiet(0.1)  # the last hole that a Kine has filled is on both nodes
        self.failures += self.invariants.at_the_end(split=split)
        self.judge()

    async def end(self) -> None:
        """Stop everything."""
        for node in (0, 1):
            self.kill_supervisor(node)
        for task in (*self._background, *self.clients.tasks):
            task.cancel()
        running = (*self._background, *self.clients.tasks, *self.pressed, *self.tasks)
        everything = [task for task in running if task is not None]
        with contextlib.suppress(BaseException):
            await asyncio.gather(*everything, return_exceptions=True)
