"""Hooks: an administrator's executables, told of what happened. Nothing of the node waits for them.

Each executable of the folder gets the event's name as its argument and the event as JSON on its standard input, one after the
other, in the order in which things happened. One that hangs is killed with all that it started; what comes faster than hooks
end is left out, and said so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from failover.ports import History

log = structlog.get_logger()

HOOKS_MAX = 16  # executables in the folder
WAITING_MAX = 64  # events that wait for hooks
POLL_S = 10.0
STDIN_MAX = 64 << 10  # bytes of an event
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# kind of an event in the history -> what hooks are told; role changes are told by `name_of`
NAMES = {
    "leads": "promoted",
    "hands_over": "demoted",
    "split": "split",
    "healed": "healed",
    "alone": "degraded",
    "in_sync": "in_sync",
    "rejoined": "rejoined",
    "paused": "paused",
    "resumed": "resumed",
    "differs": "differs",
    "slot_dropped": "slot_dropped",
    "plan_failed": "plan_failed",
}


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Where the executables are, and how long each may take, seconds."""

    folder: Path
    timeout_s: float
    cluster: str
    node: int


class Hooks:
    """Follows the history and calls the hooks."""

    def __init__(self, settings: HookSettings, history: History) -> None:
        self._settings = settings
        self._history = history
        self._waiting: asyncio.Queue[tuple[str, Mapping[str, object]]] = asyncio.Queue(WAITING_MAX)
        self._refused: str | None = None

    async def run(self) -> None:
        """Call hooks until cancelled."""
        newest = self._history.newest(1)
        seen = int(str(newest[-1]["id"])) if newest else 0
        calling = asyncio.create_task(self._call_on())
        try:
            while True:
                for event in await self._history.newer(seen, POLL_S):
                    seen = int(str(event["id"]))
                    name = name_of(event)
                    if name is not None:
                        self._put(name, event)
        finally:
            calling.cancel()
            await asyncio.wait({calling})

    def _put(self, name: str, event: Mapping[str, object]) -> None:
        try:
            self._waiting.put_nowait((name, event))
        except asyncio.QueueFull:
            log.warning("a hook is not told: too many events wait for hooks", hook_event=name, id=event["id"])

    async def _call_on(self) -> None:
        while True:
            name, event = await self._waiting.get()
            for program in self._programs():
                await self._call(program, name, event)

    def _programs(self) -> list[Path]:
        try:
            found, refused = programs(self._settings.folder)
        except PortError as error:
            found, refused = [], [str(error)]
        text = "; ".join(refused) or None
        if text is not None and text != self._refused:
            log.error("hooks are not called", why=text)
            self._history.append("hook_refused", text)
        self._refused = text
        return found

    async def _call(self, program: Path, name: str, event: Mapping[str, object]) -> None:
        settings = self._settings
        told = {"event": name, "cluster": settings.cluster, "node": settings.node, **event}
        try:
            process = await asyncio.create_subprocess_exec(
                str(program), name,
                stdin=asyncio.subprocess.PIPE, start_new_session=True, cwd="/",
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            )  # fmt: skip
        except OSError as error:
            log.warning("a hook cannot be started", hook=str(program), error=error.strerror)
            return
        try:
            async with asyncio.timeout(settings.timeout_s):
                await process.communicate(json.dumps(told, default=str).encode()[:STDIN_MAX] + b"\n")
        except TimeoutError:
            log.warning("a hook took too long and was killed", hook=str(program), after_s=settings.timeout_s)
        else:
            if process.returncode:
                log.warning("a hook failed", hook=str(program), hook_event=name, code=process.returncode)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has left behind
            await process.wait()


def name_of(event: Mapping[str, object]) -> str | None:
    """Return what hooks are told an event is; None for one that they are not told of."""
    kind = event.get("kind")
    if kind == "role":
        if event.get("now") == "halted":
            return "halted"
        ended = event.get("before") in ("leader", "demoting") and event.get("now") in ("starting", "follower")
        return "demoted" if ended else None
    return NAMES.get(str(kind))


def programs(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the executables of a folder in the order of their names, and a line for each file that is refused.

    Raises PortError where the folder cannot be used: whoever may write there would run as this user.
    """
    for one in (folder, *folder.parents):
        why = _writable_by_others(one)
        if why is not None:
            raise PortError(f"[upkeep] hooks_dir: {why}")
    found, refused = [], []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix not in (".md", ".txt", ".disabled"))
    except OSError as error:
        raise PortError(f"[upkeep] hooks_dir: {folder}: {error.strerror}") from None
    for path in paths:
        why = _writable_by_others(path.resolve())
        if why is not None:
            refused.append(why)
        elif path.is_file() and os.access(path, os.X_OK):
            found.append(path)
    if len(found) > HOOKS_MAX:
        refused.append(f"{folder} holds {len(found)} executables, and only {HOOKS_MAX} are called")
    return found[:HOOKS_MAX], refused


def _writable_by_others(path: Path) -> str | None:
    try:
        told = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if told.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to user {told.st_uid}; chown root {path}"
    if told.st_mode & OTHERS_WRITE and not (stat.S_ISDIR(told.st_mode) and told.st_mode & stat.S_ISVTX):
        return f"{path} can be written by others; chmod go-w {path}"
    return None
