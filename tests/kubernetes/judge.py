"""What clients of the API servers were told, against the table: pure functions over what is known at the end.

The rows are every revision of every object, those that a full fence has compacted too; so they say what was there at any time.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.checker import DELETED, ID, NAME
from tests.kubernetes.tellers import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.checker import Row
    from tests.kubernetes.tellers import Act, Line

LATE_S = 0.5  # between two clients that are told the same by one Kine, on a busy machine


class History:
    """The table's configmaps: the revisions of each, and which of them are deletions."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._revisions: dict[str, list[int]] = defaultdict(list)
        self._deletions: set[int] = set()
        self._changes: list[tuple[int, str]] = []
        for row in sorted(rows, key=lambda row: row[ID]):
            if row[NAME].startswith(PREFIX):
                self._revisions[row[NAME].removeprefix(PREFIX)].append(row[ID])
                self._changes.append((row[ID], row[NAME].removeprefix(PREFIX)))
                if row[DELETED]:
                    self._deletions.add(row[ID])

    def holds(self, name: str, revision: int) -> bool:
        """Whether the object has been there with this revision."""
        return revision in self._revisions.get(name, ()) and revision not in self._deletions

    def gone(self, name: str) -> bool:
        """Whether it is not there in the end."""
        return self._at(name, None) is None

    def right(self, name: str, cached: int | None, upto: int) -> bool:
        """Whether a cache that has this revision of the object, or none, is as new as `upto` and true."""
        known = self._revisions.get(name, [])
        if cached is not None:
            if not self.holds(name, cached):
                return False
            following = bisect.bisect_right(known, cached)
            return following == len(known) or known[following] > upto
        if self._at(name, upto) is None:
            return True
        return any(one in self._deletions for one in known[bisect.bisect_right(known, upto) :])

    def told(self, name: str) -> str:
        """Return the revisions of an object for a person, deletions with a minus."""
        return " ".join(f"{'-' if one in self._deletions else ''}{one}" for one in self._revisions.get(name, []))

    def first_as(self, objects: Mapping[str, int], after: int) -> int | None:
        """Return the first revision after this one at which exactly these objects were there, None if there is none."""
        truth = self.live(after)
        differing = {name for name in truth.keys() | objects.keys() if truth.get(name) != objects.get(name)}
        for revision, name in self._changes[bisect.bisect_right(self._changes, (after, "\U0010ffff")) :]:
            _put(differing, name, within=objects.get(name) != (None if revision in self._deletions else revision))
            if not differing:
                return revision
        return None

    def live(self, revision: int | None = None) -> dict[str, int]:
        """Return the objects as they were at a revision, in the end if none is given."""
        found = {name: self._at(name, revision) for name in self._revisions}
        return {name: at for name, at in found.items() if at is not None}

    def _at(self, name: str, revision: int | None) -> int | None:
        known = self._revisions.get(name, [])
        place = len(known) if revision is None else bisect.bisect_right(known, revision)
        return known[place - 1] if place and known[place - 1] not in self._deletions else None


@dataclass(frozen=True, slots=True)
class Cache:
    """What became of an informer's cache after a moment: seconds of the monotonic clock, None for never."""

    right_s: float | None  # from here on it was as new as the revision asked for, and true
    haunted_s: float | None  # the last moment at which it held something that the table does not know
    ghosts: int


def cache(lines: Sequence[Line], history: History, upto: int, since_s: float) -> Cache:
    """Play an informer's events and look when it was right for good."""
    held: dict[str, int] = {}
    wrong = {name for name in history.live(upto) if not history.right(name, None, upto)}  # an empty cache lacks these
    haunting: set[str] = set()
    seen: set[str] = set()
    right_s: float | None = None
    haunted_s: float | None = None
    reached = False
    for line in lines:
        if line["what"] not in {"added", "updated", "deleted"}:
            continue
        name, at_s = line["name"], line["at"]
        if at_s >= since_s and haunting:
            haunted_s = at_s
            seen |= haunting
        if line["what"] == "deleted":
            held.pop(name, None)
        else:
            held[name] = int(line["revision"])
        was_right = reached and not wrong
        # Where the object of that revision has been deleted since, its absence alone says nothing.
        reached = reached or int(line["revision"]) >= upto
        _put(wrong, name, within=not history.right(name, held.get(name), upto))
        _put(haunting, name, within=name in held and not history.holds(name, held[name]))
        if reached and not wrong and not was_right:
            right_s = at_s
    return Cache(
        None if wrong or not reached else max(right_s or since_s, since_s),
        float("inf") if haunting else haunted_s,
        len(seen | haunting),
    )


def _put(names: set[str], name: str, *, within: bool) -> None:
    if within:
        names.add(name)
    else:
        names.discard(name)


def believes(lines: Iterable[Line]) -> dict[str, int]:
    """Return what an informer's cache holds in the end."""
    held: dict[str, int] = {}
    for line in lines:
        if line["what"] in {"added", "updated"}:
            held[line["name"]] = int(line["revision"])
        elif line["what"] == "deleted":
            held.pop(line["name"], None)
    return held


