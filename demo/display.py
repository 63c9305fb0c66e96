"""What the demo shows: a live picture on a terminal, plain lines without one."""

from __future__ import annotations

import io
import re
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from lab.clients import Clients

LINES = 18  # of the timeline that fit on a terminal
PICTURE_WIDTH = 150
FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # a picture asks nobody for anything
COLOURS = {
    "leader": "bold green",
    "follower": "cyan",
    "promoting": "yellow",
    "resyncing": "yellow",
    "demoting": "yellow",
}
RATE_OVER_S = 1.0


class Display:
    """Takes what happens, and shows it."""

    def __init__(self) -> None:
        self.console = Console()
        self._lines: list[Text] = []
        self._began_s = time.monotonic()
        self._live: Live | None = None
        self._status: Sequence[dict[str, Any] | None] = ()
        self._clients: Clients | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self._picture(), console=self.console, refresh_per_second=12)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def tell(self, message: str, *, style: str = "") -> None:
        """Add a line to the timeline."""
        seconds = time.monotonic() - self._began_s
        line = Text.assemble((f"{seconds:8.3f} s  ", "dim"), (message, style))
        self._lines.append(line)
        if self._live is None:
            self.console.print(line, soft_wrap=True)
        else:
            self._live.update(self._picture())

    def update(self, status: Sequence[dict[str, Any] | None], clients: Clients | None) -> None:
        """Take the newest status of both nodes in."""
        self._status, self._clients = status, clients
        if self._live is not None:
            self._live.update(self._picture())

    def save(self, path: Path) -> None:
        """Write what was shown, with the whole timeline, as a picture (SVG)."""
        paper = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH)
        paper.print(self._nodes(), _timeline(self._lines))
        path.write_text(FONTS.sub("", paper.export_svg(title="make demo")), encoding="utf-8")

    def _picture(self) -> Group:
        return Group(self._nodes(), _timeline(self._lines[-LINES:], LINES + 2))

    def _nodes(self) -> Table:
        table = Table(expand=True)
        for column in ("", "node 0", "node 1"):
            table.add_column(column)
        both = list(self._status) or [None, None]
        rows: list[tuple[str, Any]] = [
            ("role", lambda one: Text(one["role"], COLOURS.get(one["role"], ""))),
            ("term", lambda one: str(one["term"])),
            ("sync", lambda one: one["sync"] or ""),
            ("Kine on", lambda one: f"{one['kine']['target'] or '-'}{' (frozen)' if one['kine']['frozen'] else ''}"),
            ("revision", lambda one: str(one["postgres"].get("revision", ""))),
            ("replication lag", lambda one: _bytes(one["postgres"].get("lag_bytes"))),
            ("doing", _doing),
        ]
        for name, cell in rows:
            table.add_row(name, *("" if one is None else cell(one) for one in both))
        rates = ["", ""] if self._clients is None else [f"{self._rate(node):.0f}" for node in (0, 1)]
        table.add_row("writes/s acknowledged", *rates)
        return table

    def _rate(self, node: int) -> float:
        assert self._clients is not None
        now_s, count = time.monotonic(), 0
        for write in reversed(self._clients.writers[node].writes):
            if write.sent_s < now_s - 2 * RATE_OVER_S:
                break
            count += write.acked_s is not None and write.acked_s > now_s - RATE_OVER_S
        return count / RATE_OVER_S


def _timeline(lines: Sequence[Text], height: int | None = None) -> Panel:
    return Panel(Group(*lines), title="timeline", title_align="left", height=height)


def _doing(one: dict[str, Any]) -> Any:
    progress = one["progress"]
    if progress is None or not progress["total"]:
        return one["step"] or ""
    return ProgressBar(total=progress["total"], completed=progress["rows"], width=30)


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count} bytes"
