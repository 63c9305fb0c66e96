"""Known mistakes that can be switched on, each with who finds it.

A simulator that finds nothing proves little unless it is known what it would find. Every plant below leaves one rule out,
or makes one of the classic mistakes; `python -m tests.simulation.planted` looks for each among the scenarios and seeds.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from msgspec import structs

from failover.core import evidence, lineage, plans, verdict
from failover.core.evidence import Peer, Worth
from failover.core.lease import Lease
from failover.core.model import Acceptance, Role
from failover.core.plans import Step
from failover.core.resolve import Move
from failover.core.rules import Decision, decide
from failover.node import loop as node_loop
from failover.node import steps as node_steps
from failover.node.loop import PLAN_OF, Node
from failover.node.memory import Memory
from failover.node.steps import Steps
from tests.core.left_out import by_the_wall
from tests.simulation import (
    kine,
    leases,
    ports,
    rejoin,
    test_compactions,
    test_fences,
    test_going_alone,
    test_holes,
    test_leases,
    test_moving_clients,
    test_promotions,
    test_scenarios,
    test_splits,
    test_stalls,
    test_versions,
)
from tests.simulation import pair as pair_module
from tests.simulation import world as world_module
from tests.simulation.play import play, play_seed
from tests.simulation.rows import name_of
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.simulation.play import Scenario

    Patch = Callable[[], AbstractContextManager[object]]


def swap(owner: Any, name: str, made: Callable[[Any], Any]) -> Patch:
    """Have `made(original)` in the place of `owner.name`."""
    return lambda: mock.patch.object(owner, name, made(getattr(owner, name)))


def decides(name: str, decision: Decision) -> Patch:
    """Have a row of the table decide something else."""

    def wrong(cell: Any) -> Any:
        rule = decide(cell)
        return structs.replace(rule, decision=decision) if rule.name == name else rule

    return lambda: mock.patch.object(node_loop, "decide", wrong)


def plan(name: str, *steps: Step) -> Patch:
    """Have a plan's steps be others, or in another order."""

    @contextmanager
    def patched() -> Iterator[None]:
        right = getattr(plans, name)
        wrong = structs.replace(right, steps=steps)
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(plans, name, wrong))
            for decision, known in PLAN_OF.items():
                if known is right:
                    stack.enter_context(mock.patch.dict(PLAN_OF, {decision: wrong}))
            yield

    return patched


def both(*patches: Patch) -> Patch:
    """Have several at once."""

    @contextmanager
    def patched() -> Iterator[None]:
        with ExitStack() as stack:
            for one in patches:
                stack.enter_context(one())
            yield

    return patched


@dataclass(frozen=True, slots=True)
class Plant:
    """A mistake: which rule it leaves out, who finds it, or why nobody need: then the other rules that cover it."""

    name: str
    rule: str
    patch: Patch
    found_by: str | int | None  # a scenario by its name, or a seed
    covered: str = ""


def _fence(**changes: object) -> Patch:
    def made(judge: Any) -> Any:
        return lambda *values, **named: structs.replace(judge(*values, **named), **changes)

    return swap(node_steps, "fence_at_transaction", made)


def _old_ones_taken_in(hear: Any) -> Any:
    def wrong(self: Memory, heartbeat: Any, *rest: Any) -> Any:
        if self.heard is not None and heartbeat.boot == self.heard.heartbeat.boot:
            self.heard = structs.replace(self.heard, heartbeat=structs.replace(self.heard.heartbeat, seq=-1))
        return hear(self, heartbeat, *rest)

    return wrong


def _wins_at_once(move: Any) -> Any:
    def wrong(seen: Any, proposed: Any) -> Any:
        yes = seen.heard.heartbeat.acceptance
        if seen.durable.acceptance is None and yes is not None and yes.verdict.winner == seen.me:
            return Move.WIN, yes.verdict
        return move(seen, proposed)

    return wrong


def _absorbs_anything(absorb: Any) -> Any:
    async def wrong(self: Steps, errand: Any) -> None:
        accepted = errand.acceptance or Acceptance(errand.verdict)
        await absorb(
            self, replace(errand, acceptance=structs.replace(accepted, final_revision=accepted.final_revision or 0))
        )

    return wrong


