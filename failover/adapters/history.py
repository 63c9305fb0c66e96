"""A bounded, durable list of events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from failover.ports import Clock

log = structlog.get_logger()

EVENTS_KEPT = 1000  # in memory
BYTES_A_FILE = 4 << 20  # two files are kept
FOLLOWERS_MAX = 32
WAITING_MAX = 10_000  # events on their way to a disk that stalls


class HistoryFile:
    """Implements `ports.History`. A thread of its own writes: a disk that stalls must not stop the loop."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._events: deque[dict[str, object]] = deque(self._load(), maxlen=EVENTS_KEPT)
        self._followers: set[asyncio.Queue[dict[str, object]]] = set()
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MAX)
        self._writer = threading.Thread(target=self._write_on, name="history", daemon=True)
        self._writer.start()

    def append(self, kind: str, message: str, **evidence: object) -> None:
        """Add an event."""
        event: dict[str, object] = {
            "at_us": self._clock.wall_us(), "kind": kind, "message": message,
            **{name: value for name, value in evidence.items() if value is not None},
        }  # fmt: skip
        self._events.append(event)
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(json.dumps(event, default=str).encode() + b"\n")
        for follower in self._followers:
            with contextlib.suppress(asyncio.QueueFull):
                follower.put_nowait(event)

    def newest(self, count: int) -> list[dict[str, object]]:
        """Return the newest events, oldest first."""
        return list(self._events)[-count:] if count > 0 else []

    async def follow(self) -> AsyncIterator[dict[str, object]]:
        """Yield events as they come, from now on; one that is read too slowly loses some."""
        if len(self._followers) >= FOLLOWERS_MAX:
            return
        mine: asyncio.Queue[dict[str, object]] = asyncio.Queue(EVENTS_KEPT)
        self._followers.add(mine)
        try:
            while True:
                yield await mine.get()
        finally:
            self._followers.discard(mine)

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
                            events.append(event)
        return events[-EVENTS_KEPT:]

    def _write_on(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self._path.exists() and self._path.stat().st_size > BYTES_A_FILE:
                    self._path.rename(self._path.with_suffix(".1"))
                with self._path.open("ab") as file:
                    file.write(line)
            except OSError as error:
                log.warning("history cannot be written", path=str(self._path), error=error.strerror)
