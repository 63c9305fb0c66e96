"""A connection to an MQTT broker that is kept up. The broker may die, hang or lie: nothing of the node waits for it.

Whoever has something to say or to hear over it is a `Guest`. A guest speaks while there is a connection, and holds no
more than it says itself: a broker that hangs fills no queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from failover.adapters.mqtt_topics import OFFLINE
from failover.core.lease import NEVER
from failover.ports import BrokerStatus, PortError
from probes import tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from failover.core.model import Answer
    from failover.ports import Clock

    Publish = Callable[[str, bytes, int, bool], Awaitable[None]]

log = structlog.get_logger()

PACKET_BYTES_MAX = 512 * 1024  # the broker is told to send nothing larger
INCOMING_MAX = 256  # messages that wait to be looked at; what comes beyond is dropped
GOODBYE_S = 0.5
PROVEN_S = 10.0  # a connection that has lasted as long was a good one: the next attempt comes soon again

_silent = logging.getLogger("kine-failover.paho")  # what it has to say is said here, once
_silent.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """PEM files; no authority means those of the system."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker is and how it is spoken to. Durations are seconds."""

    host: str
    port: int
    client: str  # client id, this node's alone
    will: str | None  # topic at which the broker says that this node is gone
    username: str | None = None
    password_file: Path | None = None
    tls: BrokerTls | None = None
    answer_s: float = 5.0
    keepalive_s: int = 5
    retry_min_s: float = 0.5
    retry_max_s: float = 15.0
    incoming_max: int = INCOMING_MAX
    knock_s: float = 0.3  # how long its port may take to answer whether it is there


class Guest(Protocol):
    """Something that speaks and hears over a broker."""

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """Topics to hear, each with the quality of service."""

    async def speak(self, publish: Publish) -> None:
        """Speak for as long as the connection lasts; cancelled at its end. `publish(topic, payload, qos, retain)`."""

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message in; anything may be in it."""


class Broker:
    """Implements `ports.Broker`."""

    def __init__(self, settings: BrokerSettings, clock: Clock, guests: Sequence[Guest]) -> None:
        self._settings = settings
        self._clock = clock
        self._guests = tuple(guests)
        self._connected_s = NEVER
        self._connected = False
        self._error: str | None = None
        self._reconnects = 0

    def status(self) -> BrokerStatus:
        """Say how the connection is."""
        place = f"{self._settings.host}:{self._settings.port}"
        return BrokerStatus(place, self._connected, self._error, self._reconnects)

    async def answers(self) -> Answer:
        """Say whether the broker, or at least the kernel below it, is there: evidence that this node is not cut off.

        Asked anew each time: a word of the broker from before the silence that is being judged says nothing about it.
        """
        return await tcp.knock(self._settings.host, self._settings.port, self._settings.knock_s)

    async def run(self) -> None:
        """Keep connected until cancelled."""
        retry_s = self._settings.retry_min_s
        while True:
            began_s = self._clock.now_s()
            try:
                await self._session()
            except (aiomqtt.MqttError, PortError, OSError) as error:
                self._note(str(error) or "the connection was closed")
            except ExceptionGroup as group:
                broken, other = group.split((aiomqtt.MqttError, OSError))
                if other is not None:
                    raise
                assert broken is not None
                self._note(str(broken.exceptions[0]) or "the connection was closed")
            finally:
                self._connected = False
            proven = self._clock.now_s() - began_s > PROVEN_S
            retry_s = self._settings.retry_min_s if proven else min(2 * retry_s, self._settings.retry_max_s)
            await self._clock.sleep(retry_s)

    async def _session(self) -> None:
        client = _client(self._settings)
        try:
            async with client:
                self._arrived()
                try:
                    await self._serve(client)
                except asyncio.CancelledError:
                    await self._take_leave(client)
                    raise
        finally:
            client._client.disconnect()  # noqa: SLF001 - an attempt that timed out leaves its socket open otherwise

    async def _take_leave(self, client: aiomqtt.Client) -> None:
        """An orderly end suppresses the will: say it instead."""
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                if self._settings.will is not None:
                    await client.publish(self._settings.will, OFFLINE, 1, retain=True)

    async def _serve(self, client: aiomqtt.Client) -> None:
        async def publish(topic: str, payload: bytes, qos: int, retain: bool) -> None:
            await client.publish(topic, payload, qos, retain)

        wanted = [one for guest in self._guests for one in guest.subscriptions]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(client))
            if wanted:
                await client.subscribe(wanted)
            for guest in self._guests:
                tasks.create_task(guest.speak(publish))

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload
            if isinstance(payload, bytes):
                for guest in self._guests:
                    if any(message.topic.matches(topic) for topic, _ in guest.subscriptions):
                        guest.hear(message.topic.value, payload, retained=message.retain)

    def _arrived(self) -> None:
        if self._error is not None:
            log.info("the broker is there again", broker=self.status().name)
        self._reconnects += self._connected_s != NEVER
        self._connected, self._error = True, None
        self._connected_s = self._clock.now_s()

    def _note(self, error: str) -> None:
        if error != self._error:
            log.warning("no connection to the broker", broker=self.status().name, error=error)
        self._error = error


async def greet(settings: BrokerSettings) -> None:
    """Connect once and take leave. Raises PortError with what the broker, or TLS, has against it."""
    client = _client(settings)
    try:
        async with client:
            pass
    except (aiomqtt.MqttError, OSError) as error:
        raise PortError(str(error) or "the connection was closed") from None
    finally:
        client._client.disconnect()  # noqa: SLF001 - an attempt that timed out leaves its socket open otherwise


def _client(settings: BrokerSettings) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = PACKET_BYTES_MAX
    return aiomqtt.Client(
        settings.host,
        settings.port,
        identifier=settings.client,
        username=settings.username,
        password=_password(settings.password_file),
        protocol=aiomqtt.ProtocolVersion.V5,
        will=aiomqtt.Will(settings.will, OFFLINE, 1, retain=True) if settings.will is not None else None,
        clean_start=True,
        properties=properties,
        keepalive=settings.keepalive_s,
        timeout=settings.answer_s,
        tls_context=_context(settings.tls),
        max_queued_incoming_messages=settings.incoming_max,
        logger=_silent,
    )


def _password(path: Path | None) -> str | None:
    """Read it anew for each connection: it may have been changed."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PortError(f"[mqtt] password_file {path} cannot be read: {error}") from None


def _context(files: BrokerTls | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    try:
        context = ssl.create_default_context(cafile=files.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # managed brokers
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise PortError(f"the files of [mqtt.tls] cannot be used: {error}") from None
    return context
