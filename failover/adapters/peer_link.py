"""Heartbeats between the two nodes: a websocket each way on every path, mutual TLS, the newest message only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import structlog
from aiohttp import web

from failover.adapters import tls
from failover.core import heartbeat as wire
from failover.ports import PathState, PortError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failover.core.model import Heartbeat
    from failover.ports import Clock

log = structlog.get_logger()

ROUTE = "/heartbeats"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The authority of the pair, and this node's certificate and key, PEM."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where this node listens, and where the peer does: one address a path. Durations are seconds."""

    cluster: str
    node: int
    listen: tuple[tuple[str, int], ...]
    peer: tuple[tuple[str, int], ...]
    tls: TlsFiles | None  # None only on loopback
    connect_s: float = 1.0
    retry_s: float = 0.2  # from the beginning of an attempt at a path to that of the next
    silence_s: float = 5.0  # a connection on which nothing comes is closed
    connections_max: int = 8


class PeerLink:
    """Implements `ports.PeerLink`."""

    def __init__(self, settings: LinkSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._senders: list[asyncio.Task[None]] = []
        self._paths = [_Path(f"{host}:{port}") for host, port in settings.peer]
        self._incoming: set[web.WebSocketResponse] = set()
        self._refused: str | None = None
        self._received: Callable[[Heartbeat, str], None] = lambda *_: None
        self._closed: Callable[[str], None] = lambda _: None

    async def start(self, received: Callable[[Heartbeat, str], None], closed: Callable[[str], None]) -> None:
        """Serve on every own address and connect to every one of the peer's. Raises PortError where it cannot listen."""
        self._received, self._closed = received, closed
        application = web.Application(client_max_size=wire.BYTES_MAX)
        application.router.add_get(ROUTE, self._serve)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await self._listen()
        except PortError:
            await self.stop()
            raise
        self._senders = [
            asyncio.create_task(self._keep_sending(path, host, port))
            for path, (host, port) in zip(self._paths, self._settings.peer, strict=True)
        ]

    async def _listen(self) -> None:
        assert self._runner is not None
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        for host, port in self._settings.listen:
            try:
                await web.TCPSite(self._runner, host, port, ssl_context=context, backlog=16).start()
            except OSError as error:
                raise PortError(f"cannot listen on {host}:{port}: {error.strerror}; see [link] listen") from None

    async def reload(self) -> None:
        """Use the TLS files as they are now for every connection to come; those that stand go on. Raises PortError, with
        the old ones still in use, where the new ones do not fit.
        """
        if self._settings.tls is None or self._runner is None:
            return
        self._context(ssl.PROTOCOL_TLS_SERVER)  # a try
        # A context only ever gains authorities: one that was taken out of the file takes a new context, and new sockets.
        for site in tuple(self._runner.sites):
            await site.stop()
        await self._listen()

    def send(self, heartbeat: Heartbeat) -> None:
        """Put the newest heartbeat on every path; one that has not left yet is replaced."""
        raw = wire.encode(heartbeat)
        for path in self._paths:
            path.put(raw)

    def paths(self) -> tuple[PathState, ...]:
        """Say how every path is."""
        return tuple(PathState(one.name, one.connected, one.heard_s, one.error) for one in self._paths)

    async def stop(self) -> None:
        """Close everything."""
        for task in self._senders:
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        for incoming in tuple(self._incoming):
            await incoming.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # ---- hearing -----------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if len(self._incoming) >= self._settings.connections_max:
            raise web.HTTPServiceUnavailable
        if self._settings.tls is not None and not self._is_the_peer(request):
            raise web.HTTPForbidden(text="heartbeats need the certificate of the other node")
        incoming = web.WebSocketResponse(max_msg_size=wire.BYTES_MAX, compress=False, timeout=0.2)
        await incoming.prepare(request)
        self._incoming.add(incoming)
        for path in self._paths:
            path.knocked.set()
        name = f"from {request.remote}"
        try:
            while True:
                message = await incoming.receive(timeout=self._settings.silence_s)
                if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    break
                if not await self._take(message.data, name, incoming):
                    break
        except TimeoutError:
            pass
        finally:
            self._incoming.discard(incoming)
            self._closed(name)
        return incoming

    def _is_the_peer(self, request: web.Request) -> bool:
        shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
        return tls.is_node(shown, 1 - self._settings.node)

    async def _take(self, raw: bytes | str, name: str, incoming: web.WebSocketResponse) -> bool:
        try:
            heartbeat = wire.decode(raw, cluster=self._settings.cluster, own_node=self._settings.node)
        except wire.RefusedError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                log.warning("refused a message of the peer", path=name, why=str(error))
            await incoming.close(code=aiohttp.WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
            return False
        for path in self._paths:
            path.heard_s = self._clock.now_s()
        self._received(heartbeat, name)
        return True

    # ---- speaking ----------------------------------------------------------------------------------------------

    async def _keep_sending(self, path: _Path, host: str, port: int) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_s)
        connector = aiohttp.TCPConnector(socket_factory=_socket, limit=1, force_close=True)
        scheme = "https" if self._settings.tls is not None else "http"
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                began_s = self._clock.now_s()
                try:
                    async with asyncio.timeout(2 * self._settings.connect_s):
                        outgoing = await session.ws_connect(
                            f"{scheme}://{host}:{port}{ROUTE}",
                            ssl=self._context(ssl.PROTOCOL_TLS_CLIENT) or True,
                            server_hostname=tls.server_name(1 - self._settings.node) if self._settings.tls else None,
                            timeout=aiohttp.ClientWSTimeout(ws_close=0.2),
                        )
                    path.connected, path.error = True, None
                    await self._speak(path, outgoing)
                except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError) as error:
                    path.note(_why(error))
                finally:
                    stood, path.connected = path.connected, False
                    if stood:
                        self._closed(path.name)
                # An attempt that lasted longer waited in silence: where a cut has healed, the next one gets through.
                pause_s = self._settings.retry_s - (self._clock.now_s() - began_s)
                if pause_s <= 0:
                    continue
                if stood:  # two nodes that refuse each other would have each other try without end
                    await self._clock.sleep(pause_s)
                else:
                    path.knocked.clear()
                    await self._clock.sleep_or(path.knocked, pause_s)

    async def _speak(self, path: _Path, outgoing: aiohttp.ClientWebSocketResponse) -> None:
        """Send what there is until the peer closes the connection, which is noticed at once."""
        sender = asyncio.create_task(self._drain(path, outgoing))
        try:
            async for _ in outgoing:
                pass  # nothing is said on this side
            if outgoing.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION:
                path.note("the peer refuses this node; its log says why")
        finally:
            sender.cancel()
            try:
                await asyncio.gather(sender, return_exceptions=True)  # its end, and never this task's own, is swallowed
            finally:
                await outgoing.close()

    async def _drain(self, path: _Path, outgoing: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                await outgoing.send_bytes(await path.newest())
        except (aiohttp.ClientError, OSError):
            await outgoing.close()

    # ---- TLS ---------------------------------------------------------------------------------------------------

    def _context(self, protocol: int) -> ssl.SSLContext | None:
        files = self._settings.tls
        return None if files is None else tls.context(files.authority, files.certificate, files.key, protocol)


class _Path:
    """One way to the peer: room for one message."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connected = False
        self.heard_s = float("-inf")
        self.error: str | None = None
        self.knocked = asyncio.Event()  # the peer has connected, on whichever path
        self._raw: bytes | None = None
        self._some = asyncio.Event()

    def put(self, raw: bytes) -> None:
        self._raw = raw
        self._some.set()

    async def newest(self) -> bytes:
        await self._some.wait()
        self._some.clear()
        assert self._raw is not None
        return self._raw

    def note(self, error: str) -> None:
        if error != self.error:
            log.warning("path to the peer", path=self.name, error=error)
        self.error = error


def _why(error: Exception) -> str:
    """Say the same thing for the same failure: it is logged when it changes."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.strerror or error.os_error}"
    return str(error) or "no answer in time"


def _socket(address: tuple[object, ...]) -> socket.socket:
    """A socket that gives a path up when the peer's kernel has not acknowledged anything for three seconds."""
    family, kind, protocol = address[0], address[1], address[2]
    made = socket.socket(family, kind, protocol)  # type: ignore[arg-type]
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)
    made.setblocking(False)
    return made
