"""Foreign bytes: whatever they are, a parser refuses them in its own words or returns something sound."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failover import config
from failover.adapters.state_file import StateFile
from failover.core import heartbeat as wire
from failover.errors import ConfigError
from failover.ports import PortError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=20,
)
NAMES = st.sampled_from(["node", "link", "postgres", "kine", "timing", "cluster", "number", "own", "peer", "listen"])


@given(st.binary(max_size=400) | JSON.map(lambda value: json.dumps(value).encode()))
def test_heartbeats(raw: bytes) -> None:
    with pytest.raises(wire.RefusedError) as refused:
        wire.decode(raw, cluster="shop", own_node=0)
    assert "\n" not in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | JSON.map(lambda value: json.dumps({"v": 1, "durable": value}).encode()))
def test_state_files(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        path.write_bytes(raw)
        with contextlib.suppress(PortError):
            StateFile(path).load()
        assert path.read_bytes() == raw  # a damaged file is left as it is


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=400)
    | st.dictionaries(NAMES, st.dictionaries(NAMES, st.text(max_size=20) | st.integers(), max_size=4), max_size=4).map(
        lambda told: "\n".join(
            f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
            for section, keys in told.items()
        ).encode()
    )
)
def test_configurations(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(raw)
        with pytest.raises(ConfigError) as refused:
            config.load(path)
    assert all(line.startswith(f"{path}: ") for line in str(refused.value).split("\n"))
