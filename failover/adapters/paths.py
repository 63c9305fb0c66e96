"""One Postgres at several addresses, one for each network between the nodes: the one that answers comes first.

Who is given a list tries one after the other, and a network that is cut swallows what is sent to it: libpq leaves an address
after two seconds, a subscription and Kine after two minutes (docs/facts.md).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from failover.core.model import Answer
from probes.tcp import knock

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_S = 0.5  # a path that takes longer to answer comes last
PORT = 5432  # where none is named
SCHEME = "://"
# How whoever is connected finds out that the other machine is gone, seconds.
KEEPALIVES: Mapping[str, Any] = {"keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3}


def addresses(conninfo: str) -> tuple[tuple[str, int], ...]:
    """Return each host and port of a conninfo or URL that is reached over a network."""
    told = conninfo_to_dict(conninfo)
    hosts = str(told.get("hostaddr") or told.get("host") or "").split(",")
    ports = str(told.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return tuple((host, int(port or PORT)) for host, port in zip(hosts, ports, strict=False) if host and host[0] != "/")


async def answering_first(conninfo: str) -> str:
    """Return it with an address in front that answers; as it is where it has one address only, or none answers."""
    known = addresses(conninfo)
    if len(known) < 2:  # noqa: PLR2004 - one address is no choice
        return conninfo
    answers = await asyncio.gather(*(knock(host, port, ANSWER_S) for host, port in known))
    return in_front(conninfo, answers.index(Answer.OPEN)) if Answer.OPEN in answers else conninfo


def in_front(conninfo: str, number: int) -> str:
    """Return it with this one of its addresses before the others."""
    if SCHEME in conninfo:
        scheme, _, rest = conninfo.partition(SCHEME)
        authority, slash, path = rest.partition("/")
        user, at, _ = authority.rpartition("@")
        # Each with its port: Kine refuses a URL in which a host without one comes after one with one.
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses(conninfo))
        return f"{scheme}{SCHEME}{user}{at}{_moved(hosts, number)}{slash}{path}"
    told = conninfo_to_dict(conninfo)
    return make_conninfo("", **{
        name: _moved(str(value), number) if name in ("host", "hostaddr", "port") else value for name, value in told.items()
    })  # fmt: skip


def _moved(listed: str, number: int) -> str:
    """Return a list with one of its members in front; one that stands for all is as it was."""
    each = listed.split(",")
    return ",".join([*each[number : number + 1], *each[:number], *each[number + 1 :]]) if len(each) > 1 else listed
