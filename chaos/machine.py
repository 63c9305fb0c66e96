"""A machine: network, process, IPC and mount namespaces with a first process, a disk, and a clock that can be set."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chaos.network import Network

FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)
END_S = 20.0


def faketime() -> str | None:
    """Return libfaketime, None where it is not installed."""
    return next((path for path in FAKETIME if Path(path).exists()), None)


class Machine:
    """One machine. Its processes are ended all at once by ending its first process."""

    def __init__(self, name: str, network: Network, folder: Path) -> None:
        self.name = name
        self.network = network
        self.folder = folder
        self.clock_file = folder.parent / f"{name}.clock"
        self.set_clock(0.0)
        self._first: subprocess.Popen[str] | None = None
        self._pid = 0  # of the first process, as seen from outside of the machine

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return self._first is not None

    def power_on(self) -> None:
        """Start the first process and plug the cables in."""
        assert self._first is None
        self._first = subprocess.Popen(
            ["unshare", "--net", "--pid", "--ipc", "--mount", "--propagation", "slave", "--mount-proc",
             "--fork", "--kill-child", sys.executable, "-m", "chaos.first_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        self._pid = _only_child(self._first.pid)
        self.run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")  # noqa: S108 - a mount point
        self.network.plug_in(self.name, self._pid)

    def power_off(self) -> None:
        """Cables dead first, so that no kernel says good-bye for its processes; then everything is killed at once."""
        if self._first is None:
            return
        self.network.unplug(self.name)
        first, self._first = self._first, None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        first.wait(timeout=END_S)
        for stream in (first.stdin, first.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def start(
        self, argv: Sequence[str], log: Path, *, user: str | None = None, env: Mapping[str, str] | None = None,
        clock: bool = True,
    ) -> None:  # fmt: skip
        """Start a program on this machine; `clock`: with the machine's clock instead of the host's."""
        assert self._first is not None
        assert self._first.stdin is not None
        assert self._first.stdout is not None
        environment = {**os.environ, **(env or {}), **(self._clock_environment() if clock else {})}
        told = {"argv": [str(one) for one in argv], "env": environment, "user": user, "log": str(log)}
        self._first.stdin.write(json.dumps(told) + "\n")
        self._first.stdin.flush()
        answer: dict[str, Any] = json.loads(self._first.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"{argv[0]} cannot be started on {self.name}: {answer['error']}")

    def run(self, *argv: str, check: bool = True, timeout_s: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine and wait for its end."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "--net", "--pid", "--ipc", "--mount", "--", *argv],
            capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)} on {self.name}: {done.stderr}{done.stdout}")
        return done

    def set_clock(self, offset_s: float) -> None:
        """Set the wall clock so far from the host's; programs see it within a second."""
        temporary = self.clock_file.with_suffix(".new")
        temporary.write_text(f"{offset_s:+.3f}\n", encoding="ascii")
        temporary.chmod(0o644)
        temporary.rename(self.clock_file)

    def _clock_environment(self) -> dict[str, str]:
        library = faketime()
        if library is None:
            return {}
        return {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(self.clock_file), "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1",
        }  # fmt: skip

    def pids(self, *, containing: str | None = None) -> list[int]:
        """Return the machine's processes but the first, or those whose command line contains this."""
        found: list[int] = []
        if self._first is None:
            return found
        with contextlib.suppress(OSError):
            mine = Path(f"/proc/{self._pid}/ns/pid").readlink()
            for entry in os.listdir("/proc"):  # noqa: PTH208 - a thousand times a run
                if not entry.isdigit() or int(entry) == self._pid:
                    continue
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{entry}/ns/pid").readlink() != mine:
                        continue
                    said = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if containing is None or containing in said:
                        found.append(int(entry))
        return found

    def signal(self, number: signal.Signals, *, containing: str | None = None) -> int:
        """Send a signal to these processes. Returns how many there were."""
        pids = self.pids(containing=containing)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def kill(self, *, containing: str | None = None) -> None:
        """SIGKILL, until none is left."""
        deadline = time.monotonic() + END_S
        while self.signal(signal.SIGKILL, containing=containing):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of {self.name} do not end: {self.pids(containing=containing)}")
            time.sleep(0.005)


def broker_program() -> str | None:
    """Return mosquitto, None where it is not installed."""
    return shutil.which("mosquitto")


def stress_program() -> str | None:
    """Return stress-ng, None where it is not installed."""
    return shutil.which("stress-ng")


def _only_child(pid: int) -> int:
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            if children:
                return int(children[0])
        time.sleep(0.002)
    raise RuntimeError("the first process of a machine does not start")
