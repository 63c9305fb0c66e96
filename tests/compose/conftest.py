"""One pair of containers for all tests of this folder: an engine, images, and the project from docker-compose.yml."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

import docker
import pytest

from lab.engine import NoEngineError, engine
from lab.pair import Reservation
from tests.compose import images
from tests.compose.command import V1, V2, Project, found
from tests.compose.images import NoImagesError
from tests.compose.pair import ContainerPair

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS = ("ETCD_0_PORT", "ETCD_1_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


@pytest.fixture(scope="session")
def engine_address() -> Iterator[str]:
    """An engine that has every image."""
    try:
        with engine() as address, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", address)
            images.ready(address)
            yield address
    except (NoEngineError, NoImagesError) as error:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            raise  # there it must run
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=[V1, V2])
def pair(request: pytest.FixtureRequest, engine_address: str) -> Iterator[ContainerPair]:
    """The project, started by each version of the command that is there."""
    argv = found(request.param)
    if argv is None:
        pytest.skip(f"no docker compose {request.param} here; `make compose-v2` builds version 2")
    ports = Reservation(len(PORTS))
    name = f"kine-failover-{secrets.token_hex(3)}"
    client = docker.DockerClient(base_url=engine_address, timeout=60)
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(client):
        for variable, port in zip(PORTS, ports.ports, strict=True):
            patch.setenv(variable, str(port))
        with ContainerPair(client, name) as pair:
            try:
                with Project(argv, name):
                    yield pair
                    print(pair.logs())
            finally:
                ports.release()
