"""Where the command `kine-failover` begins: a supervisor starts without the command line being loaded for it.

Loading it takes more of a processor than loading the supervisor does, and a restart of the supervisor, which an upgrade
brings, is to take little from the Postgres and the Kine of the same machine.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from failover import DEFAULT_FILE, FILE_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

ENDS_WITH_MACHINE = "--ends-with-machine"


def supervise(file: str | Path, *, ends_with_machine: bool) -> NoReturn:
    """Become the supervisor: the same process runs for years, and needs none of what was loaded so far."""
    argv = [sys.executable, "-m", "failover.supervisor", "--config", str(file)]
    os.execv(sys.executable, argv + [ENDS_WITH_MACHINE] * ends_with_machine)  # noqa: S606


def main() -> None:
    """Start the supervisor where that is all that is asked, as units and containers do; else run the command line."""
    if sys.argv[1:] in (["run"], ["run", ENDS_WITH_MACHINE]):
        supervise(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE, ends_with_machine=ENDS_WITH_MACHINE in sys.argv)
    from failover.cli.main import main as command  # noqa: PLC0415 - the weight that is spared above

    command()


if __name__ == "__main__":
    main()
