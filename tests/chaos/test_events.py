from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chaos.events import EventTail

if TYPE_CHECKING:
    from pathlib import Path


def line(kind: str) -> str:
    return json.dumps({"id": 1, "kind": kind, "message": "why"}) + "\n"


def kinds(tail: EventTail) -> list[str]:
    return [event.kind for event in tail.new(1.0)]


def test_only_what_is_new_is_read_and_only_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(line("old"))
    tail = EventTail(0, path)
    assert kinds(tail) == []
    with path.open("a") as file:
        file.write(line("leads") + line("alone")[:9])
        file.flush()
        assert kinds(tail) == ["leads"]
        file.write(line("alone")[9:])
    assert kinds(tail) == ["alone"]


def test_a_rotated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(line("old") * 5)
    tail = EventTail(0, path)
    path.rename(path.with_suffix(".1"))
    path.write_text(line("leads"))
    assert kinds(tail) == ["leads"]


def test_what_a_loss_of_power_took_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(line("old") * 5)
    tail = EventTail(0, path)
    path.write_text(line("old") * 3)
    assert kinds(tail) == []
    with path.open("a") as file:
        file.write(line("leads"))
    assert kinds(tail) == ["leads"]
