"""`make demo`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from demo.display import Display
from demo.story import Story, Summary
from lab import binaries
from lab.pair import Pair

BOUND_S = 90.0


async def play(*, keep: bool, picture: Path | None) -> Summary:
    """Play the story once, and draw it where `picture` says; everything that was started is ended, also when interrupted."""
    summary = Summary()
    pair = Pair()
    try:
        with Display() as display:
            try:
                async with asyncio.timeout(BOUND_S):
                    summary = await Story(pair, display).run()
            except TimeoutError as error:
                slow = f"the whole is not through after {BOUND_S:g} s; is this machine busy with other work?"
                display.tell(f"something did not happen in time: {str(error) or slow}", style="bold red")
        if picture is not None:
            display.save(picture)
        if keep:
            tell_what_to_try(pair)
        print(json.dumps(asdict(summary)), flush=True)
        if keep:
            await asyncio.Event().wait()
    finally:
        await pair.stop()
    return summary


def tell_what_to_try(pair: Pair) -> None:
    """Print commands for the pair that goes on running."""
    command = f"{sys.executable.removesuffix('python')}kine-failover"
    print("\nThe pair runs until Ctrl-C. In another terminal:")
    for what in ("status", "watch", "history", "divergence list", "doctor", "switchover --yes"):
        print(f"  {command} {what} --config {pair.nodes[0].config}")
    for node in pair.nodes:
        print(f"node {node.number}: etcd API {node.kine_target}, log {node.log}, configuration {node.config}")


def main() -> None:
    """Run it and say by the exit code whether all is well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        picture = os.environ.get("PICTURE")
        summary = asyncio.run(play(keep=bool(os.environ.get("KEEP")), picture=Path(picture) if picture else None))
    except KeyboardInterrupt:
        sys.exit(130)
    except binaries.MissingProgramError as error:
        sys.exit(str(error))
    sys.exit(0 if summary.ok else 1)


if __name__ == "__main__":
    main()
