"""Each rule left out of the core, in one or more ways: whoever tests a rule has to notice that it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

from msgspec.structs import replace

from failover.core import evidence, fences, lineage, plans, resolve, rules, speak, terms, verdict
from failover.core.evidence import Peer, Stream
from failover.core.lease import Lease
from failover.core.model import Role
from failover.core.plans import Step
from failover.core.rules import Decision
from failover.core.timing import Timing
from failover.node.memory import Memory
from failover.node.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Patch = Callable[[], AbstractContextManager[object]]


def swap(owner: Any, name: str, made: Callable[[Any], Any]) -> Patch:
    """Have `made(original)` in the place of `owner.name`."""
    return lambda: mock.patch.object(owner, name, made(getattr(owner, name)))


def decides(name: str, decision: Decision) -> Patch:
    """Have a row of the table decide something else."""
    assert any(rule.name == name for rule in rules.RULES)

    def made(decide: Any) -> Any:
        def wrong(cell: Any) -> Any:
            rule = decide(cell)
            return replace(rule, decision=decision) if rule.name == name else rule

        return wrong

    return swap(rules, "decide", made)


def plan(name: str, *steps: Step, **changes: Any) -> Patch:
    """Have a plan's steps be others, or in another order."""

    def patched() -> AbstractContextManager[object]:
        right = getattr(plans, name)
        wrong = replace(right, steps=steps or right.steps, **changes)
        everything = tuple(wrong if one is right else one for one in plans.PLANS)
        patch: AbstractContextManager[object] = mock.patch.multiple(plans, **{name: wrong, "PLANS": everything})
        return patch

    return patched


def _fence(**changes: object) -> Patch:
    def made(judge: Any) -> Any:
        return lambda *values, **named: replace(judge(*values, **named), **changes)

    return swap(fences, "fence_at_transaction", made)


def _patience(role: Role, deadline: str) -> Patch:
    def made(patience: Any) -> Any:
        def wrong(seen: Any, worth: Any, timing: Any) -> Any:
            return getattr(timing, deadline) if seen.role is role else patience(seen, worth, timing)

        return wrong

    return swap(evidence, "patience_s", made)


def _never(worth: Any) -> Any:
    del worth
    return lambda *_: None


def _wins_at_once(move: Any) -> Any:
    def wrong(seen: Any, proposed: Any) -> Any:
        yes = seen.heard.heartbeat.acceptance
        if seen.durable.acceptance is None and yes is not None and yes.verdict.winner == seen.me:
            return resolve.Move.WIN, yes.verdict
        return move(seen, proposed)

    return wrong


def _loses_unasked(move: Any) -> Any:
    def wrong(seen: Any, proposed: Any) -> Any:
        made, about = move(seen, proposed)
        mine = made is resolve.Move.WAIT and about is not None and about.loser == seen.me
        return (resolve.Move.LOSE, about) if mine else (made, about)

    return wrong


def _forgets_acceptance(move: Any) -> Any:
    return lambda seen, told: move(replace(seen, durable=replace(seen.durable, acceptance=None)), told)


def by_the_wall(_later: Any) -> Any:
    def wrong(changes: Any, _clocks: Any) -> Any:
        first, second = changes
        if first is None or second is None:
            return None if first is second else int(first is None)
        return int(second.commit_us > first.commit_us)

    return wrong


def _no_uncertainty(later: Any) -> Any:
    return lambda changes, clocks: later(changes, replace(clocks, uncertainty_us=-1))


def _all_is_new(hear: Any) -> Any:
    def wrong(self: Memory, heartbeat: Any, *rest: Any) -> Any:
        self.heard = None
        return hear(self, heartbeat, *rest)

    return wrong


def _a_number_is_a_leader(view: Any) -> Any:
    def wrong(seen: Any, *rest: Any) -> Any:
        higher = seen.heard is not None and seen.heard.heartbeat.term > seen.durable.highest_term
        return Peer.PROMOTES if higher else view(seen, *rest)

    return wrong


def _no_jump(stalled: Any) -> Any:
    return lambda self, now_s, **_: stalled(self, now_s, clock_jumped=False)


def _deaf_to_waits(_stream: Any) -> Any:
    def wrong(*values: Any) -> Any:
        made = _stream(*values)
        return Stream.FLOWING if made is Stream.STUCK else made

    return wrong


