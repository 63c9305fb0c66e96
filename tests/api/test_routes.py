"""What the routes answer and do, on real nodes with simulated ports."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
from failover.adapters.peer_link import TlsFiles
from failover.adapters.tls import not_after
from failover.api.schedule import Schedule
from failover.core.model import Role
from failover.ports import PortError
from tests.api.certificates import client, issue

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.api.conftest import Served

    Serve = Callable[..., AbstractAsyncContextManager[Served]]


async def event(stream: aiohttp.StreamReader) -> dict[str, str]:
    """Return the fields of the next event, comments left out."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(30):
        while True:
            line = (await stream.readline()).decode().rstrip("\n")
            if not line and fields:
                return fields
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value


def now(served: Served, number: int) -> datetime.datetime:
    """Return what a simulated node's clock shows."""
    return datetime.datetime.fromtimestamp(served.nodes[number].ports.clock.wall_us() / 1e6, datetime.UTC)


async def test_events_resume_where_a_reader_was(serve: Serve) -> None:
    async with serve() as served, aiohttp.ClientSession(served.plain[0]) as session:
        history = served.nodes[0].ports.history
        async with session.get("/v1/events") as answer:
            assert answer.content_type == "text/event-stream"
            history.append("test", "one")
            first = await event(answer.content)
            assert json.loads(first["data"])["message"] == "one"
        history.append("test", "two")
        async with session.get("/v1/events", headers={"Last-Event-ID": first["id"]}) as answer:
            assert json.loads((await event(answer.content))["data"])["message"] == "two"
            history.append("test", "three\nlines")
            third = await event(answer.content)
            assert json.loads(third["data"])["message"] == "three\nlines"
        for number in range(1100):
            history.append("flood", str(number))
        async with session.get(f"/v1/events?after={first['id']}") as answer:
            missed = await event(answer.content)
            assert missed["event"] == "missed"
            assert json.loads(missed["data"])["from"] == int(first["id"]) + 1


async def test_readers_are_bounded(serve: Serve) -> None:
    async with serve() as served, aiohttp.ClientSession(served.plain[0]) as session:
        held = [await session.get("/v1/events") for _ in range(16)]
        async with session.get("/v1/events") as answer:
            assert answer.status == 503
        for one in held:
            one.close()


def test_ids_rise_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "old", "message": "without id"}\n{"id": 7, "kind": "a"}\n{"id": 7, "kind": "b"}\n')
    history = HistoryFile(path, SystemClock())
    history.append("new", "one")
    assert [one["id"] for one in history.newest(9)] == [1, 7, 8, 9]
    history.close()


async def test_status_history_and_lineage(serve: Serve) -> None:
    async with serve() as served, aiohttp.ClientSession(served.plain[served.leader]) as session:
        async with session.get("/v1/status") as answer:
            told = await answer.json()
        assert (told["role"], told["in_sync"], told["writes_at_risk"], told["at_risk"]) == ("leader", True, 0, [])
        async with session.get("/v1/lineage") as answer:
            assert (await answer.json())[-1]["kind"] == "synced"
        for _ in range(2):
            served.nodes[served.leader].ports.history.append("test", "one")
        async with session.get("/v1/history?count=1") as answer:
            assert len(await answer.json()) == 1
        for wrong in ("0", "x", "-1", "1.5", "9" * 20):
            async with session.get(f"/v1/history?count={wrong}") as answer:
                assert answer.status == 400


async def test_writes_at_risk_are_counted(serve: Serve) -> None:
    async with serve() as served:
        leader = served.leader
        served.pair.power_off(1 - leader)
        async with aiohttp.ClientSession(served.plain[leader]) as session, asyncio.timeout(30):
            while True:
                async with session.get("/v1/status") as answer:
                    told = await answer.json()
                if told["sync"] == "alone":
                    break
                await asyncio.sleep(0.02)
        assert any("this node alone" in risk for risk in told["at_risk"])
        assert told["writes_at_risk"] >= 0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400), (b"[]", "application/json", 400), (b'{"seconds": NaN}', "application/json", 400),
        (b'{"seconds": 0}', "application/json", 400), (b'{"seconds": true}', "application/json", 400),
        (b'{"seconds": 1e9}', "application/json", 400), (b'{"seconds": 1, "command": "rm"}', "application/json", 400),
        (b'{"seconds": 1}', "text/plain", 415), (b"[" * 4000, "application/json", 400),
    ],
)  # fmt: skip
async def test_bodies_that_are_refused_change_nothing(serve: Serve, body: bytes, kind: str, status: int) -> None:
    async with serve() as served, served.locally(0) as session:
        async with session.post("/v1/pause", data=body, headers={"Content-Type": kind}) as answer:
            assert answer.status == status
            assert (await answer.json())["why"]
        assert served.nodes[0].memory.durable.paused_until_us == 0


async def test_pause_and_resume(serve: Serve) -> None:
    async with serve() as served, served.locally(0) as session:
        async with session.post("/v1/pause", json={"seconds": 60}) as answer:
            assert answer.status == 200
        assert served.nodes[0].memory.durable.paused_until_us > 0
        async with session.post("/v1/resume", json={}) as answer:
            assert answer.status == 200
        assert served.nodes[0].memory.durable.paused_until_us == 0


async def test_switchover_now(serve: Serve) -> None:
    async with serve() as served:
        before = served.leader
        async with served.locally(1 - before) as session, session.post("/v1/switchover", json={}) as answer:
            assert answer.status == 409
            assert "ask the leader" in (await answer.json())["why"]
        async with served.locally(before) as session, session.post("/v1/switchover", json={}) as answer:
            assert answer.status == 200
        async with asyncio.timeout(30):
            while served.nodes[1 - before].memory.role is not Role.LEADER:
                await asyncio.sleep(0.02)


