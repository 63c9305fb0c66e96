"""State file, history and archives: durable, bounded, and clear about damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failover.adapters.archive import Archive, Limits
from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
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
