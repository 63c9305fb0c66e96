"""The process that runs for years: `kine-failover run` becomes it, without the weight of the command line.

Exit codes as those of the command: 1 refused, 2 configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# structlog would load it for tracebacks in colour: three megabytes that no log of a service needs.
sys.modules["rich"] = None  # type: ignore[assignment]


@contextlib.contextmanager
def _without_authorities() -> Iterator[None]:
    """aiohttp loads the system's authorities as it is imported, two megabytes. Whom a node trusts is in its configuration."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


with _without_authorities():
    from failover import app, logs, parts
from failover.adapters.names import NamesLoop  # noqa: E402
from failover.errors import ConfigError  # noqa: E402
from failover.ports import PortError  # noqa: E402


def main() -> None:
    """Have the configuration read and run until SIGTERM. The only arguments: --config FILE, --ends-with-machine."""
    file = Path(sys.argv[sys.argv.index("--config") + 1])
    try:
        wanted = parts.read(file)
        logs.configure(*wanted.log)
        with asyncio.Runner(loop_factory=NamesLoop) as runner:
            runner.run(app.run(wanted, file, ends_with_machine="--ends-with-machine" in sys.argv))
    except ConfigError as error:
        _die(str(error), 2)
    except PortError as error:
        _die(str(error), 1)


def _die(text: str, code: int) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"kine-failover: {line}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
