"""Postgres servers with nothing around them, for what needs no whole node."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lab.pair import Reservation
from lab.postgres_server import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import binaries


@contextlib.contextmanager
def servers(version: binaries.Postgres, count: int = 1) -> Iterator[list[PostgresServer]]:
    """Have so many servers run, each with a folder and a port of its own; nothing of them is left afterwards.

    Their folder is one that another user may enter, as Postgres refuses root. RuntimeError when one does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="kine-failover-"))
    folder.chmod(0o755)
    reserved = Reservation(count)
    made = [PostgresServer(folder / f"server-{one}", port, version) for one, port in enumerate(reserved.ports)]
    try:
        for one in made:
            one.create()
        yield made
    finally:
        for one in made:
            one.kill()
        reserved.release()
        shutil.rmtree(folder)
