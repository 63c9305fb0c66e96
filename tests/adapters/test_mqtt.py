"""The report over a real broker that dies, hangs and comes back without its memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from failover import certificates
from failover.adapters.clock import SystemClock
from failover.adapters.history import HistoryFile
from failover.adapters.mqtt import Broker, BrokerSettings, BrokerTls
from failover.adapters.mqtt_report import Report
from failover.adapters.mqtt_topics import Topics, discovery_topic, parse
from failover.core.model import Answer
from lab.broker import Mosquitto, installed
from lab.pair import Reservation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.skipif(
    installed("mosquitto", "mosquitto") is None, reason="there is no mosquitto, and it cannot be installed"
)

TOPICS = Topics("kine-failover", "shop/1", 0)
STATUS: dict[str, Any] = {"role": "leader", "term": 4, "postgres": {"lag_bytes": 0}, "peer": {}, "paths": []}


@pytest.fixture
def port() -> Iterator[int]:
    reserved = Reservation(1)
    yield reserved.ports[0]
    reserved.release()


@contextlib.asynccontextmanager
async def broker(folder: Path, port: int, settings: str = "") -> AsyncIterator[Mosquitto]:
    running = Mosquitto(folder / "mosquitto", port, settings)
    running.start()
    try:
        yield running
    finally:
        running.kill()


class Teller:
    """A node, as far as it tells."""

    def __init__(self, folder: Path, port: int, *, host: str = "127.0.0.1", **more: Any) -> None:
        self.history = HistoryFile(folder / "history.jsonl", SystemClock())
        settings = BrokerSettings(
            host, port, "node-0", TOPICS.of("availability"), answer_s=1.0, keepalive_s=1, retry_min_s=0.1,
            retry_max_s=0.3, knock_s=0.1, **more,
        )  # fmt: skip
        report = Report(
            TOPICS, lambda: STATUS, self.history, SystemClock(), state_s=1.0, discovery_prefix="homeassistant"
        )
        self.broker = Broker(settings, SystemClock(), [report])

    @contextlib.asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.broker.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            self.history.close()


class Listener:
    """Somebody far away, who hears everything."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.events: list[int] = []

    @contextlib.asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[Listener]:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("#", 1)
            task = asyncio.create_task(self._listen(client))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.wait({task})

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            self.kept[message.topic.value] = message.payload
            if message.topic.value.endswith("/event") and not message.retain:
                self.events.append(json.loads(message.payload)["id"])

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)


async def test_state_is_kept_and_the_will_says_that_a_node_is_gone(tmp_path: Path, port: int) -> None:
    async with broker(tmp_path, port), Listener().listening(port) as listener:
        node = Teller(tmp_path, port)
        async with node.telling():
            await listener.until(lambda: listener.kept.get(TOPICS.of("state")))
            assert json.loads(listener.kept[TOPICS.of("state")])["role"] == "leader"
            assert listener.kept[TOPICS.of("availability")] == b"online"
            found = json.loads(listener.kept[discovery_topic("homeassistant", TOPICS)])
            assert all(one["state_topic"] == TOPICS.of("state") for one in found["components"].values())
        await listener.until(lambda: listener.kept[TOPICS.of("availability")] == b"offline")  # an orderly end
        run = "import asyncio, sys; from pathlib import Path; from tests.adapters.test_mqtt import tell; "
        process = subprocess.Popen(  # noqa: ASYNC220 - it is killed below
            [sys.executable, "-c", f"{run}asyncio.run(tell(Path({str(tmp_path)!r}), {port}))"]
        )
        await listener.until(lambda: listener.kept[TOPICS.of("availability")] == b"online")
        process.kill()
        process.wait()
        await listener.until(lambda: listener.kept[TOPICS.of("availability")] == b"offline")  # its will


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def tell(folder: Path, port: int) -> None:
    async with Teller(folder, port).telling():
        await asyncio.sleep(60)


async def test_events_once_over_lost_connections_and_restarts(tmp_path: Path, port: int) -> None:
    async with broker(tmp_path, port, "allow_anonymous true\npersistence false") as running:
        node = Teller(tmp_path, port)
        async with Listener().listening(port) as listener, node.telling():
            await listener.until(lambda: TOPICS.of("state") in listener.kept)
            for _ in range(5):
                node.history.append("role", "something happens")
            await listener.until(lambda: len(listener.events) == 5)
        # The supervisor ends, something happens before the next run, and that finds its place at the broker.
        unseen = HistoryFile(tmp_path / "history.jsonl", SystemClock())
        unseen.append("role", "while nobody told")
        unseen.close()
        async with Listener().listening(port) as listener:
            again = Teller(tmp_path, port)
            async with again.telling():
                await listener.until(lambda: listener.events == [6])
                running.freeze()
                again.history.append("role", "the broker hangs")
                await listener.until(lambda: not again.broker.status().connected)
                running.thaw()
                await listener.until(lambda: len(listener.events) >= 2)
                again.history.append("role", "and goes on")
                await listener.until(lambda: 8 in listener.events)
                assert listener.events in ([6, 7, 8], [6, 7, 7, 8])  # what hung on its way was told, or was not
                running.kill()
                again.history.append("role", "the broker is dead")
                running.start()
                async with Listener().listening(port) as anew:
                    await anew.until(lambda: anew.kept.get(TOPICS.of("event")))
                    await anew.until(lambda: json.loads(anew.kept[TOPICS.of("event")])["id"] == 9)
                    await anew.until(lambda: anew.kept.get(TOPICS.of("state")))


