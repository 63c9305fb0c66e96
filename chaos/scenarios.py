"""What is tried: named scenarios, and campaigns drawn from a seed. Values only; `chaos.play` plays them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class On(StrEnum):
    """Which node is struck: by its role when the fault before it has not struck yet."""

    LEADER = "leader"
    FOLLOWER = "follower"


class Effect(StrEnum):
    """What must be seen before the fault ends; a fault that does nothing proves nothing."""

    FAILOVER = "failover"  # the other node leads
    KEPT = "kept"  # nobody else led all the while
    WHOLE = "whole"  # nobody else led, and the pair is in sync again while the fault lasts
    ALONE = "alone"  # the leader stays, and goes on without the follower
    BOTH_LEAD = "both_lead"
    ANY = "any"


class Promise(StrEnum):
    """What no acknowledged write may do."""

    NO_LOSS = "no_loss"
    ARCHIVED = "archived"  # it is in the table or in an archive


class When(StrEnum):
    """When a fault strikes."""

    WITH = "with"  # while the faults before it last
    RECOVERING = "recovering"  # as soon as the faults before it are undone


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault in a scenario. It lasts for `hold_s` at least, and until the scenario's effect is seen."""

    fault: str
    on: On
    hold_s: float = 1.0
    when: When = When.WITH


@dataclass(frozen=True, slots=True)
class Scenario:
    """Faults in order, the effect that is asked for, and the promise that must hold."""

    name: str
    strikes: tuple[Strike, ...]
    effect: Effect = Effect.ANY
    promise: Promise = Promise.NO_LOSS

    def promise_in_words(self) -> str:
        """Return what is asked of this scenario, for a reader."""
        return f"{EFFECT_IN_WORDS[self.effect]}; {PROMISE_IN_WORDS[self.promise]}"


EFFECT_IN_WORDS = {
    Effect.FAILOVER: "the other node leads",
    Effect.KEPT: "nobody else comes to lead",
    Effect.WHOLE: "nobody else comes to lead, and the pair is in sync again while it lasts",
    Effect.ALONE: "the leader stays, and goes on without the follower",
    Effect.BOTH_LEAD: "both nodes lead until they meet again",
    Effect.ANY: "whoever leads, all is well in the end",
}
PROMISE_IN_WORDS = {
    Promise.NO_LOSS: "no acknowledged write is lost",
    Promise.ARCHIVED: "an acknowledged write is in the table or in an archive",
}


def _one(
    fault: str, on: On, effect: Effect, hold_s: float = 1.0, promise: Promise = Promise.NO_LOSS, name: str = ""
) -> Scenario:
    return Scenario(f"{name or fault}-{on}", (Strike(fault, on, hold_s),), effect, promise)


def _two(first: Strike, second: Strike, effect: Effect, promise: Promise = Promise.ARCHIVED) -> Scenario:
    word = "then" if second.when is When.RECOVERING else "and"
    return Scenario(f"{first.fault}-{first.on}-{word}-{second.fault}-{second.on}", (first, second), effect, promise)


