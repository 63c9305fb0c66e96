"""A real Postgres for the laboratory: started fenced, killed hard, started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from failover.adapters import postgres_setup, sql_files
from lab import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping

SUPERUSER = "postgres"
SUPERVISOR = "kine_failover"
KINE_ROLE = "kine"
DATABASE = "kine"
START_S = 60.0
NOBODY = "kine_failover_closed"  # a role that does not exist

# What an installation has, on a machine that has little to give.
SETTINGS: dict[str, str] = {
    **{name: f"'{one.value}'" for name, one in postgres_setup.SETTINGS.items()},
    "listen_addresses": "'127.0.0.1'",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
    "max_wal_size": "'256MB'",
    "min_wal_size": "'64MB'",
}

HBA = f"""\
local all {SUPERUSER} trust
local all {SUPERVISOR} trust
host all {SUPERVISOR} 127.0.0.1/32 trust
local all @kine_failover_open trust
host all @kine_failover_open 127.0.0.1/32 trust
"""


class PostgresServer:
    """One server with a data folder of its own under `folder`, on a port of loopback and on a socket in `folder`."""

    def __init__(
        self, folder: Path, port: int, version: binaries.Postgres, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = port
        self.user = binaries.unprivileged_user()
        self.programs = binaries.for_user(version, self.user)
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def conninfo(self, role: str = SUPERVISOR, host: str | None = None, port: int | None = None) -> str:
        """Return how to connect; over the socket unless a host is named."""
        return f"host={host or self.folder} port={port or self.port} user={role} dbname={DATABASE}"

    def kine_endpoint(self, host: str = "127.0.0.1", port: int | None = None, role: str = KINE_ROLE) -> str:
        """Return what Kine is told; the supervisor's role comes past the fence, for a Kine without a supervisor."""
        return f"postgres://{role}@{host}:{port or self.port}/{DATABASE}?sslmode=disable"

    def create(self) -> None:
        """Make an empty cluster with the database and both roles, the supervisor's with no more rights than it needs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.user is not None:
            who = pwd.getpwnam(self.user)
            os.chown(self.folder, who.pw_uid, who.pw_gid)
        self._as_user(
            [self.programs / "initdb", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"]
        )  # fmt: skip
        lines = [f"{name} = {value}\n" for name, value in self._settings.items()]
        lines += [f"port = {self.port}\n", f"unix_socket_directories = '{self.folder}'\n"]
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.writelines(lines)
        (self.data / "pg_hba.conf").write_text(HBA, encoding="utf-8")
        self.start()
        with psycopg.connect(self._superuser("postgres"), autocommit=True) as session:
            session.execute(f"CREATE DATABASE {DATABASE}")
        values = {"supervisor": SUPERVISOR, "kine_role": KINE_ROLE, "password_required": "false"}
        with psycopg.connect(self._superuser(DATABASE), autocommit=True) as session:
            for name in ("setup_roles", "setup_functions"):
                text = sql_files.filled(name, **values)
                session.execute(text.encode())

    def _superuser(self, database: str) -> str:
        return f"host={self.folder} port={self.port} user={SUPERUSER} dbname={database}"

    def start(self, *, wait: bool = True) -> None:
        """Start it, fenced: the file that lets Kine in names nobody at first, as the unit's drop-in does (R11).

        It may not be empty: pg_hba.conf would then be refused as a whole.
        """
        open_file = self.data / "kine_failover_open"
        open_file.write_text(f"{NOBODY}\n", encoding="utf-8")
        if self.user is not None:
            shutil.chown(open_file, self.user)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/",
                env={**os.environ, "HOME": "/"},  # it is its user's, and libpq looks for certificates there
                user=self.user, extra_groups=[] if self.user is not None else None,
            )  # fmt: skip
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when it takes connections."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self._superuser("postgres")).close()
            except psycopg.OperationalError:
                if self.ended() or time.monotonic() > deadline:
                    raise RuntimeError(f"Postgres does not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.01)
            else:
                return

    def ended(self) -> bool:
        """Whether it does not run, or no more."""
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int | None:
        """Return the postmaster's pid, None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def kill(self) -> None:
        """Power loss, as far as a process can have it: postmaster and all backends at once, by SIGKILL.

        Returns when all are gone: one that is left keeps the shared memory, and the next start would fail.
        """
        postmaster = self.pid
        if postmaster is not None:
            os.kill(postmaster, signal.SIGSTOP)  # it makes no backend while they are listed
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=START_S)
        deadline = time.monotonic() + START_S
        while any(map(_runs, pids)) and time.monotonic() < deadline:
            time.sleep(0.001)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the postmaster and all backends."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """Fast shutdown."""
        if self._process is None or self._process.poll() is not None:
            return
        self.signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=START_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def pids(self) -> list[int]:
        """Return the postmaster's pid and its children's."""
        pid = self.pid  # asked once: it may end between two questions
        if pid is None:
            return []
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except OSError:
            children = []
        return [pid, *map(int, children)]

    def _as_user(self, argv: list[object]) -> None:
        done = subprocess.run(
            [str(one) for one in argv], capture_output=True, text=True, check=False, cwd="/",
            user=self.user, extra_groups=[] if self.user is not None else None,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{argv[0]} failed: {done.stderr[-2000:]}")


def _runs(pid: int) -> bool:
    """Whether the process has not ended; one that only waits to be reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
