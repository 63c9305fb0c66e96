"""Two Debian machines: containers whose pid 1 is systemd, seen from this host through /proc as the laboratory sees its nodes."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import secrets
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from docker.types import IPAMConfig, IPAMPool

from lab.two_nodes import NodeView, TwoNodes
from tests.compose.images import BUILDS_S, ROOT
from tests.machines import page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker import DockerClient

IMAGE = "kine-failover-machine:bookworm"
BASE = "kine-failover-stand-in:bookworm"
PYTHON = "3.11"  # Debian 12's
LABEL = "kine-failover.test-machines"
BOOTS_S = 60.0
STOPS_S = 60
OUTPUT_MAX = 6000
# systemd takes these of its container: the right to mount, and its place in the host's groups of processes. What the unit asks
# for beyond (a nice value below 0) takes the other right.
RIGHTS = ("SYS_ADMIN", "SYS_NICE")


def image(address: str) -> None:
    """Have the image of a fresh machine there. Raises CalledProcessError."""
    environment = {**os.environ, "DOCKER_HOST": address, "DOCKER_BUILDKIT": "0"}
    subprocess.run([ROOT / "tests/compose/stand_in_base.sh"], env=environment, check=True, timeout=BUILDS_S)
    build = ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"BASE={BASE}", "--tag", IMAGE]
    subprocess.run([*build, ROOT / "tests/machines"], env=environment, check=True, timeout=BUILDS_S)


class Machine(NodeView):
    """One machine. What it holds is reached by links in `folder`, which are set anew at each boot."""

    def __init__(self, engine: DockerClient, number: int, folder: Path, network: str, address: str) -> None:
        super().__init__(number, folder / f"machine-{number}")
        self.folder.mkdir()
        self.address = address
        self._container = engine.containers.create(
            IMAGE, name=f"{network}-{number}", hostname=f"machine-{number}", labels=[LABEL],
            cap_add=list(RIGHTS), security_opt=["seccomp=unconfined"], cgroupns="host",
            tmpfs={"/run": "", "/run/lock": ""}, volumes={"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}},
            networking_config={network: engine.api.create_endpoint_config(ipv4_address=address)}, network=network,
        )  # fmt: skip
        self._root = Path()
        self._session = ""  # what `export` has set, as the session that the page speaks of keeps it

    @property
    def conninfo(self) -> str:
        """Return how root of this host asks the machine's Postgres: over its socket, as root of the machine."""
        return f"host={self.folder}/postgresql dbname=kine user=kine_failover"

    def boot(self) -> None:
        """Switch the machine on. Returns when systemd has started everything. Raises AssertionError."""
        self._container.start()
        self._container.reload()
        self._root = Path(f"/proc/{self._container.attrs['State']['Pid']}/root")
        for name, target in (
            ("run", "run/kine-failover"), ("state", "var/lib/kine-failover"), ("postgresql", "run/postgresql"),
        ):  # fmt: skip
            link = self.folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(self._root / target)
        deadline_s = time.monotonic() + BOOTS_S
        while (state := self.attempt("systemctl is-system-running")[1].strip()) not in ("running", "degraded"):
            assert time.monotonic() < deadline_s, f"machine {self.number} does not come up: {state}"
            time.sleep(0.2)
        assert state == "running", self.attempt("systemctl --no-pager --failed; journalctl --no-pager -n 50")[1]

    def attempt(self, script: str) -> tuple[int, str]:
        """Run a script as root in a shell. Returns its exit code and what it says."""
        # Into a file: of what a short command says to the engine itself, everything is lost about once in a hundred times.
        said = f"run/said-{secrets.token_hex(4)}"
        shell = ["bash", "-c", 'exec bash -euo pipefail -c "$1" >"/$0" 2>&1', said, script]
        code, _ = self._container.exec_run(shell, workdir="/root")
        output = ""
        with contextlib.suppress(OSError):  # a machine that is off by now
            output = (self._root / said).read_text(encoding="utf-8", errors="replace")
            (self._root / said).unlink()
        return int(code), output

    def do(self, script: str) -> str:
        """Run a script as root. Returns what it says. Raises AssertionError where it fails."""
        code, output = self.attempt(script)
        assert code == 0, f"machine {self.number}: {script}\nexit code {code}\n{output[-OUTPUT_MAX:]}"
        return output

    def type(self, block: str) -> str:
        """Type a block of the page into the session that goes on over blocks. Raises AssertionError where it fails."""
        code, output = self.attempt(f"{self._session}\n{block}\necho; echo ==== session; export -p")
        said, _, session = output.rpartition("==== session\n")
        assert code == 0, f"machine {self.number}:\n{block}\nexit code {code}\n{output[-OUTPUT_MAX:]}"
        self._session = session
        return said

    def put(self, *files: Path, names: Sequence[str] = ()) -> None:
        """Copy files of this host to /root, under their own names or those given."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as packed:
            for index, file in enumerate(files):
                packed.add(file, names[index] if names else file.name)
        self._container.put_archive("/root", stream.getvalue())

    def kill(self) -> None:
        """Kill every process of the machine at once."""
        self._container.kill()

    def stop(self) -> None:
        """Have pid 1 stop everything in order, without logind knowing."""
        self._container.stop(timeout=STOPS_S)

    def until_off(self) -> None:
        """Return when the machine has switched itself off."""
        self._container.wait(timeout=STOPS_S)

    def remove(self) -> None:
        """Take the machine away."""
        self._container.remove(force=True, v=True)

    def main_pid(self, unit: str = "kine-failover") -> int:
        """Return the machine's own number of a service's main process, 0 for none."""
        return int(self.do(f"systemctl show --value --property MainPID {unit}"))

    def kines(self) -> list[int]:
        """Return the numbers of every Kine that runs."""
        return [int(pid) for pid in self.attempt("pgrep -x kine")[1].split()]

    def journal(self, unit: str = "kine-failover", lines: int = 80) -> str:
        """Return the end of a service's log."""
        return self.attempt(f"journalctl --no-pager --output cat --lines {lines} --unit {unit}")[1]