async def test_a_broker_that_hangs_costs_nothing(tmp_path: Path, port: int) -> None:
    async with broker(tmp_path, port) as running:
        node = Teller(tmp_path, port)
        async with node.telling():
            await Listener().until(lambda: node.broker.status().connected)
            running.freeze()
            await Listener().until(lambda: not node.broker.status().connected)
            before = descriptors()
            loop, late = asyncio.get_running_loop(), 0.0
            for number in range(300):  # several attempts
                node.history.append("role", f"event {number}")
                began = loop.time()
                await asyncio.sleep(0.02)
                late = max(late, loop.time() - began)
            assert descriptors() <= before + 3
            assert late < 1.0, "the loop waited for the broker"
            assert await node.broker.answers() is Answer.OPEN  # the machine below it is there
            running.thaw()
            await Listener().until(lambda: node.broker.status().connected)
            running.kill()
            await Listener().until(lambda: not node.broker.status().connected)
            await asyncio.sleep(0.4)  # its last word is no evidence any more
            assert await node.broker.answers() is Answer.REFUSED


def server_certificate(folder: Path) -> None:
    """A broker's certificate for localhost, by the same authority."""
    issuer = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]
    made = (
        certificates._builder(1).subject_name(x509.Name(names)).issuer_name(issuer.subject).public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )  # fmt: skip
    (folder / "broker.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "broker.key").write_bytes(certificates._pem(key))


# The MQTT library leaves a socket whose handshake failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_and_a_password_from_files(tmp_path: Path, port: int) -> None:
    pki = tmp_path / "pki"
    certificates.create(pki, "shop")
    server_certificate(pki)
    word = tmp_path / "password"
    word.write_text("secret\n", encoding="utf-8")
    await asyncio.to_thread(
        subprocess.run, ["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "node", "secret"], check=True
    )
    (tmp_path / "users").chmod(0o600)
    settings = (
        f"cafile {pki}/ca.crt\ncertfile {pki}/broker.crt\nkeyfile {pki}/broker.key\nrequire_certificate true\n"
        f"password_file {tmp_path}/users\nallow_anonymous false"
    )
    async with broker(tmp_path, port, settings):
        tls = BrokerTls(pki / "ca.crt", pki / "node-0.crt", pki / "node-0.key")
        node = Teller(tmp_path, port, host="localhost", username="node", password_file=word, tls=tls)
        async with node.telling():
            await Listener().until(lambda: node.broker.status().connected)
        misled = Teller(tmp_path, port, username="node", password_file=word, tls=tls)
        async with misled.telling():  # the certificate is not for the address
            await Listener().until(lambda: "certificate" in (misled.broker.status().error or "").lower())
        assert "secret" not in (misled.broker.status().error or "")


async def test_a_wrong_password_is_said(tmp_path: Path, port: int) -> None:
    async with broker(tmp_path, port, "allow_anonymous false"):
        node = Teller(tmp_path, port, username="node", password_file=tmp_path / "none")
        async with node.telling():
            await Listener().until(lambda: "password_file" in (node.broker.status().error or ""))
        (tmp_path / "none").write_text("wrong", encoding="utf-8")
        again = Teller(tmp_path, port, username="node", password_file=tmp_path / "none")
        async with again.telling():
            await Listener().until(lambda: "authori" in (again.broker.status().error or "").lower())


@pytest.mark.parametrize("name", ["shop", "shop/1", "a+b", "#", "ä b", "%2F"])
def test_any_name_of_a_pair_is_one_level(name: str) -> None:
    topics = Topics("x/kine", name, 1)
    assert parse("x/kine", topics.of("state")) == (name, 1, "state")


@pytest.mark.parametrize(
    "topic", ["", "kine-failover", "kine-failover/a/2/state", "kine-failover/a/0/b/c", "other/a/0/b"]
)
def test_other_topics_are_none(topic: str) -> None:
    assert parse("kine-failover", topic) is None
