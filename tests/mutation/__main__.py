"""`make mutate`: which small mistakes in the core no test notices.

The tests are collected once; then a process is forked for each mistake and runs the tests that come to its place,
quick ones first, until one fails. Beside the mistakes in functions (`mutants.py`): a row of the rule table that decides
otherwise, a plan without one of its steps, a number of a module that is another.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import json
import math
import os
import random
import resource
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol
from msgspec import structs

from tests.mutation import mutants

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = (
    "tests/core",
    "tests/simulation/test_holes.py",
    "tests/simulation/test_scenarios.py",
    "tests/simulation/test_going_alone.py",
    "tests/simulation/test_promotions.py",
    "tests/simulation/test_fences.py",
    "tests/simulation/test_splits.py",
    "tests/simulation/test_stalls.py",
    "tests/simulation/test_versions.py",
    "tests/simulation/test_play.py",
    "tests/simulation/test_rows.py",
    "tests/simulation/test_crashes.py",
)
# It makes mistakes of its own, and wants tests to fail: what the others notice is noticed without it.
LEFT_OUT = "--deselect=tests/core/test_rules_left_out.py::test_the_test_of_a_rule_fails_without_it"
RESULT = Path("build/mutation.json")
SHOWN_EVERY_S = 30.0
CPU_S = 4.0  # for one test, beyond five times what it took without the mistake
MEMORY_BYTES = 2 * 1024**3  # beyond what there is: a mistake may make a test endless
LIKELY = 12  # tests that are tried first, because they noticed mistakes near by


@dataclass(frozen=True, slots=True)
class Trial:
    """A mistake, how it is made in a forked process, and the tests that may notice it."""

    name: str
    near: tuple[str, ...]  # what it has in common with others that the same tests notice, the nearest first
    make: Callable[[], object]
    tests: tuple[int, ...]  # places in the session's items, quick ones first
    about: str = ""  # what a test that speaks of it has in its name


@dataclass(slots=True)
class Runner:
    """A pytest plugin that runs the collected tests once for every mistake."""

    minutes: float
    tests_cpu_s: float
    only: str
    processes: int
    took_s: list[float] = field(default_factory=list)
    reached: list[set[int]] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)
    noticed: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    trials: int = 0

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run everything once as it is, then the trials."""
        loaded, mutants.SWITCHES.reached = mutants.SWITCHES.reached, set()
        for item in session.items:
            forget()
            mutants.SWITCHES.reached = set()
            begun_s = time.process_time()
            if not passes(item):
                raise pytest.UsageError(f"{item.nodeid} fails without any mistake")
            self.took_s.append(time.process_time() - begun_s)
            self.reached.append(mutants.SWITCHES.reached)
        mutants.become_plain()
        trials = [one for one in (*self._in_functions(loaded), *self._in_values()) if self.only in one.name]
        random.Random(1).shuffle(trials)  # noqa: S311 - a part of them is a fair sample
        self.trials = len(trials)
        gc.collect()
        gc.freeze()  # what is shared with the forked ones stays shared
        everything = Trial("", (), become_anew, self._affordable(range(len(session.items))))
        pid, told = self._fork(session, everything)
        if os.waitpid(pid, 0)[1]:
            raise pytest.UsageError(
                f"a test fails in a forked process without any mistake: {self._ended_in(session, told)}"
            )
        self._try(session, trials)
        return True

    @staticmethod
    def _ended_in(session: pytest.Session, told: int) -> str:
        words = os.read(told, 4096).split()
        return session.items[int(words[-1])].nodeid if words else "it ran into its limits"

    def _in_functions(self, loaded: set[int]) -> list[Trial]:
        made = []
        for mutant in mutants.MUTANTS:
            places = [place for place, seen in enumerate(self.reached) if mutant.number in seen]
            if not places and mutant.number in loaded:
                continue
            near = (f"{mutant.module}:{mutant.line}", mutant.module)
            make = functools.partial(mutants.become, mutant.module, mutant.number)
            made.append(Trial(str(mutant), near, make, self._affordable(places)))
        return made

    def _in_values(self) -> list[Trial]:
        tests = self._affordable(range(len(self.reached)))
        values = (*rows(), *steps(), *numbers())
        return [Trial(name, (name.partition(":")[0],), make, tests, name.split()[1]) for name, make in values]

    def _affordable(self, places: Any) -> tuple[int, ...]:
        """Return the quickest of the tests, as far as the time for one mutant goes."""
        chosen, spent_s = [], 0.0
        for place in sorted(places, key=lambda one: self.took_s[one]):
            spent_s += self.took_s[place]
            if spent_s > self.tests_cpu_s:
                break
            chosen.append(place)
        return tuple(chosen)

    def _ordered(self, session: pytest.Session, trial: Trial) -> list[int]:
        """Return its tests, those first that speak of it or noticed most of what is near."""

        def worth(place: int) -> tuple[float, ...]:
            return tuple(-self.noticed[near][place] for near in trial.near)

        likely = [one for one in trial.tests if trial.about and f"[{trial.about}" in session.items[one].nodeid]
        likely += sorted((one for one in trial.tests if any(worth(one)) and one not in likely), key=worth)[:LIKELY]
        return [*likely, *(one for one in trial.tests if one not in likely)]

    def _try(self, session: pytest.Session, trials: list[Trial]) -> None:
        begun_s = shown_s = time.monotonic()
        running: dict[int, tuple[Trial, int]] = {}
        while trials or running:
            while trials and len(running) < self.processes:
                if time.monotonic() - begun_s > 60 * self.minutes:
                    trials.clear()
                    break
                trial = trials.pop()
                pid, told = self._fork(session, trial)
                running[pid] = trial, told
            if not running:
                break
            pid, status = os.wait()
            trial, told = running.pop(pid)
            words = os.read(told, 4096).split()  # the last one is the test that it ended in
            os.close(told)
            if status:
                self.killed.append(trial.name)
                for near in trial.near if words else ():
                    self.noticed[near][int(words[-1])] += 1
            else:
                self.survived.append(trial.name)
            if time.monotonic() - shown_s > SHOWN_EVERY_S:
                shown_s = time.monotonic()
                self._show()

    def _fork(self, session: pytest.Session, trial: Trial) -> tuple[int, int]:
        """Return the process that tries it, and where it says which test it is in."""
        tests = self._ordered(session, trial)
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write)
            return pid, read
        used, hard = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (max(address_space(), used) + MEMORY_BYTES, hard))
        good = False
        with contextlib.suppress(BaseException):  # whatever it breaks, it is noticed
            trial.make()
            forget()
            good = all(self._passes_in_time(session.items[place], place, write) for place in tests)
        os._exit(0 if good else 1)

    def _passes_in_time(self, item: pytest.Item, place: int, told: int) -> bool:
        limit_s = math.ceil(time.process_time() + CPU_S + 5 * self.took_s[place])
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, resource.RLIM_INFINITY))  # a mistake may make it endless
        if passes(item):
            return True
        os.write(told, b"%d " % place)
        return False

    def _show(self) -> None:
        tried = len(self.killed) + len(self.survived)
        sys.__stdout__.write(f"{tried} of {self.trials} mutants, {self.share():.1f} % killed\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]

    def share(self) -> float:
        """Return how many of those that were tried are killed, in per cent."""
        return 100 * len(self.killed) / max(1, len(self.killed) + len(self.survived))

    def report(self, at_least: float) -> int:
        """Show what survived, and keep it; 1 when too much did."""
        self._show()
        for name in sorted(self.survived):
            print(f"survived: {name}")
        RESULT.parent.mkdir(exist_ok=True)
        told = {"mutants": self.trials, "killed": len(self.killed), "survived": sorted(self.survived)}
        RESULT.write_text(json.dumps(told, indent=1) + "\n")
        if self.share() < at_least:
            print(f"less than {at_least:g} % are killed: write the tests that are missing, or mend the core")
            return 1
        return 0


def address_space() -> int:
    """Return how much of it this process has, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def passes(item: pytest.Item) -> bool:
    """Run one test."""
    return not any(report.failed for report in runtestprotocol(item, nextitem=None, log=False))


def forget() -> None:
    """Empty every cache: what was computed without the mistake is worth nothing."""
    for cached in caches():
        cached.cache_clear()


@functools.cache
def caches() -> list[Any]:
    """Return the caches of the core, the simulator and the tests; to look for them again in each process costs too much."""
    ours = ("failover.", "tests.", "test_")
    everything = [one for one in gc.get_objects() if isinstance(one, functools._lru_cache_wrapper)]
    return [one for one in everything if str(one.__module__).startswith(ours) and one is not caches]


def become_anew() -> None:
    """Compile every module again, without a mistake."""
    for module in mutants.FIRST:
        mutants.become(module, None)


def rows() -> list[tuple[str, Callable[[], object]]]:
    """Each row of the rule table decides otherwise."""
    from failover.core import rules  # noqa: PLC0415 - it is loaded with the switches in it

    quiet = (rules.Decision.CARRY_ON, rules.Decision.WAIT)

    def otherwise(rule: rules.Rule) -> Callable[[], object]:
        other = rules.Decision.START_OVER if rule.decision in quiet else rules.Decision.CARRY_ON
        return functools.partial(object.__setattr__, rule, "decision", other)  # in the table itself, which is frozen

    return [(f"rules.py: {rule.name} decides otherwise", otherwise(rule)) for rule in rules.RULES]


def steps() -> list[tuple[str, Callable[[], object]]]:
    """Each plan without one of its steps."""
    from failover.core import plans  # noqa: PLC0415
    from failover.node import loop  # noqa: PLC0415

    def without(plan: plans.Plan, step: plans.Step) -> Callable[[], object]:
        def make() -> None:
            wrong = structs.replace(plan, steps=tuple(one for one in plan.steps if one is not step))
            setattr(plans, plan.name.upper(), wrong)
            plans.PLANS = tuple(wrong if one is plan else one for one in plans.PLANS)  # type: ignore[assignment]
            loop.PLAN_OF.update({key: wrong for key, one in loop.PLAN_OF.items() if one is plan})

        return make

    return [
        (f"plans.py: {plan.name} without {step}", without(plan, step)) for plan in plans.PLANS for step in plan.steps
    ]


def numbers() -> list[tuple[str, Callable[[], object]]]:
    """Each number that a module of the core has by name, and its functions read, is one more."""
    found: list[tuple[str, Callable[[], object]]] = []
    for name, module in list(sys.modules.items()):
        if not name.startswith(mutants.PACKAGE + "."):
            continue
        read = {one for function in mutants.FUNCTIONS[name] for one in names(function.__code__)}
        for constant, value in vars(module).items():
            if constant in read and constant.isupper() and type(value) in (int, float) and abs(value) != float("inf"):
                where = f"{name.rpartition('.')[2]}.py: {constant} = {value + 1}"
                found.append((where, functools.partial(setattr, module, constant, value + 1)))
    return found


def names(code: CodeType) -> set[str]:
    """Return the names that a function looks up, those within it included."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return {*code.co_names, *(name for one in inner for name in names(one))}


def main() -> int:
    """Return 0 when enough of what was tried is killed, 1 when not; pytest's code when the tests fail by themselves."""
    parser = argparse.ArgumentParser(prog="make mutate")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most so long")
    parser.add_argument(
        "--tests-cpu-s", type=float, default=20.0, help="the most that the tests of one mutant may take"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="mutants whose name has this in it")
    parser.add_argument("--at-least", type=float, default=0.0, help="per cent that must be killed")
    parser.add_argument("tests", nargs="*", default=TESTS)
    options = parser.parse_args()
    mutants.install()
    runner = Runner(options.minutes, options.tests_cpu_s, options.only, options.processes)
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", LEFT_OUT, *options.tests], [runner])
    return runner.report(options.at_least) if not code else int(code)


if __name__ == "__main__":
    sys.exit(main())
