"""Archives of what only one side of a split, or a node that was away, had: JSON lines, compressed, durable.

The first line is a header. Then one line for each object that differs (`object`), and one for each row of the kine table
that only this node had (`row`). Values are base64; times are microseconds since the epoch on the clock of the node that
took the write.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failover.durable_file import sync_folder
from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FORMAT = 1
SUFFIX = ".jsonl.gz"
LEVEL = 3  # a rejoin waits for it: three times as fast as the default, and a tenth larger


@dataclass(frozen=True, slots=True)
class Limits:
    """What the folder may hold; the newest archive is always kept."""

    bytes_total: int = 1 << 30
    count: int = 100


@dataclass(frozen=True, slots=True)
class Archived:
    """One archive as it is listed."""

    name: str
    header: Mapping[str, Any]
    bytes: int


class Archive:
    """A folder of archives."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self._limits = limits or Limits()

    def write(self, name: str, header: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> str:
        """Write an archive; durable when this returns its name. An archive of this name is replaced.

        Raises PortError where it does not fit: nothing may be deleted then (R2).
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self.folder / f"{name}{SUFFIX}"
        partial = target.with_suffix(".partial")
        try:
            with partial.open("wb") as raw:
                partial.chmod(0o600)
                with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=LEVEL, mtime=0) as packed:
                    for line in ({"type": "header", "format": FORMAT, **header}, *lines):
                        packed.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                raw.flush()
                os.fsync(raw.fileno())
            partial.rename(target)
            sync_folder(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise PortError(
                f"the archive {target} cannot be written: {error}; make room, nothing was dropped"
            ) from None
        self._prune(target)
        return target.name

    def names(self) -> list[str]:
        """Return the names of all archives, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.name.endswith(SUFFIX)]
        return [path.name for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))]

    def list(self) -> list[Archived]:
        """Return all archives with their headers, oldest first."""
        return [Archived(name, next(self.read(name)), (self.folder / name).stat().st_size) for name in self.names()]

    def sizes(self) -> tuple[int, ...]:
        """Return the size of every archive, bytes."""
        return tuple((self.folder / name).stat().st_size for name in self.names())

    def read(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of an archive, header first. Raises PortError where there is none, or it is damaged."""
        if name not in self.names():
            raise PortError(f"there is no archive {name} in {self.folder}; see `kine-failover divergence list`")
        try:
            with gzip.open(self.folder / name, "rt", encoding="utf-8") as lines:
                for line in lines:
                    yield json.loads(line)
        except (OSError, EOFError, ValueError) as error:
            raise PortError(f"the archive {self.folder / name} is damaged: {error}") from None

    def _prune(self, newest: Path) -> None:
        paths = [self.folder / name for name in self.names()]
        total = sum(path.stat().st_size for path in paths)
        for path in paths:
            if path == newest or (len(paths) <= self._limits.count and total <= self._limits.bytes_total):
                continue
            total -= path.stat().st_size
            paths = [other for other in paths if other != path]
            path.unlink()


def row_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the kine table as a line."""
    return {"type": "row", **_row(row)}


def object_line(
    change: str, key: str, mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return an object that differs as a line.

    `change` is what this node did, created, changed or deleted; `by_leader` where only the leader did something.
    """
    return {
        "type": "object",
        "key": key,
        "change": change,
        "mine": None if mine is None else _row(mine),
        "theirs": None if theirs is None else _row(theirs),
    }


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "revision": row["id"],
        "key": row["name"],
        "created": bool(row["created"]),
        "deleted": bool(row["deleted"]),
        "create_revision": row["create_revision"],
        "previous_revision": row["prev_revision"],
        "lease": row["lease"],
        "value": _base64(row["value"]),
        "commit_us": row["commit_us"],
    }


def _base64(value: bytes | memoryview | None) -> str | None:
    return None if value is None else base64.b64encode(bytes(value)).decode("ascii")
