"""A machine's disk: an ext4 file system of its own, that can lose what was not synced, fill up, and stall."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.enclosure import DiskKeeper

EXT4_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITHOUT_THE_JOURNAL = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: nothing that is in memory reaches the disk
FILLER = "filler"
BUSY_S = 10.0


class Disk:
    """A file system in a file without a name, so that it goes when the last one who holds it does."""

    def __init__(self, folder: Path, keeper: DiskKeeper, store: Path, *, mib: int) -> None:
        self.folder = folder
        self._keeper = keeper
        self._frozen = False
        self._file = os.open(store, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.truncate(self._file, mib << 20)
        folder.mkdir(parents=True)
        self._image = f"/proc/{os.getpid()}/fd/{self._file}"
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._image)
        self.mount()

    def mount(self) -> None:
        """Mount it; the journal is played back."""
        _run("mount", "-o", "loop,noatime", self._image, str(self.folder))
        self.folder.chmod(0o755)

    def sync(self) -> None:
        """Have everything on the disk that was written."""
        _run("sync", "--file-system", str(self.folder))

    def lose_unsynced(self) -> None:
        """What a loss of power does: what was written and not synced is gone. Nothing may use it any more."""
        self.thaw()
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_SHUTDOWN, struct.pack("I", WITHOUT_THE_JOURNAL))
        finally:
            os.close(descriptor)
        self.unmount()
        self.mount()

    def unmount(self) -> None:
        """Unmount it, waiting for processes that are about to end."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                _run("umount", str(self.folder))
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def fill(self, leave_bytes: int) -> None:
        """Leave only so much room."""
        told = os.statvfs(self.folder)
        size = told.f_bavail * told.f_frsize - leave_bytes
        with (self.folder / FILLER).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def empty(self) -> None:
        """Give the room back."""
        (self.folder / FILLER).unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let every write wait, as a disk that stalls does."""
        if not self._frozen:
            self._keeper.freeze(str(self.folder))
            self._frozen = True

    def thaw(self) -> None:
        """Let them go on."""
        if self._frozen:
            self._keeper.thaw(str(self.folder))
            self._frozen = False

    def remove(self) -> None:
        """Unmount it and give the file back."""
        with contextlib.suppress(RuntimeError):
            self.thaw()
            self.unmount()
        os.close(self._file)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
