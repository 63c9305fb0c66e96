"""docs/install.md as a machine reads it: every block, where it is typed, and the addresses that are put in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "install.md"
BLOCK = re.compile(r"^```(?P<told>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'^sh title="(?P<title>[^"]+)"$')
BOTH = "both machines"
MACHINES = {"machine 0": (0,), "machine 1": (1,), BOTH: (0, 1)}
ELSEWHERE = ("build", "upgrade", "remove")  # typed by a test of its own


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands."""

    title: str
    text: str


def blocks() -> list[Block]:
    """Return every block of the page. Raises ValueError where one does not say where it is typed."""
    found = []
    for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        title = TITLE.match(match["told"])
        if title is None or title["title"] not in (*MACHINES, *ELSEWHERE):
            raise ValueError(f"{PAGE}: a block does not say where it is typed: ```{match['told']}")
        found.append(Block(title["title"], match["text"]))
    return found


def titled(title: str) -> str:
    """Return the one block of that title."""
    (found,) = [block.text for block in blocks() if block.title == title]
    return found


def put_in(text: str, own: tuple[str, str], witness: str) -> str:
    """Return a block with the reader's addresses in place of those of the page, as the page says to do."""
    for told, here in zip(("10.0.0.1", "10.0.0.2", "10.0.0.254:80"), (*own, witness), strict=True):
        text = re.sub(rf"(?<![\d.]){re.escape(told)}(?![\d.:])", here, text)
    return text
