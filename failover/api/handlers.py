"""What each route does."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from failover.adapters.tls import Expiry
from failover.api import health
from failover.api.schedule import Schedule
from failover.api.scrubs import FILE, REMEDY, SHARE, Scrubs
from failover.api.status import status
from failover.core.model import Role
from failover.core.observation import Request
from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from failover.adapters.archive import Archive
    from failover.api.health import Checks, Told
    from failover.api.server import ApiSettings
    from failover.node.loop import Node
    from failover.ports import Scrub

PAUSE_MAX_S = 7 * 86400
EVENTS_MAX = 1000
COUNT = 50
STREAMS_MAX = 16
KEEP_ALIVE_S = 10.0
WRITE_S = 10.0  # a reader that takes nothing for so long is let go
LINES_MAX = 10_000  # of one archive in one answer
SCHEDULE = "schedule.json"
RENEW_S = 30 * 86400
FOLDER = Path(__file__).parent / "page"
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class Handlers:
    """The routes of one node; `routes.ROUTES` says which is which, and who may ask."""

    def __init__(
        self,
        node: Node,
        settings: ApiSettings,
        archive: Archive,
        reload: Callable[[], Awaitable[list[str]]],
        scrub: Scrub | None = None,
    ) -> None:
        self.settings = settings
        self._node = node
        self._archive = archive
        self._reload = reload
        self._streams = 0
        files = settings.tls
        self._expiry = None if files is None else Expiry(files.authority, files.certificate, files.key)
        self.schedule = Schedule(node, settings.state_dir / SCHEDULE)
        self.scrubs = Scrubs(node, scrub, settings.scrub_every_s, settings.state_dir / FILE)

    def told(self) -> dict[str, Any]:
        """Return the node's status, with what is planned and how long its certificate is good."""
        at_us, told = self.schedule.at_us, status(self._node)
        ends_s = None if self._expiry is None else self._expiry.at_s()
        if ends_s is not None and ends_s - time.time() < RENEW_S:
            told["at_risk"].append("the certificate of this node ends soon, or cannot be used; `kine-failover doctor`")
        scrubbed = self.scrubs.newest
        if scrubbed is not None and not scrubbed["ok"]:
            told["at_risk"].append(f"{scrubbed['different']} rows differ between leader and follower; {REMEDY}")
        return {
            **told,
            "scrub": self.scrubs.told(),
            "switchover_at": None if at_us is None else _instant(at_us),
            "certificate_ends_at": None if ends_s is None else _instant(int(ends_s * 1e6)),
        }

    # ---- health ------------------------------------------------------------------------------------------------

    async def primary(self, _: web.Request) -> web.Response:
        """Answer 200 on the node that takes writes."""
        return self._health(health.primary)

    async def leader(self, _: web.Request) -> web.Response:
        """Answer 200 on the leader."""
        return self._health(health.leader)

    async def replica(self, request: web.Request) -> web.Response:
        """Answer 200 on a follower that streams, with `lag` only if it is at most so far behind."""
        try:
            lag = health.lag_bytes(request.query["lag"]) if "lag" in request.query else None
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return self._health(lambda told: health.replica(told, lag))

    async def sync(self, _: web.Request) -> web.Response:
        """Answer 200 on the follower without which no write is acknowledged."""
        return self._health(health.sync)

    async def health(self, _: web.Request) -> web.Response:
        """Answer 200 while the own Postgres answers."""
        return self._health(health.postgres)

    async def liveness(self, _: web.Request) -> web.Response:
        """Answer 200 while the node decides."""
        return self._health(health.loop)

    async def readiness(self, _: web.Request) -> web.Response:
        """Answer 200 while the node serves."""
        return self._health(health.readiness)

    async def livez(self, request: web.Request) -> web.Response:
        """Answer as Kubernetes' components do."""
        return self._kubernetes(request, "livez", health.LIVE)

    async def readyz(self, request: web.Request) -> web.Response:
        """Answer as Kubernetes' components do."""
        return self._kubernetes(request, "readyz", health.READY)

    def _health(self, check: Callable[[Told], str | None]) -> web.Response:
        told = self.told()
        why = check(told)
        answer = {name: told[name] for name in ("node", "role", "term", "sync", "in_sync", "lag_bytes")} | {"why": why}
        return web.json_response(answer, status=200 if why is None else 503)

    def _kubernetes(self, request: web.Request, name: str, checks: Checks) -> web.Response:
        left_out = set(request.query.getall("exclude", []))
        good, text = health.verbose(name, {key: one for key, one in checks.items() if key not in left_out}, self.told())
        if good and "verbose" not in request.query:
            text = "ok"
        return web.Response(text=text, status=200 if good else 500)

    # ---- reading -----------------------------------------------------------------------------------------------

    async def status(self, _: web.Request) -> web.Response:
        """Return all that the node says of itself."""
        return web.json_response(self.told())

    async def history(self, request: web.Request) -> web.Response:
        """Return the newest events, oldest first."""
        return web.json_response(self._node.ports.history.newest(_number(request, "count", COUNT, 1, EVENTS_MAX)))

    async def lineage(self, _: web.Request) -> web.Response:
        """Return who led when, oldest first."""
        postgres = self._node.memory.postgres
        rows = postgres.lineage if postgres is not None else ()
        return web.json_response([msgspec.structs.asdict(row) for row in rows])

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send events as they come; a reader that was away names the last one it has and gets those after it."""
        history = self._node.ports.history
        newest = history.newest(1)
        latest = int(str(newest[-1]["id"])) if newest else 0
        seen = _last_seen(request, latest)
        if self._streams >= STREAMS_MAX:
            raise web.HTTPServiceUnavailable(text=f"{STREAMS_MAX} readers follow the events already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        self._streams += 1
        try:
            await response.prepare(request)
            while True:
                events = await history.newer(seen, KEEP_ALIVE_S)
                text = "".join(_sent(seen, events)) or ": nothing new\n\n"
                seen = int(str(events[-1]["id"])) if events else seen
                async with asyncio.timeout(WRITE_S):
                    await response.write(text.encode())
        except (ConnectionError, TimeoutError):
            return response
        finally:
            self._streams -= 1

    async def divergence(self, _: web.Request) -> web.Response:
        """List the archives of what a split or a rejoin dropped."""
        listed = await asyncio.to_thread(self._archive.list)
        return web.json_response([{"name": one.name, "bytes": one.bytes, "header": dict(one.header)} for one in listed])

    async def archive(self, request: web.Request) -> web.Response:
        """Return the lines of an archive, a page at a time."""
        name, start = request.match_info["name"], _number(request, "start", 0, 0, 1 << 40)
        count = _number(request, "count", EVENTS_MAX, 1, LINES_MAX)
        if name not in await asyncio.to_thread(self._archive.names):
            raise web.HTTPNotFound(text="there is no such archive; /v1/divergence lists them")

        def lines() -> list[dict[str, Any]]:
            return [line for index, line in enumerate(self._archive.read(name)) if start <= index < start + count]

        return web.json_response(await asyncio.to_thread(lines))

    async def metrics(self, request: web.Request) -> web.Response:
        """Return what Prometheus scrapes."""
        # Imported by the first scrape: a node that nobody scrapes does without.
        from failover.api.metrics import exposition  # noqa: PLC0415

        body, content_type = await exposition(
            self._node, self.settings, self._archive, request.headers.get("Accept", "")
        )
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def openapi(self, _: web.Request) -> web.Response:
        """Return the description of all this."""
        from failover.api.openapi import document  # noqa: PLC0415 - rarely asked for

        return web.json_response(document())

    async def page(self, request: web.Request) -> web.Response:
        """Return the page for people, or a part of it."""
        name, content_type = PAGE[request.path]
        content = (FOLDER / name).read_bytes()
        return web.Response(body=content, content_type=content_type, charset="utf-8")

    # ---- acting ------------------------------------------------------------------------------------------------

    async def switchover(self, request: web.Request) -> web.Response:
        """Give leadership away, now or at a time."""
        body = await _body(request, "at", "to")
        if "to" in body:
            return self._ask(self._towards(body))
        if "at" not in body:
            return self._ask(Request.SWITCHOVER)
        self.schedule.set(_microseconds(body["at"]))
        return _taken()

    def _towards(self, body: dict[str, Any]) -> Request:
        to, me = body["to"], self._node.memory.me
        if isinstance(to, bool) or to not in (0, 1) or "at" in body:
            raise web.HTTPBadRequest(text="to must be 0 or 1, and goes without at")
        if (to == me) is (self._node.memory.role is Role.LEADER):
            raise PortError(f"node {to} leads already" if to == me else f"this node is {self._node.memory.role}")
        return Request.LEAD_HERE if to == me else Request.SWITCHOVER

    async def call_off(self, _: web.Request) -> web.Response:
        """Drop the planned switchover."""
        if not self.schedule.clear():
            raise PortError("no switchover is planned on this node")
        return _taken()

    async def failover(self, request: web.Request) -> web.Response:
        """Lead although the leader does not say so."""
        await _body(request)
        return self._ask(Request.FAILOVER)

    async def resync(self, request: web.Request) -> web.Response:
        """Compare with the leader and become equal."""
        await _body(request)
        return self._ask(Request.RESYNC)

    async def scrub(self, request: web.Request) -> web.Response:
        """Compare leader and follower."""
        paced = (await _body(request, "paced")).get("paced", True)
        if not isinstance(paced, bool):
            raise web.HTTPBadRequest(text="paced must be true or false")
        self.scrubs.ask(SHARE if paced else 1.0)
        return _taken()

    async def leave(self, request: web.Request) -> web.Response:
        """Prepare for the end of this machine."""
        await _body(request)
        return _answer(self._node.leave())

    async def pause(self, request: web.Request) -> web.Response:
        """Stop promotions, switchovers and verdicts for a while."""
        seconds = (await _body(request, "seconds")).get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds <= PAUSE_MAX_S:
            raise web.HTTPBadRequest(text=f'a pause needs {{"seconds": a number from 1 to {PAUSE_MAX_S}}}')
        await self._node.pause(float(seconds))
        return _taken()

    async def resume(self, request: web.Request) -> web.Response:
        """End the pause that was begun on this node."""
        await _body(request)
        await self._node.pause(0.0)
        return _taken()

    async def reload(self, request: web.Request) -> web.Response:
        """Check the configuration file, take new certificates, and say what only a restart changes."""
        await _body(request)
        return web.json_response({"taken": True, "needs_restart": await self._reload()})

    def _ask(self, what: Request) -> web.Response:
        return _answer(self._node.ask(what))


def _answer(why: str | None) -> web.Response:
    if why is not None:
        raise PortError(why)
    return _taken()


def _taken() -> web.Response:
    return web.json_response({"taken": True})


def _sent(seen: int, events: list[dict[str, object]]) -> Iterator[str]:
    """Yield events as they are sent; a reader that comes back too late is told what it has missed."""
    if events and seen and int(str(events[0]["id"])) > seen + 1:
        yield f"event: missed\ndata: {json.dumps({'from': seen + 1, 'to': int(str(events[0]['id'])) - 1})}\n\n"
    for event in events:
        yield f"id: {event['id']}\ndata: {json.dumps(event, default=str)}\n\n"


def _last_seen(request: web.Request, latest: int) -> int:
    """Return the id after which a reader goes on; one that names none, or one not given yet, begins now."""
    header = request.headers.get("Last-Event-ID", "")
    if header.isascii() and header.isdigit() and len(header) < 16:  # noqa: PLR2004 - digits of an id
        return min(int(header), latest)
    return _number(request, "after", latest, 0, latest) if "after" in request.query else latest


def _number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) < least:  # noqa: PLR2004
        raise web.HTTPBadRequest(text=f"{name} must be a whole number from {least} on")
    return min(int(text), most)


async def _body(request: web.Request, *known: str) -> dict[str, Any]:
    """Return the JSON object that was sent. A browser sends this type to foreign places only after asking them first."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send Content-Type: application/json and a JSON object")
    raw = await request.read()
    try:
        body = json.loads(raw or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="the body is not JSON") from None
    if not isinstance(body, dict) or set(body) - set(known):
        keys = ", ".join(known) or "none"
        raise web.HTTPBadRequest(text=f"the body must be a JSON object; keys that are known here: {keys}")
    return body


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _microseconds(text: object) -> int:
    try:
        instant = datetime.datetime.fromisoformat(str(text))
        if not isinstance(text, str) or instant.tzinfo is None:
            raise ValueError(text)  # noqa: TRY301
        return round(instant.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise web.HTTPBadRequest(text="at must be a time with its zone, for instance 2031-05-01T03:00:00Z") from None


def _instant(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / 1e6, datetime.UTC).isoformat()
