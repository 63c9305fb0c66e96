"""The OpenAPI document, derived from the table of routes."""

from __future__ import annotations

from typing import Any

from failover import __version__
from failover.api.access import Access
from failover.api.routes import JSON, ROUTES, WHY, Route

WHO = {
    Access.HEALTH: "Open to every client that gets a connection.",
    Access.READ: "Needs a certificate with the role peer, metrics or operator; over loopback, nothing.",
    Access.OPERATE: "Needs a certificate with the role operator, or the local socket.",
}
MEANING = {
    200: "done, or so",
    400: "what was sent cannot be used",
    403: "the connection may not ask this",
    404: "there is no such thing",
    409: "not possible now",
    413: "too large",
    415: "not JSON",
    429: "too many requests from this address",
    500: "not so",
    503: "not so, or too busy",
}


def document() -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kine-failover",
            "version": __version__,
            "description": "One node of a pair. What it may be asked depends on the connection alone.",
        },
        "paths": paths,
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    bodiless = method == "HEAD"
    answers = {**route.answers, 403: (JSON, WHY), 429: (JSON, WHY)}
    told: dict[str, Any] = {
        "summary": route.summary,
        "description": WHO[route.needs],
        "operationId": f"{method.lower()}_{route.path.strip('/').replace('/', '_') or 'page'}",
        "responses": {
            str(status): {
                "description": MEANING[status],
                **({} if bodiless else {"content": {kind: {} if schema is None else {"schema": schema}}}),
            }
            for status, (kind, schema) in sorted(answers.items())
        },
    }
    parameters = [
        {"name": one.name, "in": "query", "required": False, "description": one.description, "schema": one.schema}
        for one in route.query
    ]
    if "{name}" in route.path:
        parameters.append(
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 200}}
        )
    if route.path == "/v1/events":
        parameters.append(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": r"^\d{1,15}$"},
            }
        )
    if parameters:
        told["parameters"] = parameters
    if route.body is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": route.body}}}
    return told
