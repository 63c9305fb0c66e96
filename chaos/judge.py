"""The verdict over one scenario: everything that clients were told, against what both databases hold in the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from lab import checker
from lab.compacted import compacted
from lab.contended import Outcome
from lab.linearizable import broken_links, complaints, vanished

if TYPE_CHECKING:
    from chaos.play import Play

PREVIOUS = 5  # column prev_revision


async def judge(play: Play) -> None:
    """Wait until the pair is in sync and quiet, then add a complaint for all that is wrong."""
    site, clients, result = play.site, play.clients, play.result
    await site.until_in_sync()
    await clients.until_writing()
    for stop in [one.stop for one in (*clients.writers, *clients.patient)] + [one.stop for one in play.contended]:
        await stop()
    rows = await clients.until_quiet()
    newest = max((row[checker.ID] for row in rows if row[checker.NAME].startswith("/registry/lab/")), default=0)
    await asyncio.gather(*(watcher.until_seen(newest) for watcher in clients.watchers))
    gone = await asyncio.to_thread(compacted, [node.conninfo for node in site.nodes])
    rows = gone.and_rows(rows)
    # What a side that lost had compacted itself is in no archive: it was gone before.
    archived = await asyncio.to_thread(clients.archived_rows)
    archived |= {(row[checker.NAME], bytes(row[checker.VALUE] or b"")) for row in gone.lost}
    split = both_led(play)
    if split and not play.may_lose_to_archive():
        result.complaints.append("both nodes led, and no fault that was struck may do that")
    judge_writes(play, rows, frozenset(key for key, _ in archived), split=split)
    result.complaints += checker.check([] if split else clients.writes, clients.watchers, rows).complaints
    written = {
        row[checker.ID]: (row[checker.NAME], bytes(row[checker.VALUE] or b""))
        for row in rows
        if row[checker.NAME].startswith(play.prefix)
    }
    before = {row[checker.ID]: row[PREVIOUS] for row in rows}
    result.complaints += broken_links({one: (*change, before[one]) for one, change in written.items()})
    operations = [one for each in play.contended for one in each.operations]
    if split:
        swaps = [one for one in operations if one.is_write and one.outcome is Outcome.DONE]
        result.counts["archived_swaps"] = sum((one.key, one.value) in archived for one in swaps)
        result.complaints += vanished(operations, archived | frozenset(written.values()))
    else:
        result.complaints += complaints(operations, written)


def judge_writes(play: Play, rows: list[tuple[Any, ...]], archived: frozenset[str], *, split: bool) -> None:
    """No acknowledged write may be missing; after a split it may be in an archive."""
    lenient = split or play.may_lose_to_archive()
    lost = checker.lost(play.clients.writes, rows, archived if lenient else frozenset())
    if lost:
        first = lost[0]
        play.result.complaints.append(
            f"{len(lost)} acknowledged writes are lost, first {first.key} at revision {first.revision}, "
            f"{(first.acked_s or 0) - play.began_s:.2f} s after the beginning"
        )
    play.result.counts["archived"] = len(
        {write.key for write in play.clients.writes if write.acked_s is not None} & archived
    )


def both_led(play: Play) -> bool:
    """Whether both supervisors ever said at once that they lead."""
    return any(sample.roles == ("leader", "leader") for sample in play.result.samples)
