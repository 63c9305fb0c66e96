"""What a client writes: keys that stay, keys that are changed and deleted by compare-and-swap, and what it reads between."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.rows import Row, read

if TYPE_CHECKING:
    import random

    from tests.simulation.world import World

REGISTERS = 5  # keys that are changed again and again
CHANGED = 0.35  # share of writes that change one of them
DELETED = 0.1  # share of those that delete it
DROPPED = 0.08  # share of writes that delete a key that was created once


@dataclass(slots=True)
class Writer:
    """One client. It knows of each register the newest revision that it was told, or reads when it does not."""

    name: str
    drawn: random.Random
    moves: bool = False  # between the nodes
    told: dict[str, int] = field(default_factory=dict)  # the newest acknowledged revision of each register
    known: dict[str, int] = field(default_factory=dict)  # what the next change is to be made over
    created: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=200))
    stale: list[str] = field(default_factory=list)  # reads that showed less than an acknowledgement before
    number: int = 0

    def next(self, world: World, node: int) -> Row:
        """Return what to write next through this node's Kine."""
        self.number += 1
        share = self.drawn.random()
        if share < CHANGED:
            name = f"{self.name}/r{self.drawn.randrange(REGISTERS)}"
            prev = self.known.get(name)
            if prev is None:
                prev = self._read(world, node, name)
            if prev is not None:
                gone = bool(prev) and name in self.known and self.drawn.random() < DELETED
                if gone:
                    self.told.pop(name, None)  # whatever it is told: what says that it is gone may be compacted
                return Row(name, str(self.number), prev, gone)
        elif share < CHANGED + DROPPED and self.created:
            name, prev = self.created.popleft()
            return Row(name, str(self.number), prev, deleted=True)
        return Row(f"{self.name}/{self.number}")

    def _read(self, world: World, node: int, name: str) -> int | None:
        """Return the newest revision of a key, 0 where there is none, None while nobody answers."""
        postgres = world.database_of(node)
        if postgres is None:
            return None
        newest, hidden = postgres.heads.get(name, 0), postgres.hidden()
        while newest in hidden:
            newest = read(postgres.rows[newest]).prev
        # An old leader that does not know yet that another one leads shows what it has: who moves to it reads that.
        before = self.moves and world.deposed(postgres)
        if newest < self.told.get(name, 0) and not before:
            self.stale.append(f"{name} was acknowledged at {self.told[name]} and read at {newest}")
        return newest

    def learn(self, row: Row, id_: int | None, *, split: bool) -> None:
        """Take in what came of a write; what a side of a split acknowledges may be read no more after it."""
        self.known.pop(row.name, None)
        if id_ is None:
            return
        if row.value:
            if not row.deleted:
                self.known[row.name] = id_
                if not split:
                    self.told[row.name] = id_
        else:
            self.created.append((row.name, id_))
