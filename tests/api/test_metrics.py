"""What a scrape tells, on both nodes, and that alerts and dashboard ask for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.api.conftest import Served

    Serve = Callable[..., AbstractAsyncContextManager[Served]]
    Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

MONITORING = Path(__file__).parents[2] / "monitoring"
NAME = re.compile(r"\b(?:kine_failover|process)_[a-z_]+\b")


async def scrape(served: Served, number: int) -> str:
    async with aiohttp.ClientSession(served.plain[number]) as session, session.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        return await answer.text()


def samples(text: str) -> Samples:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def names(text: str) -> set[str]:
    """Return every name that a query may use, also of families that have no sample now."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + end for end in ends}
    return found


async def test_both_nodes_tell_what_they_are(serve: Serve) -> None:
    async with serve() as served:
        leader = served.leader
        mine, theirs = samples(await scrape(served, leader)), samples(await scrape(served, 1 - leader))
        for told, role in ((mine, "leader"), (theirs, "follower")):
            assert told["kine_failover_role", (("role", role),)] == 1
            assert sum(value for (name, _), value in told.items() if name == "kine_failover_role") == 1
            assert told["kine_failover_in_sync", ()] == 1
            assert told["kine_failover_writes_at_risk", ()] == 0
            assert told["kine_failover_postgres_up", ()] == 1
        assert mine["kine_failover_term", ()] == theirs["kine_failover_term", ()]
        assert mine["kine_failover_plan_duration_seconds_count", (("plan", "enter_sync"),)] == 1
        assert mine["kine_failover_step_duration_seconds_bucket",
                    (("le", "+Inf"), ("plan", "enter_sync"), ("step", "waits_on"))] == 1  # fmt: skip
        expiry = theirs["kine_failover_certificate_expiry_timestamp_seconds", (("certificate", "certificate"),)]
        assert expiry > 1_700_000_000
        assert theirs["kine_failover_disk_free_bytes", (("folder", str(served.folder)),)] > 0
        assert ("kine_failover_last_drill_timestamp_seconds", ()) not in mine


async def test_what_happened_is_counted(serve: Serve) -> None:
    async with serve() as served:
        leader = served.leader
        (served.folder / "drill.json").write_text('{"at_us": 1700000000000000, "ok": true}')
        served.archives[0].write("split-1", {"why": "split"}, [])
        served.pair.power_off(leader)
        await served.pair.until("the other one leads", lambda: served.pair.role(1 - leader) == "leader")
        await served.pair.until("it is through", lambda: served.nodes[1 - leader].step is None)
        told = samples(await scrape(served, 1 - leader))
        assert told["kine_failover_detection_duration_seconds_count", (("evidence", "silent"),)] == 1
        assert told["kine_failover_detection_duration_seconds_sum", (("evidence", "silent"),)] > 0.3
        assert told["kine_failover_step_duration_seconds_count", (("plan", "promote"), ("step", "lead"))] == 1
        assert sum(value for (name, _), value in told.items() if name == "kine_failover_peer") == 1
        assert told["kine_failover_last_drill_timestamp_seconds", ()] == 1.7e9
        assert samples(await scrape(served, 0))["kine_failover_divergence_archives", ()] == 1


async def test_openmetrics_for_whoever_prefers_it(serve: Serve) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    async with (
        serve() as served,
        aiohttp.ClientSession(served.plain[0], headers=accept) as session,
        session.get("/metrics") as answer,
    ):
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


async def test_names_and_units_follow_the_conventions(serve: Serve) -> None:
    async with serve() as served:
        text = await scrape(served, 0)
    for name, kind in re.findall(r"^# TYPE (kine_failover_\S+) (\S+)$", text, re.MULTILINE):
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|us|mib|kb|minutes|percent)(_|$)", name), name
        assert re.search(rf"^# HELP {name} [A-Z].*\.$", text, re.MULTILINE), name


async def test_alerts_and_dashboard_ask_for_what_there_is(serve: Serve) -> None:
    async with serve() as served:
        known = names(await scrape(served, 0))
    alerts = set(NAME.findall((MONITORING / "alerts.yml").read_text(encoding="utf-8")))
    assert len(alerts) > 20
    assert alerts <= known, alerts - known
    dashboard = json.loads((MONITORING / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [one["expr"] for one in dashboard["annotations"]["list"]]
    asked = {name for query in queries for name in NAME.findall(query)}
    assert len(asked) > 20
    assert asked <= known, asked - known
    shown = {name.rsplit("_bucket", 1)[0] for name in known if name.startswith("kine_failover_")}
    assert len(shown & {name.rsplit("_bucket", 1)[0] for name in alerts | asked}) > len(shown) // 2


def test_panels_do_not_overlap() -> None:
    dashboard = json.loads((MONITORING / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