def _absorbs_below(absorb: Any) -> Any:
    async def wrong(self: Steps, errand: Any) -> None:
        with mock.patch.object(Steps, "_margin", return_value=1):
            await absorb(self, replace(errand, acceptance=structs.replace(errand.acceptance, final_revision=0)))

    return wrong


def _counts_only_the_first(count: Any) -> Any:
    """And it deletes whatever is the newest by then."""

    def wrong(self: leases.Worker, text: str, id_: int, now_s: float) -> None:
        name = name_of(text)
        _, end_s = self.ends.get(name, (0, None))
        count(self, text, id_, now_s)
        if end_s is not None and name in self.ends:
            self.ends[name] = (id_, end_s)

    return wrong


def _loses_unasked(move: Any) -> Any:
    def wrong(seen: Any, proposed: Any) -> Any:
        made, about = move(seen, proposed)
        unasked = made is Move.WAIT and seen.durable.acceptance is None and seen.heard.heartbeat.acceptance is None
        loses = about is not None and about.loser == seen.me
        return (Move.LOSE, about) if unasked and loses else (made, about)

    return wrong


def _accepts_in_memory(_accept: Any) -> Any:
    async def wrong(self: Steps, errand: Any) -> None:
        if self.memory.durable.acceptance is None:
            self.memory.durable = structs.replace(self.memory.durable, acceptance=Acceptance(errand.verdict))

    return wrong


def _unfit_is_stale(worth: Any) -> Any:
    def wrong(seen: Any, timing: Any) -> Any:
        made = worth(seen, timing)
        return Worth.STALE if made is Worth.UNFIT else made

    return wrong


def _a_number_is_a_leader(view: Any) -> Any:
    def wrong(seen: Any, *rest: Any) -> Any:
        higher = seen.heard is not None and seen.heard.heartbeat.term > seen.durable.highest_term
        return Peer.PROMOTES if higher and seen.role is Role.LEADER else view(seen, *rest)

    return wrong


def _patience(role: Role, deadline: str) -> Patch:
    def made(patience: Any) -> Any:
        def wrong(seen: Any, worth: Any, timing: Any) -> float:
            value = getattr(timing, deadline) if seen.role is role else patience(seen, worth, timing)
            assert isinstance(value, float)
            return value

        return wrong

    return swap(evidence, "patience_s", made)


def _starts_open(start: Any) -> Any:
    def wrong(self: World, node: int) -> None:
        start(self, node)
        self.machines[node].postgres.lifted = True

    return wrong


def _writers_end_first(end: Any) -> Any:
    def wrong(self: World, node: int) -> None:
        self.idle_ends_first = False
        end(self, node)

    return wrong


def _forgets_the_fence(fence: Any) -> Any:
    async def wrong(self: Any, term: int) -> None:
        before = self.peer.postgres.fence_term
        await fence(self, term)
        self.peer.postgres.fence_term = before

    return wrong


def _no_freeze(_lost: Any) -> Any:
    def wrong(self: Node) -> None:
        self.senses.postgres_lost()
        self.wake()

    return wrong


def _says_only_too_little(save: Any) -> Any:
    """Two changes at once, the later one written over the earlier."""
    del save

    async def wrong(self: Steps, **changes: object) -> None:
        durable = self.memory.write(**changes)
        if durable != self.memory.durable:
            await self.ports.state.save(durable)
            self.memory.durable = durable

    return wrong


async def _nothing(*_: object) -> None:
    return None


_NOBODY_STOPS_KINE = both(
    swap(Node, "_stop_kine", lambda _: lambda *_: None), swap(Steps, "_peer_kine_stopped", lambda _: _nothing)
)

