"""`make chaos` and `make soak`: enter the enclosure, play, report."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

from chaos import enclosure, report
from chaos.play import Play, Result
from chaos.scenarios import NAMED, SHORT, Scenario, draw
from chaos.site import Site
from chaos.soak import soak

if TYPE_CHECKING:
    from collections.abc import Iterator

SKIPPED = 0
LAST_S = 40.0  # no scenario begins with less time than this left


def main() -> int:
    """Return the exit code: 0 when everything that was played is good, or nothing can be played here."""
    asked = _arguments()
    if not enclosure.inside():
        enclosure.install_missing()
        why = enclosure.obstacle()
        if why is not None:
            print(f"skipped: {why}")
            return SKIPPED
        return enclosure.enter(sys.argv[1:])
    running = _run(asked)
    return asyncio.run(running)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="time budget")
    parser.add_argument("--seed", help="a campaign drawn from this seed instead of the named scenarios")
    parser.add_argument("--scenario", help="one of these by name, or several, comma-separated; `all`: every named one")
    parser.add_argument("--soak", action="store_true", help="stress without a fault: count false failovers")
    parser.add_argument("--list", action="store_true", help="list the named scenarios, and what each asks for")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(f"{one.name:60}{one.promise_in_words()}" for one in NAMED.values()))
        sys.exit(0)
    unknown = set((asked.scenario or "").split(",")) - {"", "all", *NAMED}
    if unknown:
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; --list names them all")
    return asked


def _wanted(asked: argparse.Namespace) -> Iterator[tuple[Scenario, str]]:
    """Yield scenarios: the named ones once, or those of a seed for ever."""
    if asked.scenario == "all":
        yield from ((one, "") for one in NAMED.values())
    elif asked.scenario:
        yield from ((NAMED[name], "") for name in asked.scenario.split(","))
    elif asked.seed is None:
        yield from ((NAMED[name], "") for name in SHORT)
    else:
        seed = int(asked.seed) if asked.seed.isdigit() else random.randrange(2**31)  # noqa: S311 - printed, to replay
        for number in range(10**6):
            yield draw(seed, number), f"{seed}/{number}"


async def _run(asked: argparse.Namespace) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _leave)
    keeper = enclosure.DiskKeeper()
    until_s = time.monotonic() + asked.minutes * 60
    results = await soak(keeper, asked.minutes, _so_far) if asked.soak else await _play(keeper, asked, until_s)
    name = "soak" if asked.soak else "chaos"
    page = report.write(results, report.FOLDER, name, random_seed=asked.seed)
    bad = [one for one in results if one.complaints]
    played = [one for one in results if one.skipped is None]
    print(f"{len(played)} scenarios, {len(bad)} with complaints, {len(results) - len(played)} skipped; {page}")
    return 1 if bad or not played else 0


def _so_far(result: Result) -> None:
    report.write([result], report.FOLDER, "soak", random_seed=None)
    shown = ("false_failovers", "went_alone", "acknowledged")
    told = " ".join(f"{name}={result.counts[name]}" for name in shown)
    print(f"after {result.seconds / 60:.0f} min: {told}", flush=True)


def _leave() -> None:
    """End at once: the namespaces end with this process, and the kernel takes everything in them."""
    print("interrupted; nothing is left behind", flush=True)
    os._exit(130)


async def _play(keeper: enclosure.DiskKeeper, asked: argparse.Namespace, until_s: float) -> list[Result]:
    results: list[Result] = []
    site: Site | None = None
    try:
        for scenario, seed in _wanted(asked):
            if results and until_s - time.monotonic() < LAST_S:
                break
            if site is None:
                site = Site(keeper)
                await site.create()
                await site.start()
            results.append(await Play(site, scenario, seed).run())
            _tell(results[-1])
            if results[-1].complaints:
                report.keep_logs(site, results[-1])
                site.remove()
                site = None
    finally:
        if site is not None:
            site.remove()
    return results


def _tell(result: Result) -> None:
    word = "skipped" if result.skipped else "BAD" if result.complaints else "good"
    counts = result.counts
    print(
        f"{word:8}{result.scenario:60}{result.seconds:6.1f} s  {counts.get('acknowledged', 0):6} acknowledged  "
        f"longest gap {max(result.gaps_s):.2f} s{f'  {result.skipped}' if result.skipped else ''}",
        flush=True,
    )
    for line in result.complaints[:5]:
        print(f"        {line[:1500]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
