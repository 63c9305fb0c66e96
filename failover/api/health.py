"""Health as load balancers, Kubernetes and people ask for it: pure functions of a node's status.

Each check returns None when it passes, else why not in one line. The names are Patroni's and Kubernetes' own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Told = dict[str, Any]  # what `status.status` returns
    Checks = Mapping[str, Callable[[Told], str | None]]

STALLED_S = 5.0  # a loop that has not decided for so long does not work
UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
LAG = re.compile(r"(\d{1,15})\s*([a-z]{0,2})", re.IGNORECASE)


def lag_bytes(text: str) -> int:
    """Return a lag like 1048576, 16kB or 1MB in bytes. Raises ValueError for anything else."""
    match = LAG.fullmatch(text)
    if match is None or match[2].lower() not in UNITS:
        raise ValueError(f"lag={text[:20]!r}: a number of bytes, or one with kB, MB or GB")
    return int(match[1]) * UNITS[match[2].lower()]


def loop(told: Told) -> str | None:
    """The node decides, again and again."""
    age_s = told["decided_age_s"]
    if age_s is None:
        return "nothing has been decided yet"
    return f"nothing was decided for {age_s:.1f} s" if age_s > STALLED_S else None


def postgres(told: Told) -> str | None:
    """The own Postgres answers."""
    health = told["postgres"]["health"]
    return None if health == "up" else f"the own Postgres is {health}"


def kine(told: Told) -> str | None:
    """A Kine serves behind the symlink."""
    if told["kine"]["target"] is None:
        return "no Kine runs"
    return "Kine is frozen" if told["kine"]["frozen"] else None


def leader(told: Told) -> str | None:
    """The node leads."""
    return None if told["role"] == "leader" else f"this node is {told['role']}"


def primary(told: Told) -> str | None:
    """The node leads, and its Postgres takes writes."""
    return leader(told) or postgres(told) or (None if told["postgres"].get("open") else "the own Postgres is closed")


def streaming(told: Told) -> str | None:
    """The node follows and its stream flows."""
    if told["role"] != "follower":
        return f"this node is {told['role']}"
    return postgres(told) or (f"the stream is {told['stream']}" if told["stream"] != "flowing" else None)


def replica(told: Told, lag_max: int | None = None) -> str | None:
    """The node follows, its stream flows, and it is at most `lag_max` bytes behind."""
    why = streaming(told)
    if why is not None or lag_max is None:
        return why
    lag = told["lag_bytes"]
    if lag is None:
        return "the leader has not said how far behind this node is"
    return f"{lag} bytes behind, more than {lag_max}" if lag > lag_max else None


def sync(told: Told) -> str | None:
    """The node follows, and no write is acknowledged without it."""
    return streaming(told) or (None if told["in_sync"] else "writes are acknowledged without this node")


def role(told: Told) -> str | None:
    """The node leads or follows; anything else is on its way."""
    return None if told["role"] in ("leader", "follower") else f"this node is {told['role']}"


def replication(told: Told) -> str | None:
    """A follower's stream flows; a leader needs none."""
    return streaming(told) if told["role"] == "follower" else None


LIVE: Checks = {"loop": loop}
READY: Checks = {
    "loop": loop, "postgres": postgres, "kine": kine, "role": role, "replication": replication,
}  # fmt: skip


def readiness(told: Told) -> str | None:
    """All that `/readyz` asks for."""
    return next((why for check in READY.values() if (why := check(told)) is not None), None)


def verbose(name: str, checks: Checks, told: Told) -> tuple[bool, str]:
    """Return whether all checks pass, and the lines in which Kubernetes' components say so."""
    lines, good = [], True
    for check_name, check in checks.items():
        why = check(told)
        good = good and why is None
        lines.append(f"[+]{check_name} ok" if why is None else f"[-]{check_name} failed: {why}")
    lines.append(f"{name} check {'passed' if good else 'failed'}")
    return good, "\n".join(lines) + "\n"
