"""`support-bundle`: everything that somebody needs who is to help, in one file, without secrets and bounded in size."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer

from failover import __version__, config, secrets
from failover.adapters import sql_files
from failover.cli import doctor
from failover.cli.ask import call
from failover.cli.outcome import RefusedError, UnreachableError
from failover.cli.redact import SECRET_NAME, Redactor, password_of, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

File = Annotated[Path, typer.Option("--config", "-c", envvar="KINE_FAILOVER_CONFIG", help="the configuration file")]
PART_MAX = 4 << 20  # of one file in it, before compression; the end is kept
TOTAL_MAX = 24 << 20
JOURNAL_LINES = 20_000
COMMAND_S = 20.0
QUERY_S = 10.0
SECRET_FILE_MAX = 64 << 10
UNIT = "kine-failover"


def support_bundle(
    file: File = config.DEFAULT_FILE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="the file to write; default: named after node and time, here")
    ] = None,
) -> None:
    """Gather status, history, logs, configuration and Postgres's views into one file; secrets are taken out."""
    settings = config.load(file)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = output or Path(f"kine-failover-node-{settings.node.number}-{stamp}.tar.gz")
    redactor = Redactor(known_secrets(settings))
    parts = asyncio.run(_gather(file, settings))
    try:
        kept = _write(target, parts, redactor)
    except OSError as error:
        raise RefusedError(f"{target} cannot be written: {error.strerror}") from None
    typer.echo(f"{target}: {kept} files, {target.stat().st_size >> 10} KiB; look at it before you send it to somebody")


def known_secrets(settings: config.Settings) -> list[str]:
    """Return every secret that this node's configuration or environment holds or names."""
    found = []
    for section in (settings.postgres, settings.kine):
        found += [one for side in (section.own, section.peer) for one in password_of(side.get_secret_value())]
    files = [settings.postgres.password_file, settings.kine.password_file]
    if settings.mqtt is not None:
        files.append(settings.mqtt.password_file)
    for path in files:
        with contextlib.suppress(ValueError):
            found += [secrets.read(path)] if path is not None else []
    for path in _key_files(settings):
        with contextlib.suppress(OSError):
            found += [
                line for line in path.read_text(errors="replace")[:SECRET_FILE_MAX].splitlines() if "-----" not in line
            ]
    found += [value for name, value in os.environ.items() if SECRET_NAME.search(name)]
    found += [value for name, value in os.environ.items() if name.startswith(config.ENVIRONMENT) and "://" in value]
    return [one for one in found if one]


def _key_files(settings: config.Settings) -> Iterator[Path]:
    for section in (settings.link.tls, settings.api.tls, settings.mqtt.tls if settings.mqtt is not None else None):
        if section is not None and section.key is not None:
            yield section.key
    if settings.address.dns is not None:
        yield settings.address.dns.key_file


async def _gather(file: Path, settings: config.Settings) -> dict[str, str]:
    """Return the parts by name. What cannot be had says why: a bundle is made when things are broken."""
    parts = {
        "versions.json": _json(_versions(settings)),
        "config.json": _json(_shown(settings)),
        "environment.txt": "\n".join(sorted(name for name in os.environ if name.startswith("KINE_FAILOVER"))),
        "files.txt": "\n".join(_listing(settings)),
    }
    for name, route in (("status", "/v1/status"), ("lineage", "/v1/lineage"), ("divergence", "/v1/divergence")):
        try:
            parts[f"{name}.json"] = _json(await call(file, "GET", route))
        except (UnreachableError, RefusedError) as error:
            parts[f"{name}.json"] = _json({"error": str(error)})
    parts["doctor.txt"] = await _doctor(settings)
    for side, conninfo in (("own", settings.postgres.own), ("peer", settings.postgres.peer)):
        parts[f"postgres-{side}.json"] = _json(await _postgres(conninfo.get_secret_value()))
    state, run = settings.node.state_dir, settings.node.run_dir
    for path in (
        state / "history.jsonl", state / "history.1", state / "state.json", state / "drill.json", state / "scrub.json",
        state / "schedule.json", run / "kine.log", run / "kine.log.1",
    ):  # fmt: skip
        text = _tail(path)
        if text is not None:
            parts[f"{path.parent.name}/{path.name}"] = text
    parts["journal.txt"] = await asyncio.to_thread(_journal)
    return parts


