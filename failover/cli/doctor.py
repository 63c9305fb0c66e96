"""`doctor`: everything that Postgres, Kine, the peer and the machine must be, and the remedy for what is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import socket
import struct
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer

from failover import config
from failover.adapters import hooks, sql_files
from failover.adapters.postgres_setup import FUNCTIONS_VERSION, SETTINGS
from failover.adapters.tls import ends_at_s
from failover.cli.outcome import REFUSED
from failover.core.model import Answer
from failover.endpoints import split_endpoint
from failover.ports import PortError
from probes import tcp

if TYPE_CHECKING:
    from failover.config import Settings

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
OLDEST_POSTGRES = 150000
AT_LEAST = {
    "max_replication_slots": (4, ""),
    # Kine opens session after session while commits wait, and acknowledges creates that are not there when it gets no more.
    "max_connections": (500, ": where Kine gets no session, it acknowledges creates that are not there"),
}
HELD = "reload: a machine that lost its power while it wrote would hold up every watch until its session is ended"
AT_MOST = {  # in the unit that Postgres shows it in; 0 stands for the system's own, which is hours
    "tcp_keepalives_idle": (10, "2", HELD),
    "tcp_user_timeout": (10_000, "'5s'", HELD),
    "wal_retrieve_retry_interval": (1_000, "'200ms'", "reload: so long a stream that broke is not begun anew"),
}
RENEW_DAYS = 30
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # and their bits in /proc/<pid>/status


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `remedy` is None where it is good."""

    what: str
    found: str
    remedy: str | None = None


def doctor(file: File = config.DEFAULT_FILE) -> None:
    """Look at everything that the promises rest on, and say what to do about what is missing."""
    settings = config.load(file)
    findings = asyncio.run(examine(settings))
    for one in findings:
        typer.echo(f"{'ok ' if one.remedy is None else 'BAD'} {one.what}: {one.found}")
        if one.remedy is not None:
            typer.echo(f"    {one.remedy}")
    bad = sum(one.remedy is not None for one in findings)
    typer.echo("all good" if not bad else f"{bad} of {len(findings)} need attention")
    if bad:
        raise typer.Exit(REFUSED)


async def examine(settings: Settings) -> list[Finding]:
    """Return everything that was looked at."""
    found = [_kine(settings), *_folders(settings), *_tls(settings), *_hooks(settings)]
    found += await _postgres("own Postgres", settings.postgres.own.get_secret_value(), settings)
    found += await _postgres("peer's Postgres", settings.postgres.peer.get_secret_value(), settings)
    found += await _reach(settings)
    found += [*_capabilities(settings), *await _broker(settings)]
    return found


def _kine(settings: Settings) -> Finding:
    program = settings.kine.program
    if not os.access(program, os.X_OK):
        return Finding("Kine", f"{program} is not a program", "install Kine there, or set [kine] program")
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603 - the administrator's own program
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("Kine", f"{program} does not run: {error}", "install a Kine for this machine")
    return Finding("Kine", said.strip() or str(program))


def _folders(settings: Settings) -> list[Finding]:
    found = []
    for folder in (settings.node.state_dir, settings.node.run_dir):
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(nearest, os.W_OK):
            found.append(Finding("folder", f"{folder} cannot be written", f"make it, owned by {_who()}"))
            continue
        free = shutil.disk_usage(nearest).free >> 20
        low = free < settings.probes.free_min_mib
        found.append(
            Finding(
                "folder", f"{folder}, {free} MiB free", f"keep {settings.probes.free_min_mib} MiB free" if low else None
            )
        )
    return found


