"""What the service manager hears, and how tightly the unit is closed."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from failover.adapters import systemd

UNIT = Path(__file__).parents[2] / "packaging" / "systemd" / "kine-failover.service"
EXPOSURE_MAX = 2.0


class Ear:
    """The socket that systemd gives to a service."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))

    async def hear(self, wanted: str) -> list[str]:
        """Return all up to `wanted`."""
        told: list[str] = []
        async with asyncio.timeout(20):
            while wanted not in told:
                told.append((await asyncio.get_running_loop().sock_recv(self.socket, 4096)).decode())
        return told


async def test_it_is_ready_once_it_decides_and_gives_signs_while_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear = Ear(tmp_path, monkeypatch)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    age_s: list[float | None] = [None]
    role = ["starting"]
    telling = asyncio.create_task(systemd.keep_telling(lambda: role[0], lambda: age_s[0]))
    try:
        assert await ear.hear("STATUS=starting") == ["STATUS=starting"]
        age_s[0] = 0.1
        assert (await ear.hear("WATCHDOG=1"))[0] == "READY=1"
        role[0] = "leader, in_sync"
        await ear.hear("STATUS=leader, in_sync")
        age_s[0] = 5.0  # the loop hangs: no sign any more
        role[0] = "leader, hangs"
        await ear.hear("STATUS=leader, hangs")
        role[0] = "leader, still"
        assert await ear.hear("STATUS=leader, still") == ["STATUS=leader, still"]
    finally:
        telling.cancel()
        ear.socket.close()


def test_without_a_service_manager_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")  # of another process
    systemd.notify("READY=1")
    assert systemd.watchdog_s() is None


def test_the_unit_is_closed() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(UNIT)], capture_output=True, text=True, check=False
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found.group(1)) < EXPOSURE_MAX
