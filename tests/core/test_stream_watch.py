"""A stream that cannot go on is noticed on a busy machine too, and one whose leader was away gets its time."""

from __future__ import annotations

from failover.core.model import Subscription
from failover.node.memory import AWAY_S, STREAM_PATIENCE_S, StreamWatch

INFINITE = float("inf")


def look(watch: StreamWatch, now_s: float, age_s: float = INFINITE, *, heard: bool = True, errors: int = 0) -> bool:
    watch.look(Subscription("kf_1", True, True, age_s, True, errors), now_s, leader_heard=heard)
    return watch.failed


def test_silence_while_the_leader_is_heard_is_a_failure_after_a_while() -> None:
    watch = StreamWatch()
    states = [look(watch, 0.2 * step) for step in range(int(STREAM_PATIENCE_S / 0.2) + 3)]
    assert not any(states[:-2])
    assert states[-1]


def test_moments_without_a_heartbeat_do_not_begin_the_count_anew() -> None:
    watch = StreamWatch()
    states = [look(watch, 0.2 * step, heard=step % 10 != 0) for step in range(int(1.3 * STREAM_PATIENCE_S / 0.2))]
    assert states[-1]


def test_a_word_of_the_stream_does() -> None:
    watch = StreamWatch()
    assert not any(look(watch, 0.2 * step, age_s=(step % 40) * 0.2) for step in range(400))


def test_a_leader_that_was_away_gives_the_stream_its_whole_time() -> None:
    watch = StreamWatch()
    assert not any(look(watch, 0.2 * step) for step in range(45))
    assert not any(look(watch, 9.0 + 0.2 * step, heard=False) for step in range(int(AWAY_S / 0.2) + 5))
    assert not any(look(watch, 16.0 + 0.2 * step) for step in range(45))


def test_errors_that_repeat_are_a_failure_at_once() -> None:
    watch = StreamWatch()
    assert not look(watch, 0.0, 0.0, errors=7)
    assert not look(watch, 0.2, 0.0, errors=9)
    assert look(watch, 0.4, 0.0, errors=10)
