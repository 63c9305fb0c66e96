"""A switchover at a time: it survives restarts of the supervisor, and is left out where its time has long passed."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from failover import durable_file
from failover.core.observation import Request
from failover.ports import PortError

if TYPE_CHECKING:
    from pathlib import Path

    from failover.node.loop import Node

AHEAD_MAX_S = 30 * 86400
LATE_MAX_S = 60.0  # a supervisor that was down over the time does it only so much later
LOOK_S = 0.5


class Schedule:
    """The one switchover that is to come, on this node, in a file of its own."""

    def __init__(self, node: Node, path: Path) -> None:
        self._node = node
        self._path = path
        self.at_us: int | None = self._load()

    def set(self, at_us: int) -> None:
        """Have it done at that time, microseconds since the epoch. Raises PortError where that is no time to come."""
        ahead_s = (at_us - self._node.ports.clock.wall_us()) / 1e6
        if not 0 < ahead_s <= AHEAD_MAX_S:
            raise PortError(
                f"a switchover can be planned for the next {AHEAD_MAX_S // 86400} days, and not for the past"
            )
        self._store(at_us)
        self._node.ports.history.append("scheduled", "a switchover is planned", switchover_at_us=at_us)

    def clear(self) -> bool:
        """Drop it. Returns whether there was one."""
        there = self.at_us is not None
        self._store(None)
        if there:
            self._node.ports.history.append("scheduled", "the planned switchover is called off")
        return there

    async def run(self) -> None:
        """Do it when its time has come: on a leader as asked for; on any other node it has nothing to give."""
        clock, history = self._node.ports.clock, self._node.ports.history
        while True:
            await clock.sleep(self._node.senses.pause_s(LOOK_S))
            if self.at_us is None or clock.wall_us() < self.at_us:
                continue
            late_s = (clock.wall_us() - self.at_us) / 1e6
            with contextlib.suppress(PortError):  # a disk that fails must not have it done again and again
                self._store(None)
            self.at_us = None
            why = f"its time passed {late_s:.0f} s ago" if late_s > LATE_MAX_S else self._node.ask(Request.SWITCHOVER)
            if why is not None:
                history.append("refused", f"the planned switchover is not done: {why}")

    def _load(self) -> int | None:
        try:
            at_us = json.loads(self._path.read_text(encoding="utf-8"))["switchover_at_us"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return at_us if isinstance(at_us, int) else None

    def _store(self, at_us: int | None) -> None:
        """Make it durable, then believe it."""
        try:
            if at_us is None:
                self._path.unlink(missing_ok=True)
            else:
                durable_file.replace(self._path, json.dumps({"switchover_at_us": at_us}).encode())
        except OSError as error:
            raise PortError(f"{self._path} cannot be written: {error.strerror}; make room or mend the disk") from None
        self.at_us = at_us
