"""How far the two wall clocks are apart, from the heartbeats themselves.

Each heartbeat carries its sender's wall clock and an echo of the newest heartbeat heard, with the sender's wall clock
at that moment: the four timestamps of NTP (RFC 5905, section 8).
"""

from __future__ import annotations

import operator

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One exchange: peer's wall clock minus the own one, and half the time that was spent under way."""

    offset_us: int
    uncertainty_us: int


def sample(sent_us: int, peer_received_us: int, peer_sent_us: int, received_us: int) -> Sample:
    """Return the offset of one exchange; all four are wall clocks in microseconds."""
    offset = ((peer_received_us - sent_us) + (peer_sent_us - received_us)) // 2
    under_way = (received_us - sent_us) - (peer_sent_us - peer_received_us)
    if not -STEP_US <= under_way <= EXCHANGE_MAX_US:
        return NOTHING_KNOWN  # one of the clocks was set in the middle of it
    return Sample(offset, max(0, under_way // 2) + 1)


def best(samples: tuple[Sample, ...]) -> Sample:
    """Return the exchange that spent least time under way; without any, an offset that nothing is known of."""
    if not samples:
        return NOTHING_KNOWN
    return min(samples, key=operator.attrgetter("uncertainty_us"))


UNKNOWN_US = 60_000_000
EXCHANGE_MAX_US = 5_000_000
STEP_US = 1_000  # no exchange can take less than nothing, but for the drift of the clocks
NOTHING_KNOWN = Sample(0, UNKNOWN_US)
SAMPLES_KEPT = 32
