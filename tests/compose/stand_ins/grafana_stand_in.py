"""Stands in for Grafana where its image cannot be had: reads what it is provisioned with as Grafana does, and serves the health
endpoint and the dashboards' titles. It draws nothing. It ends with an error where a file is not what Grafana takes.
"""

from __future__ import annotations

import http.server
import json
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]

PROVISIONING = Path("/etc/grafana/provisioning")


def load() -> dict[str, Any]:
    """Return data sources and dashboards. Raises an error that names the file."""
    sources, dashboards = [], []
    for path in sorted(PROVISIONING.glob("datasources/*.yml")):
        content = yaml.safe_load(path.read_text())
        sources += [{key: one[key] for key in ("name", "uid", "type", "url")} for one in content["datasources"]]
    for path in sorted(PROVISIONING.glob("dashboards/*.yml")):
        for provider in yaml.safe_load(path.read_text())["providers"]:
            if provider["type"] != "file":
                raise ValueError(f"{path}: a provider of type {provider['type']}")
            for file in sorted(Path(provider["options"]["path"]).glob("**/*.json")):
                dashboard = json.loads(file.read_text())
                if not dashboard["title"] or not dashboard["panels"]:
                    raise ValueError(f"{file}: no title or no panels")
                dashboards.append({"title": dashboard["title"], "panels": len(dashboard["panels"])})
    return {"sources": sources, "dashboards": dashboards}


class Handler(http.server.BaseHTTPRequestHandler):
    """The routes of Grafana that the tests ask for."""

    provisioned: ClassVar[dict[str, Any]]

    def do_GET(self) -> None:
        answers = {
            "/api/health": {"database": "ok", "version": "stand-in"},
            "/api/datasources": self.provisioned["sources"],
            "/api/search": self.provisioned["dashboards"],
        }
        answer = answers.get(self.path)
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_request(self, *_: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    Handler.provisioned = load()
    http.server.ThreadingHTTPServer(("", 3000), Handler).serve_forever()
