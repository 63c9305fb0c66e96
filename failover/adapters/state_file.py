"""The state file: what this node has promised, durable before it is said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from failover import durable_file
from failover.core.model import Durable
from failover.ports import PortError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
BYTES_MAX = 1 << 20


class _Version(msgspec.Struct):
    v: int


class _File(msgspec.Struct):
    v: int
    durable: Durable


class StateFile:
    """Implements `ports.StateStore`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = asyncio.Lock()

    def load(self) -> Durable | None:
        """Return what was saved last. Raises PortError when the file is damaged: a promise may be in it."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PortError(f"{self.path} cannot be read: {error.strerror}") from None
        try:
            if msgspec.json.decode(raw[:BYTES_MAX], type=_Version).v != VERSION:
                raise PortError(f"{self.path} is of another version; install the version that wrote it")
            return msgspec.json.decode(raw[:BYTES_MAX], type=_File).durable
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise PortError(
                f"{self.path} is damaged; restore it, or make this node a new one: move the file away and run "
                "`kine-failover join` here while the peer leads"
            ) from None

    async def save(self, durable: Durable) -> None:
        """Write, fsync, rename, fsync the folder; returns when it is durable. Raises PortError when it is not."""
        async with self._lock:
            await asyncio.to_thread(self.write, durable)

    def write(self, durable: Durable) -> None:
        """As `save`, and waiting for the disk."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable_file.replace(self.path, msgspec.json.encode(_File(VERSION, durable)))
        except OSError as error:
            raise PortError(f"{self.path} cannot be written: {error.strerror}; make room or mend the disk") from None
