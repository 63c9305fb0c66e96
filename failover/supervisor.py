"""The process that runs for years: `kine-failover run` becomes it, without the weight of the command line.

Exit codes as those of the command: 1 refused, 2 configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from failover import app, config, logs
from failover.ports import PortError


def main() -> None:
    """Load the configuration and run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="kine-failover run")
    parser.add_argument("--config", type=Path, default=config.DEFAULT_FILE)
    try:
        settings = config.load(parser.parse_args().config)
        logs.configure(settings.log.format, settings.log.level)
        asyncio.run(app.run(settings))
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
