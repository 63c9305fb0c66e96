"""One scenario as a picture: what was done to the pair, both nodes' roles, and how long each client waited."""

from __future__ import annotations

import html
import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.play import Asked, Result

WIDTH, LEFT, RIGHT = 1100, 92, 20
LANE, CHART, SPACE, BAR = 16, 62, 14, 17
COLUMN = 2.0  # pixels that share one stroke of the latency plot
GAP_MIN_S = 0.3  # shorter times between two answers are not shaded
GAP_LABEL_PX = 46.0
FASTEST_S, SLOWEST_S = 0.001, 3.0  # edges of the latency axis
LATENCIES_S = {0.001: "1 ms", 0.01: "10 ms", 0.1: "100 ms", 1.0: "1 s"}
TICKS_MAX = 20
CHARACTER = 6.6  # width of one in a label
COLOURS = {
    "in_sync": "#1a7f4b", "alone": "#d98200", "catching_up": "#8fae2c", "follower": "#4c84c4", "starting": "#9a8fc0",
    "promoting": "#c455a8", "resyncing": "#62b5c9", "demoting": "#a5746a", "halted": "#b3261e", "silent": "#c9ced4",
}  # fmt: skip
LEGEND = {
    "in_sync": "leads, in sync", "alone": "leads alone", "catching_up": "leads, follower catching up",
    "follower": "follows", "promoting": "promotes", "starting": "starts", "resyncing": "resyncs", "demoting": "gives up",
    "halted": "needs a person", "silent": "says nothing",
}  # fmt: skip
FAULT, GAP, STROKE, INK = "#f0b429", "#b3261e", "#34566f", "#5a6672"


def timeline(one: Result) -> str:
    """Return the picture as SVG."""
    scale = (WIDTH - LEFT - RIGHT) / max(one.seconds, 1.0)
    bars, y = _bars(one, scale)
    top = y
    parts: list[str] = []
    for node in (0, 1):
        parts += _lane(one, node, y, scale)
        parts += _latency(one.asked[node], y + LANE + 4, scale)
        y += LANE + 4 + CHART + SPACE
    shades = [
        f'<rect class="fault" x="{LEFT + band.began_s * scale:.1f}" y="{top:.0f}" '
        f'width="{_width(band.began_s, band.ended_s, one.seconds, scale):.1f}" height="{y - top - SPACE:.0f}" '
        f'fill="{FAULT}" opacity=".13"/>'
        for band in one.bands
    ]
    parts += _axis(one, y - SPACE + 2, scale)
    return (
        f'<svg viewBox="0 0 {WIDTH} {y + 12:.0f}" width="100%" role="img" '
        f'aria-label="timeline of {html.escape(one.scenario)}">{"".join([*shades, *bars, *parts])}</svg>'
    )


def legend() -> str:
    """Return what the colours mean, as HTML."""
    roles = "".join(f'<span><i style="background:{COLOURS[one]}"></i>{text}</span>' for one, text in LEGEND.items())
    return (
        f'<div class="legend">{roles}</div><div class="legend"><span><i style="background:{FAULT}"></i>a fault lasts</span>'
        f'<span><i style="background:{STROKE}"></i>time until a write was acknowledged, fastest to slowest, logarithmic'
        f'</span><span><i style="background:{GAP};opacity:.3"></i>no write acknowledged for {GAP_MIN_S:g} s or more</span>'
        f'<span><i style="background:{GAP};height:4px;vertical-align:3px"></i>writes without an answer</span></div>'
    )


def _width(began_s: float, ended_s: float | None, seconds: float, scale: float) -> float:
    return max(((ended_s if ended_s is not None else seconds) - began_s) * scale, 2.0)


def _bars(one: Result, scale: float) -> tuple[list[str], float]:
    """Draw a bar for each fault in rows, so that no label covers another; what recurs has a row of its own.

    Returns the bars and where they end.
    """
    recurring = [what for what, count in Counter(band.what for band in one.bands).items() if count > 1]
    ends: list[float] = []  # of the rows of what comes once
    parts = []
    for band in one.bands:
        x = LEFT + band.began_s * scale
        width = _width(band.began_s, band.ended_s, one.seconds, scale)
        bar = f'width="{width:.1f}" height="{BAR - 3}" rx="2" fill="{FAULT}" opacity=".75"/>'
        if band.what in recurring:
            parts.append(f'<rect x="{x:.1f}" y="{BAR * recurring.index(band.what)}" {bar}')
            continue
        room = CHARACTER * len(band.what) + 12
        row = next((number for number, end in enumerate(ends) if end < x), len(ends))
        ends[row:] = [max(x + width, x + room), *ends[row + 1 :]]
        place = f'x="{x + 4:.1f}"' if x + room < WIDTH else f'x="{x - 4:.1f}" text-anchor="end"'
        y = BAR * (len(recurring) + row)
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" {bar}<text {place} y="{y + 11}" class="what">{html.escape(band.what)}</text>'
        )
    parts += [
        f'<text x="{LEFT - 6}" y="{BAR * row + 11}" text-anchor="end" class="what">{html.escape(what)}</text>'
        for row, what in enumerate(recurring)
    ]
    if ends:
        parts.append(f'<text x="0" y="{BAR * len(recurring) + 11}">faults</text>')
    return parts, float(BAR * (len(recurring) + len(ends)) + 6)


