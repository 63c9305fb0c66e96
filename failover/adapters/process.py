"""A process that outlives its starter and is found again by the next one.

A pid alone is never trusted: it may belong to somebody else by now. A process is named by (boot id, pid, start time),
and it is held by a pidfd, which the kernel binds to that one process: a signal through it reaches this process or none.
The pidfd is opened first and the name is compared afterwards, so there is no moment in between. Needs Linux 5.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

STAT_STATE = 0  # fields of /proc/<pid>/stat after the name in parentheses, see proc(5)
STAT_START = 19
LOG_MODE = 0o640
STOP_POLL_S = 0.001  # a stop reaches all threads some microseconds after the signal


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process: unique over reboots and over reuse of the pid."""

    pid: int
    start_ticks: int  # clock ticks since boot, field 22 of /proc/<pid>/stat
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a process that runs, None when it has ended (a zombie has)."""
        fields = _stat(pid)
        if fields is None or fields[STAT_STATE] in "ZX":
            return None
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid, int(fields[STAT_START]), boot_id)


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # ended
        return None
    return text[text.rindex(")") + 2 :].split()


class Process:
    """A process that runs in a session of its own; a signal to the starter's terminal or group does not reach it.

    Needs a running event loop. `on_end` callbacks run from the loop as soon as the kernel reports the end, for own
    children and for adopted processes alike.
    """

    def __init__(self, identity: Identity, pidfd: int) -> None:
        self.identity = identity
        self._pidfd: int | None = pidfd
        self._ended = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._reap)

    @classmethod
    def spawn(cls, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Start `argv` (absolute path first) with exactly this environment, output appended to `log`.

        Raises PortError when it cannot be started. Takes some milliseconds, like any exec.
        """
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, LOG_MODE),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(environment),
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
            )
        except OSError as error:
            raise PortError(
                f"{argv[0]} cannot be started: {error}; check its path and the log's folder {log}"
            ) from None
        # Not reaped yet, so the pid is still its own even if it has ended already.
        identity = Identity.of(pid)
        if identity is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            raise PortError(f"{argv[0]} ended as soon as it was started; see {log}")
        return cls(identity, os.pidfd_open(pid))

    @classmethod
    def adopt(cls, identity: Identity) -> Process | None:
        """Hold the process of this identity; None when it has ended, whoever has its pid now."""
        try:
            pidfd = os.pidfd_open(identity.pid)
        except OSError:
            return None
        if Identity.of(identity.pid) != identity:
            os.close(pidfd)
            return None
        return cls(identity, pidfd)

    @property
    def pid(self) -> int:
        """Return the process id, for display only."""
        return self.identity.pid

    @property
    def alive(self) -> bool:
        """Return whether its end has not been reported."""
        return not self._ended.is_set()

    @property
    def frozen(self) -> bool:
        """Return whether it is stopped, by us or by anybody."""
        if not self.alive:
            return False
        fields = _stat(self.pid)  # a stop reaches all threads some microseconds after the signal
        return self._stopped or (fields is not None and fields[STAT_STATE] in "Tt")

    def freeze(self) -> None:
        """SIGSTOP: it does nothing more, and its sockets stay open."""
        self._stopped = self._signal(signal.SIGSTOP)

    async def stopped(self, timeout_s: float) -> bool:
        """Return True when no thread of a frozen process can run any more, False when one still can after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.alive and any(state in "RS" for state in _thread_states(self.pid)):
                    await asyncio.sleep(STOP_POLL_S)
                return True
        return False

    def kill(self) -> None:
        """SIGKILL, frozen or not; `ended` waits for the end."""
        self._signal(signal.SIGKILL)

    async def ended(self, timeout_s: float) -> None:
        """Return when it has ended. Raises PortError after `timeout_s`."""
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            raise PortError(
                f"process {self.pid} has not ended {timeout_s} s after SIGKILL: the kernel holds it (a hung disk?)"
            ) from None

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the process ends, soon if it has ended already."""
        if self.alive:
            self._callbacks.append(callback)
        else:
            self._loop.call_soon(callback)

    def close(self) -> None:
        """Let go of the process, which runs on."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _signal(self, number: signal.Signals) -> bool:
        if self._pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:  # ended; the loop reports it
            return False
        return True

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # adopted: its own parent reaps it
            os.waitpid(self.pid, os.WNOHANG)
        self.close()
        self._ended.set()
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()


def _thread_states(pid: int) -> Iterator[str]:
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # ended
            text = thread.read_text(encoding="utf-8", errors="replace")
            yield text[text.rindex(")") + 2]


def running_with(argument: Callable[[str], bool]) -> Iterator[Identity]:
    """Yield every process that runs with an argument that `argument` accepts, by one walk through /proc.

    This finds what a crash left without a record. Only the world-readable command line is read.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        identity = Identity.of(int(entry.name))
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if identity is not None and any(map(argument, arguments)):
            yield identity
