"""Fixtures of all tests."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab import binaries
from lab.clients import Clients
from lab.pair import Pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

# A fast preset leaves time for more tests; what takes the default's time is measured in bench/.
FAST = {"timing": 'preset = "fast"\nboot_wait_s = 2.0\nlong_wait_s = 4.0\ngrace_s = 3.0'}

PATIENCE_S = 0.25  # enough for a machine that is busy with other tests, and still given up in each fault


def calm(**sections: str) -> dict[str, Any]:
    """Return options of `running_pair` for a test of something else than speed: deadlines and clients with some patience."""
    timing = 'preset = "lan"\nboot_wait_s = 2.0\nlong_wait_s = 4.0'
    return {"extra": {"timing": timing, **sections}, "load": {"rate": 20.0, "timeout_s": 2.0}}


@pytest.fixture(params=binaries.all_postgres(), ids=lambda one: f"postgres{one.major}")
def each_postgres(request: pytest.FixtureRequest) -> binaries.Postgres:
    """Every Postgres that is there."""
    version: binaries.Postgres = request.param
    return version


@pytest.fixture
def running_pair() -> Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]:
    """A pair in sync under load; everything is ended and removed afterwards."""

    @contextlib.asynccontextmanager
    async def start(**options: object) -> AsyncIterator[tuple[Pair, Clients]]:
        extra = {**FAST, **options.pop("extra", {})}  # type: ignore[dict-item]
        load: dict[str, Any] = options.pop("load", {"timeout_s": PATIENCE_S})  # type: ignore[assignment]
        pair = Pair(extra=extra, **options)  # type: ignore[arg-type]
        async with ended(pair):
            await pair.create()
            await pair.start()
            async with Clients(pair, **load) as clients:
                await clients.until_writing(50)
                yield pair, clients

    return start


@contextlib.asynccontextmanager
async def ended(pair: Pair) -> AsyncIterator[None]:
    """End a pair and remove it; tell what its nodes logged last where the test has failed."""
    try:
        yield
    except BaseException:
        for node in pair.nodes:
            print(f"---- node {node.number}\n{node.log.read_text()[-8000:] if node.log.exists() else ''}")
        raise
    finally:
        await pair.stop()


# ---- the gate on what the simulator reaches ------------------------------------------------------------------------

SIMULATION = Path(__file__).parent / "simulation"
WORKERS_REACHED: set[str] = set()


def _reached_here() -> set[str]:
    play = sys.modules.get("tests.simulation.play")
    return set(play.REACHED) if play is not None else set()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take in what a worker has reached."""
    WORKERS_REACHED.update(getattr(node, "workeroutput", {}).get("reached", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run of the whole of tests/simulation that is good but has not come to what it must come to."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["reached"] = sorted(_reached_here())
        return
    asked = {(config.invocation_params.dir / argument).resolve() for argument in config.args}
    whole = bool(asked & {SIMULATION, SIMULATION.parent, SIMULATION.parent.parent})
    chosen = (
        {"SEED", "SEEDS"} & set(os.environ)
        or config.getoption("keyword")
        or config.getoption("markexpr")
        or config.getoption("collectonly")
    )
    if not whole or chosen or exitstatus != pytest.ExitCode.OK:
        return
    from tests.simulation.reach import bound  # noqa: PLC0415 - only here

    missed = sorted(bound() - WORKERS_REACHED - _reached_here())
    if missed:
        print(f"\nno simulated run came to {', '.join(missed)}; see tests/simulation/reach.py")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
