"""`make test-kubernetes RUNS=5`: each scenario again and again on one site, into docs and bench/results/kubernetes.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from lab import binaries
from tests.kubernetes import programs
from tests.kubernetes.scenarios import AFRESH, EXTRA, SCENARIOS, Outcome, play
from tests.kubernetes.site import Site

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "kubernetes.json"
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- kubernetes -->", "<!-- end of kubernetes -->"
FIGURES = {
    "first-write": "first write through the API server of the node that goes on",
    "first-write-lost": "first write through the API server of the side that lost",
    "caches-right": "informers' caches right, on the slower node",
    "rebuilt-right": "informers' caches right, behind the API server that was killed and comes back",
    "ghosts": "last ghost gone from the informers' caches",
    "rebuilt-ghosts": "last ghost gone behind the API server that was killed and comes back",
    "lists-wrong": "last wrong answer to a list",
}


def target(name: str, fence: str) -> float | None:
    """Return what a figure is to reach, in seconds."""
    if name.startswith("rebuilt"):
        return None
    if name.startswith("first-write"):
        return 0.5
    return 4.0 if fence == "full" else 0.5


async def measure(runs: int, wanted: list[str]) -> list[Outcome]:
    """Play each scenario as often as asked for."""
    found = []
    for scenario in wanted:
        rounds = [1] * runs if scenario in AFRESH else [runs]
        for plays in rounds:
            async with Site(EXTRA.get(scenario, {})) as site:
                for _ in range(plays):
                    found.append(await play(site, scenario))
                    sys.stderr.write(f"{scenario}: {json.dumps(found[-1].line())}\n")
    return found


def rows(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Return a row for each scenario and figure: over its runs, the worse of the two nodes in each."""
    made = []
    for scenario in dict.fromkeys(outcome.scenario for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.scenario == scenario]
        fence = ", ".join(sorted({outcome.fence for outcome in mine}))
        for name in FIGURES:
            values = [value for outcome in mine if (value := worst(outcome, name)) is not None]
            if values:
                made.append(
                    {
                        "scenario": scenario, "fence": fence, "name": name, "unit": "s", "runs": len(values),
                        "min": round(min(values), 3), "median": round(statistics.median(values), 3),
                        "max": round(max(values), 3), "target": target(name, fence),
                        "load": round(max(outcome.load for outcome in mine), 1),
                    }
                )  # fmt: skip
    return made


def worst(outcome: Outcome, name: str) -> float | None:
    """Return the larger figure of the nodes whose API server went through the fault."""
    names = {f"{name}-{node}" for node in ("leader", "other")} | {name}
    return max((value for key, value in outcome.figures.items() if key in names), default=None)


def save(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write the results file; scenarios that were not measured now are kept. Returns all rows."""
    known = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    now = {row["scenario"] for row in made}
    kept = [row for row in known if row["scenario"] not in now]
    everything = sorted([*kept, *made], key=lambda row: list(SCENARIOS).index(row["scenario"]))
    machine = {
        "cores": os.cpu_count(), "machine": platform.machine(), "postgres": binaries.postgres().major,
        "kine": binaries.KINE_VERSION, "kube-apiserver": programs.VERSION, "at": time.strftime("%Y-%m-%d", time.gmtime()),
    }  # fmt: skip
    RESULTS.write_text(json.dumps({"machine": machine, "rows": everything}, indent=1) + "\n", encoding="utf-8")
    return everything


def publish(everything: list[dict[str, Any]]) -> str:
    """Put the table into docs/testing.md. Returns it."""
    lines = [
        "| scenario | fence | | runs | min | median | max | to reach | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in everything:
        columns = (
            row["scenario"],
            row["fence"],
            FIGURES[row["name"]],
            row["runs"],
            row["min"],
            row["median"],
            row["max"],
        )
        lines.append("| " + " | ".join(map(str, (*columns, row["target"] or "", row["load"]))) + " |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{PAGE} has no place for the table: {BEGIN} ... {END}"
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return table


def main() -> None:
    """Measure, save, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scenario", default=",".join(SCENARIOS))
    asked = parser.parse_args()
    wanted = asked.scenario.split(",")
    unknown = set(wanted) - set(SCENARIOS)
    if unknown:
        sys.exit(f"SCENARIO names {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    print(publish(save(rows(asyncio.run(measure(asked.runs, wanted))))))


if __name__ == "__main__":
    main()
