"""Keys under a lease: the worker in each Kine that deletes those whose time has ended, and clients that renew theirs.

A lease is nothing but seconds in a row; it is renewed by writing the key again (docs/facts.md). Every Kine counts by itself,
from when it saw the newest row, and anew when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.rows import MARK, Row, live, read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.watch import Watch
    from tests.simulation.world import Postgres, World

LEASE_S = 2  # longer than a failover takes
RENEWED_S = 0.4
RETRY_S = 0.25  # as pkg/ttl/ttl.go
LEFT_EVERY = 4  # renewals, and a key is left to end by itself


@dataclass(slots=True)
class Worker:
    """What one node's Kine knows of leases."""

    node: int
    connected: tuple[int, int] = (-1, -1)
    at: int = 0
    ends: dict[str, tuple[int, float]] = field(default_factory=dict)  # key -> revision that was seen, when it ends

    def look(self, watch: Watch, postgres: Postgres, now_s: float) -> list[tuple[str, int]]:
        """Take in what this Kine has polled, which is what a watch through it has seen. Returns the keys that have ended."""
        if self.connected != watch.connected:
            self.connected, self.ends = watch.connected, {}
            seen = {id_: text for id_, text in postgres.rows.items() if id_ <= watch.at}
            for id_ in live(seen).values():
                self._count(seen[id_], id_, now_s)
        else:
            for id_ in range(self.at + 1, watch.at + 1):
                if id_ in watch.known:
                    self._count(watch.known[id_], id_, now_s)
        self.at = watch.at
        ended = [(name, id_) for name, (id_, end_s) in self.ends.items() if end_s <= now_s]
        for name, id_ in ended:
            self.ends[name] = (id_, now_s + RETRY_S)
        return ended

    def _count(self, text: str, id_: int, now_s: float) -> None:
        row = read(text)
        if row.lease and not row.deleted:
            self.ends[row.name] = (id_, now_s + row.lease)

    async def end(self, world: World, name: str, id_: int) -> None:
        """Delete a key, if nobody has written it since."""
        postgres = world.database_of(self.node)
        row = Row(name, f"ended by node {self.node}", id_, deleted=True)
        done = await world.write(self.node, row.text())
        lost = postgres is not None and postgres.heads.get(name) != id_
        if (done is not None or lost) and self.ends.get(name, (0, 0.0))[0] == id_:
            del self.ends[name]


@dataclass(slots=True)
class Holder:
    """A client that keeps one key by writing it again in time, and leaves others to end by themselves."""

    node: int
    number: int = 0
    known: int | None = None
    sent_s: float = float("-inf")  # when the newest acknowledged renewal was sent
    sure: bool = False  # it was not in a split
    broken: list[str] = field(default_factory=list)

    def next(self, world: World) -> Row | None:
        """Return what to write now, None while nobody answers."""
        self.number += 1
        if not self.number % LEFT_EVERY:
            return Row(f"/n{self.node}/left/{self.number}", str(self.number), lease=LEASE_S)
        name = f"/n{self.node}/held"
        if self.known is None:
            postgres = world.database_of(self.node)
            if postgres is None:
                return None
            id_ = postgres.heads.get(name, 0)
            gone = not id_ or read(postgres.rows[id_]).deleted
            since_s = world.now_s() - self.sent_s
            if gone and self.sure and since_s < LEASE_S:
                self.broken.append(f"{name} has ended {since_s:.3f} s after it was renewed for {LEASE_S} s")
            self.known = id_
        return Row(name, str(self.number), self.known, lease=LEASE_S)

    def learn(self, row: Row, id_: int | None, sent_s: float, *, split: bool) -> None:
        """Take in what came of a write."""
        if not row.name.endswith("/held"):
            return
        self.known = id_
        if id_ is not None:
            self.sent_s, self.sure = sent_s, not split


def left(postgres: Postgres, of: Iterable[str] | None = None) -> list[str]:
    """Return the keys under a lease that are there, those of some or of all."""
    names = postgres.heads if of is None else [name for name in of if name in postgres.heads]
    newest = ((name, postgres.rows[postgres.heads[name]]) for name in names)
    return [name for name, text in newest if not text.endswith(f"{MARK}0") and read(text).lease]
