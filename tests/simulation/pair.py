"""Two real nodes in the simulated world, clients that write all the time, and the judge of what they saw."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from failover.core.model import Role, Sync
from failover.core.timing import FAST
from failover.node.loop import Node, NodeSettings
from tests.simulation.ports import ports
from tests.simulation.world import Crashed, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.plans import Step
    from failover.node.steps import Errand

TIMING = replace(FAST, boot_wait_s=2.0, long_wait_s=8.0, grace_s=3.0)
WRITE_GAP_S = 0.02
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Acked:
    """A write that a client was told of."""

    key: str
    id: int
    node: int
    at_s: float


class SimPair:
    """The pair under test."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.world.found()
        self.nodes: list[Node | None] = [None, None]
        self.runs: list[list[bool]] = [[False], [False]]
        self.tasks: list[asyncio.Task[None] | None] = [None, None]
        self.acked: list[Acked] = []
        self.terms: dict[int, int] = {}  # term -> node that led in it
        self.before_step: Callable[[int, str, Step], None] = lambda *_: None
        self.failures: list[str] = []
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
            self.before_step(node, plan, step)
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
        kine.target, kine.frozen = None, False

    def power_off(self, node: int) -> None:
        """From now on nothing answers."""
        self.world.machines[node].powered = False
        self.kill(node)

    def start(self, node: int) -> None:
        """The machine comes up."""
        self.world.machines[node].powered = True
        if not self.world.machines[node].postgres.up:
            self.world.start_postgres(node)
        if not self.runs[node][0]:
            self.start_supervisor(node)

    def partition(self) -> None:
        """Cut the network both ways."""
        self.world.say("network cut")
        self.world.cut = [True, True]

    def heal(self) -> None:
        """Mend it."""
        self.world.say("network healed")
        self.world.cut = [False, False]

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
            await asyncio.sleep(0.01)

    def judge(self) -> None:
        """Raise AssertionError for anything that went wrong so far."""
        assert not self.failures, self.failures
        for task in self._background:
            if task.done() and not task.cancelled():
                task.result()

    async def until_in_sync(self, seconds: float = WAIT_S) -> None:
        """Wait until all is well (L1, L2)."""
        await self.until("in_sync", self.in_sync, seconds)

    async def quiet(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    # ---- clients and judge -------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start everything, clients included, and wait until the pair is in sync."""
        loop = asyncio.get_running_loop()
        self._background = [loop.create_task(self.world.stream()), loop.create_task(self._watch())]
        for node in (0, 1):
            self.start_supervisor(node)
        await self.until_in_sync()
        self._background += [loop.create_task(self._write(node)) for node in (0, 1)]
        await self.quiet(0.5)

    async def _write(self, node: int) -> None:
        number = 0
        while True:
            number += 1
            key = f"/n{node}/{number}"
            id_ = await self.world.write(node, key)
            if id_ is not None:
                self.acked.append(Acked(key, id_, node, self.world.now_s()))
            await asyncio.sleep(WRITE_GAP_S)

    async def _watch(self) -> None:
        """Hold I1 at every moment."""
        while True:
            for machine in self.world.machines:
                for entry in machine.postgres.lineage:
                    leader = self.terms.setdefault(entry.term, entry.node)
                    if leader != entry.node:
                        self.failures.append(f"two leaders in term {entry.term} (I1)")
            await asyncio.sleep(0.05)

    async def verify(self, *, split: bool = False, lost_allowed: bool = False) -> None:
        """After quiet: in sync, equal, nothing lost but into an archive, no revision used twice."""
        await self.until_in_sync()
        before = len(self.acked)
        await self.until("writes through both nodes", lambda: len({one.node for one in self.acked[before:]}) == 2)
        for task in self._background[2:]:
            task.cancel()
        await self.quiet(1.0)
        first, second = (machine.postgres for machine in self.world.machines)
        assert first.rows == second.rows, f"{set(first.rows.items()) ^ set(second.rows.items())} differ"
        assert first.lineage == second.lineage
        held = set(first.rows.values())
        archived = self.world.machines[0].archive | self.world.machines[1].archive
        lost = [one for one in self.acked if one.key not in held and not (split and one.key in archived)]
        assert lost_allowed or not lost, f"{len(lost)} acknowledged writes are lost, first {lost[0]}"
        if not split:
            given: dict[int, str] = {}
            for one in self.acked:
                holder = given.setdefault(one.id, one.key)
                assert holder == one.key, f"revision {one.id} was given to {holder} and {one.key} (I4)"
        self.judge()

    async def end(self) -> None:
        """Stop everything."""
        for node in (0, 1):
            self.kill_supervisor(node)
        for task in self._background:
            task.cancel()
        everything = [task for task in (*self._background, *self.tasks) if task is not None]
        with contextlib.suppress(BaseException):
            await asyncio.gather(*everything, return_exceptions=True)
