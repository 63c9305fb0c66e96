"""Nothing is left behind, however a run ends."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos import enclosure

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND_S = 60.0


def running(mark: str) -> set[int]:
    """Return all processes that were started with this mark in their environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def disks() -> set[str]:
    """Return the files without names that are somebody's disk."""
    listed = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], capture_output=True, text=True, check=True
    )
    return {line for line in listed.stdout.splitlines() if line.startswith("/var/tmp/#")}  # noqa: S108


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_run_that_is_ended_leaves_nothing(end: signal.Signals) -> None:
    why = enclosure.obstacle()
    if why is not None:
        pytest.skip(why)
    mark, before = secrets.token_hex(16), disks()
    run = subprocess.Popen(
        [sys.executable, "-m", "chaos", "--scenario", "stalled-disk-leader"],
        env={**os.environ, "CHAOS_TEST_MARK": mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        until("both nodes to run", lambda: len(disks() - before) >= 2 and len(running(mark)) > 10)
        run.send_signal(end)
        run.wait(timeout=BOUND_S)
    finally:
        run.kill()
    until("every process to be gone", lambda: not running(mark))
    until("every disk to be gone", lambda: not disks() - before)
    if end is not signal.SIGKILL:
        assert run.returncode == 130
