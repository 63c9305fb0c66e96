"""State file, history and archives: durable, bounded, and clear about damage."""

from __future__ import annotations

import asyncio
import os
import resource
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failover import durable_file
from failover.adapters import kine
from failover.adapters.archive import Archive, Limits
from failover.adapters.clock import SystemClock
from failover.adapters.history import BYTES_AN_EVENT, HistoryFile
from failover.adapters.process import Process
from failover.adapters.state_file import StateFile
from failover.core.model import Acceptance, Choice, Durable, Verdict
from failover.ports import PortError

if TYPE_CHECKING:
    from pathlib import Path

DURABLE = Durable("shop", 0, "id", acceptance=Acceptance(Verdict(1, "w", "l", Choice.LATEST_CHANGE, "newer"), 7, "a"))


async def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = StateFile(tmp_path / "state.json")
    assert store.load() is None
    await store.save(DURABLE)
    assert StateFile(store.path).load() == DURABLE
    assert store.path.stat().st_mode & 0o077 == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
def test_a_damaged_state_file_is_never_taken_for_an_empty_one(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(raw)
    with pytest.raises(PortError, match=r"state\.json"):
        StateFile(path).load()


def test_history_survives_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = HistoryFile(path, SystemClock())
    history.append("role", "leads", term=4)
    history.close()
    with path.open("ab") as file:
        file.write(b'{"kind": "tor')
    again = HistoryFile(path, SystemClock())
    assert [event["message"] for event in again.newest(10)] == ["leads"]
    again.close()


def test_each_event_is_a_line_in_the_log_by_its_weight(tmp_path: Path) -> None:
    history = HistoryFile(tmp_path / "history.jsonl", SystemClock())
    with structlog.testing.capture_logs() as lines:
        history.append("leads", "leads in term 4", term=4, rule=None)
        history.append("differs", "3 rows differ")
    history.close()
    assert lines == [
        {"event": "leads", "log_level": "info", "message": "leads in term 4", "term": 4},
        {"event": "differs", "log_level": "error", "message": "3 rows differ"},
    ]


def test_history_is_bounded_on_disk_and_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = HistoryFile(path, SystemClock(), kept=20, bytes_a_file=4000)
    for number in range(500):
        history.append("role", f"event {number}", evidence="x" * 100)
    history.append("role", "y" * 100_000, evidence="x" * 1_000_000)
    history.close()
    files = sorted(tmp_path.iterdir())
    assert [one.name for one in files] == ["history.1", "history.jsonl"]
    assert all(one.stat().st_size < 4000 + BYTES_AN_EVENT for one in files)
    assert len(history.newest(1000)) == 20
    again = HistoryFile(path, SystemClock(), kept=20, bytes_a_file=4000)
    kept = [event["id"] for event in again.newest(1000)]
    assert kept == list(range(501 - len(kept) + 1, 502))
    assert len(str(again.newest(1)[0]["message"])) <= BYTES_AN_EVENT
    again.append("role", "one more")
    assert again.newest(1)[0]["id"] == 502
    again.close()


async def test_kines_log_is_bounded_while_kine_runs(tmp_path: Path) -> None:
    """A process that appends to its open log for months: what it writes after the cut is at the beginning of the file."""
    log = tmp_path / "kine.log"
    process = Process.spawn(
        ["/bin/sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; sleep 0.002; done"], {}, log
    )
    try:
        for _ in range(3):
            async with asyncio.timeout(60):
                while log.stat().st_size <= 4000:
                    await asyncio.sleep(0.01)
            await kine._bound(log, 4000)
            assert log.stat().st_size < 4000
        assert log.with_name("kine.log.1").stat().st_size < 400_000
        assert sorted(os.listdir(tmp_path)) == ["kine.log", "kine.log.1"]  # noqa: PTH208 - no blocking call
        async with asyncio.timeout(60):
            while not log.stat().st_size:
                await asyncio.sleep(0.01)
        assert b"\0" not in log.read_bytes()
    finally:
        process.kill()
        await process.ended(60.0)


def test_archives_are_bounded_and_the_newest_is_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Limits(bytes_total=1, count=3))
    for number in range(5):
        archive.write(f"split-{number}", {"why": "split", "objects": 0, "rows": 1}, [{"type": "row", "key": "k"}])
    assert archive.names() == ["split-4.jsonl.gz"]
    assert [line["type"] for line in archive.read("split-4.jsonl.gz")] == ["header", "row"]
    with pytest.raises(PortError, match="no archive"):
        list(archive.read("../../etc/passwd"))


def test_an_archive_that_does_not_fit_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((PortError, OSError)):
        Archive(tmp_path / "file" / "folder").write("x", {}, [])


def test_a_file_is_replaced_whole_with_its_mode_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "small"
    durable_file.replace(path, b"before", mode=0o644)
    assert path.stat().st_mode & 0o777 == 0o644
    durable_file.replace(path, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            durable_file.replace(path, b"longer than that")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"after"
