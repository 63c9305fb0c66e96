"""Heartbeats that pass through hands which may lie: signed with the node's own key, its certificate beside them.

Three lines: the signature (base64), a head (JSON), the heartbeat as the direct paths carry it. The signature covers
everything after it. Whoever has a certificate of the pair's authority for the peer's name is the peer: no further
secret, and a renewed certificate needs nothing to be told.
"""

from __future__ import annotations

import base64
import binascii
import json
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from failover.adapters.tls import server_name
from failover.core import heartbeat as wire
from failover.ports import PortError

if TYPE_CHECKING:
    from failover.adapters.peer_link import TlsFiles

VERSION = 1
PURPOSE = b"kine-failover heartbeat over a broker\n"  # a signature for anything else is none for this
BYTES_MAX = wire.BYTES_MAX + 8192


@dataclass(frozen=True, slots=True)
class Head:
    """What makes a sealed heartbeat a fresh one: it answers something that its receiver has said."""

    run: str  # of the sender
    said: int  # counts what this run has said
    answers_run: str = ""  # the newest that the sender has heard, "" before the first
    answers_said: int = 0


# What reading and checking a certificate of foreign bytes may raise.
UNREADABLE = (
    VerificationError,
    UnsupportedAlgorithm,
    ValueError,
    Warning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class Seal:
    """Signs for one node, and opens what the other one has signed."""

    def __init__(self, files: TlsFiles, node: int) -> None:
        self._peer = server_name(1 - node)
        try:
            self._store = Store(x509.load_pem_x509_certificates(files.authority.read_bytes()))
            own = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise PortError(f"the files of [link.tls] cannot sign heartbeats: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PortError(f"{files.key} is not a key of an elliptic curve; see `kine-failover certs`")
        self._key = key
        self._certificate = base64.b64encode(own.public_bytes(serialization.Encoding.DER)).decode()
        self._trusted: tuple[str, ec.EllipticCurvePublicKey, datetime] | None = None

    def close(self, head: Head, heartbeat: bytes) -> bytes:
        """Return the heartbeat, sealed."""
        told = {
            "v": VERSION, "run": head.run, "said": head.said, "answers": [head.answers_run, head.answers_said],
            "certificate": self._certificate,
        }  # fmt: skip
        signed = json.dumps(told).encode() + b"\n" + heartbeat
        signature = self._key.sign(PURPOSE + signed, ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(signature) + b"\n" + signed

    def open(self, raw: bytes) -> tuple[Head, bytes]:
        """Return head and heartbeat of what the peer has sealed. Raises wire.RefusedError for anything else."""
        if len(raw) > BYTES_MAX:
            raise wire.RefusedError(f"a sealed message of {len(raw)} bytes, more than {BYTES_MAX}")
        signature, _, signed = raw.partition(b"\n")
        line, _, heartbeat = signed.partition(b"\n")
        try:
            told = json.loads(line)
            if told["v"] != VERSION:
                raise wire.RefusedError(f"a sealed message of version {str(told['v'])[:20]}, this node opens {VERSION}")
            key = self._key_of(told["certificate"])
            key.verify(base64.b64decode(signature, validate=True), PURPOSE + signed, ec.ECDSA(hashes.SHA256()))
            run, said = told["run"], told["said"]
            answers_run, answers_said = told["answers"]
        except InvalidSignature:
            raise wire.RefusedError("a message that its certificate's key has not signed") from None
        except (KeyError, ValueError, TypeError, RecursionError, binascii.Error):
            raise wire.RefusedError("a message that is not sealed as this version does it") from None
        head = Head(run, said, answers_run, answers_said)
        if not all(isinstance(one, str) and len(one) <= 64 for one in (run, answers_run)) or not all(  # noqa: PLR2004
            isinstance(one, int) for one in (said, answers_said)
        ):
            raise wire.RefusedError("a sealed message whose head is wrong")
        return head, heartbeat

    def _key_of(self, certificate: object) -> ec.EllipticCurvePublicKey:
        """Return the key of a certificate that the authority has issued for the peer; the last good one is remembered."""
        now = datetime.now(UTC)
        if not isinstance(certificate, str):
            raise wire.RefusedError("a sealed message without a certificate")
        if self._trusted is not None and self._trusted[0] == certificate and now < self._trusted[2]:
            return self._trusted[1]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what the library only warns of is no certificate of the pair's either
                shown = x509.load_der_x509_certificate(base64.b64decode(certificate, validate=True))
                verifier = PolicyBuilder().store(self._store).build_server_verifier(x509.DNSName(self._peer))
                verifier.verify(shown, [])
                key = shown.public_key()
        except UNREADABLE as error:
            raise wire.RefusedError(f"a certificate that is not {self._peer}'s: {str(error)[:120]}") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise wire.RefusedError("a certificate whose key cannot have signed this")
        self._trusted = (certificate, key, shown.not_valid_after_utc)
        return key


__all__ = ["BYTES_MAX", "Head", "Seal"]
