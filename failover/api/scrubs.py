"""When leader and follower are compared, and what came of it: asked for by a person, or when it is due."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import structlog

from failover import durable_file
from failover.core.evidence import Peer
from failover.core.model import Role
from failover.ports import PortError

if TYPE_CHECKING:
    from pathlib import Path

    from failover.node.loop import Node
    from failover.ports import Scrub, ScrubReport

log = structlog.get_logger()

FILE = "scrub.json"
LOOK_S = 0.5
FIRST_S = 600.0  # a node that has never compared begins so long after its start
AGAIN_S = 600.0  # after one that did not get through, or that found something
SHARE = 0.2  # of the time in which Postgres is asked, where nobody waits for it
NAMED_MAX = 20  # rows named in an event
REMEDY = "run `kine-failover resync` on the follower"


class Scrubs:
    """The comparisons of one node: the follower has them done every `every_s`, 0 for only when somebody asks."""

    def __init__(self, node: Node, scrub: Scrub | None, every_s: float, path: Path) -> None:
        self._node = node
        self._scrub = scrub
        self._every_s = every_s
        self._path = path
        self._asked = asyncio.Event()
        self._share = SHARE
        self._not_before_s = node.ports.clock.now_s()
        self.running = False
        self.error: str | None = None  # why the newest one did not get through
        self.newest = read(path)

    def ask(self, share: float) -> None:
        """Have both compared now. Raises PortError where that cannot be."""
        if self._scrub is None:
            raise PortError("this supervisor does not compare")
        why = self._refusal()
        if why is not None:
            raise PortError(why)
        if self.running or self._asked.is_set():
            raise PortError("a scrub is under way already; `kine-failover status` says when it is through")
        self._share = share
        self._asked.set()

    def told(self) -> dict[str, Any]:
        """Return what is known, for the status."""
        return {"running": self.running or self._asked.is_set(), "error": self.error, "newest": self.newest}

    async def run(self) -> None:
        """Compare when it is due or asked for, until cancelled."""
        clock = self._node.ports.clock
        while self._scrub is not None:
            await clock.sleep_or(self._asked, self._node.senses.pause_s(LOOK_S))
            asked = self._asked.is_set()
            if asked or (self._due(self._every_s) and self._refusal() is None):
                self.running = True
                self._asked.clear()
                try:
                    await self._compare(self._scrub, self._share if asked else SHARE)
                finally:
                    self.running = False

    def _refusal(self) -> str | None:
        cell, memory = self._node.cell, self._node.memory
        view = cell.peer if cell is not None else None
        if (memory.role, view) not in ((Role.LEADER, Peer.FOLLOWS), (Role.FOLLOWER, Peer.LEADS)):
            return f"this node is {memory.role} and its peer {view}: a scrub needs one that leads and one that follows"
        return None

    def _due(self, every_s: float) -> bool:
        """The follower compares; a leader only to see whether what it found itself has been mended."""
        clock, found = self._node.ports.clock, self.newest
        if every_s <= 0 or clock.now_s() < self._not_before_s:
            return False
        if found is None:
            return self._node.memory.role is Role.FOLLOWER and (
                clock.now_s() - self._node.memory.started_s > min(FIRST_S, every_s)
            )
        age_s = (clock.wall_us() - found["at_us"]) / 1e6
        if not found["ok"]:
            return bool(age_s > min(AGAIN_S, every_s))
        return self._node.memory.role is Role.FOLLOWER and not 0 <= age_s <= every_s

    async def _compare(self, scrub: Scrub, share: float) -> None:
        node = self._node
        try:
            report = await scrub.scrub(leads=node.memory.role is Role.LEADER, share=share)
        except PortError as error:
            self.error = str(error)
            self._not_before_s = node.ports.clock.now_s() + min(AGAIN_S, self._every_s)
            log.warning("leader and follower were not compared", error=self.error)
            return
        self.error = None
        self.newest = result(report, node.ports.clock.wall_us())
        self._tell(report)
        try:
            await asyncio.to_thread(durable_file.replace, self._path, json.dumps(self.newest).encode())
        except OSError as error:
            log.warning("the result of a scrub cannot be kept", path=str(self._path), error=error.strerror)

    def _tell(self, report: ScrubReport) -> None:
        history = self._node.ports.history
        if not report.different:
            history.append("scrubbed", f"leader and follower hold the same {report.rows} rows", seconds=report.seconds)
            return
        history.append(
            "differs", f"{report.different} rows differ between leader and follower; {REMEDY}",
            missing=report.missing[:NAMED_MAX], extra=report.extra[:NAMED_MAX], changed=report.changed[:NAMED_MAX],
        )  # fmt: skip


def result(report: ScrubReport, at_us: int) -> dict[str, Any]:
    """Return what is kept of a scrub."""
    return {
        "at_us": at_us, "ok": not report.different, "rows": report.rows, "different": report.different,
        "missing": list(report.missing[:NAMED_MAX]), "extra": list(report.extra[:NAMED_MAX]),
        "changed": list(report.changed[:NAMED_MAX]), "unsettled": report.unsettled,
        "compared_again": report.compared_again, "seconds": report.seconds,
    }  # fmt: skip


def read(path: Path) -> dict[str, Any] | None:
    """Return what was kept; None where there is nothing, or nothing that can be used."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        whole = all(type(told[key]) is int for key in ("at_us", "rows", "different")) and type(told["ok"]) is bool
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(told) if whole else None
