"""A run lives in namespaces of its own: whatever ends it, the kernel ends everything in it, and nothing is left behind.

The process that a person starts (the outer one) starts this module's `enter` again in new network, process, mount and IPC
namespaces. The kernel kills what is inside when either of them ends, and networks, mounts and shared memory go with it.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAMS = ("ip", "nft", "unshare", "nsenter", "mkfs.ext4", "mount", "umount")
INSIDE = "KINE_FAILOVER_CHAOS_INSIDE"  # the descriptor of the socket to the disk keeper, in the environment
FIFREEZE = 0xC0045877  # linux/fs.h
FITHAW = 0xC0045878
NAMESPACES = ("--net", "--pid", "--ipc", "--mount", "--mount-proc", "--fork", "--kill-child")


def obstacle() -> str | None:
    """Say why a run cannot take place here, None when it can."""
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces, file systems and nftables need root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, nftables, util-linux, e2fsprogs)"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "nft", "list", "ruleset"], capture_output=True, text=True, check=False, timeout=30
    )
    return f"namespaces or nftables cannot be used here: {tried.stderr.strip()}" if tried.returncode else None


def install_missing() -> None:
    """Install what is missing where that is possible: as root, with apt. What it cannot install is not an error here."""
    packages = {
        "nft": "nftables", "ip": "iproute2", "stress-ng": "stress-ng", "mosquitto": "mosquitto", "faketime": "faketime",
    }  # fmt: skip
    missing = [package for program, package in packages.items() if shutil.which(program, path=_PATH) is None]
    if not missing or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    sys.stderr.write(f"installing {' '.join(missing)}\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
    ):
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=False, timeout=300)


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def inside() -> bool:
    """Whether this process is the inner one."""
    return INSIDE in os.environ


def enter(argv: Sequence[str]) -> int:
    """Run `argv` inside and return its exit code. SIGINT and SIGTERM reach it; a second one kills it."""
    keeper, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _keep_disks(keeper)
    keeper.close()
    environment = {**os.environ, INSIDE: str(ours.fileno()), "PATH": _PATH}
    process = subprocess.Popen(
        ["unshare", *NAMESPACES, "--", sys.executable, "-m", "chaos.first_process", *argv],
        env=environment, pass_fds=[ours.fileno()], start_new_session=True, preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads yet
    )  # fmt: skip
    ours.close()
    asked = 0

    def forward(number: int, _frame: object) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            process.kill()
        else:
            for pid in _children(process.pid):
                os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    return process.wait()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        return [int(one) for one in file.read().split()]
    return []


def _die_with_parent() -> None:
    import ctypes  # noqa: PLC0415 - between fork and exec

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class DiskKeeper:
    """Stops and releases file systems through a process outside: a frozen one would keep a killed run from ending."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=int(os.environ[INSIDE]))
        os.set_inheritable(self._socket.fileno(), False)

    def freeze(self, mount_point: str) -> None:
        """Make every write to the file system wait."""
        self._ask(b"freeze", mount_point)

    def thaw(self, mount_point: str) -> None:
        """Let them go on."""
        self._ask(b"thaw", mount_point)

    def _ask(self, what: bytes, mount_point: str) -> None:
        descriptor = os.open(mount_point, os.O_RDONLY)
        try:
            socket.send_fds(self._socket, [what], [descriptor])
            answer = self._socket.recv(200)
        finally:
            os.close(descriptor)
        if answer != b"done":
            raise OSError(f"{what.decode()} of {mount_point}: {answer.decode()}")


def _keep_disks(asked: socket.socket) -> None:
    """The process outside. It ends with the run, and leaves no file system frozen."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    frozen: dict[int, int] = {}  # device -> descriptor
    while True:
        what, descriptors, _, _ = socket.recv_fds(asked, 100, 1)
        if not descriptors:
            break
        descriptor = descriptors[0]
        device = os.fstat(descriptor).st_dev
        try:
            if what == b"freeze":
                fcntl.ioctl(descriptor, FIFREEZE, array.array("i", [0]))
                frozen[device] = descriptor
            else:
                os.close(descriptor)
                held = frozen.pop(device)
                fcntl.ioctl(held, FITHAW, array.array("i", [0]))
                os.close(held)
            asked.send(b"done")
        except (OSError, KeyError) as error:
            asked.send(str(error).encode()[:200])
    for held in frozen.values():
        with contextlib.suppress(OSError):
            fcntl.ioctl(held, FITHAW, array.array("i", [0]))
    os._exit(0)
