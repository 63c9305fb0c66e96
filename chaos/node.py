"""A node of the pair on a machine of its own: Postgres, supervisor and Kine, mutual TLS wherever a network is crossed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from chaos import unfinished
from chaos.machine import Machine
from chaos.network import Path as NetworkPath
from chaos.network import address
from lab import binaries
from lab.postgres_server import HBA, KINE_ROLE, NOBODY, SETTINGS, START_S, SUPERVISOR, PostgresServer
from lab.two_nodes import NodeView

if TYPE_CHECKING:
    import subprocess

    from chaos.disk import Disk
    from chaos.network import Network

POSTGRES_PORT = 5432
LINK_PORT = 7480
DISCARD_PORT = 9  # nobody listens there: the gateway answers with a reset
BROKER_PORT = 1883
REPOSITORY = Path(__file__).resolve().parent.parent
SUPERVISOR_PROGRAM = "failover.supervisor"
KINE_PROGRAM = "/run/kine-"  # in the path of its socket, and of nothing else

HBA_OVER_THE_NETWORK = f"""\
hostssl all {SUPERVISOR} 198.18.0.0/24 trust clientcert=verify-ca
hostssl all @kine_failover_open 198.18.0.0/24 trust clientcert=verify-ca
"""


class MachinePostgres(PostgresServer):
    """Postgres on a machine: its processes are in the machine's namespaces."""

    def __init__(self, machine: Machine, folder: Path, certificates: Path, version: binaries.Postgres) -> None:
        number = machine.name[-1]
        listen = ",".join(["127.0.0.1", *(address(machine.name, path) for path in NetworkPath)])
        settings = {
            "listen_addresses": f"'{listen}'", "ssl": "on",
            "ssl_ca_file": f"'{certificates}/ca.crt'", "ssl_cert_file": f"'{certificates}/node-{number}.crt'",
            "ssl_key_file": f"'{certificates}/node-{number}.key'",
        }  # fmt: skip
        super().__init__(folder, POSTGRES_PORT, version, {**SETTINGS, **settings})
        self.machine = machine

    def start(self, *, wait: bool = True) -> None:
        """Start it on its machine, fenced."""
        (self.data / "pg_hba.conf").write_text(HBA + HBA_OVER_THE_NETWORK, encoding="utf-8")
        open_file = self.data / "kine_failover_open"
        open_file.write_text(f"{NOBODY}\n", encoding="utf-8")
        if self.user is not None:
            shutil.chown(open_file, self.user)
        self.machine.start([str(self.programs / "postgres"), "-D", str(self.data)], self.log, user=self.user)
        if wait:
            self.wait()

    def ended(self) -> bool:
        """Whether no process of it is left."""
        return not self.pids()

    def pids(self) -> list[int]:
        """Return all its processes: their titles begin with its name, the postmaster's command line holds its folder."""
        titled = self.machine.pids(containing="postgres: ")
        return [*self.machine.pids(containing=f"-D {self.data}"), *titled]

    def kill(self) -> None:
        """SIGKILL to the postmaster and all backends at once."""
        deadline = time.monotonic() + START_S
        while pids := self.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postgres on {self.machine.name} does not end")
            time.sleep(0.002)


