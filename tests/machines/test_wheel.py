"""What Python's own tools make of it: wheel and sdist, pipx, the list of parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.compose.images import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)  # a package is built, Debian packages are installed

LIMIT_S = 1200


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with `build` and `pipx`. Skips where no index of packages can be reached."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=LIMIT_S)
    install: list[str | Path] = [
        folder / "bin/pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "build",
        "pipx",
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if done.returncode:
        pytest.skip(f"no index of packages: {done.stderr[-300:]}")
    return folder / "bin"


@pytest.fixture(scope="session")
def built(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and sdist; the wheel is made from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run([tools / "python", "-m", "build", "--outdir", folder, ROOT])
    return folder


def run(argv: Sequence[str | Path], **environment: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_pipx_installs_a_command_that_works(tools: Path, built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("kine_failover-*.whl")
    (sdist,) = built.glob("kine_failover-*.tar.gz")
    assert wheel.stat().st_size > 0 < sdist.stat().st_size
    places = {"PIPX_HOME": f"{tmp_path}/home", "PIPX_BIN_DIR": f"{tmp_path}/bin", "PIPX_MAN_DIR": f"{tmp_path}/man"}
    run([tools / "pipx", "install", wheel], **places)
    command = tmp_path / "bin/kine-failover"
    assert run([command, "--version"]).split()[-1] == wheel.name.split("-")[1]
    configuration = tmp_path / "config.toml"
    configuration.write_text(CONFIGURATION)
    assert "good" in run([command, "config", "check", "--config", configuration])
    # What it needs beside its modules has come along: the statements for Postgres.
    setup = run([command, "postgres-setup", "--config", configuration, "--data", "/data", "--part", "sql"])
    assert "kine_failover_admin" in setup


CONFIGURATION = """
[node]
cluster = "shop"
number = 0
[link]
listen = ["127.0.0.1:7480"]
peer = ["127.0.0.1:7481"]
[postgres]
own = "host=127.0.0.1 dbname=kine user=kine_failover"
peer = "host=127.0.0.1 port=5433 dbname=kine user=kine_failover"
[kine]
own = "postgres://kine@127.0.0.1/kine"
peer = "postgres://kine@127.0.0.1:5433/kine"
"""


def test_the_list_of_parts_names_every_part(tools: Path) -> None:
    del tools  # where there is an index of packages
    run(["make", "sbom"])
    told = json.loads((ROOT / "dist/sbom.json").read_text())
    assert told["bomFormat"] == "CycloneDX"
    parts = {one["name"].lower().replace("_", "-"): one["version"] for one in told["components"]}
    pins = [line for line in (ROOT / "packaging/constraints.txt").read_text().splitlines() if not line.startswith("#")]
    for name, version in (line.split("==") for line in pins):
        assert parts.get(name.lower()) == version, name
