"""What each supervisor wrote into its history, as it comes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a node. The time is when it was read, seconds since the beginning: the node's clock may be a fault."""

    at_s: float
    node: int
    kind: str
    message: str


class EventTail:
    """Reads what is added to a history file, from now on. The file may be rotated, and shrink with a loss of power."""

    def __init__(self, node: int, path: Path) -> None:
        self._node = node
        self._path = path
        self._inode, self._read = 0, 0
        try:
            told = path.stat()
            self._inode, self._read = told.st_ino, told.st_size
        except OSError:
            pass  # none yet: all of it will be new

    def new(self, at_s: float) -> list[Event]:
        """Return the events added since the last call; none while the disk is away."""
        try:
            told = self._path.stat()
            if told.st_ino != self._inode:
                self._inode, self._read = told.st_ino, 0
            self._read = min(self._read, told.st_size)
            if told.st_size == self._read:
                return []
            with self._path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        events = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # the rest of a line that a loss of power cut
                continue
            events.append(Event(at_s, self._node, str(event.get("kind")), str(event.get("message"))))
        return events
