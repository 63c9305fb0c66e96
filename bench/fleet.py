"""Memory and CPU of `kine-failover fleet` on a broker with many pairs: `python -m bench.fleet --pairs 1000`.

Each of the simulated nodes tells its state every ten seconds, as the real ones do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiomqtt

from failover.adapters.mqtt_topics import Topics, state
from lab.broker import Mosquitto
from lab.pair import Reservation

STATUS = {
    "role": "leader", "sync": "in_sync", "term": 4, "at_risk": [], "paths": [],
    "postgres": {"health": "up", "revision": 123456, "lag_bytes": 0}, "peer": {"view": "follows", "heard_age_s": 0.05},
}  # fmt: skip
EVERY_S = 10.0
CONFIG = """[node]
cluster = "bench"
number = 0
[link]
listen = ["127.0.0.1:1"]
peer = ["127.0.0.1:2"]
[postgres]
own = "dbname=kine"
peer = "dbname=kine"
[kine]
own = "postgres://kine@127.0.0.1/kine"
peer = "postgres://kine@127.0.0.1/kine"
[mqtt]
broker = "127.0.0.1:{port}"
relay = false
"""


async def tell(port: int, pairs: int, told: asyncio.Event) -> None:
    """Be all the pairs; `told` is set when each has spoken once."""
    nodes = [Topics("kine-failover", f"pair-{pair:04}", node) for pair in range(pairs) for node in (0, 1)]
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for one in nodes:
            await client.publish(one.of("availability"), b"online", 1, retain=True)
        while True:
            began = time.monotonic()
            for number, one in enumerate(nodes):
                status = {**STATUS, "cluster": one.cluster, "node": one.node, "role": ("leader", "follower")[one.node]}
                await client.publish(one.of("state"), state(status, time.time_ns() // 1000), 1, retain=True)
                if told.is_set():  # spread over the interval
                    await asyncio.sleep(max(0.0, began + EVERY_S * number / len(nodes) - time.monotonic()))
            told.set()


async def measure(pairs: int, seconds: float) -> dict[str, float]:
    """Run the command for so long, after it has seen everything. Returns MiB and percent of a core."""
    folder, reserved = Path(tempfile.mkdtemp(prefix="kine-failover-fleet-")), Reservation(1)
    port = reserved.ports[0]
    limits = "allow_anonymous true\nmax_queued_messages 0"  # the broker gives all that it keeps at once
    broker = Mosquitto(folder, port, limits)
    broker.start()
    (folder / "config.toml").write_text(CONFIG.format(port=port), encoding="utf-8")
    told = asyncio.Event()
    telling = asyncio.create_task(tell(port, pairs, told))
    command = [sys.executable, "-m", "failover.cli.main", "fleet", "--config", str(folder / "config.toml")]
    try:
        await told.wait()
        once = await asyncio.create_subprocess_exec(*command, "--output", "json", stdout=subprocess.PIPE)
        seen = json.loads((await once.communicate())[0])["pairs"]
        assert len(seen) == pairs, f"{len(seen)} of {pairs} pairs seen"
        assert all(one["condition"] == "in sync" for one in seen)
        live = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        await asyncio.sleep(5)
        cpu, rss = _cpu_s(live.pid), 0.0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rss = max(rss, _rss_mib(live.pid))
            await asyncio.sleep(0.5)
        used = (_cpu_s(live.pid) - cpu) / seconds
        live.terminate()
        await live.wait()
        return {"pairs": pairs, "rss_mib": round(rss, 1), "cpu_percent": round(100 * used, 1)}
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        broker.kill()
        reserved.release()


def _rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(measure(chosen.pairs, chosen.seconds))))
