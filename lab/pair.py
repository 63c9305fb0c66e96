"""Two whole nodes on loopback: real Postgres, real Kine, the real command, and a network between them that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lab import binaries
from lab.postgres_server import PostgresServer
from lab.relay import Network
from lab.two_nodes import WAIT_S, NodeView, TwoNodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NodeProcesses(NodeView):
    """One node: a Postgres, a supervisor, and the Kine that the supervisor starts."""

    def __init__(self, pair: Pair, number: int) -> None:
        super().__init__(number, pair.folder / f"node-{number}")
        self.pair = pair
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.postgres = PostgresServer(
            self.folder / "postgres", pair.ports[f"postgres-{number}"], pair.version, pair.postgres_settings
        )
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        """Return how to ask this node's Postgres."""
        return self.postgres.conninfo()

    def create(self) -> None:
        """Make Postgres and the configuration; nothing is started but Postgres."""
        self.postgres.create()
        self.config.write_text(self.pair.configuration(self.number), encoding="utf-8")

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `kine-failover` with this node's configuration."""
        done = subprocess.run(
            [sys.executable, "-m", "failover.cli.main", *arguments, "--config", str(self.config)],
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} on node {self.number}: {done.stderr}{done.stdout}")
        return done

    def start_supervisor(self, *under: str) -> None:
        """Start `kine-failover run`, as what the command `under` starts where one is given."""
        with self.log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [*under, sys.executable, "-m", "failover.supervisor", "--config", str(self.config)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """The machine comes up: Postgres, fenced, and the supervisor."""
        self.postgres.start(wait=False)
        self.start_supervisor()

    @property
    def supervisor_pid(self) -> int | None:
        """Return the supervisor's pid, None while it does not run."""
        running = self._supervisor is not None and self._supervisor.poll() is None
        return self._supervisor.pid if running and self._supervisor is not None else None

    def kine_pids(self) -> list[int]:
        """Return every Kine of this node, found by its socket's folder."""
        wanted = f"unix://{self.run_dir}/kine-".encode()
        pids = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and wanted in (entry / "cmdline").read_bytes():
                    pids.append(int(entry.name))
        return pids

    def all_pids(self) -> list[int]:
        """Return every process of this node."""
        supervisor = [self.supervisor_pid] if self.supervisor_pid is not None else []
        return [*supervisor, *self.kine_pids(), *self.postgres.pids()]

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor alone."""
        if self._supervisor is not None:
            self._supervisor.kill()
            self._supervisor.wait(timeout=WAIT_S)

    def stop_supervisor(self) -> None:
        """SIGTERM to the supervisor alone; Kine goes on."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.terminate()
            self._supervisor.wait(timeout=WAIT_S)

    def kill_kine(self) -> None:
        """SIGKILL to Kine alone."""
        _signal(self.kine_pids(), signal.SIGKILL)

    def kill(self) -> None:
        """Kill everything on this node at once; the machine and its kernel stay up and answer with resets."""
        _signal(self.all_pids(), signal.SIGKILL)
        if self._supervisor is not None:
            self._supervisor.wait(timeout=WAIT_S)
        self.postgres.kill()
        self.kill_kine()

    def freeze(self) -> None:
        """SIGSTOP to everything on this node."""
        _signal(self.all_pids(), signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        _signal(self.all_pids(), signal.SIGCONT)


class Pair(TwoNodes[NodeProcesses]):
    """Two nodes and the network between them, in a folder of their own."""

    def __init__(
        self,
        *,
        version: binaries.Postgres | None = None,
        extra: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.version = version or binaries.postgres()
        self.extra = dict(extra or {})
        self.postgres_settings = dict(postgres_settings or {})
        self.folder = folder or Path(tempfile.mkdtemp(prefix="kine-failover-"))
        self.folder.chmod(0o755)
        names = [f"{what}-{node}" for what in ("postgres", "link", "to-postgres", "to-link", "api") for node in (0, 1)]
        self._reserved = Reservation(len(names))
        self.ports = dict(zip(names, self._reserved.ports, strict=True))
        self.network = Network()
        self.nodes = (NodeProcesses(self, 0), NodeProcesses(self, 1))

    def configuration(self, number: int) -> str:
        """Return a node's configuration file: it reaches its peer only through the network's relays."""
        node, peer = self.nodes[number], 1 - number
        ports = self.ports
        sections = {
            "node": f'cluster = "{self.folder.name}"\nnumber = {number}\n'
            f'state_dir = "{node.state_dir}"\nrun_dir = "{node.run_dir}"',
            "link": f'listen = ["127.0.0.1:{ports[f"link-{number}"]}"]\n'
            f'peer = ["127.0.0.1:{ports[f"to-link-{peer}"]}"]',
            "api": f'listen = ["127.0.0.1:{ports[f"api-{number}"]}"]',
            "postgres": f'own = "{node.postgres.conninfo()}"\n'
            f'peer = "{self.nodes[peer].postgres.conninfo(host="127.0.0.1", port=ports[f"to-postgres-{peer}"])}"',
            "kine": f'program = "{binaries.kine()}"\n'
            f'own = "{node.postgres.kine_endpoint()}"\n'
            f'peer = "{self.nodes[peer].postgres.kine_endpoint(port=ports[f"to-postgres-{peer}"])}"',
        }
        for name, common in self.extra.items():
            text = common.replace("{node}", str(number))
            sections[name] = f"{sections[name]}\n{text}" if name in sections else text
        return "".join(f"[{name}]\n{text}\n\n" for name, text in sections.items())

    async def create(self) -> None:
        """Make both nodes: `init` on the first, `join` on the second; supervisors are not started yet."""
        for node in (0, 1):
            await self.network.add(self.ports[f"to-postgres-{node}"], self.ports[f"postgres-{node}"])
            await self.network.add(self.ports[f"to-link-{node}"], self.ports[f"link-{node}"])
        await asyncio.gather(*(asyncio.to_thread(node.create) for node in self.nodes))
        await asyncio.gather(
            asyncio.to_thread(self.nodes[0].command, "init"), asyncio.to_thread(self.nodes[1].command, "join")
        )

    async def start(self) -> None:
        """Start both supervisors and return when the pair is in sync and both nodes serve."""
        for node in self.nodes:
            node.start_supervisor()
        await self.until_in_sync()

    async def stop(self, *, keep: bool = False) -> None:
        """End every process and, unless `keep`, remove everything."""
        await self.network.stop()
        for node in self.nodes:
            node.thaw()
            node.kill()
        self._reserved.release()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class Reservation:
    """Ports of loopback that nobody uses, and that no other pair takes: pairs run side by side, and their nodes restart.

    They lie below the ephemeral range, so that no client takes them. A socket in the abstract namespace that has the port's
    name is held as long: like the port it belongs to the network namespace, whoever asks and whatever folders he sees.
    """

    def __init__(self, count: int) -> None:
        self.ports: list[int] = []
        self._names: list[socket.socket] = []
        for port in range(20000, 32000):
            if len(self.ports) == count:
                return
            name = socket.socket(socket.AF_UNIX)
            if _bound(name, f"\0kine-failover-port-{port}") and _free(port):
                self.ports.append(port)
                self._names.append(name)
            else:
                name.close()
        self.release()
        raise RuntimeError("no free ports between 20000 and 32000")

    def release(self) -> None:
        """Give them back."""
        while self._names:
            self._names.pop().close()


def _bound(one: socket.socket, address: str) -> bool:
    try:
        one.bind(address)
    except OSError:
        return False
    return True


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
