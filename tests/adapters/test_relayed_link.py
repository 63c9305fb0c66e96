"""Heartbeats over a broker that lies: what is invented does not open, what is kept or repeated is no sign of life."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import aiomqtt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failover import certificates
from failover.adapters.clock import SystemClock
from failover.adapters.mqtt import Broker, BrokerSettings
from failover.adapters.mqtt_topics import Topics
from failover.adapters.relayed_link import OPENED_A_SECOND_MAX, RelayedLink
from failover.adapters.seal import Head, Seal
from failover.core.heartbeat import RefusedError, encode
from lab.broker import Mosquitto, installed
from lab.pair import Reservation
from tests.adapters.test_peer_link import Ears, beat, files, say_on

if TYPE_CHECKING:
    from pathlib import Path

    from failover.adapters.peer_link import TlsFiles

PLACE = "place"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    certificates.create(tmp_path / "pki", "shop")
    return tmp_path / "pki"


class Clock(SystemClock):
    """A clock that is set by hand."""

    at_s = 1000.0

    def now_s(self) -> float:
        return self.at_s


class End:
    """One end of the path, with a broker between that keeps everything that was said."""

    def __init__(self, tls: TlsFiles, node: int) -> None:
        self.clock = Clock()
        self.topics = Topics("kine-failover", "shop", node)
        self.link = RelayedLink(self.topics, tls, self.clock, fresh_s=1.2, place=PLACE)
        self.ears = Ears()
        self.said: list[bytes] = []

    async def say(self, seq: int = 1) -> bytes:
        heartbeat = beat(self.topics.node)
        self.link.send(
            type(heartbeat)(**{**{n: getattr(heartbeat, n) for n in heartbeat.__struct_fields__}, "seq": seq})
        )
        left: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def publish(topic: str, payload: bytes, qos: int, retain: bool) -> None:
            assert (topic, qos, retain) == (self.topics.of("heartbeat"), 0, False)
            left.set_result(payload)

        speaking = asyncio.create_task(self.link.speak(publish))
        raw = await asyncio.wait_for(left, 5)
        speaking.cancel()
        await asyncio.wait({speaking})
        self.said.append(raw)
        return raw

    def hear(self, raw: bytes, *, retained: bool = False) -> int:
        """Return how many heartbeats were taken because of it."""
        before = self.ears.heard.qsize()
        self.link.hear(self.topics.peer.of("heartbeat"), raw, retained=retained)
        return self.ears.heard.qsize() - before


async def ends(pki: Path) -> tuple[End, End]:
    both = End(files(pki, 0), 0), End(files(pki, 1), 1)
    for one in both:
        await one.link.start(one.ears.take, one.ears.lost)
    return both


async def meet(one: End, other: End) -> None:
    """The first message is never fresh: it answers nothing. From the third on both ends hear."""
    assert other.hear(await one.say(1)) == 0
    assert one.hear(await other.say(1)) == 1
    assert other.hear(await one.say(2)) == 1


async def test_what_answers_is_heard(pki: Path) -> None:
    one, other = await ends(pki)
    await meet(one, other)
    assert other.link.paths()[0].connected


async def test_what_is_kept_or_late_is_no_sign_of_life(pki: Path) -> None:
    one, other = await ends(pki)
    await meet(one, other)
    raw = await one.say(3)
    assert other.hear(raw, retained=True) == 0
    assert other.hear(raw) == 1
    other.clock.at_s += 1.3  # nothing said since is answered by it
    assert sum(other.hear(kept) for kept in one.said) == 0
    assert one.hear(await other.say(2)) == 1
    assert other.hear(await one.say(4)) == 1  # what is repeated has not hurt the path


async def test_a_restarted_node_believes_nothing_of_before(pki: Path) -> None:
    one, other = await ends(pki)
    await meet(one, other)
    again = End(files(pki, 1), 1)
    await again.link.start(again.ears.take, again.ears.lost)
    assert sum(again.hear(kept) for kept in one.said) == 0
    await meet(one, again)


async def test_what_is_invented_does_not_open(pki: Path, tmp_path: Path) -> None:
    one, other = await ends(pki)
    await meet(one, other)
    raw = await one.say(3)
    signature, head, heartbeat = raw.split(b"\n", 2)
    certificates.create(tmp_path / "theirs", "shop")
    foreign = Seal(files(tmp_path / "theirs", 0), 0)
    answers = json.loads(head)["answers"]
    forged = [
        raw[:-2] + b" }",
        b"\n".join((signature, head.replace(b'"said": 3', b'"said": 9'), heartbeat)),
        foreign.close(Head("x", 1, *answers), encode(beat(0))),
        other.said[-1],  # the node's own words, reflected
        Seal(files(pki, 0), 0).close(Head("x", 1, *answers), encode(beat(0, "other"))),  # another pair's heartbeat
        b"", b"\n\n", raw[: len(raw) // 2], b"x" * 10_000_000,
    ]  # fmt: skip
    assert [other.hear(one) for one in forged] == [0] * len(forged)
    assert other.hear(raw) == 1


async def test_a_flood_is_looked_at_for_a_bounded_time(pki: Path) -> None:
    one, other = await ends(pki)
    await meet(one, other)
    raw = await one.say(3)
    for _ in range(OPENED_A_SECOND_MAX):
        other.hear(b"noise")
    assert other.hear(raw) == 0
    other.clock.at_s += 1.0
    assert other.hear(raw) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(raw=st.binary(max_size=400), cut=st.integers(0, 2000), at=st.integers(0, 2000), bit=st.integers(0, 7))
def test_anything_is_opened_or_refused(pki: Path, raw: bytes, cut: int, at: int, bit: int) -> None:
    seal = Seal(files(pki, 1), 1)
    good = Seal(files(pki, 0), 0).close(Head("run", 1), encode(beat(0)))
    changed = bytearray(good)
    changed[at % len(changed)] ^= 1 << bit
    for one in (raw, good[:cut], bytes(changed), good + raw):
        try:
            assert seal.open(one) == seal.open(good)  # the same signature, written in another way
        except RefusedError:
            assert one != good


def test_no_bit_of_a_certificate_breaks_it(pki: Path) -> None:
    signature, told, heartbeat = Seal(files(pki, 0), 0).close(Head("run", 1), encode(beat(0))).split(b"\n")
    head = json.loads(told)
    certificate = base64.b64decode(head["certificate"])
    seal = Seal(files(pki, 1), 1)
    for bit in range(8 * len(certificate)):
        changed = bytearray(certificate)
        changed[bit // 8] ^= 1 << bit % 8
        line = json.dumps({**head, "certificate": base64.b64encode(changed).decode()}).encode()
        with pytest.raises(RefusedError):
            seal.open(b"\n".join((signature, line, heartbeat)))


@pytest.mark.skipif(installed("mosquitto", "mosquitto") is None, reason="no mosquitto, and it cannot be installed")
async def test_over_a_real_broker_that_dies_hangs_and_lies(pki: Path, tmp_path: Path) -> None:
    reserved = Reservation(1)
    port = reserved.ports[0]
    running = Mosquitto(tmp_path / "mosquitto", port)
    running.start()
    nodes = [
        RelayedLink(Topics("k", "shop", n), files(pki, n), SystemClock(), fresh_s=1.2, place=PLACE) for n in (0, 1)
    ]
    ears = [Ears(), Ears()]
    tasks = []
    for n, link in enumerate(nodes):
        await link.start(ears[n].take, ears[n].lost)
        told = BrokerSettings("127.0.0.1", port, f"n{n}", f"gone/{n}", answer_s=1, keepalive_s=1, retry_max_s=0.5)
        tasks.append(asyncio.create_task(Broker(told, SystemClock(), [link]).run()))
        tasks.append(asyncio.create_task(say_on(link, beat(n))))
    try:
        async with asyncio.timeout(100):
            await hear_some(ears)
            running.freeze()
            await silence(nodes)
            running.thaw()
            await hear_some(ears)
            running.kill()
            await silence(nodes)
            running.start()
            await hear_some(ears)
            async with aiomqtt.Client("127.0.0.1", port) as liar:  # what was heard is kept, and node 0 falls silent
                await liar.subscribe("k/shop/0/heartbeat")
                kept = (await anext(liar.messages)).payload
                for task in tasks[:2]:
                    task.cancel()
                await asyncio.wait(tasks[:2])
                await silence(nodes[1:])
                before = ears[1].heard.qsize()
                for retain in (True, False, False):
                    await liar.publish("k/shop/0/heartbeat", kept, 1, retain=retain)
                    await liar.publish("k/shop/0/heartbeat", b"\x00garbage", 1, retain=retain)
                while (nodes[1].paths()[0].error or "") == "":
                    await asyncio.sleep(0.02)
                assert ears[1].heard.qsize() == before
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        running.kill()
        reserved.release()


async def hear_some(ears: list[Ears]) -> None:
    for ear in ears:
        while not ear.heard.empty():
            ear.heard.get_nowait()
        for _ in range(5):
            await ear.heard.get()


async def silence(nodes: list[RelayedLink]) -> None:
    while any(link.paths()[0].connected for link in nodes):
        await asyncio.sleep(0.02)
