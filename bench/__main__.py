"""`make bench`: RUNS=10, ONLY=F0,F1."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench import steady
from bench.faults import DIVERGED, ROWS, bench
from lab import binaries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RESULTS = Path(__file__).parent / "results" / "latest.json"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"
FAST = {"timing": 'preset = "fast"'}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    name: str
    unit: str
    target: float
    values: tuple[float, ...]

    def told(self) -> dict[str, Any]:
        """Return it for the file."""
        return {
            "name": self.name,
            "unit": self.unit,
            "runs": len(self.values),
            "min": round(min(self.values), 3),
            "median": round(statistics.median(self.values), 3),
            "max": round(max(self.values), 3),
            "target": self.target,
        }


TARGETS = {
    "F0": ("s", 0.3), "F1": ("s", 0.4), "F2": ("s", 1.5), "F2-fast": ("s", 0.8), "F3": ("s", 1.5),
    "switchover": ("s", 0.25), "reboot": ("s", 0.3), "rejoin": ("s", 1.0), "rejoin-diverged": ("s", 1.0),
    "write-added-p50": ("ms", 1.0), "rss": ("MiB", 60.0), "cpu-idle": ("%", 1.0), "lost": ("writes", 0.0),
}  # fmt: skip


async def measure(runs: int, wanted: set[str]) -> list[Row]:
    """Measure what is wanted."""
    found: dict[str, list[float]] = {}
    lost = 0

    async def repeat(name: str, once: Callable[[], Awaitable[float]]) -> None:
        if name in wanted:
            for number in range(runs):
                found.setdefault(name, []).append(await once())
                tell(f"{name} {number + 1}/{runs}: {found[name][-1]:.3f}")

    if wanted & {"F0", "F1", "F2", "F3", "switchover", "reboot", "lost"}:
        async with bench() as made:
            for name, once in (
                ("F0", made.f0), ("F1", made.f1), ("F2", made.f2), ("F3", made.f3),
                ("switchover", made.switchover), ("reboot", made.reboot),
            ):  # fmt: skip
                await repeat(name, once)
            await made.count_lost()
            lost += made.lost
    if "F2-fast" in wanted:
        async with bench(extra=FAST) as made:
            await repeat("F2-fast", made.f2)
            await made.count_lost()
            lost += made.lost
    if wanted & {"rejoin", "rejoin-diverged"}:
        async with bench(rows=ROWS) as made:
            await repeat("rejoin", lambda: made.rejoin(diverged=0))
            await repeat("rejoin-diverged", lambda: made.rejoin(diverged=DIVERGED))
    if "write-added-p50" in wanted:
        found["write-added-p50"] = await steady.added_latency_ms(runs)
    if wanted & {"rss", "cpu-idle"}:
        found["rss"], found["cpu-idle"] = await steady.idle(runs)
    if "lost" in wanted:
        found["lost"] = [float(lost)]
    return [Row(name, *TARGETS[name], tuple(values)) for name, values in found.items() if name in wanted]


def tell(line: str) -> None:
    """Show progress."""
    sys.stderr.write(f"{line}\n")


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table(
        title=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Postgres {binaries.postgres().major}"
    )
    for column in ("", "unit", "runs", "min", "median", "max", "must reach"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        told = row.told()
        style = "" if told["median"] <= told["target"] else "red"
        table.add_row(
            *(str(told[name]) for name in ("name", "unit", "runs", "min", "median", "max", "target")), style=style
        )
    Console().print(table)


def save(rows: list[Row]) -> None:
    """Write the results file; rows that were not measured now are kept."""
    known = {row["name"]: row for row in json.loads(RESULTS.read_text())["rows"]} if RESULTS.exists() else {}
    known |= {row.name: row.told() for row in rows}
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "postgres": binaries.postgres().major,
        "kine": binaries.KINE_VERSION,
        "at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    ordered = [known[name] for name in TARGETS if name in known]
    RESULTS.write_text(json.dumps({"machine": machine, "rows": ordered}, indent=1) + "\n", encoding="utf-8")
    publish(ordered)


def publish(rows: list[dict[str, Any]]) -> None:
    """Put the results file's rows into README.md."""
    lines = ["| | unit | runs | min | median | max | to reach |", "|---|---|---|---|---|---|---|"]
    names = ("name", "unit", "runs", "min", "median", "max", "target")
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print, save."""
    runs = int(os.environ.get("RUNS") or 10)
    wanted = {name for name in (os.environ.get("ONLY") or "").split(",") if name} or set(TARGETS)
    unknown = wanted - set(TARGETS)
    if unknown:
        sys.exit(f"ONLY names {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    rows = asyncio.run(measure(runs, wanted))
    show(rows)
    save(rows)


if __name__ == "__main__":
    main()
