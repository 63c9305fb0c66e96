"""A support bundle of a real node: what is needed is in it, and no secret that was planted anywhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import stat
import tarfile
from typing import TYPE_CHECKING

from failover import certificates
from failover.etcd.client import EtcdClient
from tests.conftest import calm
from tests.integration.test_maintenance import with_tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import pytest

    from lab.clients import Clients
    from lab.pair import Pair

    Start = Callable[..., AbstractAsyncContextManager[tuple[Pair, Clients]]]

POSTGRES, KINE, ENVIRONMENT, LOGGED, TOLD, VALUE, NAME = (
    "planted-Postgres/1", "planted:Kine@2", "plantedEnv3", "plantedLog4", "plantedEvent5", "plantedValue6", "plantedname7",
)  # fmt: skip
MEMBERS = {
    "versions.json", "config.json", "environment.txt", "files.txt", "status.json", "lineage.json", "divergence.json",
    "doctor.txt", "postgres-own.json", "postgres-peer.json", "state/history.jsonl", "state/state.json", "run/kine.log",
    "journal.txt",
}  # fmt: skip


async def test_no_secret_is_in_a_bundle(running_pair: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in (("postgres", POSTGRES), ("kine", KINE)):
        (tmp_path / name).write_text(f"{secret}\n")
        (tmp_path / name).chmod(0o600)
    await asyncio.to_thread(certificates.create, tmp_path / "pair", "right")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ENVIRONMENT)
    monkeypatch.setenv("KINE_FAILOVER__LOG__LEVEL", "info")
    extra = {name: f'password_file = "{tmp_path}/{name}"' for name in ("postgres", "kine")}
    async with running_pair(**calm(**extra)) as (pair, _):
        for node in pair.nodes:
            node.stop_supervisor()
            node.config.write_text(with_tls(node, tmp_path / "pair"), encoding="utf-8")
            node.start_supervisor()
        await pair.until_in_sync()
        node = pair.nodes[0]
        client = EtcdClient(node.kine_target)
        try:
            assert (await client.create(f"/registry/secrets/default/{NAME}", VALUE.encode())).succeeded
        finally:
            client.close()
        await asyncio.to_thread(plant, node.run_dir / "kine.log", node.state_dir / "history.jsonl")
        bundle = tmp_path / "bundle.tar.gz"
        await asyncio.to_thread(node.command, "support-bundle", "--output", str(bundle))
        members = unpacked(bundle)
        assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
        assert members.keys() >= MEMBERS
        assert all(len(content) <= 4 << 20 for content in members.values())
        keys = [line for name in ("node-0", "node-1", "ca") for line in key_lines(tmp_path / "pair" / f"{name}.key")]
        everything = gzip.decompress(bundle.read_bytes())
        assert [one for one in (*spellings(), *keys[:2]) if one.encode() in everything] == []
        told = json.loads(members["config.json"])
        assert f"port={node.postgres.port}" in told["postgres"]["own"]
        assert json.loads(members["status.json"])["role"] in ("leader", "follower")
        table = json.loads(members["postgres-own.json"])["table"]
        assert {"kind": "/registry/secrets", "rows": 1} in table["kinds"]
        assert table["rows"]["rows"] > 50
        assert json.loads(members["postgres-own.json"])["views"]["lineage"]
        node.kill()  # a bundle is made when things are broken
        await asyncio.to_thread(node.command, "support-bundle", "--output", str(bundle))
        members = unpacked(bundle)
        assert "no supervisor answers" in json.loads(members["status.json"])["error"]
        assert "error" in json.loads(members["postgres-own.json"])
        assert "views" in json.loads(members["postgres-peer.json"])


def plant(log: Path, history: Path) -> None:
    """Leave secrets where they should not be, and more log than fits."""
    with log.open("a", encoding="utf-8") as file:
        file.write("x" * 99 + "\n" * 1)
        file.writelines(f"{number:099d}\n" for number in range(60_000))
        file.write(f"connecting to postgres://somebody:{LOGGED}@10.0.0.1/kine\n{POSTGRES}\n")
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": 1, "at_us": 1, "kind": "x", "message": f"password={TOLD} token: {TOLD}"}) + "\n")


def spellings() -> list[str]:
    """Every secret, as it is and as it stands in a URL or in JSON."""
    return [POSTGRES, KINE, "planted%3AKine%402", ENVIRONMENT, LOGGED, TOLD, VALUE, NAME]


def key_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "-----" not in line]


def unpacked(bundle: Path) -> dict[str, bytes]:
    with tarfile.open(bundle) as archive:
        files = {one.name.partition("/")[2]: archive.extractfile(one) for one in archive.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}