async def test_switchover_to_a_node(serve: Serve) -> None:
    async with serve() as served:
        before = served.leader
        async with served.locally(1 - before) as session:
            for wrong, status in (
                ({"to": 2}, 400),
                ({"to": 0, "at": "2031-01-01T00:00:00Z"}, 400),
                ({"to": before}, 409),
            ):
                async with session.post("/v1/switchover", json=wrong) as answer:
                    assert answer.status == status
            async with session.post("/v1/switchover", json={"to": 1 - before}) as answer:
                assert answer.status == 200
        async with asyncio.timeout(30):
            while served.nodes[1 - before].memory.role is not Role.LEADER:
                await asyncio.sleep(0.02)


async def test_switchover_at_a_time_survives_a_restart(serve: Serve) -> None:
    async with serve() as served:
        before = served.leader
        at = now(served, before) + datetime.timedelta(seconds=3)
        async with served.locally(before) as session:
            for wrong in ("2020-01-01T00:00:00Z", (at + datetime.timedelta(days=60)).isoformat()):
                async with session.post("/v1/switchover", json={"at": wrong}) as answer:
                    assert answer.status == 409
            for wrong in ("tomorrow", "2031-01-01T00:00:00", 5):  # type: ignore[assignment]
                async with session.post("/v1/switchover", json={"at": wrong}) as answer:
                    assert answer.status == 400
            async with session.post("/v1/switchover", json={"at": at.isoformat()}) as answer:
                assert answer.status == 200
            async with session.get("/v1/status") as answer:
                assert (await answer.json())["switchover_at"] == at.isoformat()
        again = Schedule(served.nodes[before], served.folder / "schedule.json")
        assert again.at_us == round(at.timestamp() * 1_000_000)
        async with asyncio.timeout(30):
            while served.nodes[1 - before].memory.role is not Role.LEADER:
                await asyncio.sleep(0.02)
        assert not (served.folder / "schedule.json").exists()


async def test_a_switchover_whose_time_has_long_passed_is_left_out(serve: Serve) -> None:
    async with serve() as served:
        (served.folder / "schedule.json").write_text('{"switchover_at_us": 1}')
        late = Schedule(served.nodes[served.leader], served.folder / "schedule.json")
        running = asyncio.create_task(late.run())
        async with asyncio.timeout(30):
            while late.at_us is not None:
                await asyncio.sleep(0.02)
        running.cancel()
        newest: Any = served.nodes[served.leader].ports.history.newest(1)[-1]
        assert "passed" in newest["message"]
        with pytest.raises(PortError, match="30 days"):
            late.set(1)


async def test_call_off(serve: Serve) -> None:
    async with serve() as served, served.locally(0) as session:
        async with session.delete("/v1/switchover") as answer:
            assert answer.status == 409
        at = (now(served, 0) + datetime.timedelta(hours=1)).isoformat()
        async with session.post("/v1/switchover", json={"at": at}) as answer:
            assert answer.status == 200
        async with session.delete("/v1/switchover") as answer:
            assert answer.status == 200


async def test_divergence_is_listed_for_readers_and_shown_to_operators(serve: Serve) -> None:
    async with serve() as served:
        name = served.archives[0].write(
            "split-0123", {"why": "split", "objects": 1, "rows": 0}, [{"type": "object"}] * 3
        )
        async with aiohttp.ClientSession(served.plain[0]) as session:
            async with session.get("/v1/divergence") as answer:
                assert [one["name"] for one in await answer.json()] == [name]
            async with session.get(f"/v1/divergence/{name}") as answer:
                assert answer.status == 403
        async with served.locally(0) as session:
            async with session.get(f"/v1/divergence/{name}?start=1&count=2") as answer:
                assert await answer.json() == [{"type": "object"}] * 2
            for wrong in ("nothing", "..%2f..%2fca.key", "%2fetc%2fpasswd"):
                async with session.get(f"/v1/divergence/{wrong}") as answer:
                    assert answer.status == 404


async def test_page_and_headers(serve: Serve) -> None:
    async with serve() as served, aiohttp.ClientSession(served.plain[0]) as session:
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            async with session.get(path) as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert "://" not in (await answer.text()).replace("http://www.w3.org", "")
        async with session.get("/nothing") as answer:
            assert (answer.status, answer.content_type) == (404, "application/json")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with session.post("/v1/status", json={}) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


async def test_reload_takes_new_certificates(serve: Serve) -> None:
    async with serve() as served:
        before = not_after(TlsFiles(*(served.folder / name for name in ("ca.crt", "node-0.crt", "node-0.key"))))
        assert before["authority"] > before["certificate"]
        issue(served.folder, "fresh", days=5)
        for end in ("crt", "key"):
            (served.folder / f"fresh.{end}").rename(served.folder / f"node-0.{end}")
        await served.servers[0].reload()
        host, port = served.tls[0].removeprefix("https://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=client(served.folder, "metrics"))
        assert "fresh" in str(writer.get_extra_info("peercert")["subject"])
        writer.close()
        await writer.wait_closed()
        (served.folder / "node-0.key").write_text("damaged")
        with pytest.raises(PortError, match="certs"):
            await served.servers[0].reload()
        async with served.as_role("metrics") as session, session.get(f"{served.tls[0]}/health") as answer:
            assert answer.status == 200


def test_expired_certificates_are_read_too(tmp_path: Path) -> None:
    from failover.certificates import create  # noqa: PLC0415 - heavy

    create(tmp_path, "shop")
    issue(tmp_path, "old", days=-1)
    told = not_after(TlsFiles(tmp_path / "ca.crt", tmp_path / "old.crt", tmp_path / "old.key"))
    assert told["certificate"] < datetime.datetime.now(datetime.UTC).timestamp() < told["authority"]
