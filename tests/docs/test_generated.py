from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protocol", DOCS / "generate_protocol.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_protocol_page_is_the_rule_table() -> None:
    assert (DOCS / "protocol.md").read_text() == generator().protocol_page(), "run: python docs/generate_protocol.py"


def test_the_role_diagram_is_the_rule_tables() -> None:
    page = (DOCS / "architecture.md").read_text()
    assert page == generator().architecture_page(page), "run: python docs/generate_protocol.py"