@dataclass(frozen=True, slots=True)
class Lists:
    """What became of the answers to lists: what was wrong and when, and how many named a revision that was too old."""

    wrong: list[tuple[float, str]]
    old_names: int


def lists(lines: Iterable[Line], history: History, first: int, since_s: float, told_s: Mapping[int, float]) -> Lists:
    """Judge each answer to a list after a moment: it is the table as it was at the revision that it names.

    An answer from before the fence, which names a revision below `first`, is judged only by what the table has never held.
    Kine lets an API server's cache fall back behind what it has told it (docs/facts.md): an answer then names an older
    revision than it has the objects of. So it counts as right, and is counted apart, if it is exactly the table at a later
    revision, and the Kine of that API server had told that one by then: `told_s` is when, to another client.
    """
    wrong, old_names = [], 0
    for line in lines:
        if line["what"] != "listed" or line["at"] < since_s:
            continue
        objects, named = {name: int(one) for name, one in line["objects"].items()}, int(line["revision"])
        ghosts = sorted(name for name, revision in objects.items() if not history.holds(name, revision))
        if ghosts:
            wrong.append((line["at"], f"{len(ghosts)} ghosts at revision {named}, first {ghosts[0]}"))
        elif named >= first and (differing := sorted(set(history.live(named).items()) ^ set(objects.items()))):
            really = history.first_as(objects, named)
            if really is not None and told_s.get(really, float("inf")) <= line["at"] + LATE_S:
                old_names += 1
                continue
            name = differing[0][0]
            what = f"first {name}: {objects.get(name)} for {history.told(name)}"
            wrong.append((line["at"], f"{len(differing)} differ at revision {named}, {what}"))
    return Lists(wrong, old_names)


def lost(acts: Iterable[Act], history: History, archived: frozenset[str] = frozenset()) -> list[str]:
    """Return each acknowledged request that neither the table nor an archive knows of."""
    found = []
    for act in acts:
        if act.acked_s is None or PREFIX + act.name in archived:
            continue
        if act.kind == "delete":
            if not history.gone(act.name):
                found.append(f"delete of {act.name}")
        elif act.revision is None or not history.holds(act.name, act.revision):
            found.append(f"{act.kind} of {act.name} as {act.revision}")
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """Who believed to hold the lease, where, from when to when; the end is infinite while it does."""

    node: int
    identity: str
    since_s: float
    until_s: float


def holders(lines: Iterable[Line], node: int) -> list[Held]:
    """Return the times for which each candidate of a node believed to hold."""
    began: dict[str, float] = {}
    found = []
    for line in lines:
        if line["what"] == "started":
            began[line["identity"]] = line["at"]
        elif line["what"] == "stopped" and line["identity"] in began:
            found.append(Held(node, line["identity"], began.pop(line["identity"]), line["at"]))
    return found + [Held(node, identity, since_s, float("inf")) for identity, since_s in began.items()]


def both_held(held: Sequence[Held]) -> list[tuple[Held, Held]]:
    """Return each two that believed to hold at the same time."""
    return [
        (one, other)
        for one, other in itertools.combinations(sorted(held, key=lambda each: each.since_s), 2)
        if other.since_s < one.until_s
    ]


def etcd_watch(lines: Sequence[Line], rows: Sequence[Row], *, first_batch: int) -> list[str]:
    """Return what was wrong with an etcd client's watch: events in order, once, and none left out between two lists.

    A list is only made after a compaction was reported, so every hole is told. `first_batch` revisions after a list are
    excused from completeness (see `lab.checker.FIRST_BATCH`).
    """
    changes = {row[ID]: row[NAME] for row in rows if row[NAME].startswith(PREFIX)}
    found: list[str] = []
    listed, last, told = -1, -1, True
    seen: set[int] = set()
    lives = 0
    for line in lines:
        if line["what"] == "compacted":
            told = True
        elif line["what"] == "listed":
            if not told:
                found.append(f"listed at {line['revision']} without having been told of a compaction")
            told, listed, last = False, line["revision"], line["revision"]
            seen = set()
            lives += 1
        elif line["what"] == "event":
            if line["revision"] <= last:
                found.append(f"revision {line['revision']} came after {last}")
            last = line["revision"]
            seen.add(last)
    # Only what came after the last list can be asked for: what was before it may be of a history that was given up.
    missed = sorted(one for one in changes if listed + first_batch < one and one not in seen)
    if missed:
        found.append(f"{len(missed)} events after the last list never came, first {missed[0]} {changes[missed[0]]}")
    return found


def etcd_believes(lines: Iterable[Line]) -> dict[str, int]:
    """Return what an etcd client believes in the end, by its last list and the events after it."""
    held: dict[str, int] = {}
    for line in lines:
        if line["what"] == "listed":
            held = dict(line["keys"])
        elif line["what"] == "event":
            if line["deleted"]:
                held.pop(line["key"], None)
            else:
                held[line["key"]] = line["revision"]
    return {key.removeprefix(PREFIX): revision for key, revision in held.items()}
