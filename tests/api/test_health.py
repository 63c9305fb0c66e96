"""Health checks, as functions and over HTTP on both nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from failover.api import health

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.api.conftest import Served

    Serve = Callable[..., AbstractAsyncContextManager[Served]]

FOLLOWER: dict[str, Any] = {
    "role": "follower", "stream": "flowing", "in_sync": True, "lag_bytes": 1000, "decided_age_s": 0.1,
    "postgres": {"health": "up", "open": False}, "kine": {"target": "peer", "frozen": False},
}  # fmt: skip


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("16kB", 16384), ("1MB", 1 << 20), ("2 gb", 2 << 30), ("5B", 5)])
def test_lag_is_read_as_patroni_reads_it(text: str, size: int) -> None:
    assert health.lag_bytes(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1TB", "MB", "1e9", "9" * 16, "\u0663x"])
def test_a_lag_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lag="):
        health.lag_bytes(text)


def test_a_follower_is_a_replica_while_its_stream_flows() -> None:
    assert health.replica(FOLLOWER) is None
    assert health.replica(FOLLOWER, 1000) is None
    assert health.replica(FOLLOWER, 999) == "1000 bytes behind, more than 999"
    assert health.replica({**FOLLOWER, "lag_bytes": None}, 999) is not None
    assert health.replica({**FOLLOWER, "stream": "broken"}) == "the stream is broken"
    assert health.sync({**FOLLOWER, "in_sync": False}) is not None
    assert health.primary(FOLLOWER) == "this node is follower"


def test_readiness_names_what_fails() -> None:
    assert health.readiness(FOLLOWER) is None
    for broken, word in (
        ({"decided_age_s": 9.0}, "decided"), ({"decided_age_s": None}, "decided"), ({"role": "starting"}, "starting"),
        ({"postgres": {"health": "down"}}, "down"), ({"kine": {"target": None, "frozen": False}}, "Kine"),
        ({"kine": {"target": "own", "frozen": True}}, "frozen"), ({"stream": "broken"}, "broken"),
    ):  # fmt: skip
        told = {**FOLLOWER, **broken}
        assert word in str(health.readiness(told))
        good, text = health.verbose("readyz", health.READY, told)
        assert not good
        assert "[-]" in text
        assert text.endswith("readyz check failed\n")


async def test_load_balancers_find_the_leader(serve: Serve) -> None:
    async with serve() as served:
        expected = {
            "/primary": (200, 503), "/leader": (200, 503), "/replica": (503, 200), "/replica?lag=1MB": (503, 200),
            "/sync": (503, 200), "/health": (200, 200), "/liveness": (200, 200), "/readiness": (200, 200),
            "/livez": (200, 200), "/readyz": (200, 200), "/replica?lag=x": (400, 400),
        }  # fmt: skip
        for number, base in enumerate(served.plain):
            async with aiohttp.ClientSession(base) as session:
                for path, codes in expected.items():
                    for method in ("GET", "HEAD", "OPTIONS"):
                        async with session.request(method, path) as answer:
                            wanted = codes[number != served.leader]
                            assert answer.status == wanted, (path, await answer.text())
                async with session.get("/readyz?verbose&exclude=kine") as answer:
                    text = await answer.text()
                    assert "[+]postgres ok" in text
                    assert "kine" not in text
        served.pair.world.kill_postgres(served.leader)
        async with aiohttp.ClientSession(served.plain[served.leader]) as session:
            for _ in range(500):
                async with session.get("/readyz?verbose") as answer:
                    if answer.status == 500:
                        assert "[-]postgres failed" in await answer.text()
                        break
            else:
                pytest.fail("a node without its Postgres stays ready")
