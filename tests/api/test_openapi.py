"""The OpenAPI document is true: schemathesis asks everything that it allows, and things that it does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from failover.api.openapi import document
from failover.api.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.api.conftest import Served

    Serve = Callable[..., AbstractAsyncContextManager[Served]]

ENDLESS = "/v1/events"  # tried by hand in test_routes


async def test_what_is_described_is_what_is_served(serve: Serve) -> None:
    async with serve() as served:
        leader = served.leader
        arguments = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{served.tls[leader]}/openapi.json",
            "--tls-verify", "false", "--request-cert", str(served.folder / "operator.crt"),
            "--request-cert-key", str(served.folder / "operator.key"), "--exclude-path", ENDLESS,
            "--checks", "all", "--exclude-checks", "not_a_server_error",  # 500 and 503 say "not healthy"
            "--max-examples", "15", "--phases", "examples,coverage,fuzzing", "--workers", "1",
            "--seed", "1", "--generation-database", "none", "--no-color", "--request-timeout", "10",
        ]  # fmt: skip
        done = await asyncio.to_thread(
            subprocess.run, arguments, capture_output=True, text=True, check=False, timeout=200, cwd=served.folder
        )
        assert done.returncode == 0, done.stdout[:9000] + done.stderr[-2000:]
        async with served.locally(leader) as session, session.get("/v1/status") as answer:
            assert answer.status == 200


async def test_it_is_served_to_whoever_reads(serve: Serve) -> None:
    async with (
        serve() as served,
        aiohttp.ClientSession(served.plain[0]) as session,
        session.get("/openapi.json") as answer,
    ):
        assert await answer.json() == document()


def test_every_route_is_described() -> None:
    told = document()
    assert {(route.path, method.lower()) for route in ROUTES for method in route.methods} == {
        (path, method) for path, methods in told["paths"].items() for method in methods
    }
    names = [one["operationId"] for methods in told["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
