"""`make simulate`: many seeds on all cores, with progress; ends with the first failure, made as short as it gets.

`make simulate QUIET=60` has one pair live for an hour under load without a fault instead, on one core.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time

import structlog

from failover.core.plans import PLANS
from failover.core.rules import RULES
from tests.simulation.play import Run, play_quiet, play_seed, shrink

SHOWN_EVERY_S = 5.0
LINES_SHOWN = 150


def quiet() -> None:
    """Switch the nodes' own logs off; the timeline is the world's."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def one(seed: int) -> tuple[int, Run, float]:
    """Play one seed. Returns how much processor time it took, seconds, as well."""
    begun_s = time.process_time()
    return seed, play_seed(seed), time.process_time() - begun_s


def speed(simulated_s: float, processor_s: float) -> str:
    """Say how fast it was, whatever else the machine did."""
    return f"{simulated_s / 60 / processor_s:.1f} simulated hours per minute of a core"


def main() -> int:
    """Return 0 when every seed held, 1 after the first that did not."""
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--minutes", type=float, default=10.0, help="at most so long")
    parser.add_argument("--quiet", type=float, default=0.0, help="no seeds: so many simulated minutes without a fault")
    options = parser.parse_args()
    if options.quiet:
        return undisturbed(options.quiet)
    cores = multiprocessing.cpu_count()
    begun_s = shown_s = time.monotonic()
    simulated_s, processor_s, count, reached = 0.0, 0.0, 0, set[str]()
    with multiprocessing.Pool(cores, initializer=quiet) as pool:
        for seed, run, took_s in pool.imap_unordered(one, range(options.first, options.first + options.seeds)):
            count, simulated_s, reached = count + 1, simulated_s + run.simulated_s, reached | run.reached
            processor_s += took_s
            if run.error is not None:
                pool.terminate()
                return fail(seed, run)
            if time.monotonic() - shown_s > SHOWN_EVERY_S:
                shown_s = time.monotonic()
                print(f"{count} of {options.seeds} seeds, {simulated_s / 3600:.1f} h simulated", flush=True)
            if time.monotonic() - begun_s > 60 * options.minutes:
                pool.terminate()
                break
    minutes = (time.monotonic() - begun_s) / 60
    print(f"{count} seeds held: {simulated_s / 3600:.1f} h simulated in {minutes:.1f} min on {cores} cores")
    print(speed(simulated_s, processor_s))
    report(reached)
    return 0


def undisturbed(minutes: float) -> int:
    """Have a pair live for so long without a fault."""
    quiet()
    begun_s = time.process_time()
    run = play_quiet(60 * minutes)
    print(
        run.error
        or f"{run.simulated_s / 3600:.1f} h simulated, {speed(run.simulated_s, time.process_time() - begun_s)}"
    )
    return int(run.error is not None)


def report(reached: set[str]) -> None:
    """Say which rules and steps no seed came to."""
    rules = {rule.name for rule in RULES}
    steps = {f"{plan.name}/{step}" for plan in PLANS for step in plan.steps}
    for what, names in (("rules", rules), ("steps", steps)):
        missed = sorted(names - reached)
        print(
            f"{len(names) - len(missed)} of {len(names)} {what} reached"
            + (f"; not: {', '.join(missed)}" * bool(missed))
        )


def fail(seed: int, run: Run) -> int:
    """Show the failure with its timeline, and the shortest scenario that still fails."""
    print("\n".join(run.log[-LINES_SHOWN:]))
    print(f"seed {seed}: {run.error}")
    quiet()
    print("the shortest part that fails:")
    for event in shrink(seed, lambda shorter: shorter.error is not None):
        print(f"  {event}")
    print(f"replay with: SEED={seed} .venv/bin/python -m pytest tests/simulation/test_random.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
