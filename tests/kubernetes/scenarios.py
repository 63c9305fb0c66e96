"""The faults, each with what clients of the API servers saw of it, judged against the table in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from lab import checker
from tests.kubernetes import judge
from tests.kubernetes.tellers import longest_gap_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from lab.pair import NodeProcesses
    from tests.kubernetes.site import Site
    from tests.kubernetes.tellers import Act

LACKED = 10  # acknowledged requests that the follower lacks
BEFORE, AFTER = 30, 40  # acknowledged requests before and after a fault
AWAY = 60  # acknowledged requests while a node is away
OK = 200
# Bounds on what must never last, far above what is to be reached: the figures are measured, not asserted.
GHOSTS_S = 20.0
FIRST_WRITE_S = 20.0
RESIGN_S = 30.0  # after a network heals: until the holder on the losing side has noticed


@dataclass(slots=True)
class Run:
    """One scenario under way on a site, and what it came to. Times are seconds of the monotonic clock."""

    site: Site
    leader: NodeProcesses
    other: NodeProcesses
    initializations: list[int]  # by node: how often its API server had listed before the fault
    lives: list[bool] = field(default_factory=lambda: [True, True])  # by node: its API server went through the fault
    began_s: float = 0.0  # the moment before the fault
    broken_s: float = 0.0  # the moment after it
    apart_s: float = 0.0  # the moment before the network was cut, 0 where it was not
    figures: dict[str, float] = field(default_factory=dict)
    lossy: bool = False  # what the old leader alone had may be in an archive instead
    term: int = 0  # of the leadership before the fault
    fence: str = ""

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """What is within is the fault."""
        self.term = max((int(event["term"]) for event in self.leaderships()), default=0)
        self.began_s = time.monotonic()
        yield
        self.broken_s = time.monotonic()

    def leaderships(self) -> list[dict[str, Any]]:
        """Return the events of taking the lead on either node since the fault, by term."""
        events = [
            {**event, "node": node.number}
            for node in self.site.pair.nodes
            for event in node.history()
            if event["kind"] == "leads"
        ]
        return sorted((one for one in events if int(one["term"]) > self.term), key=lambda one: int(one["term"]))

    async def taken_over(self, *nodes: int) -> None:
        """Return when requests through these nodes' API servers, sent after the fault, have been acknowledged."""
        await asyncio.gather(
            *(self.site.writers[node].until_acknowledged(AFTER, sent_after_s=self.broken_s) for node in nodes)
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario came to: figures in seconds by name, the kind of fence, and how much was checked."""

    scenario: str
    fence: str
    figures: dict[str, float]
    acknowledged: int
    lists: int
    old_names: int  # lists that named an older revision than they had the objects of
    ghosts: int
    load: float  # the machine's load average at the end

    def line(self) -> dict[str, Any]:
        """Return it for JSON."""
        figures = {name: round(value, 3) for name, value in self.figures.items()}
        return {
            "scenario": self.scenario, "fence": self.fence, "figures": figures, "acknowledged": self.acknowledged,
            "lists": self.lists, "old_names": self.old_names, "ghosts": self.ghosts, "lost": 0,
            "load": round(self.load, 1),
        }  # fmt: skip


async def f0(run: Run) -> None:
    """The leader's Postgres is killed; both API servers live."""
    with run.breaking():
        run.leader.postgres.kill()
    await run.taken_over(0, 1)
    run.leader.postgres.start()


async def f1(run: Run) -> None:
    """Everything on the leader is killed, its API server as well, and comes back."""
    number = run.leader.number
    run.lives[number] = False
    with run.breaking():
        run.leader.kill()
        run.site.servers[number].kill()
    await run.taken_over(run.other.number)
    run.leader.start()
    run.site.servers[number].start()


async def f1_lossy(run: Run) -> None:
    """As F1, of an asynchronous pair whose follower lacks what clients of both API servers have already seen."""
    run.lossy = True
    number = run.leader.number
    run.lives[number] = False
    worker = await asyncio.to_thread(stop_applying, run.other)
    try:
        behind_s = time.monotonic()
        await run.site.writers[number].until_acknowledged(LACKED)
        newest = max(act.revision or 0 for act in run.site.writers[number].acknowledged if act.sent_s >= behind_s)
        await run.site.until_informed(run.other.number, newest)
        with run.breaking():
            run.leader.kill()
            run.site.servers[number].kill()
    finally:
        os.kill(worker, signal.SIGCONT)
    await run.taken_over(run.other.number)
    run.leader.start()
    run.site.servers[number].start()


def stop_applying(node: NodeProcesses) -> int:
    """What the leader writes from now on never gets into this node's table. Returns the process to have go on in the end.

    It is stopped, and told to end beside: when it goes on it ends, with what it has received by then.
    """
    with psycopg.connect(node.conninfo, autocommit=True) as session:
        row = session.execute("SELECT pid FROM pg_stat_subscription WHERE pid IS NOT NULL AND relid IS NULL").fetchone()
        assert row is not None, "no stream to stop"
        os.kill(row[0], signal.SIGSTOP)
        os.kill(row[0], signal.SIGTERM)
    return int(row[0])


async def switchover(run: Run) -> None:
    """An operator has the nodes change places."""
    with run.breaking():
        assert (await run.leader.post("switchover"))[0] == OK
    await run.taken_over(0, 1)


async def split(run: Run) -> None:
    """The network is cut until both sides lead and have taken requests for a while, and heals: the verdict is the fault."""
    run.apart_s = time.monotonic()
    run.site.pair.network.cut()
    await run.site.pair.until("both to lead", lambda both: all((one or {}).get("role") == "leader" for one in both))
    for writer in run.site.writers:
        await writer.until_acknowledged(AFTER)
    await asyncio.gather(*(run.site.until_held(node) for node in (0, 1)))
    with run.breaking():
        run.site.pair.network.heal()
    await run.site.until_settled()
    await run.taken_over(0, 1)


async def rejoin(run: Run) -> None:
    """The follower is away, its API server too, while objects come, change and go; the fault is that it comes back.

    Away for some seconds: its informer asks less and less often meanwhile, and that waiting is the client's own.
    """
    number = run.other.number
    run.lives[number] = False
    run.other.kill()
    run.site.servers[number].kill()
    await run.site.writers[run.leader.number].until_acknowledged(AWAY)
    with run.breaking():
        run.other.start()
        run.site.servers[number].start()
    await run.site.servers[number].until_ready()
    await run.taken_over(0, 1)


SCENARIOS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "F0": f0, "F1": f1, "F1-lossy": f1_lossy, "switchover": switchover, "split": split, "rejoin": rejoin,
}  # fmt: skip
# Clients of an API server that they cannot reach, or that lists anew, wait longer each time within two minutes.
AFRESH = frozenset({"F1", "F1-lossy", "split", "rejoin"})
EXTRA = {"F1-lossy": {"policy": 'mode = "async"'}}  # what a scenario's configuration has beside the default


