"""The invariants of the protocol, each a check with its number: what is held at every moment, at every step, at the end.

A check returns what is wrong, None when nothing is. `test_invariants.py` shows of each that it can fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from failover.core.evidence import LOST, Peer
from failover.core.model import DataState, Role
from failover.core.plans import PROMOTE, Step
from tests.simulation.rows import Held, live

if TYPE_CHECKING:
    import asyncio

    from failover.core.model import Acceptance, Verdict
    from failover.node.loop import Node
    from tests.simulation.pair import SimPair

LEADING = frozenset({Step.LEAD, Step.ABSORB})


@dataclass(slots=True)
class Invariants:
    """Judges a pair from outside, by what its disks, databases and clients show."""

    pair: SimPair
    leaders: dict[int, int] = field(default_factory=dict)  # term -> node
    terms: list[int] = field(default_factory=lambda: [-1, -1])  # the highest durable one of each node
    accepted: list[Verdict | None] = field(default_factory=lambda: [None, None])
    under_way: dict[int, tuple[asyncio.Task[None], int]] = field(default_factory=dict)
    began_paused: list[bool] = field(default_factory=lambda: [False, False])  # each one's newest promotion

    # ---- at every moment ---------------------------------------------------------------------------------------

    def i1_at_most_one_leader_a_term(self) -> str | None:
        for machine in self.pair.world.machines:
            for entry in machine.postgres.lineage:
                if self.leaders.setdefault(entry.term, entry.node) != entry.node:
                    return f"two leaders in term {entry.term}"
        return None

    def i2_no_term_goes_back(self) -> str | None:
        for node, machine in enumerate(self.pair.world.machines):
            term = machine.state.highest_term if machine.state is not None else -1
            if term < self.terms[node]:
                return f"node {node} had term {self.terms[node]} and has {term}"
            self.terms[node] = term
        return None

    def i3_kine_uses_no_followers_database(self) -> str | None:
        for node in (0, 1):
            if self.pair.role(node) in ("follower", "resyncing") and self.pair.world.is_open(node):
                return f"node {node} follows, and Kine may use its database"
        return None

    def i6_only_whole_data_leads(self) -> str | None:
        for node, machine in enumerate(self.pair.world.machines):
            if self.pair.leads(node) and machine.postgres.data is not DataState.COMPLETE:
                return f"node {node} leads on data that is not whole"
        return None

    def i9_an_accepted_verdict_never_changes(self) -> str | None:
        for node, machine in enumerate(self.pair.world.machines):
            yes: Acceptance | None = machine.state.acceptance if machine.state is not None else None
            before = self.accepted[node]
            if yes is not None and before is not None and yes.verdict != before:
                return f"node {node} accepted {before}, and now {yes.verdict}"
            self.accepted[node] = yes.verdict if yes is not None else None
            if yes is not None and self.pair.leads(node):
                return f"node {node} leads, and has accepted that it lost"
        return None

    def l3_who_halts_says_what_to_do(self) -> str | None:
        for node, made in enumerate(self.pair.nodes):
            if made is not None and made.memory.role is Role.HALTED and not made.memory.halted:
                return f"node {node} halted without a word"
        return None

    # ---- before every step -------------------------------------------------------------------------------------

    def i8_steps_in_their_order(self, node: int, made: Node, step: Step) -> str | None:
        if made.running is None:
            return f"node {node}: {step} without a plan"
        plan, _, task = made.running
        known, index = self.under_way.get(node, (None, -1))
        index = index + 1 if known is task else 0
        steps = (*plan.steps, *plan.undo)
        if known is task and step in plan.undo and (index >= len(plan.steps) or plan.steps[index] is not step):
            index = max(index, len(plan.steps) + plan.undo.index(step))  # a step failed: it is undone
        self.under_way[node] = task, index
        if index >= len(steps) or steps[index] is not step:
            return f"node {node}: {plan.name}/{step} out of its order"
        return None

    def i10_a_paused_pair_changes_no_role(self, node: int, made: Node, step: Step) -> str | None:
        if made.memory.role is not Role.PROMOTING or made.cell is None:
            return None
        paused = made.observe().paused
        if step is PROMOTE.steps[0]:
            # Who starts and hears nobody lead takes leadership in a pause too: nobody else would.
            self.began_paused[node] = paused and made.rule is not None and made.rule.role is Role.FOLLOWER
        if step not in LEADING or made.memory.ordered:
            return None
        # A word that was given before the pause arrives: the one that gave it leads no more, and nobody would.
        told = made.cell.peer is Peer.HANDS_OVER and self.began_paused[node]
        if told or (made.cell.peer in LOST and paused):
            return f"node {node} takes leadership in a pause"
        return None

    # ---- at the end --------------------------------------------------------------------------------------------

    def i4_no_revision_is_given_twice(self, *, split: bool) -> str | None:
        """Outside an unresolved split."""
        given: dict[int, str] = {}
        for one in self.pair.acked:
            if split or one.split:
                continue
            holder = given.setdefault(one.id, one.key)
            if holder != one.key:
                return f"revision {one.id} was given to {holder} and {one.key}"
        return None

    def i5_no_acknowledged_write_is_lost(self, *, split: bool) -> str | None:
        """It is there, or compacted because of what is there, or in an archive where both sides may have led."""
        world = self.pair.world
        rows = world.machines[0].postgres.rows
        here, there = frozenset(rows.values()), live(rows)
        table = Held(here, there)
        anywhere = Held(here | world.machines[0].archive | world.machines[1].archive, there)
        lost = [
            one for one in self.pair.acked
            if one.key not in here
            and not world.ledger.accounts_for(one.key, rows, anywhere if split or one.split else table)
        ]  # fmt: skip
        return f"{len(lost)} acknowledged writes are lost, first {lost[0]}" if lost else None

    def i5_a_read_shows_what_was_acknowledged(self, *, split: bool) -> str | None:
        stale = self.pair.clients.stale()
        return stale[0] if stale and not split else None

    def lease_is_kept_while_it_is_renewed(self, *, split: bool) -> str | None:
        broken = [told for holder in self.pair.clients.holders for told in holder.broken]
        return broken[0] if broken and not split else None

    def i7_one_leader_and_equal_data(self) -> str | None:
        """What a rejoin drops is in an archive: `SimRejoin` asserts it where it happens."""
        leaders = [node for node in (0, 1) if self.pair.leads(node)]
        if len(leaders) != 1:
            return f"leaders: {leaders}"
        first, second = (machine.postgres for machine in self.pair.world.machines)
        if first.rows != second.rows:
            return f"{sorted(set(first.rows.items()) ^ set(second.rows.items()))[:5]} differ"
        if first.compacted != second.compacted:
            return f"one is compacted to {first.compacted}, the other to {second.compacted}"
        return None if first.lineage == second.lineage else "the lineages differ"

    def i11_no_client_believes_in_what_is_not_there(self) -> str | None:
        complaints = self.pair.clients.complaints(self.pair.world.machines[0].postgres.rows)
        return complaints[0] if complaints else None

    # ---- all of them -------------------------------------------------------------------------------------------

    def at_every_moment(self) -> list[str]:
        """Return what is wrong now."""
        return told(
            I1=self.i1_at_most_one_leader_a_term(),
            I2=self.i2_no_term_goes_back(),
            I3=self.i3_kine_uses_no_followers_database(),
            I6=self.i6_only_whole_data_leads(),
            I9=self.i9_an_accepted_verdict_never_changes(),
            L3=self.l3_who_halts_says_what_to_do(),
        )

    def before_step(self, node: int, made: Node, step: Step) -> list[str]:
        """Return what is wrong with a step that is about to be taken."""
        return told(
            I8=self.i8_steps_in_their_order(node, made, step),
            I10=self.i10_a_paused_pair_changes_no_role(node, made, step),
        )

    def at_the_end(self, *, split: bool) -> list[str]:
        """Return what is wrong after quiet. L1 and L2 are deadlines: `SimPair.until_in_sync`."""
        return told(
            I7=self.i7_one_leader_and_equal_data(),
            I5=self.i5_no_acknowledged_write_is_lost(split=split),
            LEASE=self.lease_is_kept_while_it_is_renewed(split=split),
            READ=self.i5_a_read_shows_what_was_acknowledged(split=split),
            I4=self.i4_no_revision_is_given_twice(split=split),
            I11=self.i11_no_client_believes_in_what_is_not_there(),
        )


def told(**complaints: str | None) -> list[str]:
    """Return the complaints with the number of what they break."""
    return [f"{complaint} ({number})" for number, complaint in complaints.items() if complaint is not None]
