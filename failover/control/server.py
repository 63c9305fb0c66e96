"""The local door: a unix socket (mode 0600) over which the command asks its supervisor."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from aiohttp import web

from failover.control.status import status
from failover.core.observation import Request
from failover.ports import PortError

if TYPE_CHECKING:
    from pathlib import Path

    from failover.node.loop import Node

PAUSE_MAX_S = 7 * 86400
EVENTS_MAX = 1000
BODY_MAX = 4096


class ControlServer:
    """Serves one node to its own machine's administrator."""

    def __init__(self, node: Node, path: Path) -> None:
        self._node = node
        self._path = path
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises PortError where another supervisor listens already, or the folder cannot be used."""
        application = web.Application(client_max_size=BODY_MAX)
        application.add_routes(
            [
                web.get("/status", self._status),
                web.get("/history", self._history),
                web.get("/events", self._events),
                web.get("/lineage", self._lineage),
                web.post("/pause", self._pause),
                web.post("/leave", self._leave),
                *(web.post(f"/{request}", self._request) for request in Request),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            await self._refuse_a_second()
            self._path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                await web.UnixSite(self._runner, str(self._path)).start()
            finally:
                os.umask(before)
        except OSError as error:
            raise PortError(f"cannot listen on {self._path}: {error}") from None

    async def _refuse_a_second(self) -> None:
        try:
            _, writer = await asyncio.open_unix_connection(str(self._path))
        except OSError:
            return
        writer.close()
        raise PortError(f"another supervisor answers on {self._path}; stop it first")

    async def stop(self) -> None:
        """Close it."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(status(self._node))

    async def _history(self, request: web.Request) -> web.Response:
        count = request.query.get("count", "50")
        if not count.isdigit():
            return _refuse("count must be a number")
        return web.json_response(self._node.ports.history.newest(min(int(count), EVENTS_MAX)))

    async def _lineage(self, _: web.Request) -> web.Response:
        postgres = self._node.memory.postgres
        rows = postgres.lineage if postgres is not None else ()
        return web.json_response(
            [{name: getattr(row, name) for name in row.__slots__} for row in rows],
            dumps=lambda x: json.dumps(x, default=str),
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for event in self._node.ports.history.follow():
            await response.write(json.dumps(event, default=str).encode() + b"\n")
        return response

    async def _request(self, request: web.Request) -> web.Response:
        why = self._node.ask(Request(request.path.strip("/")))
        return _refuse(why) if why is not None else web.json_response({"taken": True})

    async def _leave(self, _: web.Request) -> web.Response:
        why = self._node.leave()
        return _refuse(why) if why is not None else web.json_response({"taken": True})

    async def _pause(self, request: web.Request) -> web.Response:
        try:
            seconds = float((await request.json())["seconds"])
        except (ValueError, KeyError, TypeError):
            return _refuse('a pause needs {"seconds": number}')
        if not 0 <= seconds <= PAUSE_MAX_S:
            return _refuse(f"a pause lasts at most {PAUSE_MAX_S} s")
        try:
            await self._node.pause(seconds)
        except PortError as error:
            return _refuse(str(error))
        return web.json_response({"taken": True})


def _refuse(why: str) -> web.Response:
    return web.json_response({"taken": False, "why": why}, status=409)
