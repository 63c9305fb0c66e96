"""Every route: who may ask, what it takes, what it answers. The server and /openapi.json both read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failover.api.access import Access

if TYPE_CHECKING:
    from collections.abc import Mapping

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
TRUTH: Schema = {"type": "boolean"}


def maybe(schema: Schema) -> Schema:
    """Return the schema of something that may be unknown."""
    return {**schema, "type": [schema["type"], "null"]}


def thing(**properties: Schema) -> Schema:
    """Return the schema of an object with these keys, and maybe others in a later version."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def array(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


HEALTH = thing(
    node=WHOLE, role=TEXT, term=WHOLE, sync=maybe(TEXT), in_sync=TRUTH, lag_bytes=maybe(WHOLE), why=maybe(TEXT)
)
KINE = thing(
    target=maybe(TEXT), frozen=TRUTH, pid=maybe(WHOLE), revision=WHOLE, restarts=WHOLE, answer_s=maybe(NUMBER),
    watch_s=maybe(NUMBER), watch_age_s=maybe(NUMBER),
)  # fmt: skip
VERDICT = thing(winner=WHOLE, term=WHOLE, at_us=WHOLE, reason=TEXT)
STATUS = thing(
    version=TEXT, cluster=TEXT, node=WHOLE, role=TEXT, term=WHOLE, sync=maybe(TEXT), in_sync=TRUTH, provisional=TRUTH,
    paused_s=NUMBER, pair_paused=TRUTH, halted=maybe(TEXT), rule=maybe(TEXT), why=maybe(TEXT), plan=maybe(TEXT),
    step=maybe(TEXT), stream=maybe(TEXT), worth=maybe(TEXT), lag_bytes=maybe(WHOLE), lag_rows=maybe(WHOLE),
    lag_s=maybe(NUMBER), writes_at_risk=WHOLE, decided_age_s=maybe(NUMBER), postgres=thing(health=TEXT), kine=KINE,
    peer=thing(view=maybe(TEXT), heard_age_s=maybe(NUMBER)),
    paths=array(thing(name=TEXT, connected=TRUTH, error=maybe(TEXT))), lease_s=maybe(NUMBER), isolated=TRUTH,
    leaving=TRUTH, disk_nearly_full=TRUTH, clock=thing(offset_us=WHOLE, uncertainty_us=WHOLE),
    progress=maybe(thing(rows=WHOLE, total=WHOLE, bytes=WHOLE, seconds=NUMBER)), last_verdict=maybe(VERDICT),
    switchover_at=maybe(TEXT), scrub=thing(running=TRUTH, error=maybe(TEXT), newest=maybe({"type": "object"})),
    at_risk=array(TEXT),
)  # fmt: skip
EVENT = thing(id=WHOLE, at_us=WHOLE, kind=TEXT, message=TEXT)
ENTRY = thing(
    id=TEXT, term=WHOLE, node=WHOLE, kind=TEXT, reason=TEXT, started_at_us=WHOLE, first_revision=WHOLE,
    parent_revision=WHOLE, provisional=TRUTH, absorbs=maybe(TEXT),
)  # fmt: skip
ARCHIVE = thing(name=TEXT, bytes=WHOLE, header={"type": "object"})
TAKEN = thing(taken={"const": True})
RELOADED = thing(taken={"const": True}, needs_restart=array(TEXT))
WHY = thing(why=TEXT)
NOTHING: Schema = {"type": "object", "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of a query."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True, slots=True)
class Route:
    """One path. `answers` maps a status code to content type and schema; None: the content is described in words."""

    methods: tuple[str, ...]
    path: str
    handler: str  # the method of Handlers
    needs: Access
    summary: str
    answers: Mapping[int, tuple[str, Schema | None]]
    query: tuple[Query, ...] = ()
    body: Schema | None = None


READS = ("GET", "HEAD", "OPTIONS")  # HAProxy asks with OPTIONS, others with HEAD
JSON = "application/json"
PLAIN = "text/plain"


def _healthy(path: str, summary: str, handler: str | None = None, query: tuple[Query, ...] = ()) -> Route:
    answers = {200: (JSON, HEALTH), 503: (JSON, HEALTH)} | ({400: (JSON, WHY)} if query else {})
    return Route(READS, path, handler or path.strip("/"), Access.HEALTH, summary, answers, query)


def _kubernetes(name: str, summary: str) -> Route:
    query = (
        Query("verbose", TEXT, "name each check"),
        Query("exclude", array(TEXT), "checks to leave out"),
    )
    answers: dict[int, tuple[str, Schema | None]] = {200: (PLAIN, TEXT), 500: (PLAIN, TEXT)}
    return Route(READS, f"/{name}", name, Access.HEALTH, summary, answers, query)


