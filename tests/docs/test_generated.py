from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_protocol_page_is_the_rule_table() -> None:
    assert (DOCS / "protocol.md").read_text() == generator("generate_protocol").protocol_page(), "run: make docs"


def test_the_role_diagram_is_the_rule_tables() -> None:
    page = (DOCS / "architecture.md").read_text()
    assert page == generator("generate_protocol").architecture_page(page), "run: make docs"


def test_the_configuration_page_is_the_models() -> None:
    page = generator("generate_reference").configuration_page()
    assert (DOCS / "configuration.md").read_text() == page, "run: make docs"


def test_the_command_line_page_is_the_command() -> None:
    assert (DOCS / "cli.md").read_text() == generator("generate_reference").cli_page(), "run: make docs"
