"""Two machines for all tests of this folder: an engine, the image, the package from this checkout, installed by the page."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from lab import binaries
from lab.engine import NoEngineError, engine
from tests.compose.images import ROOT
from tests.machines import machine, page

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILDS_S = 1200


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """An engine that has the image of a machine."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("machines need root, debootstrap and dpkg-deb")
    if not os.environ.get("PACKAGE") and _python() != machine.PYTHON:
        pytest.skip(
            f"machines need a package for Python {machine.PYTHON}: built where /usr/bin/python3 is that, or $PACKAGE"
        )
    try:
        with engine() as address:
            machine.image(address)
            with contextlib.closing(docker.DockerClient(base_url=address, timeout=120)) as client:
                yield client
    except NoEngineError as error:
        if os.environ.get("CI") == "true":
            raise  # there it must run
        pytest.skip(str(error))


def _python() -> str | None:
    """Return the version of the distribution's Python, for which a package built here is; None where there is none."""
    if not Path("/usr/bin/python3").exists():
        return None
    asks = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(asks, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def package() -> Path:
    """The package that $PACKAGE names, else the one from this checkout, by the page's first command."""
    named = os.environ.get("PACKAGE")
    if named:
        return Path(named).resolve()
    commands = page.titled("build").splitlines()
    assert commands[0] == "make deb"
    assert commands[1].endswith(binaries.KINE_MODULE), "the page names the Kine that is tested"
    for old in (ROOT / "dist").glob("kine-failover_*.deb"):
        old.unlink()
    subprocess.run(commands[0], shell=True, cwd=ROOT, check=True, timeout=BUILDS_S)  # noqa: S602 - the page's own words
    (built,) = (ROOT / "dist").glob("kine-failover_*.deb")
    return built


@pytest.fixture(scope="session")
def machines(client: docker.DockerClient, package: Path) -> Iterator[machine.Machines]:
    """Two machines on which every block of the page was typed, in its order."""
    with machine.Machines(client) as machines:
        for one in machines.nodes:
            one.put(package, binaries.kine(), names=(package.name, "kine"))
        try:
            for block in page.blocks():
                if block.title in page.MACHINES:
                    machines.type(block)
        except BaseException:
            print(machines.logs())
            raise
        yield machines
