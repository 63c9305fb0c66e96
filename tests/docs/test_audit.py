"""`make audit`: what it says where a database of vulnerabilities answers, and where none does. Asked by the real pip-audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
LIMIT_S = 200
PINS = [line.split("==") for line in (ROOT / "packaging/constraints.txt").read_text().splitlines() if "==" in line]


def audit(osv: str = "https://api.osv.dev/v1/query") -> subprocess.CompletedProcess[str]:
    """Audit where PyPI cannot be reached: nothing listens at the address of the proxy."""
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PIP_AUDIT_OSV_URL": osv}
    return subprocess.run(
        [sys.executable, "-m", "lab.audit"], capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT,
        env=environment,
    )  # fmt: skip


@contextmanager
def database(known: dict[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """Answer as OSV does (https://google.github.io/osv.dev/post-v1-query/). Yields the address, and what was asked."""
    asked: list[list[str]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append([query["package"]["name"], query["version"]])
            answer = json.dumps(known.get(query["package"]["name"], {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def test_an_audit_says_so_where_no_database_can_be_asked() -> None:
    """An audit that asked nobody must not look like a good one."""
    done = audit()
    assert done.returncode == os.EX_TEMPFAIL, done.stdout + done.stderr
    assert "NOT AUDITED" in done.stdout


def test_an_audit_is_good_where_a_database_knows_of_nothing() -> None:
    with database({}) as (address, asked):
        done = audit(address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(PINS)} parts, none with a vulnerability" in done.stdout
    assert sorted(asked) == sorted(PINS)  # each part, in the version that the package holds


def test_an_audit_fails_for_one_known_vulnerability_and_says_what_mends_it() -> None:
    name, version = PINS[-1]
    events = [{"introduced": "0"}, {"fixed": "999.1"}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    with database({name: {"vulns": [{"id": "PYSEC-2999-1", "affected": [affected]}]}}) as (address, _):
        done = audit(address)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{name} {version}: PYSEC-2999-1, mended: 999.1" in done.stdout