def _lane(one: Result, node: int, y: float, scale: float) -> list[str]:
    parts = [f'<text x="0" y="{y + 12:.0f}" class="what">node-{node}</text>']
    states = [(sample.at_s, _state(sample.roles[node], sample.sync)) for sample in one.samples]
    began: tuple[float, str] | None = None
    for at_s, state in [*states, (one.seconds, "")]:
        if began is not None and state == began[1]:
            continue
        if began is not None:
            x, width = LEFT + began[0] * scale, (at_s - began[0]) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.0f}" width="{max(width, 0.6):.1f}" height="{LANE}" '
                f'fill="{COLOURS.get(began[1], "#888")}"><title>{LEGEND.get(began[1], began[1])}, from {began[0]:.1f} s to '
                f"{at_s:.1f} s</title></rect>"
            )
        began = (at_s, state)
    return parts


def _state(role: str | None, sync: str | None) -> str:
    if role is None:
        return "silent"
    return sync or "alone" if role == "leader" else role


def gaps_s(asked: list[Asked]) -> list[tuple[float, float]]:
    """Return where no write was acknowledged for longer than is usual: began and ended, seconds."""
    times = sorted(one.sent_s + one.took_s for one in asked if one.took_s is not None)
    return [(before, after) for before, after in itertools.pairwise(times) if after - before >= GAP_MIN_S]


def _latency(asked: list[Asked], y: float, scale: float) -> list[str]:
    """Draw how long writes took, by the time at which they were sent; gaps shaded, missing answers as ticks on top."""
    parts = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_height(at_s, y):.1f}" y2="{_height(at_s, y):.1f}" stroke="#e4e8ec"/>'
        f'<text x="{LEFT - 6}" y="{_height(at_s, y) + 4:.1f}" text-anchor="end">{word}</text>'
        for at_s, word in LATENCIES_S.items()
    ]
    for began, ended in gaps_s(asked):
        x, width = LEFT + began * scale, (ended - began) * scale
        parts.append(
            f'<rect class="gap" x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{CHART}" fill="{GAP}" opacity=".14">'
            f"<title>no write acknowledged for {ended - began:.2f} s</title></rect>"
        )
        if width > GAP_LABEL_PX:
            middle = x + width / 2
            parts.append(
                f'<text x="{middle:.1f}" y="{y + 36:.0f}" text-anchor="middle" class="gap">{ended - began:.2f} s</text>'
            )
    columns: dict[int, tuple[float, float]] = {}
    silent: set[int] = set()
    for one in asked:
        column = int(one.sent_s * scale / COLUMN)
        if one.took_s is None:
            silent.add(column)
        else:
            low, high = columns.get(column, (one.took_s, one.took_s))
            columns[column] = (min(low, one.took_s), max(high, one.took_s))
    drawn = "".join(
        f"M{LEFT + (column + 0.5) * COLUMN:.0f},{_height(low, y) + 0.8:.1f}V{_height(high, y) - 0.8:.1f}"
        for column, (low, high) in sorted(columns.items())
    )
    ticks = "".join(f"M{LEFT + (column + 0.5) * COLUMN:.0f},{y:.0f}v4" for column in sorted(silent))
    return [
        *parts,
        f'<path d="{drawn}" stroke="{STROKE}" stroke-width="{COLUMN - 0.4}" fill="none"/>' if drawn else "",
        f'<path d="{ticks}" stroke="{GAP}" stroke-width="{COLUMN}" fill="none"/>' if ticks else "",
    ]


def _height(took_s: float, y: float) -> float:
    """Return the place of a latency on the logarithmic axis, slow ones on top."""
    inside = min(max(took_s, FASTEST_S), SLOWEST_S)
    share = math.log(inside / FASTEST_S) / math.log(SLOWEST_S / FASTEST_S)
    return y + CHART - 2 - (CHART - 8) * share


def _axis(one: Result, y: float, scale: float) -> list[str]:
    step = next(size for size in (1, 2, 5, 10, 30, 60, 300, 600, 3600) if one.seconds / size <= TICKS_MAX)
    unit_s, word = (60, "min") if step >= 60 else (1, "s")  # noqa: PLR2004 - a minute
    return [
        f'<line x1="{LEFT + at * scale:.1f}" x2="{LEFT + at * scale:.1f}" y1="{y:.0f}" y2="{y + 4:.0f}" stroke="{INK}"/>'
        f'<text x="{LEFT + at * scale:.1f}" y="{y + 16:.0f}" text-anchor="middle">{at // unit_s} {word}</text>'
        for at in range(0, int(one.seconds) + 1, step)
    ]
