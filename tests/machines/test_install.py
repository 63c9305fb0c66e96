"""docs/install.md, typed block by block on two fresh machines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]

from lab.clients import Clients
from tests.compose.images import ROOT

if TYPE_CHECKING:
    from tests.machines.machine import Machine, Machines

pytestmark = pytest.mark.timeout(1800)  # a package is built, Debian packages are installed

EXPOSURE_MAX = 2.0


@pytest.mark.short
async def test_the_page_makes_a_pair_that_serves_on_both_machines(machines: Machines) -> None:
    await machines.until_in_sync()
    async with Clients(machines) as clients:
        await clients.until_writing(50)
        await clients.verify()
    for machine in machines.nodes:
        assert "all good" in machine.do("kine-failover doctor")
        assert "in_sync" in machine.do("kine-failover status")


async def test_postgres_starts_fenced_whatever_was_let_in_before(machines: Machines) -> None:
    await machines.until_in_sync()
    follower = machines.other(await machines.leader())
    opened = "/var/lib/postgresql/15/main/kine_failover_open"
    follower.do("systemctl stop kine-failover")
    try:
        follower.do(f"echo kine >{opened} && systemctl restart postgresql@15-main")
        assert follower.do(f"cat {opened}").strip() == "kine_failover_closed"
        assert refused(follower)
    finally:
        follower.do("systemctl start kine-failover")
    await machines.until_in_sync()


async def test_a_crash_of_postgres_is_not_repaired_behind_the_fence(machines: Machines) -> None:
    """One process of the server is killed: by itself Postgres would start anew as open as it was."""
    await machines.until_in_sync()
    follower = machines.other(await machines.leader())
    assert shown(follower, "restart_after_crash") == "off"
    postmaster = follower.main_pid("postgresql@15-main")
    follower.do("pkill -KILL -f 'postgres: 15/main: walwriter'")
    await machines.until(
        "Postgres to be started anew by its unit",
        lambda _: follower.main_pid("postgresql@15-main") not in (0, postmaster),
    )
    await machines.until_in_sync()


def test_the_unit_is_closed_on_a_machine(machines: Machines) -> None:
    for machine in machines.nodes:
        said = machine.do("systemd-analyze security --no-pager kine-failover")
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert found is not None, said
        assert float(found.group(1)) < EXPOSURE_MAX


def test_secrets_are_where_the_page_says_and_nowhere_else(machines: Machines) -> None:
    for machine in machines.nodes:
        for name in ("kine-password", "postgres-password"):
            secret = machine.do(f"cat /etc/kine-failover/{name}").strip()
            places = machine.attempt(
                f"grep -rlsF {secret} /etc /var/log /var/lib/kine-failover /run --exclude-dir=systemd"
            )[1]
            assert places.split() == [f"/etc/kine-failover/{name}"]
            assert secret not in machine.do("ps axww -o args")
        with pytest.raises(AssertionError, match="Permission denied"):
            machine.do("runuser -u nobody -- cat /etc/kine-failover/kine-password")


def test_the_snippet_for_immutable_systems_keeps_what_a_node_needs_and_starts_it(machines: Machines) -> None:
    """Its commands and units are tried as its reader would; nothing that a node keeps lies outside its persistent folders."""
    text = (ROOT / "packaging/kairos/cloud-config.yaml").read_text(encoding="utf-8")
    assert text.startswith("#cloud-config\n")
    told = yaml.safe_load(text)
    machine = machines.nodes[0]
    kept = ["/etc/kine-failover/config.toml", "/var/lib/kine-failover/state.json"]
    for name in ("data_directory", "hba_file", "ident_file", "config_file"):
        kept += machine.do(f"cd / && runuser -u postgres -- psql -Atc 'SHOW {name}'").split()
    for place in kept:
        machine.do(f"test -e {place}")
        assert any(place.startswith(f"{folder}/") for folder in told["install"]["bind_mounts"]), place
    for step in (step for stage in told["stages"].values() for step in stage):
        for command in step.get("commands", []):
            machine.do(command)
        for verb, units in step.get("systemctl", {}).items():
            machine.do(f"systemctl {verb} {' '.join(units)}")
    assert machine.do("systemctl is-enabled kine-failover; systemctl is-active kine-failover").split() == [
        "enabled", "active",
    ]  # fmt: skip


def refused(machine: Machine) -> bool:
    """Whether Kine is not let in."""
    login = (
        "PGPASSWORD=$(cat /etc/kine-failover/kine-password) "
        f"psql 'host={machine.address} dbname=kine user=kine sslmode=require' -c 'SELECT 1'"
    )
    code, said = machine.attempt(login)
    return code != 0 and "pg_hba.conf" in said


def shown(machine: Machine, setting: str) -> str:
    with psycopg.connect(machine.conninfo, autocommit=True) as session:
        row = session.execute("SELECT current_setting(%s)", [setting]).fetchone()
        assert row is not None
        return str(row[0])
