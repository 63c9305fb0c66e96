"""TLS between what belongs to the pair: contexts, roles by certificate, and how long certificates are good."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from failover.adapters.peer_link import TlsFiles

PEER = "peer"  # organizational unit of a node's certificate
NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME: one that has expired is to be read as well


def server_name(node: int) -> str:
    """Return the name that a node's certificate carries: an address may change, the node does not."""
    return f"node-{node}.kine-failover"


def context(authority: Path, certificate: Path, key: Path, protocol: int) -> ssl.SSLContext:
    """Return TLS 1.3 with a certificate asked for on both sides. Raises PortError where a file cannot be used."""
    try:
        made = ssl.SSLContext(protocol)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.load_verify_locations(authority)
        made.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(certificate, error) from None
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def _unusable(certificate: Path, error: Exception) -> PortError:
    return PortError(f"TLS files in {certificate.parent} cannot be used: {error}; see `kine-failover certs`")


def is_node(certificate: Mapping[str, Any] | None, node: int) -> bool:
    """Whether a verified certificate is that node's: an operator's or a metrics reader's never speaks for a node."""
    told = dict(part for parts in (certificate or {}).get("subject", ()) for part in parts)
    return told.get("organizationalUnitName") == PEER and told.get("commonName") == server_name(node)


def ends_at_s(authority: Path, certificate: Path, key: Path) -> float:
    """Return when the first of a node's own certificate and its newest authority ends, seconds since the epoch.

    The own certificate is read as a peer would see it, by a handshake in memory. Raises PortError where that fails, for
    instance because it has ended.
    """
    server = context(authority, certificate, key, ssl.PROTOCOL_TLS_SERVER)
    client = context(authority, certificate, key, ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    try:
        seen = shown(server, client)
    except (ssl.SSLError, ValueError) as error:
        raise PortError(f"{certificate} is not accepted: {error}; renew it with `kine-failover certs`") from None
    newest = max((ssl.cert_time_to_seconds(str(one["notAfter"])) for one in client.get_ca_certs()), default=0)
    return float(min(ssl.cert_time_to_seconds(str(seen["notAfter"])), newest))


def shown(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return the server's certificate as the client reads it, by a handshake in memory. Raises ssl.SSLError, ValueError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server)
    for _ in range(4):  # more flights than TLS 1.3 has
        for side in (here, there):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return here.getpeercert() or {}


def not_after(files: TlsFiles) -> dict[str, float]:
    """Return the end of validity of `authority` and `certificate`, seconds since the epoch.

    Raises PortError where a file cannot be used, or the certificate is not of this authority.
    """
    try:
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server.load_cert_chain(files.certificate, files.key)
        client.load_verify_locations(files.authority)
        client.check_hostname = False
        client.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        told = shown(server, client)
        authorities = [str(one["notAfter"]) for one in client.get_ca_certs()]
        return {
            "authority": float(min(map(ssl.cert_time_to_seconds, authorities))),
            "certificate": float(ssl.cert_time_to_seconds(str(told["notAfter"]))),
        }
    except (OSError, ssl.SSLError, ValueError) as error:
        raise _unusable(files.certificate, error) from None


class Expiry:
    """When a node's TLS files end, read anew only when they change."""

    def __init__(self, authority: Path, certificate: Path, key: Path) -> None:
        self._files = authority, certificate, key
        self._known: tuple[tuple[int, ...], float] | None = None

    def at_s(self) -> float:
        """Return seconds since the epoch; 0 for files that cannot be used, whatever is wrong with them."""
        try:
            changed = tuple(file.stat().st_mtime_ns for file in self._files)
            if self._known is None or self._known[0] != changed:
                self._known = changed, ends_at_s(*self._files)
        except (OSError, PortError):
            return 0.0
        return self._known[1]