PLANTS = (
    Plant("histories are compared by their ids alone", "R1", swap(lineage, "_went_on", lambda _: lambda *_: False),
        None,
        "a split that begins with a leadership parts by ids too; tests/core/test_parts.py holds the rest",
    ),
    Plant("the loser archives before it is fenced", "R2",
          plan("LOSE", Step.ACCEPT, Step.FINAL_REVISION, Step.ARCHIVE, Step.FREEZE_KINE, Step.CLOSE, Step.KILL_KINE),
          "test_what_a_loser_acknowledges_while_it_accepts_is_in_its_archive"),
    Plant("no leadership is provisional", "R3", _fence(provisional=False),
          "test_stale_follower_alone_leads_only_after_the_long_wait"),
    Plant("data that may be old leads after boot_wait", "R3", _patience(Role.STARTING, "boot_wait_s"),
          "test_stale_follower_alone_leads_only_after_the_long_wait"),
    Plant("the lease never ends", "R4", swap(Lease, "runs", lambda _: lambda self, _now: self.head is not None),
        None,
        "the follower's own Kine has answered with what its data lacks, so the fence is full all the same (R13)",
    ),
    Plant("the leader goes alone when it may promote", "R5", _patience(Role.LEADER, "heartbeat_s"),
          "test_a_leader_that_dies_before_its_deadline_has_acknowledged_nothing_alone"),
    Plant("waits are off before the row says alone", "R5", plan("GO_ALONE", Step.WAITS_OFF, Step.RECORD_ALONE),
          "test_whoever_is_alone_has_said_so_first"),
    Plant("old heartbeats are taken in", "R6", swap(Memory, "hear", _old_ones_taken_in),
          "test_a_relay_that_repeats_itself_keeps_nobody_alive"),
    Plant("the winner does not wait for the archive", "R7",
          both(swap(node_loop, "next_move", _wins_at_once), swap(Steps, "_absorb", _absorbs_anything)),
          "test_the_winner_absorbs_only_what_is_fenced_and_archived"),
    Plant("node 0 loses without the other's consent", "R7", swap(node_loop, "next_move", _loses_unasked),
          "test_a_proposal_that_changes_leaves_a_leader"),
    Plant("an acceptance is not written down", "R7", swap(Steps, "_accept", _accepts_in_memory),
          "test_an_accepted_verdict_outlives_a_crash"),
    Plant("wall clocks are compared as they are", "R8", swap(verdict, "_later", by_the_wall),
          "test_the_later_change_wins_whatever_the_clocks_say"),
    Plant("in_sync is written before commits wait", "R9",
          plan("ENTER_SYNC", Step.RECORD_SYNCED, Step.WAITS_ON, Step.DRAIN_STANDBY),
          "test_in_sync_is_not_said_while_the_checkpointer_stalls"),
    Plant("a database is opened with whatever waits it has", "R9", swap(Steps, "_align_waits", lambda _: _nothing),
          "test_a_leadership_that_reopens_waits_as_before"),
    Plant("deadlines that break the inequality", "R10",
          lambda: mock.patch.object(pair_module, "TIMING", structs.replace(pair_module.TIMING, promote_after_s=1.0)),
          "test_h5_a_cut_gives_a_light_fence_within_the_deadlines"),
    Plant("Postgres starts open", "R11", swap(World, "start_postgres", _starts_open),
          "test_h6_a_postgres_that_comes_back_serves_no_kine"),
    Plant("the word is given before Kine is killed", "R12", plan("HAND_OVER", Step.HAND_OVER, Step.KILL_KINE), None,
          "Kine is frozen the moment its Postgres is lost (R20), and a Postgres that returns is fenced (R11)"),
    Plant("no late fence", "R13", decides("lead/ghosts", Decision.CARRY_ON),
          "test_h7_rows_that_only_the_old_leader_has_are_fenced_late"),
    Plant("a full fence replaces no Kine", "R14",
          swap(Steps, "fence_key", lambda _: lambda self: self.memory.peer_lineage[0].id if self.memory.peer_lineage else ""),
          "test_h8_a_full_fence_replaces_every_kine_on_both_nodes"),
    Plant("a higher term demotes", "R15", swap(evidence, "peer_view", _a_number_is_a_leader),
          "test_h9_a_higher_term_with_nobody_behind_it_demotes_nobody"),
    Plant("a leader whose Postgres does not come keeps silent", "R16", decides("start/dead-leader", Decision.WAIT),
        None,
        "a node that is heard and cannot serve is given up after promote_after_s as well",
    ),
    Plant("writes wait for ever", "R17", decides("lead/stuck", Decision.CARRY_ON),
          "test_h11_replication_that_hangs_stops_writes_for_a_bounded_time"),
    Plant("a paused leader says take over", "R18", decides("lead/dead-paused", Decision.HAND_OVER),
        None,
        "a pause binds both nodes: the follower does not promote on a word either",
    ),
    Plant("a paused follower promotes", "R18", decides("follow/lost-paused", Decision.PROMOTE),
          "test_a_pause_holds_through_a_failure"),
    Plant("a fence forgets its term", "R19", swap(ports.SimPeerPostgres, "fence", _forgets_the_fence),
          "test_a_fenced_database_stays_closed_for_its_old_term"),
    Plant("Kine goes on when its Postgres is lost", "R20", swap(Node, "_postgres_lost", _no_freeze),
          "test_kine_is_frozen_the_moment_its_postgres_is_lost"),
    Plant("sessions end under a running Kine", "R20",
          plan("YIELD", Step.CLOSE, Step.FREEZE_KINE, Step.KILL_KINE, Step.RELEASE_ADDRESS),
        None,
        "idle sessions are ended first and in the same statement, so none is left to read through: the next one shows it",
    ),
    Plant("sessions end under a running Kine, those that write first", "R20",
          both(plan("YIELD", Step.CLOSE, Step.FREEZE_KINE, Step.KILL_KINE, Step.RELEASE_ADDRESS),
               swap(World, "end_sessions", _writers_end_first)),
          "test_a_leader_that_yields_under_load_acknowledges_nothing_that_is_not_there"),
    Plant("a late fence closes the database under the follower's running Kine", "R20",
          both(plan("LATE_FENCE", Step.FREEZE_KINE, Step.CLOSE, Step.TAKE_TERM, Step.LEAD, Step.ALIGN_WAITS, Step.OPEN,
                    Step.SERVE, Step.ACQUIRE_ADDRESS),
               _NOBODY_STOPS_KINE),
          "test_a_late_fence_under_load_acknowledges_nothing_that_is_not_there"),
    Plant("a database is opened again under the follower's running Kine", "R20",
          _NOBODY_STOPS_KINE,
          "test_a_database_is_opened_again_once_the_followers_kine_has_been_stopped"),
    Plant("a database is opened again under the own Kine, which ran on without a supervisor", "R20",
          plan("REOPEN", Step.ALIGN_WAITS, Step.OPEN, Step.SERVE, Step.ACQUIRE_ADDRESS),
          "test_a_database_is_opened_again_once_the_own_kine_that_ran_on_without_a_supervisor_is_frozen"),
    Plant("two leaders in one term", "I1", swap(node_steps, "next_term", lambda _: lambda highest, _node: highest + 1),
          "test_two_leaders_never_share_a_term"),
    Plant("a term goes back", "I2", swap(node_steps, "next_term", lambda right: lambda _, node: right(2, node)),
          "test_switchover"),
    Plant("data that is not whole leads", "I6", swap(evidence, "own_worth", _unfit_is_stale),
        None,
        "the transaction that leads refuses such data by itself",
    ),
    Plant("a forgotten bump", "I4",
          both(_fence(clear_revision=0), swap(Steps, "_margin", lambda _: lambda *_: 1)),
          "test_a_revision_that_somebody_saw_is_not_given_again"),
    Plant("a verdict does not clear what the loser has given", "I11", swap(Steps, "_absorb", _absorbs_below),
          "test_a_client_that_moved_between_the_sides_of_a_split_lists_anew"),
    Plant("what the leader has compacted counts as lost", "R13",
          swap(rejoin, "lost", lambda _: lambda rows, *_rest: (set(rows), set(rows))),
          "test_what_a_leader_compacted_while_the_other_was_away_costs_no_late_fence"),
    Plant("every fence is a full one", "R13", _fence(full=True),
          "test_a_client_that_moves_goes_on_where_it_was_also_through_a_switchover"),
    Plant("a renewal is not counted", "lease", swap(leases.Worker, "_count", _counts_only_the_first),
          "test_a_key_that_is_renewed_stays_through_a_failover_and_the_return_of_the_node"),
    Plant("a Kine that starts asks for no leases", "lease", swap(leases, "live", lambda _: lambda _rows: {}),
          "test_a_key_that_nobody_renews_ends_and_a_failover_counts_its_time_anew"),
    Plant("a missing compaction", "I11", _fence(full=False),
          "test_a_follower_that_slept_through_its_leader_going_alone"),
    Plant("a full fence skips what was to be compacted", "I11", swap(ports, "superfluous", lambda _: lambda *_: ()),
          "test_a_deleted_key_stays_deleted_when_a_full_fence_comes_between"),
    Plant("a Kine that was cut off for long reads on", "I11",
          both(swap(kine.SimKine, "_give_up", lambda _: lambda _: None),
               lambda: mock.patch.object(kine, "MISSED", 10**9)),
          "test_a_kine_that_has_lost_its_postgres_for_long_tells_nothing_more"),
    Plant("a rejoin keeps what the leader has compacted", "I7",
          swap(rejoin, "mended", lambda right: lambda rows, own, same: own | right(rows, own, same)),
          "test_a_node_that_was_away_for_longer_than_what_is_kept_comes_back"),
    Plant("deletions are not published", "I7",
          swap(world_module, "published", lambda _: lambda change: structs.replace(change, gone=())),
          "test_a_compaction_is_the_same_on_both_nodes"),
    Plant("the old leader is fenced after the flip", "I5",
          plan("PROMOTE", Step.FREEZE_KINE, Step.TAKE_TERM, Step.DETACH, Step.LEAD, Step.ALIGN_WAITS, Step.OPEN,
               Step.SERVE, Step.FENCE_PEER, Step.ACQUIRE_ADDRESS),
          "test_a_fenced_database_stays_closed_for_its_old_term"),
    Plant("leadership is given away with the database open", "I3",
          plan("SWITCHOVER", Step.FREEZE_BOTH, Step.DRAIN_SWITCH, Step.HAND_OVER, Step.RELEASE_ADDRESS),
        None,
        "the follower has everything that is acknowledged, and the rejoin closes before it copies",
    ),
    Plant("two changes of the state file overwrite each other", "I2", swap(Steps, "save", _says_only_too_little), None,
          "the plans of a run follow each other and its other writer only renounces; tests/core/test_saving.py holds it"),
)  # fmt: skip


