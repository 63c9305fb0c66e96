from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from chaos import report
from chaos.play import Asked, Mark, Result, Sample

if TYPE_CHECKING:
    from pathlib import Path


def result(**more: object) -> Result:
    one = Result("power-loss-leader", "", seconds=12.0)
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


def test_a_timeline_is_a_picture_with_both_nodes(tmp_path: Path) -> None:
    page = report.write([result()], tmp_path, "chaos", random_seed=None).read_text()
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    drawn = ElementTree.fromstring(svg)  # noqa: S314 - our own
    titles = [one.text for one in drawn.iter("title")]
    assert titles == ["in_sync", "silent", "follower", "alone"]
    texts = [one.text for one in drawn.iter("text")]
    assert {"node-0", "node-1", "power-loss on node-0", "mend"} <= set(texts)


def test_labels_do_not_cover_each_other(tmp_path: Path) -> None:
    close = result(marks=[Mark(1.0 + number / 10, f"label {number}") for number in range(4)])
    page = report.write([close], tmp_path, "chaos", random_seed=None).read_text()
    heights = re.findall(r'y="(\d+)">label', page)
    assert len(set(heights)) == len(heights) == 4


def test_nothing_played_is_no_success(tmp_path: Path) -> None:
    skipped = Result("clock-ahead-leader", "", skipped="libfaketime is not installed")
    assert "libfaketime is not installed" in report.write([skipped], tmp_path, "chaos", random_seed=None).read_text()
