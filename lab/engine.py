"""A Docker engine to run containers on: the one that answers, else one of our own for as long as it is needed.

`python -m lab.engine COMMAND...` runs a command with `DOCKER_HOST` naming it. Our own needs root and `dockerd` (installed from
the distribution where apt is there). It listens on a socket in a folder of its own, keeps only images, in the cache, and
changes nothing of the host's firewall: containers reach each other and the host's loopback reaches published ports, no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import DockerException

from lab.binaries import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("docker.io", "docker-compose", "debootstrap")
STARTS_S = 60.0
ENDS_S = 60.0
LOCKED_S = 1200.0  # how long another run may use the cache's images
ADDRESSES = "base=198.18.0.0/24,size=28"  # of the range for tests; bridges of ours only


class NoEngineError(Exception):
    """No engine can be had; the message says why."""


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """Name an engine's address (as in DOCKER_HOST) while the context is open. Raises NoEngineError."""
    running = address()
    if running is not None:
        yield running
        return
    with _own() as started:
        yield started


def address() -> str | None:
    """Return the address of an engine that answers: $DOCKER_HOST, or the one that the command `docker` uses."""
    named = os.environ.get("DOCKER_HOST") or _context()
    return named if named is not None and answers(named) else None


def _context() -> str | None:
    command = shutil.which("docker")
    if command is None:
        return None
    done = subprocess.run(
        [command, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return done.stdout.strip() or None


def answers(address: str) -> bool:
    """Whether an engine answers there."""
    try:
        if address.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as first:  # where nobody accepts, docker's client leaves its own open
                first.connect(address.removeprefix("unix://"))
        with contextlib.closing(docker.DockerClient(base_url=address, timeout=10)) as client:
            return bool(client.ping())
    except (DockerException, OSError):
        return False


@contextlib.contextmanager
def _own() -> Iterator[str]:
    if os.geteuid() != 0:
        raise NoEngineError("no Docker engine answers, and only root can start one; start Docker, or set DOCKER_HOST")
    program = _program()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "engine.lock").open("w") as lock:
        _take(lock.fileno())
        folder = Path(tempfile.mkdtemp(prefix="kine-failover-engine-"))
        try:
            process = _start(program, folder)
            try:
                listens = f"unix://{folder}/docker.sock"
                _until_it_answers(process, listens, folder / "log")
                _remove_everything(listens)  # of a run that was killed
                try:
                    yield listens
                finally:
                    _remove_everything(listens)
            finally:
                _end(process)
        finally:
            _unmount(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _program() -> str:
    """Return dockerd, installed where it is missing and apt is there."""
    found = shutil.which("dockerd")
    if found is None and shutil.which("apt-get") is not None:
        sys.stderr.write(f"installing {' '.join(PACKAGES)}\n")
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for what in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run([*apt, *what], env=environment, stdout=subprocess.DEVNULL, check=False)
        found = shutil.which("dockerd")
    if found is None:
        raise NoEngineError("no Docker engine answers and there is no `dockerd`; install Docker (Debian: docker.io)")
    return found


def _take(lock: int) -> None:
    deadline_s = time.monotonic() + LOCKED_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise NoEngineError(f"another run has used {CACHE}/engine for {LOCKED_S:g} s; wait for it") from None
            time.sleep(0.5)
        else:
            return


def _start(program: str, folder: Path) -> subprocess.Popen[bytes]:
    # It ends with us, also when we are killed.
    argv = [
        "setpriv", "--pdeathsig", "TERM", program,
        "--host", f"unix://{folder}/docker.sock", "--pidfile", f"{folder}/pid", "--exec-root", f"{folder}/exec",
        "--data-root", str(CACHE / "engine"), "--config-file", f"{folder}/none",
        "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
        "--default-address-pool", ADDRESSES, "--shutdown-timeout", "5",
    ]  # fmt: skip
    (folder / "none").write_text("{}", encoding="utf-8")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline_s = time.monotonic() + STARTS_S
    while not answers(address):
        if process.poll() is not None or time.monotonic() > deadline_s:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
            raise NoEngineError("dockerd does not start here: " + " | ".join(last))
        time.sleep(0.1)


def _remove_everything(address: str) -> None:
    """Remove all but images: this engine's data folder is ours alone."""
    with contextlib.closing(docker.DockerClient(base_url=address, timeout=60)) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True, v=True)
        client.networks.prune()
        for volume in client.volumes.list():
            volume.remove(force=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unmount(folder: Path) -> None:
    """Take away what dockerd leaves mounted there: the network of containers that used the host's."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        mounted = line.split(" ")[1]
        if Path(mounted).is_relative_to(folder):
            subprocess.run(["umount", mounted], check=False)


def main(command: list[str]) -> int:
    """Run a command with an engine. Returns its exit code; 75 where no engine can be had."""
    if not command:
        sys.stderr.write("usage: python -m lab.engine COMMAND...\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with engine() as named:
            return subprocess.run(command, env={**os.environ, "DOCKER_HOST": named}, check=False).returncode
    except NoEngineError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_TEMPFAIL
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