class Found(Exception):  # noqa: N818 - it is what is looked for
    """A run that failed, as it should."""


def finders() -> dict[str, Callable[..., object]]:
    """Return the scenarios that need nothing but `simulate`, by name."""
    modules = (
        test_scenarios, test_holes, test_going_alone, test_promotions, test_fences, test_splits, test_stalls, test_versions,
        test_compactions, test_moving_clients, test_leases,
    )  # fmt: skip
    return {
        name: made
        for module in modules
        for name, made in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("test_") and list(inspect.signature(made).parameters) == ["simulate"]
    }


def found(plant: Plant, by: str | int) -> str | None:
    """Return how the run fails with the plant in it, None when it does not."""
    with plant.patch():
        if isinstance(by, int):
            return play_seed(by, planted=True).error

        def simulated(scenario: Scenario, seed: int = 1) -> None:
            error = play(scenario, seed, planted=True).error
            if error is not None:
                raise Found(error)

        try:
            finders()[by](simulated)
        except Found as error:
            return str(error)
    return None


def main() -> None:
    """Look for every plant: its own finder, all scenarios, then seeds up to the number given."""
    from tests.simulation.__main__ import quiet  # noqa: PLC0415 - only here

    quiet()
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    for plant in PLANTS:
        if only not in plant.name:
            continue
        own = found(plant, plant.found_by) if plant.found_by is not None else None
        by_scenarios = [name for name in finders() if own is None and found(plant, name) is not None]
        by_seed = next((seed for seed in range(seeds) if found(plant, seed) is not None), None)
        with contextlib.suppress(BrokenPipeError):
            print(f"{plant.rule:4} {plant.name}: own finder {plant.found_by}: {str(own)[:110]}; scenarios: {by_scenarios}; "
                  f"first seed: {by_seed}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
