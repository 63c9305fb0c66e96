"""The process that runs for years: `kine-failover run` becomes it, without the weight of the command line.

Exit codes as those of the command: 1 refused, 2 configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

# structlog would load it for tracebacks in colour: three megabytes that no log of a service needs.
sys.modules["rich"] = None  # type: ignore[assignment]

from failover import app, config, logs  # noqa: E402
from failover.ports import PortError  # noqa: E402


def main() -> None:
    """Load the configuration and run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="kine-failover run")
    parser.add_argument("--config", type=Path, default=config.DEFAULT_FILE)
    try:
        file = parser.parse_args().config
        settings = config.load(file)
        logs.configure(settings.log.format, settings.log.level)
        asyncio.run(app.run(settings, file))
    except config.ConfigError as error:
        _die(str(error), 2)
    except PortError as error:
        _die(str(error), 1)


def _die(text: str, code: int) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"kine-failover: {line}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
