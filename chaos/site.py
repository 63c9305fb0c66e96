"""A whole site: two nodes, a gateway and a broker on two networks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.disk import Disk
from chaos.machine import Machine, broker_program
from chaos.network import Network, address
from chaos.network import Path as NetworkPath
from chaos.node import BROKER_PORT, MachineNode, give_to_postgres
from lab import binaries
from lab.compacted import keep_compacted
from lab.two_nodes import TwoNodes

if TYPE_CHECKING:
    from chaos.enclosure import DiskKeeper

DISK_MIB = 640
# As the preset `lan`, but for waits of minutes that a run has no time for.
TIMING = 'preset = "lan"\nboot_wait_s = 3.0\nlong_wait_s = 8.0\ngrace_s = 4.0'


class Site(TwoNodes[MachineNode]):
    """Everything is in the namespaces of this process, and the folder is a file system in memory: nothing outlives it."""

    def __init__(self, keeper: DiskKeeper, *, timing: str = TIMING, disk_mib: int = DISK_MIB) -> None:
        self.folder = Path(tempfile.gettempdir()) / "kine-failover-chaos"
        self.folder.mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512m,mode=755", "tmpfs", self.folder], check=True, timeout=20
        )
        # An unmount has to reach the machines: each has its own list of mounts, and a disk goes with the last of them.
        subprocess.run(["mount", "--make-shared", self.folder], check=True, timeout=20)
        self.network = Network()
        self.network.create()
        store = Path("/var/tmp")  # noqa: S108 - files without names, on a disk and not in memory
        disks = [Disk(self.folder / f"node-{number}", keeper, store, mib=disk_mib) for number in (0, 1)]
        certificates = self.folder / "certs"
        used = binaries.postgres()
        self.nodes = (
            MachineNode(0, self.network, disks[0], certificates, used, timing),
            MachineNode(1, self.network, disks[1], certificates, used, timing),
        )
        self.gateway = Machine("gateway", self.network, self.folder / "gateway")
        self.broker = Machine("broker", self.network, self.folder / "broker")

    async def create(self) -> None:
        """Make both nodes with the real commands; the supervisors are not started yet."""
        await asyncio.to_thread(self._certificates)
        self.gateway.power_on()
        self.broker.power_on()
        self.start_broker()
        broker = f"{address('broker', NetworkPath.A)}:{BROKER_PORT}"
        await asyncio.gather(*(asyncio.to_thread(node.create, broker) for node in self.nodes))
        for node in self.nodes:
            self._use_broker(node)
        await asyncio.gather(
            asyncio.to_thread(self.nodes[0].command, "init"), asyncio.to_thread(self.nodes[1].command, "join")
        )
        for node in self.nodes:
            await asyncio.to_thread(keep_compacted, node.conninfo)
            await asyncio.to_thread(node.disk.sync)  # an installation is older than its first loss of power

    def last_words(self) -> str:
        """The end of what each supervisor wrote: the folders are gone when a start has failed."""
        return "".join(f"\n{node.name}: {_end_of(node.log)}" for node in self.nodes)

    async def start(self) -> None:
        """Start both supervisors and return when the pair is in sync."""
        for node in self.nodes:
            node.start_supervisor()
        await self.until_in_sync()

    def start_broker(self) -> None:
        """Start the broker where it is installed; without it the port answers with a reset, as a witness does too."""
        program = broker_program()
        if program is None:
            return
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(f"listener {BROKER_PORT} 0.0.0.0\nallow_anonymous true\n", encoding="ascii")
        self.broker.start([program, "-c", str(configuration)], self.folder / "mosquitto.log", clock=False)

    def _use_broker(self, node: MachineNode) -> None:
        """Have the node speak to the broker where it can."""
        if broker_program() is not None:
            with node.config.open("a", encoding="utf-8") as file:
                file.write(f'\n[mqtt]\nbroker = "{address("broker", NetworkPath.A)}:{BROKER_PORT}"\n')

    def _certificates(self) -> None:
        folder = self.folder / "certs"
        done = subprocess.run(
            [sys.executable, "-m", "failover.cli.main", "certs", str(folder), "--cluster", "chaos"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"kine-failover certs: {done.stderr}{done.stdout}")
        folder.chmod(0o755)
        for number in (0, 1):
            give_to_postgres(folder / f"node-{number}.key", binaries.unprivileged_user())

    def mend(self) -> None:
        """Undo every fault that is not a death, and start whatever does not run."""
        for node in self.nodes:
            node.disk.thaw()
            node.disk.empty()
            node.machine.set_clock(0.0)
        self.network.set()
        for node in self.nodes:
            node.start()

    def remove(self) -> None:
        """End everything and unmount everything."""
        for node in self.nodes:
            node.remove()
        self.gateway.power_off()
        self.broker.power_off()
        for path in NetworkPath:
            subprocess.run(["ip", "link", "del", f"sw-{path}"], check=False, capture_output=True, timeout=20)
        subprocess.run(["umount", self.folder], check=False, capture_output=True, timeout=20)


def _end_of(log: Path) -> str:
    try:
        return log.read_bytes()[-2000:].decode(errors="replace")
    except OSError as error:
        return str(error)
