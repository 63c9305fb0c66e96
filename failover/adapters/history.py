"""A bounded, durable list of events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from failover.ports import Clock

log = structlog.get_logger()

EVENTS_KEPT = 1000  # in memory
BYTES_A_FILE = 4 << 20  # two files are kept
BYTES_AN_EVENT = 16 << 10  # a longer one loses its evidence
LEVELS = {
    "plan_failed": logging.WARNING, "split": logging.WARNING, "slot_dropped": logging.WARNING,
    "differs": logging.ERROR,
}  # fmt: skip
LEFT_OUT = ("id", "at_us", "kind")  # of a line in the log, which has its own
WAITING_MAX = 10_000  # events on their way to a disk that stalls


class HistoryFile:
    """Implements `ports.History`. A thread of its own writes: a disk that stalls must not stop the loop."""

    def __init__(self, path: Path, clock: Clock, *, kept: int = EVENTS_KEPT, bytes_a_file: int = BYTES_A_FILE) -> None:
        self._path = path
        self._kept = kept
        self._bytes_a_file = bytes_a_file
        self._clock = clock
        self._events: deque[dict[str, object]] = deque(self._load(), maxlen=kept)
        self._last = _id(self._events[-1]) if self._events else 0
        self._more = asyncio.Event()
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MAX)
        self._writer = threading.Thread(target=self._write_on, name="history", daemon=True)
        self._writer.start()

    def append(self, kind: str, message: str, **evidence: object) -> None:
        """Add an event, and log it; its id is the one before it plus one, over restarts too."""
        self._last += 1
        event: dict[str, object] = {
            "id": self._last, "at_us": self._clock.wall_us(), "kind": kind, "message": message,
            **{name: value for name, value in evidence.items() if value is not None},
        }  # fmt: skip
        line = json.dumps(event, default=str)
        if len(line) > BYTES_AN_EVENT:
            event = {key: event[key] for key in ("id", "at_us", "kind")} | {"message": message[: BYTES_AN_EVENT // 2]}
            line = json.dumps(event)
        self._events.append(event)
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(line.encode() + b"\n")
        log.log(LEVELS.get(kind, logging.INFO), kind, **{name: event[name] for name in event if name not in LEFT_OUT})
        told, self._more = self._more, asyncio.Event()
        told.set()

    def newest(self, count: int) -> list[dict[str, object]]:
        """Return the newest events, oldest first."""
        return list(self._events)[-count:] if count > 0 else []

    async def newer(self, than: int, wait_s: float) -> list[dict[str, object]]:
        """Return the kept events with a higher id, oldest first; wait for one at most so long."""
        if self._last <= than:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._more.wait()
        return [event for event in self._events if _id(event) > than]

    def close(self) -> None:
        """Write what is waiting, for at most two seconds."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._writer.join(timeout=2.0)

    def _load(self) -> list[dict[str, object]]:
        events: list[dict[str, object]] = []
        for path in (self._path.with_suffix(".1"), self._path):
            with contextlib.suppress(OSError):
                for line in path.read_bytes().splitlines():
                    with contextlib.suppress(ValueError):  # the last line of a crash
                        event = json.loads(line)
                        if isinstance(event, dict):
                            # Ids rise, whatever the file says: readers resume by them.
                            before = _id(events[-1]) if events else 0
                            events.append({**event, "id": max(_id(event), before + 1)})
        return events[-self._kept :]

    def _write_on(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self._path.exists() and self._path.stat().st_size > self._bytes_a_file:
                    self._path.rename(self._path.with_suffix(".1"))
                with self._path.open("ab") as file:
                    file.write(line)
            except OSError as error:
                log.warning("history cannot be written", path=str(self._path), error=error.strerror)


def _id(event: dict[str, object]) -> int:
    number = event.get("id", 0)
    return number if isinstance(number, int) else 0
