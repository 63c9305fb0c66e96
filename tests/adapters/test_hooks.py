"""Hooks with real executables: told in order, bounded in time and number, refused where others could write them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from failover.adapters import hooks
from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
from failover.adapters.hooks import Hooks, HookSettings
from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HANG_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hooks"
    made.mkdir(mode=0o755)
    return made


@contextlib.asynccontextmanager
async def following(folder: Path, timeout_s: float = 20.0) -> AsyncIterator[HistoryFile]:
    history = HistoryFile(folder.parent / "history.jsonl", SystemClock())
    task = asyncio.create_task(Hooks(HookSettings(folder, timeout_s, "shop", 1), history).run())
    await asyncio.sleep(0)
    try:
        yield history
    finally:
        task.cancel()
        await asyncio.wait({task})
        history.close()


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.02)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_each_executable_is_told_of_each_event_in_order(folder: Path) -> None:
    told = folder.parent / "told"
    script(folder / "10-first", f'echo "first $1 $(cat)" >> {told}')
    script(folder / "20-second", f'echo "second $1" >> {told}; env > {told}.env')
    (folder / "README.md").write_text("not a hook")
    async with following(folder) as history:
        history.append("leads", "leads in term 4", term=4)
        history.append("plan", "nothing that hooks are told of")
        history.append("role", "demoting -> starting", before="demoting", now="starting")
        await until(lambda: len(lines(told)) == 4)
    assert [one.split()[:2] for one in lines(told)] == [
        ["first", "promoted"], ["second", "promoted"], ["first", "demoted"], ["second", "demoted"],
    ]  # fmt: skip
    event = json.loads(lines(told)[0].removeprefix("first promoted "))
    assert (event["event"], event["cluster"], event["node"], event["term"]) == ("promoted", "shop", 1, 4)
    assert {one.partition("=")[0] for one in lines(told.with_suffix(".env"))} <= {
        "PATH",
        "LANG",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }


async def test_one_that_hangs_is_killed_with_what_it_started(folder: Path) -> None:
    told, pid = folder.parent / "told", folder.parent / "pid"
    script(folder / "10-hangs", f"sleep 600 & echo $! > {pid}; wait")
    script(folder / "20-works", f'echo "$1" >> {told}')
    async with following(folder, timeout_s=0.5) as history:
        history.append("alone", "acknowledges writes alone")
        await until(lambda: lines(told) == ["degraded"])
        await until(lambda: not Path(f"/proc/{lines(pid)[0]}").exists() or "Z" in state(lines(pid)[0]))


def state(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


async def test_a_flood_is_bounded_and_blocks_nobody(folder: Path) -> None:
    told, go = folder.parent / "told", folder.parent / "go"
    script(folder / "waits", f"while [ ! -e {go} ]; do sleep 0.05; done; cat > /dev/null; echo $1 >> {told}")
    async with following(folder) as history:
        for _ in range(5):
            for number in range(100):
                history.append("in_sync", f"{number}")  # never waits for a hook
            await asyncio.sleep(0.05)
        go.touch()
        await until(lambda: len(lines(told)) >= hooks.WAITING_MAX)
        history.append("leads", "the newest")
        await until(lambda: lines(told)[-1] == "promoted")
    assert len(lines(told)) <= hooks.WAITING_MAX + 3


@pytest.mark.parametrize("what", ["folder", "file"])
async def test_what_others_may_write_is_refused_with_a_line(folder: Path, what: str) -> None:
    told = folder.parent / "told"
    script(folder / "hook", f"echo called >> {told}")
    script(folder / "other", f"echo other >> {told}")
    wrong = folder if what == "folder" else folder / "hook"
    mode = wrong.stat().st_mode
    wrong.chmod(mode | 0o002)
    async with following(folder) as history:
        history.append("leads", "leads")
        await until(lambda: history.newest(1)[0]["kind"] == "hook_refused")
        assert f"{wrong} can be written by others; chmod go-w {wrong}" in str(history.newest(1)[0]["message"])
        assert lines(told) in ([], ["other"])
        wrong.chmod(mode)
        history.append("leads", "leads again")
        await until(lambda: "called" in lines(told))
    assert lines(told).count("called") == 1


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(PortError, match="hooks_dir"):
        hooks.programs(folder / "missing")
