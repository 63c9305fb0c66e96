"""Read and check the configuration, and write it to standard output for the supervisor, which started this: `parts.read`.

Exit codes: 2 where the file cannot be used, with the reasons on standard error.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from failover import config, parts
from failover.errors import ConfigError


def main() -> None:
    """Answer for the file named by the only argument."""
    try:
        settings = config.load(Path(sys.argv[1]))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(parts.USAGE)
    sys.stdout.buffer.write(pickle.dumps(parts.parts_of(settings)))


if __name__ == "__main__":
    main()
