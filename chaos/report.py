"""The report: one HTML page that needs nothing else, and the same as JSON."""

from __future__ import annotations

import html
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.play import Result, told
from chaos.timeline import legend, timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.site import Site

FOLDER = Path(__file__).resolve().parent / "results"
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:28px 24px;color:#1c2530;background:#fff}
h1{font-size:25px;margin:0 0 4px}h2{font-size:17px;margin:0}p.sub{color:#5a6672;margin:0 0 18px}
table{border-collapse:collapse;width:100%;margin:16px 0 26px;font-size:14px}
th{text-align:left;color:#5a6672;font-weight:600}th,td{padding:5px 10px 5px 0;border-bottom:1px solid #e4e8ec}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}a{color:#2360a5;text-decoration:none}
.good{color:#1a7f4b;font-weight:600}.bad{color:#b3261e;font-weight:600}.skipped,.unfinished{color:#8a949e}
section{border:1px solid #dde2e7;border-radius:8px;padding:14px 18px;margin:0 0 18px}
.facts{color:#5a6672;font-size:13.5px;margin:2px 0 8px}pre{background:#fdf2f1;padding:10px;white-space:pre-wrap;font-size:12.5px}
.legend span{display:inline-block;margin-right:16px;font-size:13px;color:#3c4751}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:5px;vertical-align:-1px}
svg text{font:11.5px system-ui,sans-serif;fill:#5a6672}svg text.what{fill:#1c2530}svg text.gap{fill:#b3261e;font-weight:600}
.verdict{font-size:13.5px;margin:8px 0 4px}details{font-size:13px;color:#3c4751}summary{cursor:pointer}
details table{margin:6px 0;font-size:12.5px}code{background:#f2f4f6;padding:1px 5px;border-radius:4px}.legend{margin:2px 0}
"""


def write(results: Sequence[Result], folder: Path, name: str, *, random_seed: str | None) -> Path:
    """Write `name`.html and `name`.json into the folder. Returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    machine: dict[str, object] = {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    content = {"at": at, "seed": random_seed, "machine": machine, "scenarios": [told(one) for one in results]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page = folder / f"{name}.html"
    page.write_text(_page(results, name, at, machine), encoding="utf-8")
    return page


def _page(results: Sequence[Result], name: str, at: str, machine: dict[str, object]) -> str:
    played = [one for one in results if one.skipped is None]
    verdict = _overall(played)
    acknowledged = sum(one.counts.get("acknowledged", 0) for one in played)
    rows = "".join(_row(number, one) for number, one in enumerate(results))
    sections = "".join(_section(number, one) for number, one in enumerate(results) if one.skipped is None)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>kine-failover {name}</title><style>{STYLE}</style>'
        f"<h1>kine-failover: {name}</h1>"
        f'<p class="sub">{len(played)} scenarios, {verdict}, {acknowledged:,} acknowledged writes; {at}, '
        f"{machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}</p>"
        f"{legend()}"
        '<table><tr><th>scenario</th><th></th><th class="n">seconds</th><th class="n">acknowledged</th>'
        '<th class="n">no answer</th><th class="n">swaps</th><th class="n">events</th><th class="n">archived</th>'
        f'<th class="n">longest gap, s</th></tr>{rows}</table>{sections}</html>\n'
    )


def _overall(played: Sequence[Result]) -> str:
    """Nothing played is no success, and what has not been judged yet isn't one either."""
    bad = sum(bool(one.complaints) for one in played)
    if bad:
        return f'<span class="bad">{bad} bad</span>'
    if not played:
        return '<span class="bad">nothing was played</span>'
    if not all(one.finished for one in played):
        return '<span class="unfinished">not finished: no complaint so far</span>'
    return '<span class="good">all good</span>'


def _row(number: int, one: Result) -> str:
    word = _word(one)
    counts = [one.counts.get(key, 0) for key in ("acknowledged", "unknown", "swaps", "events", "archived")]
    cells = "".join(f'<td class="n">{count:,}</td>' for count in counts)
    name = html.escape(one.scenario)
    title = name if one.skipped else f'<a href="#s{number}">{name}</a>'
    return (
        f'<tr><td>{title}</td><td class="{word}">{word}{": " + html.escape(one.skipped) if one.skipped else ""}</td>'
        f'<td class="n">{one.seconds:.1f}</td>{cells}<td class="n">{min(one.gaps_s):.2f} / {max(one.gaps_s):.2f}</td></tr>'
    )


def _section(number: int, one: Result) -> str:
    bad = f"<pre>{html.escape(chr(10).join(one.complaints))}</pre>" if one.complaints else ""
    word = _word(one)
    replay = (
        f"make chaos SEED={html.escape(one.seed.split('/')[0])}" if one.seed else f"make chaos SCENARIO={one.scenario}"
    )
    replay = "make soak" if one.scenario.startswith("soak") else replay
    load = f", load average {sum(one.load) / len(one.load):.1f}" if one.load else ""
    facts = (
        f"Asked: {html.escape(one.promise)}. Longest time without an acknowledged write: <b>{one.gaps_s[0]:.2f} s</b> "
        f"through node-0, <b>{one.gaps_s[1]:.2f} s</b> through node-1. Promotions: {one.counts.get('promotions', 0)}; "
        f"went alone: {one.counts.get('went_alone', 0)}{load}. Again: <code>{replay}</code>"
    )
    return (
        f'<section id="s{number}"><h2>{html.escape(one.scenario)} <span class="{word}">{word}</span></h2>'
        f'<p class="facts">{facts}</p>{bad}{timeline(one)}{_verdict(one)}{_events(one)}</section>'
    )


def _verdict(one: Result) -> str:
    """Say what was compared, so that a reader knows what a good verdict rests on."""
    count = one.counts
    if one.complaints or not one.finished:
        return ""
    explained = "kept in the table or an archive" if "archived_swaps" in count else "explained by one order"
    held = "in the table or an archive" if count.get("archived") else "in the table"
    return (
        f'<p class="verdict"><b class="good">✓</b> {count.get("acknowledged", 0):,} acknowledged writes are {held} '
        f"({count.get('archived', 0):,} archived) · {count.get('swaps', 0):,} swaps and {count.get('reads', 0):,} reads of "
        f"contended keys {explained} · {count.get('events', 0):,} watch events in order, once, complete · "
        "both databases equal</p>"
    )


def _events(one: Result) -> str:
    told = [(mark.at_s, "", mark.what) for mark in one.marks]
    told += [(event.at_s, f"node-{event.node}", f"{event.kind}: {event.message}") for event in one.events]
    rows = "".join(
        f'<tr><td class="n">{at_s:.2f} s</td><td>{who}</td><td>{html.escape(what)}</td></tr>'
        for at_s, who, what in sorted(told)
    )
    return f"<details><summary>{len(told)} events</summary><table>{rows}</table></details>" if told else ""


def _word(one: Result) -> str:
    if one.skipped:
        return "skipped"
    return "bad" if one.complaints else "good" if one.finished else "unfinished"


def keep_logs(site: Site, result: Result) -> None:
    """What a person needs who looks for the cause."""
    folder = FOLDER / "failed" / result.scenario
    folder.mkdir(parents=True, exist_ok=True)
    for node in site.nodes:
        for source in (node.log, node.postgres.log, node.state_dir / "history.jsonl"):
            try:
                text = source.read_bytes()
            except OSError:
                continue
            (folder / f"{node.name}-{source.name}").write_bytes(text[-(4 << 20) :])
    print(f"        logs: {os.path.relpath(folder)}", flush=True)
