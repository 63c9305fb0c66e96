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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.site import Site

FOLDER = Path(__file__).resolve().parent / "results"
WIDTH, LEFT, RIGHT = 1100, 70, 20
LANE, CHART, GAP = 16, 46, 8
BUCKET_S = 0.25
TICKS_MAX = 20
CHARACTER = 6.6  # width of one in a label
COLOURS = {
    "in_sync": "#1a7f4b", "alone": "#d98200", "catching_up": "#8fae2c", "follower": "#4c84c4", "starting": "#9a8fc0",
    "promoting": "#c455a8", "resyncing": "#62b5c9", "demoting": "#a5746a", "halted": "#b3261e", "silent": "#c9ced4",
}  # fmt: skip
LEGEND = {
    "in_sync": "leads, in sync", "alone": "leads alone", "catching_up": "leads, follower catching up",
    "follower": "follows", "promoting": "promotes", "starting": "starts", "resyncing": "resyncs", "demoting": "gives up",
    "silent": "says nothing",
}  # fmt: skip
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:28px 24px;color:#1c2530;background:#fff}
h1{font-size:25px;margin:0 0 4px}h2{font-size:17px;margin:0}p.sub{color:#5a6672;margin:0 0 18px}
table{border-collapse:collapse;width:100%;margin:16px 0 26px;font-size:14px}
th{text-align:left;color:#5a6672;font-weight:600}th,td{padding:5px 10px 5px 0;border-bottom:1px solid #e4e8ec}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}a{color:#2360a5;text-decoration:none}
.good{color:#1a7f4b;font-weight:600}.bad{color:#b3261e;font-weight:600}.skipped{color:#8a949e}
section{border:1px solid #dde2e7;border-radius:8px;padding:14px 18px;margin:0 0 18px}
.facts{color:#5a6672;font-size:13.5px;margin:2px 0 8px}pre{background:#fdf2f1;padding:10px;white-space:pre-wrap;font-size:12.5px}
.legend span{display:inline-block;margin-right:16px;font-size:13px;color:#3c4751}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:5px;vertical-align:-1px}
svg text{font:11.5px system-ui,sans-serif;fill:#5a6672}
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
    bad = [one for one in played if one.complaints]
    verdict = f'<span class="bad">{len(bad)} bad</span>' if bad else '<span class="good">all good</span>'
    acknowledged = sum(one.counts.get("acknowledged", 0) for one in played)
    legend = "".join(f'<span><i style="background:{COLOURS[one]}"></i>{text}</span>' for one, text in LEGEND.items())
    rows = "".join(_row(number, one) for number, one in enumerate(results))
    sections = "".join(_section(number, one) for number, one in enumerate(results) if one.skipped is None)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>kine-failover {name}</title><style>{STYLE}</style>'
        f"<h1>kine-failover: {name}</h1>"
        f'<p class="sub">{len(played)} scenarios, {verdict}, {acknowledged:,} acknowledged writes; {at}, '
        f"{machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}</p>"
        f'<div class="legend">{legend}</div>'
        '<table><tr><th>scenario</th><th></th><th class="n">seconds</th><th class="n">acknowledged</th>'
        '<th class="n">no answer</th><th class="n">swaps</th><th class="n">events</th><th class="n">archived</th>'
        f'<th class="n">longest gap, s</th></tr>{rows}</table>{sections}</html>\n'
    )


def _row(number: int, one: Result) -> str:
    word = "skipped" if one.skipped else "bad" if one.complaints else "good"
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
    word = '<span class="bad">bad</span>' if one.complaints else '<span class="good">good</span>'
    seed = f"; replay with SEED={html.escape(one.seed.split('/')[0])}" if one.seed else ""
    facts = f"changes of leadership: {one.leadership_changes}; longest gap {one.gaps_s[0]:.2f} s through node-0, "
    facts += f"{one.gaps_s[1]:.2f} s through node-1{seed}"
    return (
        f'<section id="s{number}"><h2>{html.escape(one.scenario)} {word}</h2><p class="facts">{facts}</p>'
        f"{bad}{_timeline(one)}</section>"
    )


def _timeline(one: Result) -> str:
    """Draw both nodes' roles as lanes, acknowledged writes as areas, and what was done as lines."""
    scale = (WIDTH - LEFT - RIGHT) / max(one.seconds, 1.0)
    labels, rows_of_labels = _labels(one, scale)
    top = 14 * rows_of_labels + 8
    parts, y = [], float(top)
    for node in (0, 1):
        parts += _lane(one, node, y, scale)
        parts += _chart(one, node, y + LANE + 3, scale)
        y += LANE + 3 + CHART + GAP
    parts += _axis(one, y, scale)
    lines = [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{14 * row + 14}" y2="{y:.0f}" stroke="#b3261e" stroke-width="1" '
        f'stroke-dasharray="3 3" opacity=".7"/>{_label(x, 14 * row + 12, text)}'
        for x, row, text in labels
    ]
    height = y + 20
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="100%" role="img" aria-label="timeline of {html.escape(one.scenario)}">'
        f"{''.join(parts + lines)}</svg>"
    )


def _label(x: float, y: float, text: str) -> str:
    """Return a label beside its line; at the right edge on the line's left."""
    fits = x + CHARACTER * len(text) < WIDTH
    place = f'x="{x + 3:.1f}"' if fits else f'x="{x - 3:.1f}" text-anchor="end"'
    return f'<text {place} y="{y}">{html.escape(text)}</text>'


def _labels(one: Result, scale: float) -> tuple[list[tuple[float, int, str]], int]:
    """Place the labels in rows, so that none covers another."""
    ends: list[float] = []
    placed = []
    for mark in one.marks:
        x = LEFT + mark.at_s * scale
        row = next((number for number, end in enumerate(ends) if end < x), len(ends))
        ends[row:] = [x + CHARACTER * len(mark.what) + 12, *ends[row + 1 :]]
        placed.append((x, row, mark.what))
    return placed, max(1, len(ends))


def _lane(one: Result, node: int, y: float, scale: float) -> list[str]:
    parts = [f'<text x="0" y="{y + 12:.0f}">node-{node}</text>']
    states = [(sample.at_s, _state(sample.roles[node], sample.sync)) for sample in one.samples]
    began: tuple[float, str] | None = None
    for at_s, state in [*states, (one.seconds, "")]:
        if began is not None and state == began[1]:
            continue
        if began is not None:
            x, width = LEFT + began[0] * scale, (at_s - began[0]) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.0f}" width="{max(width, 0.6):.1f}" height="{LANE}" '
                f'fill="{COLOURS.get(began[1], "#888")}"><title>{began[1]}</title></rect>'
            )
        began = (at_s, state)
    return parts


def _state(role: str | None, sync: str | None) -> str:
    if role is None:
        return "silent"
    return sync or "alone" if role == "leader" else role


def _chart(one: Result, node: int, y: float, scale: float) -> list[str]:
    """Acknowledged writes a second, as an area."""
    buckets = [0] * (int(one.seconds / BUCKET_S) + 1)
    for at_s in [each.sent_s + each.took_s for each in one.asked[node] if each.took_s is not None]:
        if 0 <= at_s < one.seconds:
            buckets[int(at_s / BUCKET_S)] += 1
    peak = max([*buckets, 1])
    points = [f"{LEFT},{y + CHART:.0f}"]
    for number, count in enumerate(buckets):
        height = y + CHART - CHART * count / peak
        edges = (number * BUCKET_S, min((number + 1) * BUCKET_S, one.seconds))
        points += [f"{LEFT + edge_s * scale:.1f},{height:.1f}" for edge_s in edges]
    points.append(f"{LEFT + one.seconds * scale:.1f},{y + CHART:.0f}")
    rate = round(peak / BUCKET_S)
    return [
        f'<polygon points="{" ".join(points)}" fill="#7d93a8" opacity=".55"/>',
        f'<text x="{LEFT - 6}" y="{y + 11:.0f}" text-anchor="end">{rate}/s</text>',
    ]


def _axis(one: Result, y: float, scale: float) -> list[str]:
    step = next(size for size in (1, 2, 5, 10, 30, 60, 300, 600) if one.seconds / size <= TICKS_MAX)
    return [
        f'<line x1="{LEFT + at * scale:.1f}" x2="{LEFT + at * scale:.1f}" y1="{y:.0f}" y2="{y + 4:.0f}" stroke="#5a6672"/>'
        f'<text x="{LEFT + at * scale:.1f}" y="{y + 16:.0f}" text-anchor="middle">{at} s</text>'
        for at in range(0, int(one.seconds) + 1, step)
    ]


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