class Machines(TwoNodes[Machine]):
    """Two fresh machines on a network of their own, removed at the end."""

    def __init__(self, engine: DockerClient) -> None:
        self._engine = engine
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            name = f"kine-failover-machines-{secrets.token_hex(3)}"
            network, pool = _network(self._engine, name)
            stack.callback(network.remove)
            hosts = map(str, ipaddress.ip_network(pool["Subnet"]).hosts())
            self.gateway = pool["Gateway"]
            addresses = [one for one in hosts if one != self.gateway][:2]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kine-failover-machines-")))
            machines = []
            for number, address in enumerate(addresses):
                machines.append(Machine(self._engine, number, folder, name, address))
                stack.callback(machines[-1].remove)
            self.nodes = (machines[0], machines[1])
            with ThreadPoolExecutor() as both:
                list(both.map(Machine.boot, self.nodes))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def type(self, block: page.Block) -> None:
        """Type a block where the page says, with these machines' addresses."""
        addresses = (self.nodes[0].address, self.nodes[1].address)
        text = page.put_in(block.text, addresses, f"{self.gateway}:80")
        with ThreadPoolExecutor() as both:
            list(both.map(lambda number: self.nodes[number].type(text), page.MACHINES[block.title]))

    def logs(self) -> str:
        """Return what both supervisors said last, for a person who looks for what went wrong."""
        return "\n".join(f"---- machine {one.number}\n{one.journal()}" for one in self.nodes)


def _network(engine: DockerClient, name: str) -> tuple[Any, dict[str, str]]:
    """Make a network whose addresses stay with the machines over a boot. Returns it and its pool."""
    drawn = engine.networks.create(name)  # the engine gives a pool that is free, but keeps no address in it
    drawn.reload()
    (pool,) = drawn.attrs["IPAM"]["Config"]
    drawn.remove()
    subnet, gateway = str(pool["Subnet"]), str(pool["Gateway"]).partition("/")[0]
    network = engine.networks.create(name, ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet, gateway=gateway)]))
    return network, {"Subnet": subnet, "Gateway": gateway}
