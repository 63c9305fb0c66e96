"""Whether what clients saw of one key can be explained by one order of operations that respects real time.

Every change of a key has a revision, and every value is written once, so the order of the changes is known: it is the
order of their revisions. What is left to ask is whether real time contradicts it, and that is exact: operations sorted by
(revision, writes before the reads of it) are a legal history, and it is a linearization if and only if no operation ended
before another one began that comes earlier in it. No search is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.contended import LIST_MAX, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Placed:
    """An operation with its place in the order of changes."""

    place: tuple[int, int]
    began_s: float
    ended_s: float
    operation: Operation


def complaints(operations: Iterable[Operation], written: Mapping[int, tuple[str, bytes]]) -> list[str]:
    """Say what contradicts, a line each. `written` is every change that there was: revision -> key and value."""
    by_key: dict[str, list[Operation]] = {}
    for one in operations:
        by_key.setdefault(one.key, []).append(one)
    return [line for key in sorted(by_key) for line in _of_key(key, by_key[key], written)]


def _of_key(key: str, operations: Sequence[Operation], written: Mapping[int, tuple[str, bytes]]) -> list[str]:
    revisions = {value: revision for revision, (name, value) in written.items() if name == key}
    said: list[str] = []
    placed: list[Placed] = []
    for one in operations:
        revision = revisions.get(one.value) if one.value else 0
        if revision is None:
            if one.outcome is Outcome.DONE:
                what = "was acknowledged and is not there" if one.is_write else "was read and never written"
                said.append(f"{key}: {one.value[-40:]!r} of {one.client} {what}")
            continue
        if one.outcome is Outcome.DONE and one.revision != revision:
            said.append(f"{key}: {one.client} was told revision {one.revision} of what has {revision}")
            continue
        if one.is_write:
            # Without an answer it happened at any time after it was asked for, or after the answer "no" as well.
            ended_s = one.ended_s if one.outcome is Outcome.DONE and one.ended_s is not None else INFINITY
            placed.append(Placed((revision, 0), one.began_s, ended_s, one))
        elif one.ended_s is not None:
            placed.append(Placed((revision, 1), one.began_s, one.ended_s, one))
    return said + _against_time(key, placed)


def _against_time(key: str, placed: list[Placed]) -> list[str]:
    """Go through them in the order of their places, backwards: none may begin after a later one has ended."""
    said = []
    placed.sort(key=lambda one: one.place)
    soonest: Placed | None = None  # of all with a later place, the one that ended first
    index = len(placed)
    while index:
        place, group = placed[index - 1].place, []
        while index and placed[index - 1].place == place:
            index -= 1
            group.append(placed[index])
        for one in group:
            gap_s = one.began_s - soonest.ended_s if soonest is not None else 0.0
            if soonest is not None and gap_s > 0:
                said += [
                    f"{key}: {_name(one)} began {gap_s:.3f} s after {_name(soonest)} had ended, and did not see it"
                ]
        for one in group:
            if soonest is None or one.ended_s < soonest.ended_s:
                soonest = one
    return said


def _name(placed: Placed) -> str:
    what = "the write" if placed.operation.is_write else "the read"
    return f"{what} of revision {placed.place[0]} through {placed.operation.client}"


def vanished(operations: Iterable[Operation], kept: frozenset[tuple[str, bytes]]) -> list[str]:
    """Say which values clients were told to be there, written or read, and are kept nowhere: a line for each.

    `kept` is key and value of each change in the table and in the archives. It is what holds after a split too, when
    each side went on in an order of its own.
    """
    said = []
    for one in operations:
        if one.outcome is Outcome.DONE and one.value and (one.key, one.value) not in kept:
            what = "was acknowledged" if one.is_write else "was read"
            said.append(f"{one.key}: {one.value[-40:]!r} {what} through {one.client} and is in no table and no archive")
    return said


def broken_links(written: Mapping[int, tuple[str, bytes, int]]) -> list[str]:
    """Each change of a key must be made over the one before it, and count or append just once.

    `written` is revision -> key, value, revision that it replaced.
    """
    said = []
    newest: dict[str, tuple[int, bytes]] = {}
    for revision in sorted(written):
        key, value, before = written[revision]
        last, old = newest.get(key, (0, b""))
        if last and before != last:
            said.append(f"{key}: revision {revision} replaced {before}, and the one before it is {last}")
        elif key.endswith("/chain") and old and int(value.split()[0]) != int(old.split()[0]) + 1:
            said.append(f"{key}: revision {revision} counts {value[:20]!r} after {old[:20]!r}")
        elif key.endswith("/list") and old and not _appends(old, value):
            said.append(f"{key}: revision {revision} does not append one element to the list of {last}")
        newest[key] = (revision, value)
    return said


def _appends(old: bytes, new: bytes) -> bool:
    before, after = old.split(), new.split()
    return len(after) == len(set(after)) and after[:-1] == before[-LIST_MAX:]
