"""Who asks, and what that allows: a question of the connection alone, never of what is said on it."""

from __future__ import annotations

import ipaddress
import socket
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# Organizational unit of a certificate -> what its holder may do.
OPERATOR = "operator"
READERS = frozenset({"peer", "metrics"})


class Access(IntEnum):
    """What a connection may do; each level includes the ones before it."""

    HEALTH = 0  # TLS without a certificate, or with one of no role: the answers that load balancers need
    READ = 1  # status, history, metrics: a peer's or a metrics certificate, or any process of this machine
    OPERATE = 2  # actions, and what archives hold: an operator's certificate, or the local socket


def of(transport: asyncio.BaseTransport | None) -> Access:
    """Return what a connection may do."""
    if transport is None:
        return Access.HEALTH
    listening = transport.get_extra_info("socket")
    if listening is not None and listening.family == socket.AF_UNIX:
        return Access.OPERATE  # its mode lets this user and root in, and nobody else
    if transport.get_extra_info("ssl_object") is None:
        return Access.READ  # served on loopback only
    return of_certificate(transport.get_extra_info("peercert"))


def of_certificate(certificate: dict[str, object] | None) -> Access:
    """Return what the holder of a certificate may do; it has been verified already."""
    units = set()
    subject = (certificate or {}).get("subject", ())
    assert isinstance(subject, tuple)
    for part in subject:
        units |= {value for name, value in part if name == "organizationalUnitName"}
    if OPERATOR in units:
        return Access.OPERATE
    return Access.READ if units & READERS else Access.HEALTH


def names_this_machine(host: str) -> bool:
    """Whether a Host header names loopback: a browser that was led here by a foreign name says that name."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"
