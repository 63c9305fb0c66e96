"""Listening: the local socket always, TCP where it is configured, the same application behind both."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from failover.adapters import tls
from failover.api import access
from failover.api.access import Access
from failover.api.limits import HANDSHAKE_S, Connections, Rate
from failover.api.routes import ROUTES
from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failover.adapters.peer_link import TlsFiles
    from failover.api.handlers import Handlers
    from failover.api.routes import Route

log = structlog.get_logger()

BODY_MAX = 4096
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "kine-failover",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """One TCP address; without `tls` it is loopback."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where to listen and what a client may cost."""

    socket: Path
    state_dir: Path
    folders: tuple[Path, ...] = ()  # file systems whose room is shown
    listen: tuple[Listener, ...] = ()
    tls: TlsFiles | None = None
    health_without_certificate: bool = False
    connections_max: int = 64
    requests_per_s: float = 20.0
    scrub_every_s: float = 0.0  # 0: only when somebody asks


class ApiServer:
    """Serves one node to its machine's administrator, and to whoever a certificate or loopback lets in."""

    def __init__(self, handlers: Handlers) -> None:
        settings = self._settings = handlers.settings
        self._handlers = handlers
        self._rate = Rate(settings.requests_per_s, time.monotonic)
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._connections: Connections | None = None
        self._context: ssl.SSLContext | None = None
        self._beside: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen. Raises PortError where another supervisor listens already, or an address or file cannot be used."""
        application = web.Application(client_max_size=BODY_MAX, middlewares=[self._guard])
        for route in ROUTES:
            for method in route.methods:
                application.router.add_route(method, route.path, self._open_to(route))
        application.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await self._listen_locally()
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        self._beside = [asyncio.create_task(one.run()) for one in (self._handlers.schedule, self._handlers.scrubs)]

    async def stop(self) -> None:
        """Close everything."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        for server in self._servers:
            server.close()
        if self._runner is not None:
            local = bool(self._runner.sites)
            await self._runner.cleanup()
            if local:
                self._settings.socket.unlink(missing_ok=True)

    async def reload(self) -> None:
        """Use the TLS files as they are now for every connection to come; those that stand go on. Raises PortError, with
        the old ones still in use, where the new ones do not fit.
        """
        settings = self._settings
        if self._context is None or settings.tls is None:
            return
        self._context = server_context(settings.tls, optional=settings.health_without_certificate)
        # A context only ever gains authorities: one that was taken out of the file takes a new context, and new sockets.
        for place, one in enumerate(settings.listen):
            if one.tls:
                self._servers[place].close()
                self._servers[place] = await self._listen_on(one)

    # ---- listening ---------------------------------------------------------------------------------------------

    async def _listen_locally(self) -> None:
        assert self._runner is not None
        socket = self._settings.socket
        try:
            socket.parent.mkdir(parents=True, exist_ok=True)
            await self._refuse_a_second()
            socket.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                await web.UnixSite(self._runner, str(socket)).start()
            finally:
                os.umask(before)
        except OSError as error:
            raise PortError(f"cannot listen on {socket}: {error}") from None

    async def _refuse_a_second(self) -> None:
        try:
            _, writer = await asyncio.open_unix_connection(str(self._settings.socket))
        except OSError:
            return
        writer.close()
        raise PortError(f"another supervisor answers on {self._settings.socket}; stop it first")

    async def _listen(self) -> None:
        assert self._runner is not None
        settings, server = self._settings, self._runner.server
        assert server is not None
        self._connections = Connections(settings.connections_max, server)
        if settings.tls is not None and any(one.tls for one in settings.listen):
            self._context = server_context(settings.tls, optional=settings.health_without_certificate)
        for one in settings.listen:
            self._servers.append(await self._listen_on(one))

    async def _listen_on(self, one: Listener) -> asyncio.Server:
        assert self._connections is not None
        assert not one.tls or self._context is not None
        try:
            return await asyncio.get_running_loop().create_server(
                self._connections.accept, one.host, one.port, backlog=16,
                ssl=self._context if one.tls else None, ssl_handshake_timeout=HANDSHAKE_S if one.tls else None,
            )  # fmt: skip
        except OSError as error:
            raise PortError(f"cannot listen on {one.host}:{one.port}: {error.strerror}; see [api] listen") from None

    # ---- every request -----------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Bound what is asked over TCP, and answer every error in JSON, in one line, for the person who must act."""
        if request.remote:  # empty on the local socket
            if self._connections is not None:
                self._connections.spoke(request.protocol)
            if not self._rate.take(request.remote or ""):
                return refuse(
                    429, "too many requests from this address; see [api] requests_per_s", {"Retry-After": "1"}
                )
            plain = request.transport is not None and request.transport.get_extra_info("ssl_object") is None
            if plain and not access.names_this_machine(request.host):
                return refuse(403, "this address is for this machine alone: ask by a loopback address or localhost")
        try:
            return await handler(request)
        except web.HTTPException as error:
            allow = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
            return refuse(error.status, error.text or error.reason, allow)
        except PortError as error:
            return refuse(409, str(error))

    def _open_to(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        handler = getattr(self._handlers, route.handler)

        async def serve(request: web.Request) -> web.StreamResponse:
            if access.of(request.transport) < route.needs:
                return refuse(403, REMEDY[route.needs])
            answer: web.StreamResponse = await handler(request)
            return answer

        return serve


REMEDY = {
    Access.READ: "this needs a certificate of this pair's authority with the role peer, metrics or operator",
    Access.OPERATE: "this needs a certificate with the role operator, or the local socket (`kine-failover` as root)",
}


def refuse(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as every client gets it."""
    return web.json_response({"why": why}, status=status, headers=headers)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def server_context(files: TlsFiles, *, optional: bool) -> ssl.SSLContext:
    """Return TLS 1.3 that asks for a certificate of the pair's authority; `optional` lets in who has none.

    Raises PortError where a file cannot be used.
    """
    made = tls.context(files.authority, files.certificate, files.key, ssl.PROTOCOL_TLS_SERVER)
    made.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    return made
