"""packaging/constraints.txt names the version of all that the package brings: else the same commit gives other bytes later."""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parents[2] / "packaging" / "constraints.txt"


def brought(name: str, extras: frozenset[str] = frozenset()) -> set[tuple[str, frozenset[str]]]:
    """Return what this distribution asks for here, each with the extras that are asked of it."""
    asked = [Requirement(line) for line in requires(name) or []]
    wanted = [{"extra": extra} for extra in extras or {""}]
    return {
        (canonicalize_name(one.name), frozenset(one.extras))
        for one in asked
        if one.marker is None or any(one.marker.evaluate(environment) for environment in wanted)
    }


def test_every_part_of_the_package_is_pinned() -> None:
    pinned = {line.partition("==")[0] for line in PINS.read_text().splitlines() if not line.startswith("#")}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = brought("kine-failover")
    while waiting:
        part = waiting.pop()
        if part not in seen:
            seen.add(part)
            waiting |= brought(*part)
    names = {name for name, _ in seen}
    assert "psycopg-binary" in names, "extras are looked into"
    assert names <= {canonicalize_name(one) for one in pinned}