async def _doctor(settings: config.Settings) -> str:
    try:
        async with asyncio.timeout(6 * QUERY_S):
            found = await doctor.examine(settings)
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what the bundle is for
        return f"doctor did not get through: {type(error).__name__}: {error}"
    return "\n".join(
        f"{'ok ' if one.remedy is None else 'BAD'} {one.what}: {one.found}"
        + (f"\n    {one.remedy}" if one.remedy else "")
        for one in found
    )


async def _postgres(conninfo: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    try:
        session = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, connect_timeout=3)
    except psycopg.Error as error:
        return {"error": " ".join(str(error).split())}
    async with session:
        for name in ("support_settings", "support_views", "support_table"):
            try:
                async with asyncio.timeout(QUERY_S):
                    rows = await sql_files.run(session, name)
            except (psycopg.Error, TimeoutError) as error:
                told[name] = {"error": " ".join(str(error).split()) or f"no answer within {QUERY_S:g} s"}
                if session.closed or isinstance(error, TimeoutError):
                    break
            else:
                told[name.removeprefix("support_")] = rows if len(rows) != 1 else rows[0]
    return told


def _versions(settings: config.Settings) -> dict[str, Any]:
    libraries = {}
    for line in importlib.metadata.requires("kine-failover") or []:
        name = line.split(";", maxsplit=1)[0].split(">")[0].split("[")[0].strip()
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return {
        "kine-failover": __version__,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": sys.version,
        "machine": platform.platform(),
        "kine": _said([str(settings.kine.program), "--version"]),
        "uptime_s": _first_line(Path("/proc/uptime")),
        "load": _first_line(Path("/proc/loadavg")),
        "libraries": libraries,
    }


def _shown(settings: config.Settings) -> dict[str, Any]:
    """Return the configuration in force. Connection strings lose their passwords and keep the rest: it tells much."""
    told = settings.model_dump(mode="json")
    for name, section in (("postgres", settings.postgres), ("kine", settings.kine)):
        told[name] |= {side: without_password(getattr(section, side).get_secret_value()) for side in ("own", "peer")}
    return told


def _listing(settings: config.Settings) -> Iterator[str]:
    for folder in (settings.node.state_dir, settings.node.state_dir / "archives", settings.node.run_dir):
        try:
            for path in sorted(folder.iterdir())[:1000]:
                found = path.lstat()
                yield f"{found.st_mode:o} {found.st_uid} {found.st_gid} {found.st_size:>12} {int(found.st_mtime)} {path}"
        except OSError as error:
            yield f"{folder}: {error.strerror}"


def _journal() -> str:
    """Return the supervisor's lines of the journal; Postgres's own log stays where it is, as it may hold statements."""
    if shutil.which("journalctl") is None:
        return "no journalctl on this machine"
    return _said(
        ["journalctl", "--no-pager", "--output=short-iso-precise", f"--lines={JOURNAL_LINES}", f"--unit={UNIT}"]
    )


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False)  # noqa: S603 - fixed commands
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command[0]}: {error}"
    return (done.stdout + done.stderr)[-PART_MAX:].decode(errors="replace").strip()


def _tail(path: Path) -> str | None:
    """Return the end of a file, from the beginning of a line; None where there is none."""
    try:
        with path.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - PART_MAX))
            raw = opened.read(PART_MAX)
    except OSError:
        return None
    if size > PART_MAX:
        raw = raw.partition(b"\n")[2]
    return raw.decode(errors="replace")


def _first_line(path: Path) -> str | None:
    return (_tail(path) or "").partition("\n")[0] or None


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str)


def _write(target: Path, parts: dict[str, str], redactor: Redactor) -> int:
    """Write the archive, readable for its owner alone, under its name only when it is whole. Returns the number of files."""
    left, kept = TOTAL_MAX, 0
    temporary = target.with_name(f".{target.name}.new")
    folder = target.name.removesuffix(".tar.gz")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with (
            os.fdopen(descriptor, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb") as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for name, text in parts.items():
                content = redactor.clean(text).encode()[-min(PART_MAX, left) :] if left > 0 else b""
                left -= len(content)
                if content:
                    member = tarfile.TarInfo(f"{folder}/{name}")
                    member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
                    archive.addfile(member, io.BytesIO(content))
                    kept += 1
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return kept