async def play(site: Site, scenario: str) -> Outcome:
    """Play one scenario from a pair in sync to a pair in sync. Raises AssertionError with what a client saw wrong."""
    await site.until_settled()
    for writer in site.writers:
        writer.start()
    await asyncio.gather(*(writer.until_acknowledged(BEFORE) for writer in site.writers))
    await site.until_held()
    counts = await asyncio.gather(*(server.initializations() for server in site.servers))
    leader = await site.pair.leader()
    run = Run(site, leader, site.pair.other(leader), list(counts))
    await SCENARIOS[scenario](run)
    await asyncio.gather(*(server.until_ready() for server in site.servers))
    await site.until_settled()
    await asyncio.gather(*(writer.until_acknowledged(AFTER) for writer in site.writers))
    for writer in site.writers:
        await writer.stop()
    return await verify(run, scenario)


async def verify(run: Run, scenario: str) -> Outcome:
    """Judge everything that the clients saw, and measure."""
    site = run.site
    rows = await site.until_right()
    history = judge.History(rows)
    led = run.leaderships()
    run.fence = "full" if any(one["fence"] == "full" for one in led) else "light" if led else "none"
    fence_revision = int(led[0]["first_revision"]) if led else 0
    goes_on = int(led[-1]["node"]) if led else run.leader.number
    firsts = {"first-write": first_write(run, goes_on, fence_revision)}
    if run.apart_s:
        firsts["first-write-lost"] = first_write(run, 1 - goes_on, fence_revision)
    for name, act in firsts.items():
        assert act.acked_s is not None
        run.figures[name] = act.acked_s - run.began_s
        assert run.figures[name] < FIRST_WRITE_S
    upto = firsts["first-write"].revision
    assert upto is not None
    for node in (0, 1):
        run.figures[f"gap-{_place(run, node)}"] = longest_gap_s(site.writers[node].acts, run.began_s)
        await relisted(run, node)
    ghosts = caches(run, history, upto)
    lists, old_names = listed(run, history, fence_revision)
    held(run)
    archived = site.archived() if run.apart_s or run.lossy else frozenset()
    assert archived or not run.lossy, "the follower lacked nothing: this was no loss"
    lost = [one for writer in site.writers for one in judge.lost(writer.acts, history, archived)]
    assert not lost, f"{len(lost)} acknowledged requests are lost, first {lost[0]}"
    for node, watch in enumerate(site.watches):
        wrong = judge.etcd_watch(watch.lines, rows, first_batch=checker.FIRST_BATCH)
        assert not wrong, f"etcd client on node {node}: {wrong}"
    acknowledged = sum(len(writer.acknowledged) for writer in site.writers)
    return Outcome(scenario, run.fence, run.figures, acknowledged, lists, old_names, ghosts, os.getloadavg()[0])