def _reads(
    path: str, handler: str, summary: str, schema: Schema | None, content_type: str = JSON,
    query: tuple[Query, ...] = (), needs: Access = Access.READ, more: Mapping[int, tuple[str, Schema | None]] | None = None,
) -> Route:  # fmt: skip
    wrong = {400: (JSON, WHY)} if query else {}
    answers = {200: (content_type, schema), **wrong, **(more or {})}
    return Route(
        ("GET",) if content_type == "text/event-stream" else ("GET", "HEAD"),
        path,
        handler,
        needs,
        summary,
        answers,
        query,
    )


def _acts(
    name: str, summary: str, body: Schema = NOTHING, answer: Schema = TAKEN, *, method: str = "POST",
    handler: str | None = None,
) -> Route:  # fmt: skip
    wrong = {400: (JSON, WHY), 413: (JSON, WHY), 415: (JSON, WHY)} if method == "POST" else {}
    answers = {200: (JSON, answer), 409: (JSON, WHY), **wrong}
    return Route(
        (method,),
        f"/v1/{name}",
        handler or name,
        Access.OPERATE,
        summary,
        answers,
        (),
        body if method == "POST" else None,
    )


def _count(schema: Schema, name: str = "count", what: str = "how many") -> tuple[Query, ...]:
    return (Query(name, schema, what),)


FROM_1: Schema = {"type": "integer", "minimum": 1, "maximum": 999_999_999_999_999}
FROM_0: Schema = {**FROM_1, "minimum": 0}
LAG = Query(
    "lag", {"type": "string", "pattern": r"^\d{1,15}([kKmMgG]?[bB])?$"}, "at most so far behind: 1048576, 16kB, 1MB"
)

ROUTES = (
    _healthy("/primary", "200 on the node that takes writes"),
    _healthy("/leader", "200 on the leader"),
    _healthy("/replica", "200 on a follower whose stream flows", query=(LAG,)),
    _healthy("/sync", "200 on the follower without which no write is acknowledged"),
    _healthy("/health", "200 while the own Postgres answers"),
    _healthy("/liveness", "200 while the node decides"),
    _healthy("/readiness", "200 while the node leads or follows and serves"),
    _kubernetes("livez", "200 while the node decides"),
    _kubernetes("readyz", "200 while the node leads or follows and serves"),
    _reads("/metrics", "metrics", "what Prometheus scrapes", None, "text/plain"),
    _reads("/v1/status", "status", "all that this node says of itself, of its peer and of what is at risk", STATUS),
    _reads("/v1/history", "history", "the newest events, oldest first", array(EVENT), query=_count(FROM_1)),
    _reads("/v1/lineage", "lineage", "who led when, oldest first", array(ENTRY)),
    _reads(
        "/v1/events", "events", "events as they come (server-sent); Last-Event-ID resumes", None, "text/event-stream",
        _count(FROM_0, "after", "the id after which to begin"), more={503: (JSON, WHY)},
    ),
    _reads("/v1/divergence", "divergence", "archives of what a split or a rejoin dropped", array(ARCHIVE)),
    _reads(
        "/v1/divergence/{name}", "archive", "the lines of an archive: header, objects, rows", array({"type": "object"}),
        query=(*_count(FROM_0, "start", "the first line"), *_count(FROM_1)), needs=Access.OPERATE,
        more={404: (JSON, WHY), 409: (JSON, WHY)},
    ),
    _reads("/openapi.json", "openapi", "this description", {"type": "object"}),
    _reads("/", "page", "the pair, live, for people", None, "text/html"),
    _reads("/page.css", "page", "a part of the page", None, "text/css"),
    _reads("/page.js", "page", "a part of the page", None, "text/javascript"),
    _acts(
        "switchover", "give leadership to the follower, now or at a time; ask the leader, or name the node that is to lead",
        {
            "type": "object",
            "properties": {"at": {"type": "string", "format": "date-time"}, "to": {"type": "integer", "enum": [0, 1]}},
            "maxProperties": 1, "additionalProperties": False,
        },
    ),
    _acts("switchover", "call the planned switchover off", method="DELETE", handler="call_off"),
    _acts("failover", "lead although the leader does not say so; ask the node that is to lead"),
    _acts("resync", "compare with the leader and become equal; ask the follower"),
    _acts(
        "scrub", "compare leader and follower; the status says when it is through, and what was found",
        {"type": "object", "properties": {"paced": {"type": "boolean"}}, "additionalProperties": False},
    ),
    _acts("leave", "prepare for the end of this machine"),
    _acts(
        "pause", "stop promotions, switchovers and verdicts of the pair; it ends by itself",
        {
            "type": "object", "properties": {"seconds": {"type": "number", "minimum": 1, "maximum": 604_800}},
            "required": ["seconds"], "additionalProperties": False,
        },
    ),
    _acts("resume", "end the pause that was begun on this node"),
    _acts("reload", "check the configuration, take new certificates, say what only a restart changes", answer=RELOADED),
)  # fmt: skip
