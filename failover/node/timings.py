"""How long things took in this run: histograms, filled where the thing is done and read when metrics are scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


@dataclass(slots=True)
class Histogram:
    """Counts of durations by upper bound, the last one for everything above."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def took(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, how many took at most that), as Prometheus has it."""
        total, rows = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


def _histograms() -> defaultdict[str, Histogram]:
    return defaultdict(Histogram)


@dataclass(slots=True)
class Timings:
    """All of them; every key is a name of the protocol, so there are few."""

    detection: defaultdict[str, Histogram] = field(default_factory=_histograms)  # by what was seen of the peer
    plans: defaultdict[str, Histogram] = field(default_factory=_histograms)
    steps: defaultdict[tuple[str, str], Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    rejoins: defaultdict[str, Histogram] = field(default_factory=_histograms)  # by kind
    failures: Counter[str] = field(default_factory=Counter)  # plans that failed
