"""Judges from outside what clients were told against what the databases hold at the end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.workload import Watcher, Write

Row = tuple[Any, ...]  # id, name, created, deleted, create_revision, prev_revision, lease, value, old_value
ID, NAME, DELETED, VALUE = 0, 1, 3, 7
# A new watch's first batch does not wait for a lower id that is still being committed (Kine 0.17.5): an event right after
# the list that it follows may be missed for good, with one Kine and no failover as well.
FIRST_BATCH = 30


@dataclass(slots=True)
class Report:
    """What is wrong, a line for each; nothing is good."""

    complaints: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints

    def __str__(self) -> str:
        return "\n".join(self.complaints[:20]) or "good"


def lost(writes: Iterable[Write], rows: Sequence[Row], archived: frozenset[str] = frozenset()) -> list[Write]:
    """Return acknowledged writes whose value is neither in the table nor in an archive."""
    held = {(row[NAME], bytes(row[VALUE] or b"")) for row in rows}
    return [
        write
        for write in writes
        if write.acked_s is not None and (write.key, write.value) not in held and write.key not in archived
    ]


def check(writes: Sequence[Write], watchers: Sequence[Watcher], rows: Sequence[Row]) -> Report:
    """Check everything but losses: revisions and watches."""
    report = Report()
    _revisions(writes, rows, report)
    for number, watcher in enumerate(watchers):
        _watch(number, watcher, rows, report)
    return report


def _revisions(writes: Sequence[Write], rows: Sequence[Row], report: Report) -> None:
    """No revision is given to two different changes, by any answer or in the table (I4)."""
    given: dict[int, str] = {row[ID]: row[NAME] for row in rows}
    for write in writes:
        if write.revision is None:
            continue
        holder = given.setdefault(write.revision, write.key)
        if holder != write.key:
            report.complaints.append(f"revision {write.revision} was given to {write.key} and to {holder}")


def _watch(number: int, watcher: Watcher, rows: Sequence[Row], report: Report) -> None:
    """Events come in order, once, and none is left out between a list and the next."""
    prefix = watcher.prefix
    changes = {row[ID]: row[NAME] for row in rows if row[NAME].startswith(prefix)}
    for life, listed in enumerate(watcher.lives, 1):
        revisions = [seen.change.mod_revision for seen in watcher.seen if seen.life == life]
        for before, after in itertools.pairwise(revisions):
            if after <= before:
                report.complaints.append(f"watcher {number}: revision {after} came after {before}")
        if not revisions:
            continue
        expected = {one for one in changes if listed.revision < one <= revisions[-1]}
        missed = sorted(one for one in expected - set(revisions) if one > listed.revision + FIRST_BATCH)
        if missed and life == len(watcher.lives):
            report.complaints.append(
                f"watcher {number}, life {life}: {len(missed)} events never came, first {missed[0]} {changes[missed[0]]}"
            )
    newest: dict[str, Row] = {}
    for row in rows:
        if row[NAME].startswith(prefix):
            newest[row[NAME]] = row
    truth = {name: row[ID] for name, row in newest.items() if not row[DELETED]}
    believed = watcher.believes()
    ghosts = sorted(set(believed) - set(truth))
    if ghosts:
        report.complaints.append(f"watcher {number} believes in {len(ghosts)} ghosts, first {ghosts[0]}")
    listed_at = watcher.lives[-1].revision if watcher.lives else 0
    unsure = range(listed_at, listed_at + FIRST_BATCH)
    missing = sorted(name for name in set(truth) - set(believed) if truth[name] not in unsure)
    if missing:
        report.complaints.append(f"watcher {number} does not know {len(missing)} keys, first {missing[0]}")
