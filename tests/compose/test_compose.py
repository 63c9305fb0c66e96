"""The pair of docker-compose.yml, up as a user starts it, through each fault."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.compose.pair import execute
from tests.compose.scenarios import SCENARIOS, play

if TYPE_CHECKING:
    from tests.compose.pair import ContainerPair

# The Docker client leaves sockets of its pool to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. .socket.socket:pytest.PytestUnraisableExceptionWarning"
)

HEALTHY_S = 60.0
HEALTHY = ("postgres-0", "postgres-1", "node-0", "node-1", "broker", "prometheus", "grafana")


async def test_everything_becomes_healthy_and_nothing_of_ours_is_root(pair: ContainerPair) -> None:
    await pair.until_in_sync()
    deadline_s = time.monotonic() + HEALTHY_S
    while True:
        health = {name: pair.service(name).attrs["State"]["Health"]["Status"] for name in HEALTHY}
        if set(health.values()) == {"healthy"}:
            break
        assert time.monotonic() < deadline_s, f"{health}\n{pair.logs()}"
        await asyncio.sleep(0.5)
    for service in ("node-0", "machine-0", "workload"):
        assert execute(pair.service(service), "id", "-u").strip() == b"999"


async def test_the_workload_writes_through_both_machines(pair: ContainerPair) -> None:
    await pair.until_in_sync()
    workload = pair.service("workload")
    async with asyncio.timeout(HEALTHY_S):
        while not all(f"etcd-{number}:2379: " in _last(workload) for number in (0, 1)) or " no write" in _last(
            workload
        ):
            await asyncio.sleep(0.5)


def _last(container: Any) -> str:
    return str(container.logs(tail=1).decode())


def test_grafana_has_its_source_and_the_dashboard(pair: ContainerPair) -> None:
    assert [one["uid"] for one in ask(pair, "grafana", 3000, "/api/datasources")] == ["prometheus"]
    assert [one["title"] for one in ask(pair, "grafana", 3000, "/api/search")] == ["kine-failover"]


async def test_prometheus_reads_both_nodes_and_has_the_alert_rules(pair: ContainerPair) -> None:
    groups = ask(pair, "prometheus", 9090, "/api/v1/rules")["data"]["groups"]
    assert "KineFailoverDown" in {rule["name"] for group in groups for rule in group["rules"]}
    async with asyncio.timeout(HEALTHY_S):
        while True:
            targets = ask(pair, "prometheus", 9090, "/api/v1/targets")["data"]["activeTargets"]
            up = {one["labels"]["instance"] for one in targets if one["health"] == "up"}
            if up == {"node-0:8443", "node-1:8443"}:
                break
            await asyncio.sleep(0.5)
    assert {one["labels"]["job"] for one in targets} == {"kine-failover"}


def ask(pair: ContainerPair, service: str, port: int, path: str) -> Any:
    published = pair.nodes[0].published(service, port)
    with urllib.request.urlopen(f"http://127.0.0.1:{published}{path}", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_scenario(pair: ContainerPair, scenario: str) -> None:
    outcome = await play(pair, scenario)
    print(json.dumps(outcome.line()))
    assert outcome.good, outcome
