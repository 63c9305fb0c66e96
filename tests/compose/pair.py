"""The pair of docker-compose.yml as the laboratory knows a pair: containers that are found by their labels, on any engine."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from docker.errors import APIError, NotFound

from lab.two_nodes import NodeView, TwoNodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker import DockerClient
    from docker.models.containers import Container

WAIT_S = 90.0  # a generous bound on a hang, never a measurement
LOOK_S = 0.2  # a look starts a process in a container
PARTS = ("front", "node", "postgres")  # of a machine, in the order in which a shutdown stops them
NETWORKS = ("link", "site")  # between the machines

# What asks the supervisor over its socket: small, as it runs several times a second in a container.
ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect("/run/kine-failover/control.sock")
s.sendall(b"GET /%s HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n" % sys.argv[1].encode())
answer = b""
while piece := s.recv(65536): answer += piece
sys.stdout.buffer.write(answer.partition(b"\\r\\n\\r\\n")[2])
"""
ROWS = (
    "SELECT json_build_array(id, name, created, deleted, create_revision, prev_revision, lease, encode(value, 'hex'), "
    "encode(old_value, 'hex')) FROM public.kine ORDER BY id"
)


class NotUpError(Exception):
    """The project does not run; the message says what to start."""


class ContainerNode(NodeView):
    """One machine: the container that holds its network, and those of Postgres, supervisor and front."""

    def __init__(self, engine: DockerClient, project: str, number: int, folder: Path) -> None:
        super().__init__(number, folder / f"node-{number}")
        self._engine = engine
        self._project = project

    @property
    def kine_target(self) -> str:
        """Return what an etcd client on this host connects to."""
        return f"127.0.0.1:{self.published(f'machine-{self.number}', 2379)}"

    def container(self, part: str) -> Container:
        """Return the container of a part: machine, postgres, node, front. Raises NotUpError."""
        return find(self._engine, self._project, f"{part}-{self.number}")

    def published(self, service: str, port: int) -> int:
        """Return the port of the host's loopback that leads to a service's port."""
        container = find(self._engine, self._project, service)
        return int(container.attrs["HostConfig"]["PortBindings"][f"{port}/tcp"][0]["HostPort"])

    def execute(self, part: str, *argv: str) -> bytes:
        """Run a command in a part. Returns what it says. Raises RuntimeError where it fails."""
        return execute(self.container(part), *argv)

    def kill(self, *parts: str) -> None:
        """SIGKILL to these parts at once; the machine's network stays and answers with resets."""
        containers = [self.container(part) for part in parts]
        with ThreadPoolExecutor() as together:
            list(together.map(_kill, containers))

    def stop(self) -> None:
        """Shut the machine's parts down in order."""
        for part in PARTS:
            self.container(part).stop(timeout=30)

    def start(self) -> None:
        """The machine comes up."""
        for part in reversed(PARTS):
            self.container(part).start()

    def pause(self) -> None:
        """Freeze every process of the machine; its kernel goes on."""
        with ThreadPoolExecutor() as together:
            list(together.map(lambda part: self.container(part).pause(), PARTS))

    def unpause(self) -> None:
        """Thaw what is frozen."""
        for part in PARTS:
            with contextlib.suppress(APIError):  # not paused
                self.container(part).unpause()

    def disconnect(self, *names: str) -> None:
        """Take the machine off these networks."""
        machine = self.container("machine")
        for name in names:
            self._network(name).disconnect(machine)

    def reconnect(self) -> None:
        """Put the machine back on every network between the machines that it is not on."""
        machine = self.container("machine")
        on = machine.attrs["NetworkSettings"]["Networks"]
        for name in NETWORKS:
            network = self._network(name)
            if network.name not in on:
                alias = f"node-{self.number}-link" if name == "link" else f"node-{self.number}"
                network.connect(machine, aliases=[alias])

    def _network(self, name: str) -> Any:
        labels = [f"com.docker.compose.project={self._project}", f"com.docker.compose.network={name}"]
        return self._engine.networks.list(filters={"label": labels})[0]

    async def status(self) -> dict[str, Any] | None:
        """Ask the supervisor; None when it does not answer.

        By the engine's client, which costs far less than a process: an answer that it cut is asked for again.
        """
        return await asyncio.to_thread(self._status)

    def _status(self) -> dict[str, Any] | None:
        ask = ["/opt/kine-failover/bin/python", "-I", "-S", "-c", ASK, "v1/status"]
        try:
            told: dict[str, Any] = json.loads(self.container("node").exec_run(ask, stderr=False).output)
        except (APIError, ValueError):
            return None
        return told

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the whole kine table, by id."""
        psql = ("psql", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "kine", "-AtX", "-c", ROWS)
        rows = [json.loads(line) for line in self.execute("postgres", *psql).decode().splitlines()]
        return [(*row[:7], *(None if one is None else bytes.fromhex(one) for one in row[7:])) for row in rows]

    def fetch_archives(self) -> None:
        """Copy the node's archives to `state_dir` on this host."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(NotFound):  # none yet
            stream, _ = self.container("node").get_archive("/var/lib/kine-failover/archives")
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as packed:
                packed.extractall(self.state_dir, filter="data")

    def said(self, part: str = "node", lines: int = 60) -> str:
        """Return the end of a part's log."""
        return str(self.container(part).logs(tail=lines).decode(errors="replace"))


