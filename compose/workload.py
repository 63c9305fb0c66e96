"""Writes through each node all the time and says each second what came of it: what a user of the pair sees.

python workload.py HOST:PORT...
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

from failover.etcd.client import EtcdClient, EtcdError

RATE = 20.0  # writes a second through each node
ANSWER_S = 0.5
KEYS = 1000  # written over and over, so that the database stays small


class Writer:
    """One client of one node."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.acknowledged = 0
        self.slowest_s = 0.0
        self.quiet_since_s = time.monotonic()
        self._run = secrets.token_hex(4)
        self._revisions: dict[str, int] = {}

    async def write_on(self) -> None:
        """Write until cancelled; a write without an answer is read back before its key is written again."""
        client, number = EtcdClient(self.target), 0
        while True:
            number += 1
            key = f"/registry/workload/{self._run}/{number % KEYS:04d}"
            sent_s = time.monotonic()
            try:
                await self._write(client, key, str(number).encode())
            except EtcdError:
                self._revisions.pop(key, None)
                client.close()
                client = EtcdClient(self.target)
            now_s = time.monotonic()
            await asyncio.sleep(max(0.0, sent_s + 1 / RATE - now_s))

    async def _write(self, client: EtcdClient, key: str, value: bytes) -> None:
        if key not in self._revisions:
            found = (await client.get(key, timeout_s=ANSWER_S)).kv
            self._revisions[key] = 0 if found is None else found.mod_revision
        sent_s = time.monotonic()
        revision = self._revisions[key]
        if revision == 0:
            answer = await client.create(key, value, timeout_s=ANSWER_S)
        else:
            answer = await client.update(key, value, revision, timeout_s=ANSWER_S)
        if not answer.succeeded:
            self._revisions.pop(key)
            return
        self._revisions[key] = answer.revision
        now_s = time.monotonic()
        self.acknowledged += 1
        self.slowest_s = max(self.slowest_s, now_s - sent_s)
        self.quiet_since_s = now_s

    def report(self) -> str:
        """Say what came of the time since the last report."""
        count, slowest_s = self.acknowledged, self.slowest_s
        self.acknowledged, self.slowest_s = 0, 0.0
        if count == 0:
            return f"{self.target}: no write acknowledged for {time.monotonic() - self.quiet_since_s:.1f} s"
        return f"{self.target}: {count:3d} writes, slowest {slowest_s * 1000:4.0f} ms"


async def main(targets: list[str]) -> None:
    """Write through all targets and report once a second."""
    writers = [Writer(target) for target in targets]
    async with asyncio.TaskGroup() as tasks:
        for writer in writers:
            tasks.create_task(writer.write_on())
        while True:
            await asyncio.sleep(1.0)
            sys.stdout.write("   ".join(writer.report() for writer in writers) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