SINGLE = (
    _one("power-loss", On.LEADER, Effect.FAILOVER),
    _one("kill-everything", On.LEADER, Effect.FAILOVER),
    _one("kill-postgres", On.LEADER, Effect.FAILOVER),
    _one("cut", On.LEADER, Effect.BOTH_LEAD, promise=Promise.ARCHIVED),
    _one("cut-but-broker", On.LEADER, Effect.KEPT, 4.0),
    _one("power-loss", On.FOLLOWER, Effect.ALONE),
    _one("power-loss-in-a-write", On.FOLLOWER, Effect.ALONE),
    _one("power-loss-of-both", On.LEADER, Effect.ANY, 0.0),
    _one("full-disk", On.LEADER, Effect.FAILOVER),
    _one("stop-everything", On.FOLLOWER, Effect.ALONE),
    _one("cut-off", On.FOLLOWER, Effect.ALONE, 12.0),
    # As long as a Postgres takes to end the sessions of who is cut off, and no longer than their clients wait.
    _one("cut-off", On.FOLLOWER, Effect.ALONE, 6.5, name="cut-off-for-seconds"),
    _one("cut-path-a", On.LEADER, Effect.WHOLE, 8.0),
    _one("cut-path-b", On.LEADER, Effect.WHOLE, 8.0),
    _one("clock-ahead", On.LEADER, Effect.KEPT, 2.5),
    _one("restart-storm", On.LEADER, Effect.ANY),
    _one("kill-kine", On.LEADER, Effect.KEPT),
    _one("loss-4-percent", On.LEADER, Effect.KEPT, 3.0),
    _one("slow-disk", On.LEADER, Effect.KEPT),
    _one("stop-everything", On.LEADER, Effect.ANY, 3.0),
    _one("stalled-disk", On.LEADER, Effect.ANY, 3.0),
    _one("flapping", On.LEADER, Effect.ANY, promise=Promise.ARCHIVED),
    _one("cut-one-way", On.LEADER, Effect.ANY, 3.0, Promise.ARCHIVED),
    _one("reset", On.LEADER, Effect.ANY, 2.0, Promise.ARCHIVED),
    _one("cut-off", On.LEADER, Effect.BOTH_LEAD, 2.0, Promise.ARCHIVED),
    _one("kill-supervisor", On.LEADER, Effect.ANY, 1.0),
    _one("stop-postgres", On.LEADER, Effect.ANY, 3.0),
    _one("stalled-disk", On.FOLLOWER, Effect.ALONE, 3.0),
    _one("clock-behind", On.FOLLOWER, Effect.KEPT, 2.5),
    _one("cpu-stress", On.LEADER, Effect.KEPT, 3.0),
    _one("disk-stress", On.LEADER, Effect.KEPT, 3.0),
    _one("loss-25-percent", On.LEADER, Effect.ANY, 3.0, Promise.ARCHIVED),
)
PAIRS = (
    _two(Strike("loss-4-percent", On.LEADER), Strike("power-loss", On.LEADER), Effect.FAILOVER),
    _two(Strike("clock-ahead", On.LEADER, 1.5), Strike("cut", On.LEADER), Effect.BOTH_LEAD),
    _two(Strike("cpu-stress", On.FOLLOWER), Strike("kill-everything", On.LEADER), Effect.FAILOVER),
    _two(Strike("cut-path-a", On.LEADER), Strike("kill-postgres", On.LEADER), Effect.ANY),
)
RECOVERING = (
    _two(Strike("power-loss", On.LEADER), Strike("kill-everything", On.LEADER, 1.0, When.RECOVERING), Effect.ANY),
    _two(Strike("cut", On.LEADER, 2.5), Strike("power-loss", On.FOLLOWER, 1.0, When.RECOVERING), Effect.ANY),
    _two(Strike("power-loss", On.FOLLOWER, 2.5), Strike("restart-storm", On.LEADER, 1.0, When.RECOVERING), Effect.ANY),
)
NAMED = {one.name: one for one in (*SINGLE, *PAIRS, *RECOVERING)}
# What `make chaos` plays, in this order, as far as its minutes last: the worst and what was bad once come first.
SHORT = (
    "power-loss-leader", "cut-leader", "kill-postgres-leader", "stalled-disk-follower", "cut-off-follower",
    "cut-off-for-seconds-follower", "full-disk-leader", "kill-everything-leader", "cut-but-broker-leader",
    "power-loss-in-a-write-follower", "restart-storm-leader", PAIRS[0].name, RECOVERING[0].name, "clock-ahead-leader",
    "power-loss-of-both-leader", "cut-path-a-leader", "stop-everything-follower", "kill-kine-leader",
)  # fmt: skip

DRAWN = tuple(sorted({one.strikes[0].fault for one in SINGLE}))


def draw(seed: int, number: int) -> Scenario:
    """Return the scenario of this number in the campaign of this seed: one fault, two at once, or one in a recovery."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - replayable, not secret
    count = chance.choice((1, 2, 2))
    strikes = tuple(
        Strike(
            chance.choice(DRAWN),
            chance.choice(tuple(On)),
            round(chance.uniform(0.2, 4.0), 1),
            chance.choice(tuple(When)),
        )
        for _ in range(count)
    )
    return Scenario(f"seed-{seed}-{number}", strikes, Effect.ANY, Promise.ARCHIVED)
