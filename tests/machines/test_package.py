"""The package over its life on a machine: upgraded under load, taken away; and how it is built."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab.clients import Clients
from tests.compose.images import ROOT
from tests.machines import page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.machines.machine import Machine, Machines

pytestmark = pytest.mark.timeout(1800)  # a package is built, Debian packages are installed

BUILDS_S = 1200
LEFT = "/opt/kine-failover /etc/kine-failover /var/lib/kine-failover /run/kine-failover /usr/bin/kine-failover"
UNITS = "/usr/lib/systemd /etc/systemd/system /var/lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d"
PYTHON = "/opt/kine-failover/bin/python3"
# Names each module that Python would have to compile at every start, as what is beside it is missing or of another source.
NOT_COMPILED = """
import importlib.util, pathlib, sysconfig
for source in pathlib.Path(sysconfig.get_path("purelib")).rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    told = source.stat()
    of = int(told.st_mtime).to_bytes(4, "little") + told.st_size.to_bytes(4, "little")
    if not compiled.exists() or compiled.read_bytes()[8:16] != of:
        print(source)
"""
CONFFILE = "/etc/kine-failover/environment"
DROP_IN = "/etc/systemd/system/postgresql@15-main.service.d/kine-failover.conf"  # the administrator's own


def newer(package: Path, folder: Path, version: str) -> Path:
    """Return the package as the next release would be: another version, also of the program, and a module of its own."""
    root, built = folder / "root", folder / f"kine-failover_{version}_next.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    control = root / "DEBIAN/control"
    told = control.read_text().splitlines()
    control.write_text(
        "".join(f"Version: {version}\n" if line.startswith("Version:") else f"{line}\n" for line in told)
    )
    (init,) = root.glob("opt/kine-failover/lib/python*/site-packages/failover/__init__.py")
    lines = init.read_text().splitlines()
    init.write_text("".join(f'__version__ = "{version}"\n' if "__version__" in line else f"{line}\n" for line in lines))
    (init.parent / f"{own_module(version)}.py").write_text(f'VERSION = "{version}"\n')
    compiles: list[str | Path] = ["/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "timestamp"]
    subprocess.run([*compiles, "-s", root, "-p", "/", init.parent], check=True)  # as packaging/deb/build.sh does
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, built], check=True, stdout=subprocess.DEVNULL
    )
    return built


@pytest.mark.parametrize(
    "paused", [pytest.param(False, marks=pytest.mark.short, id="plain"), pytest.param(True, id="paused")]
)
async def test_an_upgrade_of_one_machine_and_then_the_other_costs_nothing(
    machines: Machines, package: Path, tmp_path: Path, *, paused: bool
) -> None:
    await machines.until_in_sync()
    leader = await machines.leader()
    version = "0.1.2" if paused else "0.1.1"
    built = newer(package, tmp_path, version)
    async with Clients(machines) as clients:
        await clients.until_writing(50)
        since_s = time.monotonic()
        if paused:
            await asyncio.to_thread(leader.do, "kine-failover pause --for 600")
        for machine in (machines.other(leader), leader):
            kines = machine.kines()
            machine.do(f"echo '# before {version}' >>{CONFFILE}")
            await asyncio.to_thread(upgrade, machine, built)
            assert machine.do(f"tail -n 1 {CONFFILE}") == f"# before {version}\n"  # as the administrator left it
            # A pair that is paused is not in sync: its follower has been told not to take over.
            await (machines.until("both to go on", go_on) if paused else machines.until_in_sync())
            assert machine.kines() == kines  # the same one goes on
        if paused:
            await asyncio.to_thread(leader.do, "kine-failover resume")
            await machines.until_in_sync()
        for machine in machines.nodes:
            assert machine.do("kine-failover version").strip() == version
            assert_no_module_of_another_release(machine, version)
        await clients.until_writing(50)
        for one in machines.nodes:
            gap = clients.writers[one.number].longest_gap(since_s)
            print(f"upgrade, paused={paused}, machine {one.number}: gap {gap.seconds * 1000:.0f} ms")
        await clients.verify()
    assert await machines.leader() is leader


def own_module(version: str) -> str:
    return f"only_in_{version.replace('.', '_')}"


def assert_no_module_of_another_release(machine: Machine, version: str) -> None:
    """What was compiled belongs to what is installed, also where Python has compiled more than the package brought."""
    assert machine.do(f"{PYTHON} -c '{NOT_COMPILED}'") == ""
    modules = [own_module(f"0.1.{number}") for number in range(3)]
    found = [one for one in modules if machine.attempt(f"{PYTHON} -O -c 'import failover.{one}'")[0] == 0]
    assert found == [own_module(version)]


def upgrade(machine: Machine, package: Path) -> None:
    machine.do("rm -f kine-failover_*.deb")
    machine.put(package)
    machine.do(page.titled("upgrade"))


def go_on(both: Sequence[dict[str, Any] | None]) -> bool:
    return sorted(one["role"] for one in both if one is not None) == ["follower", "leader"]


def test_the_same_commit_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    if os.environ.get("PACKAGE"):
        pytest.skip("$PACKAGE names a package that may be of another commit")
    environment = {**os.environ, "TZ": "Pacific/Chatham", "TMPDIR": os.fspath(tmp_path)}
    subprocess.run(
        [ROOT / "packaging/deb/build.sh", tmp_path], env=environment, check=True, timeout=BUILDS_S, umask=0o077
    )
    (again,) = tmp_path.glob("kine-failover_*.deb")
    assert digest(again) == digest(package)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def test_a_purge_leaves_nothing_behind(machines: Machines) -> None:
    """The last one of this folder: the machine is no node any more, and the other one goes on alone."""
    await machines.until_in_sync()
    leader = await machines.leader()
    follower = machines.other(leader)
    leader.do(page.titled("remove"))
    assert leader.kines() == []
    assert leader.attempt("pgrep -f failover.supervisor")[0] == 1
    for place in LEFT.split():
        assert leader.attempt(f"test -e {place} || test -L {place}")[0] == 1, place
    assert leader.attempt(f"find {UNITS} -name '*kine-failover*'")[1].split() == [DROP_IN]
    assert leader.attempt("getent passwd kine-failover; getent group kine-failover")[1] == ""
    assert "kine-failover" not in leader.do("systemctl list-unit-files --no-pager; dpkg --list")
    await machines.until(
        "the other machine to lead alone", lambda both: (both[follower.number] or {}).get("role") == "leader"
    )
    async with Clients(machines) as clients:
        await clients.until_writing(50, (follower.number,))
