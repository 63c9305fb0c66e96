"""A real MQTT broker on loopback, on its own port and folder, that can die, hang and come back."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
LOCK = Path(tempfile.gettempdir()) / "apt.lock"
WAIT_S = 20.0


def installed(program: str, package: str) -> str | None:
    """Return the path of a program, installed from the distribution if it is missing and this is root; None without."""
    found = shutil.which(program, path=SEARCH)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        with LOCK.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
                subprocess.run(
                    ["apt-get", "--quiet", *command], check=False, capture_output=True, timeout=300,
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                )  # fmt: skip
        found = shutil.which(program, path=SEARCH)
    return found


class Mosquitto:
    """A mosquitto. `settings` are further lines of its configuration."""

    def __init__(self, folder: Path, port: int, settings: str = "", *, address: str = "127.0.0.1") -> None:
        program = installed("mosquitto", "mosquitto")
        assert program is not None, "there is no mosquitto, and it cannot be installed"
        self.port, self.address = port, address
        self.log = folder / "mosquitto.log"
        self._argv = [program, "-c", str(folder / "mosquitto.conf")]
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        settings = settings or "allow_anonymous true"
        (folder / "mosquitto.conf").write_text(
            f"user root\nlistener {port} {address}\nlog_dest stderr\nset_tcp_nodelay true\n{settings}\n",
            encoding="utf-8",
        )

    def start(self) -> None:
        """Start it and return when it takes connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection((self.address, self.port), 1.0).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(f"mosquitto does not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)
            else:
                return

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing is said on them."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: what it kept is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
