"""What pages and style promise is looked up: commands that are named exist, and functions fit on a screen."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer.main

from failover.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"`([^`\n]+)`|^(?:\$ |sudo )?((?:make|kine-failover) .*)$", re.MULTILINE)
LINES_MAX = 70


def named(text: str, program: str) -> set[str]:
    """Return the first words after `program` in what stands as code."""
    found = set()
    for one in CODE.finditer(text):
        for command in re.split(r"&&|\||;", one[1] or one[2]):
            words = [word for word in command.split() if "=" not in word and word not in {"sudo", "$"}]
            if len(words) > 1 and words[0] == program and re.fullmatch(r"[a-z][a-z-]+", words[1]):
                found.add(words[1])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named(text, "make") <= targets
    command = typer.main.get_command(cli)
    assert named(text, "kine-failover") <= set(command.commands)  # type: ignore[attr-defined]


def test_what_is_looked_for_would_be_missed() -> None:
    assert named("`make nothing RUNS=1`, `sudo kine-failover status && make bench`", "make") == {"nothing", "bench"}
    assert named("kine-failover run --config x", "kine-failover") == {"run"}


def test_functions_fit_on_a_screen() -> None:
    long = []
    for folder in ("failover", "probes", "lab", "demo", "bench", "chaos", "tests", "docs", "compose"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "_pb2" in file.name:
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    long += [f"{file}:{node.lineno} {node.name}: {lines} lines"] if lines > LINES_MAX else []
    assert not long
