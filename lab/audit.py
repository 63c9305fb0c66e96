"""Known vulnerabilities of what the package holds: `make audit`.

Asks pip-audit about every version in packaging/constraints.txt, by PyPI's database and, where that does not answer, by OSV's.
Exit codes: 0 none is known, 1 some are, 75 (EX_TEMPFAIL) no database could be asked about some, so nothing is known of those.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).resolve().parents[1] / "packaging" / "constraints.txt"
SERVICES = {"pypi": "pypi.org", "osv": "api.osv.dev"}
HOSTS = " or ".join(SERVICES.values())
ASKS_S = 300
ANSWER_S = "15"


def main() -> int:
    """Audit and say what came of it."""
    silent = "every part"
    for service, host in SERVICES.items():
        try:
            told = _ask(service)
        except RuntimeError as error:
            _say(f"{host} gave no answer: {error}")
            continue
        found = [one for one in told if one.get("vulns")]
        for one in found:
            for vulnerability in one["vulns"]:
                fixed = ", ".join(vulnerability["fix_versions"]) or "in none yet"
                _say(f"{one['name']} {one['version']}: {vulnerability['id']}, mended: {fixed}")
        if found:
            return 1
        unknown = [one for one in told if "skip_reason" in one]
        if not unknown:
            _say(f"{len(told)} parts, none with a vulnerability that {host} knows")
            return 0
        silent = f"each of these {len(unknown)}"
        _say(f"{host} said nothing of {len(unknown)} of {len(told)} parts: {unknown[0]['skip_reason']}")
    _say(f"NOT AUDITED: whether {silent} has known vulnerabilities is open; run this where {HOSTS} can be reached")
    return os.EX_TEMPFAIL


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _ask(service: str) -> list[dict[str, Any]]:
    """Return what one database says of each part. Raises RuntimeError where it says nothing."""
    argv: list[str | Path] = [
        sys.executable, "-m", "pip_audit", "--requirement", PINS, "--no-deps", "--disable-pip", "--format", "json",
        "--progress-spinner", "off", "--timeout", ANSWER_S, "--vulnerability-service", service,
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=ASKS_S)
    try:
        told: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise RuntimeError(last[0][:300]) from None
    return told


if __name__ == "__main__":
    sys.exit(main())