def _who() -> str:
    """Return whose rights this process has; not who logged in, which sudo hides and a container does not know."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def _hooks(settings: Settings) -> list[Finding]:
    if settings.upkeep.hooks_dir is None:
        return []
    try:
        found, refused = hooks.programs(settings.upkeep.hooks_dir)
    except PortError as error:
        return [Finding("hooks", str(error), "no hook is called until that is mended")]
    told = [Finding("hooks", one, "it is not called until that is mended") for one in refused]
    return [*told, Finding("hooks", f"{settings.upkeep.hooks_dir}: {', '.join(one.name for one in found) or 'none'}")]


def _tls(settings: Settings) -> list[Finding]:
    tls = settings.link.tls
    if tls is None:
        return [Finding("TLS", "none: both nodes are on loopback")]
    found = []
    for path in (tls.authority, tls.certificate, tls.key):
        good = os.access(path, os.R_OK)
        found.append(
            Finding(
                "TLS", str(path) if good else f"{path} cannot be read", None if good else "see `kine-failover certs`"
            )
        )
    try:
        left_days = (ends_at_s(tls.authority, tls.certificate, tls.key) - time.time()) / 86400
    except PortError as error:
        return [*found, Finding("TLS", str(error), "renew them: see docs/security.md")]
    soon = "renew them with `kine-failover certs`, copy them here, and `kine-failover reload`"
    return [*found, Finding("TLS", f"good for {left_days:.0f} days", soon if left_days < RENEW_DAYS else None)]


async def _postgres(what: str, conninfo: str, settings: Settings) -> list[Finding]:
    try:
        session = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        line = " ".join(str(error).split())
        return [Finding(what, line, "start it, or mend the connection string, pg_hba.conf or the password file")]
    async with session:
        return await _settings_of(what, session, settings)


# what the supervisor's role may -> what it is for
RIGHTS = {
    "replication": "to stream from the leader (REPLICATION)",
    "owns_tables": "to swap the table and end Kine's sessions (member of Kine's role)",
    "monitors": "to see how replication stands (pg_monitor)",
    "checkpoints": "to know when commits wait (pg_checkpoint)",
    "sets_waits": "to have commits wait (ALTER SYSTEM ON PARAMETER synchronous_standby_names)",
    "reloads": "to have that take effect (pg_reload_conf)",
    "creates": "to create its schema and publication (owner of the database)",
    "set_up": "to fence (the functions of schema kine_failover_admin)",
}
SET_UP = "as a superuser run what `kine-failover postgres-setup` prints"


def _rights(what: str, row: dict[str, Any], settings: Settings) -> list[Finding]:
    """Return what the roles may not and must, or may and need not."""
    found = []
    if row["superuser"]:
        found.append(Finding(f"{what} rights", "superuser; it needs far less, see `kine-failover postgres-setup`"))
    lacks = [purpose for right, purpose in RIGHTS.items() if not row[right]]
    found += [Finding(f"{what} rights", f"{row['supervisor']} lacks the right {one}", SET_UP) for one in lacks]
    if not lacks and not row["superuser"]:
        found.append(Finding(f"{what} rights", f"{row['supervisor']} has what it needs, and is no superuser"))
    if row["kine_too_strong"]:
        role = settings.postgres.kine_role
        remedy = f"ALTER ROLE {role} NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS: it could open its own fence"
        found.append(Finding(f"{what} rights", f"Kine's role {role} may more than it needs", remedy))
    return found


async def _settings_of(what: str, session: psycopg.AsyncConnection[Any], settings: Settings) -> list[Finding]:
    row = (await sql_files.run(session, "doctor", kine_role=settings.postgres.kine_role))[0]
    version = row["version_num"]
    found = [
        Finding(
            what, f"version {row['version']}", None if version >= OLDEST_POSTGRES else "Postgres 15 or later is needed"
        ),
        *_rights(what, row, settings),
    ]
    for name, wanted in SETTINGS.items():
        value = row["settings"].get(name)
        if value is not None and wanted.why is not None:
            remedy = None if value == wanted.value else f"ALTER SYSTEM SET {name} = {wanted.value}; {wanted.why}"
            found.append(Finding(f"{what} {name}", str(value), remedy))
    for name, (least, why) in AT_LEAST.items():
        value = int(row["settings"][name])
        remedy = None if value >= least else f"ALTER SYSTEM SET {name} = {least}; restart Postgres{why}"
        found.append(Finding(f"{what} {name}", str(value), remedy))
    for name, (most, good, why) in AT_MOST.items():
        value = int(row["settings"][name])
        remedy = None if 0 < value <= most else f"ALTER SYSTEM SET {name} = {good}; {why}"
        found.append(Finding(f"{what} {name}", str(value), remedy))
    keep = row["settings"]["max_slot_wal_keep_size"]
    unbounded = keep == "-1"
    found.append(
        Finding(f"{what} max_slot_wal_keep_size", keep,
                "ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'; reload: an absent peer must not fill the disk"
                if unbounded else None)
    )  # fmt: skip
    for slot in await sql_files.run(session, "doctor_slots"):
        lost = slot["wal_status"] == "lost"
        remedy = "bring the follower back: it compares and copies what is missing by itself" if lost else None
        told = "lost: its WAL is gone" if lost else f"keeps {int(slot['bytes']) >> 20} MiB of WAL"
        found.append(Finding(f"{what} slot {slot['slot_name']}", told, remedy))
    return found + (await _start_fence(what, session, settings) if row["set_up"] else [])


async def _start_fence(what: str, session: psycopg.AsyncConnection[Any], settings: Settings) -> list[Finding]:
    row = (await sql_files.run(session, "doctor_set_up"))[0]
    found = []
    if row["functions"] != FUNCTIONS_VERSION:
        told = f"version {row['functions']}, and this supervisor needs {FUNCTIONS_VERSION}"
        found.append(Finding(f"{what} functions", told, SET_UP))
    if row["hba_error"]:
        found.append(Finding(f"{what} pg_hba.conf", row["hba_error"], "mend the line; nothing of the file is in force"))
    if not row["hba_fenced"]:
        found.append(
            Finding(f"{what} start fence", f"role {settings.postgres.kine_role} may log in as soon as Postgres starts",
                    "let pg_hba.conf name it only by @kine_failover_open, and have the unit write "
                    "kine_failover_closed into that file before each start (R11): `kine-failover postgres-setup`")
        )  # fmt: skip
    else:
        found.append(Finding(f"{what} start fence", "pg_hba.conf lets Kine in by kine_failover_open only"))
    return found


def _capabilities(settings: Settings) -> list[Finding]:
    """Return what a virtual IP needs and this process has; the supervisor's own process is looked at where it runs."""
    if settings.address.virtual_ip is None:
        return []
    pid = _supervisor_pid(settings)
    status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii")
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    lacks = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    who = "the supervisor" if pid is not None else "this user (the supervisor does not run)"
    if not lacks:
        return [Finding("virtual IP", f"{who} may set addresses")]
    remedy = f"AmbientCapabilities={' '.join(CAPABILITIES)} in a drop-in of the unit: see docs/address.md"
    return [Finding("virtual IP", f"{who} lacks {' and '.join(lacks)}", remedy)]


