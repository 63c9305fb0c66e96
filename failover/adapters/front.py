"""A TCP front for clients that need TCP: HAProxy before the symlink, its configuration rendered here.

HAProxy opens the unix socket anew for each connection, so it follows the symlink wherever Kine has moved to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEMPLATE = """\
# Made by `kine-failover front`: every TCP connection goes to the Kine of this node, wherever that works.
global
    maxconn {connections}

defaults
    mode tcp
    timeout connect 1s
    # A watch may be quiet for a long time; keepalives find out whether its client is there.
    timeout client 24h
    timeout server 24h
    option clitcpka

frontend etcd
{binds}
    default_backend kine

backend kine
    # Refused while Kine is moved: try again at once, a few times.
    retries 3
    server kine unix@{socket}
"""


def haproxy(
    socket: Path,
    listen: Sequence[tuple[str, int]],
    *,
    certificate: Path | None = None,
    authority: Path | None = None,
    connections: int = 1000,
) -> str:
    """Return a configuration for HAProxy that serves `socket` on these addresses.

    With `certificate` (PEM, certificate and key in one file) and `authority` it speaks TLS and asks clients for theirs.
    """
    tls = "" if certificate is None else f" ssl crt {certificate} alpn h2 ssl-min-ver TLSv1.2"
    tls += "" if certificate is None or authority is None else f" ca-file {authority} verify required"
    binds = "\n".join(f"    bind {host}:{port}{tls}" for host, port in listen)
    return TEMPLATE.format(connections=connections, binds=binds, socket=socket)
