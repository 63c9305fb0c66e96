"""Until when the TLS files are good, read by a handshake of the certificate with itself, in memory."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from failover.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failover.adapters.peer_link import TlsFiles

NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME: one that has expired is to be read as well


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
        told = _shake_hands(server, client)
        authorities = [str(one["notAfter"]) for one in client.get_ca_certs()]
        assert told is not None
        return {
            "authority": float(min(map(ssl.cert_time_to_seconds, authorities))),
            "certificate": float(ssl.cert_time_to_seconds(str(told["notAfter"]))),
        }
    except (OSError, ssl.SSLError, ValueError) as error:
        raise PortError(
            f"TLS files in {files.certificate.parent} cannot be used: {error}; see `kine-failover certs`"
        ) from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> Mapping[str, object] | None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks, answers = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    for _ in range(4):  # TLS 1.3 takes two rounds
        done = 0
        for side in (asks, answers):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
        if done == 2:  # noqa: PLR2004 - both sides
            return asks.getpeercert()
    raise ssl.SSLError("the handshake does not end")
