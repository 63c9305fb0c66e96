"""The images that docker-compose.yml names: pulled where a registry answers, else stand-ins made of packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import DockerException, ImageNotFound

from lab import binaries

if TYPE_CHECKING:
    from docker import DockerClient

ROOT = Path(__file__).parents[2]
OWN = "kine-failover:local"
PUBLIC = (
    "eclipse-mosquitto:2.0.20",
    "golang:1.26-bookworm",
    "grafana/grafana:11.5.2",
    "haproxy:2.8-bookworm",
    "postgres:16-bookworm",
    "prom/prometheus:v2.55.1",
    "python:3.13-slim-bookworm",
)
BUILDS_S = 900


class NoImagesError(Exception):
    """Images can be neither pulled nor stood in for; the message says why."""


def ready(address: str) -> None:
    """Have every image there, our own built from this checkout. Raises NoImagesError, CalledProcessError."""
    with contextlib.closing(docker.DockerClient(base_url=address, timeout=BUILDS_S)) as engine:
        missing = [name for name in PUBLIC if not _is_there(engine, name)]
        if missing and not _pulled(engine, missing):
            _stand_in(address)
        _build(address, stand_ins=_is_there(engine, "kine-failover-stand-in:bookworm"))


def _is_there(engine: DockerClient, name: str) -> bool:
    try:
        engine.images.get(name)
    except ImageNotFound:
        return False
    return True


def _pulled(engine: DockerClient, names: list[str]) -> bool:
    try:
        for name in names:
            engine.images.pull(name)
    except DockerException as error:
        sys.stderr.write(f"no image can be pulled: {error}\n"[:300])
        return False
    return True


def _stand_in(address: str) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise NoImagesError("no image can be pulled, and stand-ins need root and debootstrap")
    kine = os.fspath(binaries.kine())
    _run(address, [os.fspath(ROOT / "tests/compose/stand_ins.sh")], KINE=kine)


def _build(address: str, *, stand_ins: bool) -> None:
    # A builder of ours must take the images that are there, and has the host's way to the packages.
    extra = {"DOCKER_BUILDKIT": "0"} if stand_ins else {}
    network = ["--network", "host"] if stand_ins else []
    _run(address, ["docker", "build", *network, "--quiet", "--file", "compose/Dockerfile", "--tag", OWN, "."], **extra)


def _run(address: str, argv: list[str], **environment: str) -> None:
    subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "DOCKER_HOST": address, **environment}, check=True, timeout=BUILDS_S,
        stdout=sys.stderr,
    )  # fmt: skip


if __name__ == "__main__":
    ready(os.environ["DOCKER_HOST"])
