from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from chaos import report
from chaos.play import Asked, Band, Mark, Result, Sample
from chaos.timeline import timeline

if TYPE_CHECKING:
    from pathlib import Path


def result(**more: object) -> Result:
    one = Result("power-loss-leader", "", seconds=12.0, finished=True, gaps_s=(5.0, 0.1))
    one.samples = [Sample(0.0, ("leader", "follower"), "in_sync"), Sample(4.0, (None, "leader"), "alone")]
    one.marks = [Mark(3.0, "power-loss on node-0"), Mark(3.2, "mend")]
    one.asked = ([Asked(0.1, 0.01), Asked(2.9, None)], [Asked(5.0, 0.01)])
    for name, value in more.items():
        setattr(one, name, value)
    return one


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = report.write([result()], tmp_path, "chaos", random_seed=None).read_text()
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import|<script", page)


def test_what_goes_wrong_is_shown_as_it_is(tmp_path: Path) -> None:
    bad = result(complaints=["3 <lost> & gone"])
    page = report.write([bad], tmp_path, "chaos", random_seed="4").read_text()
    assert "3 &lt;lost&gt; &amp; gone" in page
    assert "1 bad" in page
    content = json.loads((tmp_path / "chaos.json").read_text())
    assert content["seed"] == "4"
    assert content["scenarios"][0]["good"] is False


def drawing(one: Result) -> ElementTree.Element:
    return ElementTree.fromstring(timeline(one))  # noqa: S314 - our own


def texts(svg: ElementTree.Element) -> list[str | None]:
    return [one.text for one in svg.iter("text")]


def test_a_timeline_shows_the_roles_of_both_nodes() -> None:
    svg = drawing(result())
    titles = [one.text or "" for one in svg.iter("title")]
    assert [one.split(", from")[0] for one in titles if "from" in one] == [
        "leads, in sync", "says nothing", "follows", "leads alone",
    ]  # fmt: skip
    assert {"node-0", "node-1"} <= set(texts(svg))


def test_a_fault_is_a_band_as_long_as_it_lasts() -> None:
    svg = drawing(result(bands=[Band(3.0, "cut on node-0", 6.0), Band(9.0, "a fault that lasts")]))
    assert {"cut on node-0", "a fault that lasts"} <= set(texts(svg))
    shades = [one for one in svg.iter("rect") if one.get("class") == "fault"]
    widths = [float(one.get("width", "0")) for one in shades]
    assert widths[0] == pytest.approx(widths[1], abs=1.0), "both last three of the twelve seconds"


def test_a_gap_is_shown_and_named() -> None:
    asked = [Asked(at / 10, 0.004) for at in range(120) if not 30 <= at < 60]
    svg = drawing(result(asked=(asked, [Asked(at / 10, 0.004) for at in range(120)])))
    assert len([one for one in svg.iter("rect") if one.get("class") == "gap"]) == 1
    assert "3.10 s" in texts(svg)


def test_slower_is_higher_and_off_the_scale_is_at_its_edge() -> None:
    (drawn,) = [
        one.get("d", "") for one in drawing(result(asked=([Asked(1.0, 0.002), Asked(5.0, 60.0)], []))).iter("path")
    ]
    fast, slow = (float(height) for height in re.findall(r",([\d.]+)V", drawn))
    assert 0 < slow < fast


def test_labels_do_not_cover_each_other() -> None:
    svg = drawing(result(bands=[Band(1.0 + number / 10, f"label {number}", 2.0) for number in range(4)]))
    heights = [one.get("y") for one in svg.iter("text") if (one.text or "").startswith("label")]
    assert len(set(heights)) == len(heights) == 4


def test_what_recurs_is_named_once() -> None:
    svg = drawing(result(bands=[Band(1.0 + number, ("CPU", "I/O")[number % 2], 2.0 + number) for number in range(6)]))
    assert [text for text in texts(svg) if text in ("CPU", "I/O")] == ["CPU", "I/O"]


def test_what_is_not_judged_yet_is_no_success(tmp_path: Path) -> None:
    page = report.write([result(finished=False)], tmp_path, "soak", random_seed=None).read_text()
    assert "not finished" in page
    assert "all good" not in page
    assert json.loads((tmp_path / "soak.json").read_text())["scenarios"][0]["good"] is False


def test_nothing_played_is_no_success(tmp_path: Path) -> None:
    skipped = Result("clock-ahead-leader", "", skipped="libfaketime is not installed")
    page = report.write([skipped], tmp_path, "chaos", random_seed=None).read_text()
    assert "libfaketime is not installed" in page
    assert "nothing was played" in page
    assert "all good" not in page