def execute(container: Container, *argv: str) -> bytes:
    """Run a command in a container. Returns what it says. Raises RuntimeError where it fails.

    Not by the engine's Python client: it drops what came in one read with the headers of the answer.
    """
    ran = ["docker", "exec", str(container.id), *argv]
    done = subprocess.run(ran, capture_output=True, check=False, timeout=WAIT_S)
    if done.returncode:
        raise RuntimeError(f"{container.name}: {argv[0]}: {(done.stderr or done.stdout).decode(errors='replace')}")
    return done.stdout


class ContainerPair(TwoNodes[ContainerNode]):
    """Both machines of a running project."""

    wait_s = WAIT_S
    look_s = LOOK_S

    def __init__(self, engine: DockerClient, project: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kine-failover-compose-")
        folder = Path(self._folder.name)
        self.nodes = (ContainerNode(engine, project, 0, folder), ContainerNode(engine, project, 1, folder))
        self.engine = engine
        self.project = project

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def service(self, name: str) -> Container:
        """Return a service's container. Raises NotUpError."""
        return find(self.engine, self.project, name)

    def last_words(self) -> str:
        """Return the end of both supervisors' logs."""
        return "".join(f"\n---- node {node.number}\n{node.said()}" for node in self.nodes)

    async def until_leads(self, node: ContainerNode) -> None:
        """Return when this node leads and serves."""

        def condition(both: Sequence[dict[str, Any] | None]) -> bool:
            told = both[node.number]
            return told is not None and told["role"] == "leader" and bool(told["postgres"].get("open"))

        await self.until(f"node {node.number} to lead", condition)

    def logs(self) -> str:
        """Return what the containers said last, for a person who looks for what went wrong."""
        return "\n".join(f"---- {one.name}\n{one.logs(tail=30).decode(errors='replace')}" for one in self._containers())

    def _containers(self) -> Iterator[Container]:
        label = f"com.docker.compose.project={self.project}"
        yield from self.engine.containers.list(all=True, filters={"label": label})


def _kill(container: Container) -> None:
    with contextlib.suppress(APIError):  # not running
        container.kill()


def find(engine: DockerClient, project: str, service: str) -> Container:
    """Return the container of a service. Raises NotUpError."""
    labels = [f"com.docker.compose.project={project}", f"com.docker.compose.service={service}"]
    found = engine.containers.list(all=True, filters={"label": labels})
    if not found:
        raise NotUpError(
            f"there is no container {service} of the project {project}; `docker compose up --detach` first"
        )
    return found[0]
