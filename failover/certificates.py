"""The private authority of a pair: `kine-failover certs` makes it and the certificates of both nodes."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from failover import durable_file
from failover.adapters.tls import PEER, server_name

if TYPE_CHECKING:
    from pathlib import Path

DAYS_AUTHORITY = 30 * 365
DAYS_NODE = 10 * 365
SKEW = datetime.timedelta(days=1)  # machines whose clocks are behind take it too


def create(folder: Path, cluster: str, *, days: int = DAYS_NODE, new_authority: bool = False) -> list[Path]:
    """Make an authority, both nodes' certificates, an operator's and a metrics reader's in `folder`.

    An authority that is there is kept and used; `new_authority` puts another one before it, so that ca.crt accepts
    certificates of both until `drop_old_authorities`. Returns the files written. Keys get mode 0600. Raises ValueError
    where the authority in the folder is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written: list[Path] = []
    authority, key = folder / "ca.crt", folder / "ca.key"
    if new_authority or not (authority.exists() and key.exists()):
        _make_authority(authority, key, cluster)
        written += [authority, key]
    issuer = x509.load_pem_x509_certificates(authority.read_bytes())[0]
    issuer_key = serialization.load_pem_private_key(key.read_bytes(), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{key} is not a key that `kine-failover certs` has made")  # noqa: TRY004 - content, not type
    for node in (0, 1):
        names = _Names(f"node-{node}", server_name(node), PEER, cluster)
        written += _issue(folder, names, issuer, issuer_key, days)
    for role in ("operator", "metrics"):
        written += _issue(folder, _Names(role, f"{role}.kine-failover", role, cluster), issuer, issuer_key, days)
    return written


def drop_old_authorities(folder: Path) -> Path:
    """Leave the newest authority alone in ca.crt. Returns its path. Raises ValueError where there is none."""
    authority = folder / "ca.crt"
    newest = x509.load_pem_x509_certificates(authority.read_bytes())[0]
    durable_file.replace(authority, newest.public_bytes(serialization.Encoding.PEM), 0o644)
    return authority


@dataclass(frozen=True, slots=True)
class _Names:
    """What a certificate says of its holder."""

    file: str
    common: str
    role: str
    cluster: str


def _make_authority(certificate: Path, key_file: Path, cluster: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"kine-failover {cluster}"[:64])])
    made = (
        _builder(DAYS_AUTHORITY)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    before = certificate.read_bytes() if certificate.exists() else b""
    durable_file.replace(certificate, made.public_bytes(serialization.Encoding.PEM) + before, 0o644)
    durable_file.replace(key_file, _pem(key), 0o600)


def _issue(
    folder: Path, names: _Names, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey, days: int
) -> list[Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.cluster[:64]),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, names.role),
            x509.NameAttribute(NameOID.COMMON_NAME, names.common),
        ]
    )
    made = (
        _builder(days)
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(names.common)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    files = [folder / f"{names.file}.crt", folder / f"{names.file}.key"]
    durable_file.replace(files[0], made.public_bytes(serialization.Encoding.PEM), 0o644)
    durable_file.replace(files[1], _pem(key), 0o600)
    return files


def _builder(days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