_Rule = tuple[str, str, "Patch"]
WAYS: tuple[_Rule, ...] = (
    ("R1", "histories are compared by their ids alone", swap(lineage, "_went_on", lambda _: lambda *_: False)),
    ("R1", "an unknown history is followed", decides("start/leader-unknown", Decision.REJOIN)),
    ("R1", "a side of a split follows", decides("start/leader-parted", Decision.REJOIN)),
    ("R2", "the loser archives before it is fenced",
     plan("LOSE", Step.ACCEPT, Step.FINAL_REVISION, Step.ARCHIVE, Step.FREEZE_KINE, Step.CLOSE, Step.KILL_KINE)),
    ("R2", "the winner does not wait for the archive", swap(resolve, "next_move", _wins_at_once)),
    ("R3", "no leadership is provisional", _fence(provisional=False)),
    ("R3", "data that may be old leads after boot_wait", _patience(Role.STARTING, "boot_wait_s")),
    ("R3", "a provisional side has an equal claim", swap(verdict, "_provisional_since", lambda _: lambda *_: False)),
    ("R4", "the lease never ends", swap(Lease, "runs", lambda _: lambda self, _now: self.head is not None)),
    ("R4", "the lease counts from what was heard",
     swap(Lease, "extend", lambda right: lambda self, heard, echoed_s, *rest, **named: right(
         self, heard, 10.0 if echoed_s is None else echoed_s + 1.0, *rest, **named))),
    ("R4", "a clock that jumped voids nothing", swap(Memory, "stalled", _no_jump)),
    ("R5", "the leader goes alone when it may promote", _patience(Role.LEADER, "promote_after_s")),
    ("R5", "waits are off before the row says alone", plan("GO_ALONE", Step.WAITS_OFF, Step.RECORD_ALONE)),
    ("R5", "a follower renounces only when asked", swap(speak, "why_renounce", _never)),
    ("R5", "a leader is deaf to renouncing", decides("lead/renounced", Decision.CARRY_ON)),
    ("R6", "old heartbeats are taken in", swap(Memory, "hear", _all_is_new)),
    ("R7", "the winner does not wait", swap(resolve, "next_move", _wins_at_once)),
    ("R7", "node 0 loses without the other's consent", swap(resolve, "next_move", _loses_unasked)),
    ("R7", "an acceptance is forgotten", swap(resolve, "next_move", _forgets_acceptance)),
    ("R7", "an acceptance is written last",
     plan("LOSE", Step.FREEZE_KINE, Step.CLOSE, Step.KILL_KINE, Step.FINAL_REVISION, Step.ARCHIVE, Step.ACCEPT)),
    ("R8", "wall clocks are compared as they are", swap(verdict, "_later", by_the_wall)),
    ("R8", "nothing is uncertain", swap(verdict, "_later", _no_uncertainty)),
    ("R8", "a clock that was set is trusted", swap(Memory, "stalled", _no_jump)),
    ("R9", "in_sync is written before commits wait",
     plan("ENTER_SYNC", Step.RECORD_SYNCED, Step.WAITS_ON, Step.DRAIN_STANDBY)),
    ("R9", "nobody looks whether commits wait", swap(evidence, "waits_fit", lambda _: lambda _: True)),
    ("R9", "a database is opened with whatever waits it has", plan("REOPEN", Step.OPEN, Step.SERVE)),
    ("R10", "any deadlines will do", swap(Timing, "complaint", lambda _: lambda _: None)),
    ("R11", "a Postgres that came back is left alone", decides("lead/reopen", Decision.CARRY_ON)),
    ("R11", "what is open stays open", decides("start/not-its-own", Decision.WAIT)),
    ("R12", "the word is given before Kine is killed", plan("HAND_OVER", Step.HAND_OVER, Step.KILL_KINE)),
    ("R12", "the old Kine runs through a promotion",
     plan("PROMOTE", Step.TAKE_TERM, Step.FENCE_PEER, Step.DETACH, Step.LEAD, *plans.REOPENING)),
    ("R13", "what was seen is forgotten", _fence(full=False)),
    ("R13", "no late fence", decides("lead/ghosts", Decision.CARRY_ON)),
    ("R14", "a fence replaces no Kine", swap(Steps, "fence_key", lambda _: lambda _: "always")),
    ("R15", "a higher term demotes", swap(evidence, "peer_view", _a_number_is_a_leader)),
    ("R15", "a term of the other's parity", swap(terms, "next_term", lambda _: lambda highest, _node: highest + 1)),
    ("R15", "who went alone yields", decides("lead/no-successor", Decision.YIELD)),
    ("R16", "a leader whose Postgres does not come keeps silent", decides("start/dead-leader", Decision.WAIT)),
    ("R17", "writes wait for ever", swap(evidence, "stream", _deaf_to_waits)),
    ("R17", "a follower promotes beside a leader", decides("follow/broken", Decision.PROMOTE)),
    ("R18", "a paused leader says take over", decides("lead/dead-paused", Decision.HAND_OVER)),
    ("R18", "a paused follower promotes", decides("follow/lost-paused", Decision.PROMOTE)),
    ("R18", "a pause resolves a split", decides("lead/rival-parted-paused", Decision.RESOLVE)),
    ("R18", "a promotion goes on through a pause", decides("promote/paused", Decision.CARRY_ON)),
    ("R19", "a fence forgets its term", swap(evidence, "led_term", lambda _: lambda _: 10**9)),
    ("R19", "an outranked leader opens again", decides("lead/outranked", Decision.REOPEN)),
    ("R20", "sessions end under a running Kine",
     plan("YIELD", Step.CLOSE, Step.FREEZE_KINE, Step.KILL_KINE, Step.RELEASE_ADDRESS)),
    ("R20", "Kine goes on when its Postgres is lost", decides("lead/dead-unheard", Decision.CARRY_ON)),
    ("R20", "a full disk is waited for", decides("lead/cramped", Decision.CARRY_ON)),
    ("R20", "a leader without its Postgres keeps its Kine", plan("SUSPEND", Step.ACQUIRE_ADDRESS)),
)  # fmt: skip
