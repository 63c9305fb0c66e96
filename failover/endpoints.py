"""Places on the network as the configuration writes them: host:port."""

from __future__ import annotations

import ipaddress


def split_endpoint(text: str) -> tuple[str, int]:
    """Return host and port of a checked endpoint."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
