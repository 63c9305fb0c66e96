"""A client that watches everything through one Kine: what it believes, and what is wrong with that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.rows import live
from tests.simulation.world import Change

if TYPE_CHECKING:
    from tests.simulation.rows import Ledger
    from tests.simulation.world import Kine, Postgres

HOLE_S = 0.05  # Kine waits so long for an id that is missing before it fills it
HOLES_FILLED = 3  # at one poll: one hole costs Kine a few milliseconds


@dataclass(slots=True)
class Watch:
    """What one client believes: it lists, watches, resumes at the next Kine, and lists anew where that says so."""

    name: str
    at: int = 0  # everything up to here has been seen
    base: int = 0  # the list's revision
    connected: tuple[int, int] = (-1, -1)  # the node whose Kine it watches through, and that one's run
    known: dict[int, str] = field(default_factory=dict)
    lists: int = 0
    hole_s: float | None = None  # since when the next id has been missing

    def follow(self, node: int, kine: Kine, postgres: Postgres, now_s: float) -> None:
        """Look once through `kine`, which is the node's.

        Only a watch that begins is told of a compaction. One that goes on is told what is there after the last poll, as Kine's
        poll loop does not ask for it.
        """
        if self.connected != (node, kine.run):
            self.connected = (node, kine.run)
            if self.at < postgres.compacted or not self.lists:
                self._list(postgres)
        hidden, newest, filled = postgres.hidden(), postgres.newest(), 0
        while self.at < newest and self.at + 1 not in hidden:
            if self.at + 1 in postgres.rows:
                self.hole_s = None if not filled else self.hole_s
            else:
                self.hole_s = now_s if self.hole_s is None else self.hole_s
                if now_s - self.hole_s < HOLE_S or filled == HOLES_FILLED:
                    break
                postgres.commit(Change(self.at + 1, f"gap-{self.at + 1}"))
                filled += 1
            self.at += 1
            self.known[self.at] = postgres.rows[self.at]
        # What this Kine has answered with: it knows of nothing that a client saw elsewhere.
        kine.revision = max(kine.revision, min(self.at, newest))
        kine.told[self.name] = self.at

    def _list(self, postgres: Postgres) -> None:
        """Commits are in the order of revisions while clients come to a new Kine: nothing of before is committed later."""
        under_way = (id_ - 1 for id_ in postgres.under_way if id_ > postgres.compacted)
        self.base = self.at = min((postgres.newest(), *under_way))
        seen = {id_: text for id_, text in postgres.rows.items() if id_ <= self.at}
        self.known = {id_: seen[id_] for id_ in live(seen).values()}
        self.lists += 1

    def complaint(self, rows: dict[int, str], ledger: Ledger) -> str | None:
        """Return what this client believes wrongly, None when it knows just what is there up to where it is."""
        ghosts = {
            id_: text for id_, text in self.known.items()
            if rows.get(id_) != text and (id_ in rows or not ledger.has(text))
        }  # fmt: skip
        if ghosts:
            return f"believes in {dict(list(ghosts.items())[:3])}"
        missed = [id_ for id_ in rows if self.base < id_ <= self.at and id_ not in self.known]
        if missed:
            return f"never saw {missed[:3]}"
        mine, true = live(self.known), live({id_: text for id_, text in rows.items() if id_ <= self.at})
        wrong = sorted(name for name in mine.keys() | true.keys() if mine.get(name) != true.get(name))
        told = [f"{name} at {mine.get(name)} for {true.get(name)}" for name in wrong[:3]]
        return f"believes in what is gone, or not in what is there: {told}" if wrong else None