class MachineNode(NodeView):
    """One node. Its folder is its machine's disk."""

    def __init__(
        self, number: int, network: Network, disk: Disk, certificates: Path, version: binaries.Postgres, timing: str
    ) -> None:
        super().__init__(number, disk.folder)
        self.disk = disk
        self.machine = Machine(f"node-{number}", network, disk.folder)
        self.certificates = certificates
        self.timing = timing
        self.postgres = MachinePostgres(self.machine, disk.folder / "postgres", certificates, version)

    @property
    def name(self) -> str:
        """Return the machine's name."""
        return self.machine.name

    @property
    def conninfo(self) -> str:
        """Return how to ask this node's Postgres."""
        return self.postgres.conninfo()

    def create(self, broker: str) -> None:
        """Switch the machine on, make its Postgres and its configuration."""
        self.machine.power_on()
        self.postgres.create()
        self.config.write_text(self.configuration(broker), encoding="utf-8")

    def configuration(self, broker: str) -> str:
        """Return the configuration file: two paths to the peer, gateway and broker as witnesses."""
        peer = f"node-{1 - self.number}"
        own_addresses = [f'"{address(self.name, path)}:{LINK_PORT}"' for path in NetworkPath]
        peer_addresses = [f'"{address(peer, path)}:{LINK_PORT}"' for path in NetworkPath]
        peer_hosts = ",".join(address(peer, path) for path in NetworkPath)
        libpq = " ".join(f"{name}={path}" for name, path in self._certificate_files().items())
        return f"""\
[node]
cluster = "chaos"
number = {self.number}
state_dir = "{self.state_dir}"
run_dir = "{self.run_dir}"

[link]
listen = [{", ".join(own_addresses)}]
peer = [{", ".join(peer_addresses)}]

[link.tls]
authority = "{self.certificates}/ca.crt"
certificate = "{self.certificates}/{self.name}.crt"
key = "{self.certificates}/{self.name}.key"

[postgres]
own = "{self.postgres.conninfo()}"
peer = "host={peer_hosts} port={POSTGRES_PORT} user={SUPERVISOR} dbname=kine sslmode=verify-ca {libpq}"

[kine]
program = "{binaries.kine()}"
own = "{self.kine_endpoint(self.number)}"
peer = "{self.kine_endpoint(1 - self.number)}"

[probes]
witnesses = ["{address("gateway", NetworkPath.A)}:{DISCARD_PORT}", "{broker}"]
folders = ["{self.folder}"]
free_min_mib = 40

[timing]
{self.timing}
"""

    def kine_endpoint(self, number: int) -> str:
        """Return how a Kine of this node reaches the Postgres of either node."""
        if number == self.number:
            return f"postgres://{KINE_ROLE}@127.0.0.1:{POSTGRES_PORT}/kine?sslmode=disable"
        hosts = ",".join(address(f"node-{number}", path) for path in NetworkPath)
        files = "&".join(f"{name}={path}" for name, path in self._certificate_files().items())
        return f"postgres://{KINE_ROLE}@{hosts}:{POSTGRES_PORT}/kine?sslmode=verify-ca&{files}"

    def _certificate_files(self) -> dict[str, Path]:
        return {
            "sslrootcert": self.certificates / "ca.crt",
            "sslcert": self.certificates / f"{self.name}.crt",
            "sslkey": self.certificates / f"{self.name}.key",
        }

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `kine-failover` on this machine."""
        return self.machine.run(
            sys.executable, "-m", "failover.cli.main", *arguments, "--config", str(self.config), check=check
        )

    def start_supervisor(self) -> None:
        """Start `kine-failover run`."""
        self.machine.start(
            [sys.executable, "-m", SUPERVISOR_PROGRAM, "--config", str(self.config)],
            self.log, env={"PYTHONPATH": f"{REPOSITORY / 'chaos' / 'clock'}:{REPOSITORY}"},
        )  # fmt: skip

    def supervisor_runs(self) -> bool:
        """Whether it is there, stopped or not."""
        return bool(self.machine.pids(containing=SUPERVISOR_PROGRAM))

    def start(self) -> None:
        """What a machine does when it comes up: whatever does not run is started, Postgres fenced."""
        if not self.machine.on:
            self.machine.power_on()
        if self.postgres.ended():
            self.postgres.start(wait=False)
        if not self.supervisor_runs():
            self.start_supervisor()

    def kill(self) -> None:
        """Kill everything; the machine's kernel stays up and answers with resets."""
        self.machine.kill()

    def begin_a_write(self, leader: MachineNode) -> None:
        """Begin a write on the leader's Postgres that nobody finishes, in a transaction."""
        argv = [sys.executable, "-m", unfinished.__name__, self.kine_endpoint(leader.number)]
        self.machine.start(argv, self.folder / "unfinished.log", env={"PYTHONPATH": str(REPOSITORY)})
        deadline = time.monotonic() + START_S
        begun = "SELECT FROM pg_stat_activity WHERE application_name = %s AND state = 'idle in transaction'"
        with psycopg.connect(leader.conninfo, autocommit=True) as session:
            while not session.execute(begun, [unfinished.APPLICATION]).rowcount:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no write begins on {leader.name}: {self.folder / 'unfinished.log'}")
                time.sleep(0.01)

    def lose_power(self) -> None:
        """Cables dead, everything killed at once, what was not synced is gone from the disk."""
        self.machine.power_off()
        self.disk.lose_unsynced()

    def remove(self) -> None:
        """Switch it off and take its disk away."""
        self.disk.thaw()
        self.machine.power_off()
        self.disk.remove()


def give_to_postgres(key: Path, user: str | None) -> None:
    """Let Postgres read a key of root's: that is allowed for a key of its group."""
    if user is not None:
        os.chown(key, 0, pwd.getpwnam(user).pw_gid)
    key.chmod(0o640)