def first_write(run: Run, node: int, fence_revision: int) -> Act:
    """Return the request that was acknowledged first through a node, of those that the new leadership took.

    It has a revision: deletions, whose revision is not known, do not count.
    """
    acts = run.site.writers[node].acknowledged
    taken = [act for act in acts if act.sent_s >= run.broken_s and (act.revision or 0) >= max(1, fence_revision)]
    assert taken, f"nothing that node {node} took was acknowledged by the new leadership from {fence_revision} on"
    return min(taken, key=lambda act: act.acked_s or 0.0)


async def relisted(run: Run, node: int) -> None:
    """A full fence makes each API server that lived through it list anew, a light one does not (R14)."""
    if not run.lives[node]:
        return
    more = await run.site.servers[node].initializations() - run.initializations[node]
    if run.fence == "full":
        assert more, f"the API server of node {node} has not listed anew after a full fence"
    else:
        assert not more, f"the API server of node {node} has listed anew {more} times after a light fence"


def caches(run: Run, history: judge.History, upto: int) -> int:
    """Measure when informers' caches were right, and had no ghosts. Returns the number of ghosts."""
    ghosts = 0
    for node, informer in enumerate(run.site.informers):
        seen = judge.cache(informer.lines, history, upto, run.began_s)
        assert seen.right_s is not None, f"the informer on node {node} never had what was there at revision {upto}"
        name = "caches-right" if run.lives[node] else "rebuilt-right"
        run.figures[f"{name}-{_place(run, node)}"] = seen.right_s - run.began_s
        if seen.haunted_s is not None:
            name = "ghosts" if run.lives[node] else "rebuilt-ghosts"
            run.figures[f"{name}-{_place(run, node)}"] = seen.haunted_s - run.began_s
            assert not run.lives[node] or seen.haunted_s - run.began_s < GHOSTS_S
        ghosts += seen.ghosts
    return ghosts


def listed(run: Run, history: judge.History, first_revision: int) -> tuple[int, int]:
    """Judge each list that an API server answered after the fault. Returns their number, and of those with an old name."""
    lists, old_names = 0, 0
    for node, informer in enumerate(run.site.informers):
        answers = informer.said("listed", since_s=run.broken_s)
        # Clients of a node that was down come back one after the other: what was told is then known from the other node too.
        tellers = run.site.watches[node : node + 1] if run.lives[node] else run.site.watches
        told_s: dict[int, float] = {}
        for line in sorted((line for one in tellers for line in one.said("event")), key=lambda line: -line["at"]):
            told_s[int(line["revision"])] = line["at"]  # the first time that anybody was told of it
        seen = judge.lists(answers, history, first_revision, run.broken_s, told_s)
        if seen.wrong:
            at_s, what = seen.wrong[-1]
            run.figures[f"lists-wrong-{_place(run, node)}"] = at_s - run.began_s
            assert at_s - run.began_s < GHOSTS_S, f"node {node}, {at_s - run.began_s:.1f} s after the fault: {what}"
            assert run.fence == "full", f"node {node}: nothing was lost, and yet {what}"
        lists += len(answers)
        old_names += seen.old_names
    return lists, old_names


def held(run: Run) -> None:
    """At most one candidate a side believes to hold the lease, and at most one at all where the sides see each other."""
    for one, other in judge.both_held(run.site.held()):
        if other.since_s < run.began_s and min(one.until_s, other.until_s) < run.began_s:
            continue  # of an earlier run
        apart = run.apart_s and one.node != other.node and other.since_s >= run.apart_s
        assert apart, f"{one} and {other} at the same time"
        assert min(one.until_s, other.until_s) < run.broken_s + RESIGN_S, f"{one} and {other} long after the cut"


def _place(run: Run, node: int) -> str:
    return "leader" if node == run.leader.number else "other"