def _supervisor_pid(settings: Settings) -> int | None:
    """Return the process at the other end of the control socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2.0)
        asking.connect(str(settings.node.run_dir / "control.sock"))
        told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", told)[0]) or None
    return None


async def _broker(settings: Settings) -> list[Finding]:
    mqtt = settings.mqtt
    if mqtt is None:
        return []
    answer = await tcp.knock(*split_endpoint(mqtt.broker), 2.0)
    if answer is not Answer.OPEN:
        remedy = "start it, open the port, or correct [mqtt] broker: nothing is told to it, and it is no path between the nodes"
        return [Finding("MQTT broker", f"{mqtt.broker} {answer}", remedy)]
    from failover.adapters.mqtt import greet  # noqa: PLC0415 - a library that most nodes do without
    from failover.parts import connection  # noqa: PLC0415

    try:
        # A name of its own: a broker closes an older connection of the same client, which would be the supervisor's.
        await greet(replace(connection(mqtt), client=f"kine-failover-doctor-{secrets.token_hex(6)}"))
    except PortError as error:
        remedy = "correct [mqtt] username, password_file and [mqtt.tls], or the broker's users and certificate"
        return [Finding("MQTT broker", f"{mqtt.broker} does not let this node in: {error}", remedy)]
    return [Finding("MQTT broker", f"{mqtt.broker} lets this node in")]


async def _reach(settings: Settings) -> list[Finding]:
    found = []
    for name, endpoints, remedy in (
        ("peer's supervisor", tuple(map(split_endpoint, settings.link.peer)), "start it, or open the port"),
        ("peer's Postgres", settings.postgres.peer_endpoints(), "start it, or open the port and listen_addresses"),
        (
            "witness",
            tuple(map(split_endpoint, settings.probes.witnesses)),
            "a witness that never answers proves nothing",
        ),
    ):
        for host, port in endpoints:
            answer = await tcp.knock(host, port, 2.0)
            bad = answer is Answer.SILENT or (answer is Answer.REFUSED and name != "witness")
            found.append(Finding(name, f"{host}:{port} {answer}", remedy if bad else None))
    return found
