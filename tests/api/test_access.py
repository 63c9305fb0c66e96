"""Who may ask what: by socket, by certificate, and never by anything that is said."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from failover import certificates
from failover.api.access import Access, names_this_machine, of_certificate
from failover.api.limits import Rate
from failover.api.routes import ROUTES
from failover.api.server import ApiServer
from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.api.conftest import Served

    Serve = Callable[..., AbstractAsyncContextManager[Served]]

ACTIONS = [route for route in ROUTES if route.needs is Access.OPERATE and "{" not in route.path]


def subject(*units: str) -> dict[str, object]:
    return {"subject": tuple((("organizationalUnitName", unit),) for unit in units)}


def test_roles_are_in_the_certificate() -> None:
    assert of_certificate(subject("operator")) is Access.OPERATE
    assert of_certificate(subject("peer")) is Access.READ
    assert of_certificate(subject("metrics")) is Access.READ
    assert of_certificate(subject("Operator")) is Access.HEALTH
    assert of_certificate({"subject": ((("commonName", "operator"),),)}) is Access.HEALTH
    assert of_certificate(None) is Access.HEALTH


@pytest.mark.parametrize("host", ["localhost", "localhost:7481", "127.0.0.1", "127.8.8.8:80", "[::1]:7481", "[::1]"])
def test_loopback_by_its_names(host: str) -> None:
    assert names_this_machine(host)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1:80", "", "localhost.evil"])
def test_foreign_names_of_loopback(host: str) -> None:
    assert not names_this_machine(host)


def test_rate_is_kept_for_each_address_and_forgets() -> None:
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])
    assert [rate.take("a") for _ in range(5)] == [True] * 4 + [False]
    assert rate.take("b")
    now[0] = 0.5
    assert [rate.take("a") for _ in range(2)] == [True, False]
    for number in range(1000):
        rate.take(str(number))
    assert len(rate._left) <= 256


async def test_certificates_and_sockets(serve: Serve) -> None:
    async with serve() as served:
        base = served.tls[served.leader]
        for role, reads, acts in (
            ("operator", 200, True), ("metrics", 200, False), ("node-0", 200, False), ("stranger", 403, False),
        ):  # fmt: skip
            async with served.as_role(role) as session:
                async with session.get(f"{base}/primary") as answer:
                    assert answer.status == 200
                async with session.get(f"{base}/v1/status") as answer:
                    assert answer.status == reads, role
                async with session.post(f"{base}/v1/pause", json={"seconds": 1}) as answer:
                    assert (answer.status == 200) is acts, role
                    assert acts or "operator" in (await answer.json())["why"]
        async with aiohttp.ClientSession(served.plain[served.leader]) as session:
            for route in ACTIONS:
                async with session.request(route.methods[0], route.path, json={}) as answer:
                    assert answer.status == 403, route.path
            async with session.get("/v1/status", headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
        async with served.locally(served.leader) as session, session.post("/v1/resume", json={}) as answer:
            assert answer.status == 200


async def test_no_certificate_is_no_connection_unless_health_is_open(serve: Serve) -> None:
    async with serve() as served, served.as_role(None) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{served.tls[0]}/health")
    async with serve(health_without_certificate=True) as served, served.as_role(None) as session:
        async with session.get(f"{served.tls[0]}/health") as answer:
            assert answer.status == 200
        for route in ROUTES:
            if route.needs > Access.HEALTH:
                async with session.request(
                    route.methods[0], served.tls[0] + route.path.replace("{name}", "x"), json={}
                ) as answer:
                    assert answer.status == 403, route.path


async def test_bounds(serve: Serve) -> None:
    async with serve(connections_max=4, requests_per_s=5.0) as served:
        host, port = served.plain[0].removeprefix("http://").split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError):  # closed at once, by a reset
            assert await reader.read() == b""
        for _, one in [*held, (None, writer)]:
            one.close()
        async with served.locally(0) as session:
            for _ in range(50):  # the operator is never locked out
                async with session.get("/v1/status") as answer:
                    assert answer.status == 200
            async with session.post(
                "/v1/pause", data=b"x" * 5000, headers={"Content-Type": "application/json"}
            ) as answer:
                assert answer.status == 413


async def test_a_connection_that_has_asked_and_ended_counts_no_more(serve: Serve) -> None:
    """A client with a connection for each request is bounded by its requests alone."""
    async with serve(connections_max=2, requests_per_s=100.0) as served:
        host, port = served.plain[0].removeprefix("http://").split(":")
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()


async def test_too_many_requests(serve: Serve) -> None:
    async with serve(requests_per_s=2.0) as served, aiohttp.ClientSession(served.plain[0]) as session:
        answers = []
        for _ in range(10):
            async with session.get("/health") as answer:
                answers.append(answer.status)
        assert answers[:4] == [200] * 4
        assert 429 in answers


async def test_a_second_supervisor_is_refused(serve: Serve) -> None:
    async with serve() as served:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(served.plain[0].rsplit(":", 1)[1]))) == 0
        second = ApiServer(served.servers[0]._handlers)
        with pytest.raises(PortError, match="another supervisor answers"):
            await second.start()
        async with served.locally(0) as session, session.get("/v1/status") as answer:
            assert answer.status == 200


async def test_an_authority_that_was_dropped_lets_nobody_in_after_a_reload(serve: Serve) -> None:
    async with serve() as served:
        for end in ("crt", "key"):
            shutil.copy(served.folder / f"operator.{end}", served.folder / f"stolen.{end}")
        certificates.create(served.folder, "shop", new_authority=True)
        await served.servers[0].reload()
        assert await lets_in(served, "stolen")
        certificates.drop_old_authorities(served.folder)
        await served.servers[0].reload()
        assert not await lets_in(served, "stolen")
        assert await lets_in(served, "operator")


async def lets_in(served: Served, role: str) -> bool:
    """Whether a new connection with this certificate gets an operator's answer."""
    async with served.as_role(role) as session:
        try:
            async with session.post(f"{served.tls[0]}/v1/resume", json={}) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False
