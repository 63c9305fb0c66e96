"""A real kube-apiserver on a node's Kine, as small as it goes: certificates, keys and a token of its own, on loopback."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import re
import secrets
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

READY_S = 90.0  # a generous bound on a hang, never a measurement
END_S = 30.0

# Left out is what costs two cores something and says nothing here: fairness, admission that watches other kinds, identity
# leases, the endpoints of the service `kubernetes`. No compaction by the clock: the tests compare with the whole table.
ADMISSION = (
    "NamespaceLifecycle", "ServiceAccount", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook",
    "MutatingAdmissionPolicy", "ValidatingAdmissionPolicy", "ResourceQuota", "LimitRanger", "Priority",
    "DefaultStorageClass", "StorageObjectInUseProtection", "RuntimeClass", "DefaultIngressClass",
    "TaintNodesByCondition", "DefaultTolerationSeconds", "CertificateApproval", "CertificateSigning",
    "CertificateSubjectRestriction", "PersistentVolumeClaimResize", "PodSecurity", "ClusterTrustBundleAttest",
    "PodTopologyLabels",
)  # fmt: skip
APIS = (  # what the tests use, and what an API server does not become ready without
    "api/v1", "coordination.k8s.io/v1", "apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1", "discovery.k8s.io/v1",
    "networking.k8s.io/v1",
)  # fmt: skip
ARGUMENTS = (
    "--bind-address=127.0.0.1",
    "--authorization-mode=AlwaysAllow",
    "--anonymous-auth=false",
    "--enable-priority-and-fairness=false",
    f"--disable-admission-plugins={','.join(ADMISSION)}",
    "--endpoint-reconciler-type=none",
    "--feature-gates=APIServerIdentity=false",
    f"--runtime-config=api/all=false,{','.join(f'{api}=true' for api in APIS)}",
    "--etcd-compaction-interval=0",
    "--etcd-count-metric-poll-period=0",
    "--service-cluster-ip-range=10.96.0.0/24",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--profiling=false",
    "--shutdown-delay-duration=0s",
)
INITIALIZATIONS = re.compile(
    r'^apiserver_watch_cache_initializations_total\{group="",resource="configmaps"\} (\S+)$', re.MULTILINE
)


class ApiServer:
    """One API server: started, killed, started again; what it serves is on `port` of loopback, over TLS."""

    def __init__(self, program: Path, folder: Path, etcd: str, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"https://127.0.0.1:{port}"
        self.authority = folder / "ca.pem"
        self.token = folder / "token"
        self.log = folder / "kube-apiserver.log"
        self._program = program
        self._etcd = etcd
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Write certificates, keys and the token."""
        self.folder.mkdir(parents=True, exist_ok=True)
        authority_key, authority = _certificate("authority", None)
        key, certificate = _certificate("127.0.0.1", (authority_key, authority))
        self.authority.write_bytes(_pem(authority))
        (self.folder / "serving.pem").write_bytes(_pem(certificate))
        (self.folder / "serving.key").write_bytes(_private(key))
        service_accounts = ec.generate_private_key(ec.SECP256R1())
        (self.folder / "service-accounts.key").write_bytes(_private(service_accounts))
        (self.folder / "service-accounts.pub").write_bytes(
            service_accounts.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        token = secrets.token_hex(16)
        self.token.write_text(token, encoding="ascii")
        (self.folder / "tokens.csv").write_text(f"{token},lab,lab,system:masters\n", encoding="ascii")

    def start(self) -> None:
        """Start it; it need not find its Kine yet."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program, *ARGUMENTS, f"--etcd-servers={self._etcd}", f"--secure-port={self.port}",
                    f"--tls-cert-file={self.folder}/serving.pem", f"--tls-private-key-file={self.folder}/serving.key",
                    f"--service-account-signing-key-file={self.folder}/service-accounts.key",
                    f"--service-account-key-file={self.folder}/service-accounts.pub",
                    f"--token-auth-file={self.folder}/tokens.csv",
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "GOMAXPROCS": "2"},
            )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=END_S)

    def context(self) -> ssl.SSLContext:
        """Return what a client trusts."""
        return ssl.create_default_context(cafile=str(self.authority))

    def session(self, *, timeout_s: float) -> aiohttp.ClientSession:
        """Return a client of it that gives each request this many seconds."""
        return aiohttp.ClientSession(
            self.url,
            connector=aiohttp.TCPConnector(ssl=self.context(), limit=0),
            headers={"Authorization": f"Bearer {self.token.read_text(encoding='ascii')}"},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        )

    async def until_ready(self) -> None:
        """Return when it says that it is ready; one that has given up is started again, as a unit would be.

        Raises TimeoutError with the end of its log.
        """
        deadline_s, said = time.monotonic() + READY_S, ""
        async with self.session(timeout_s=2.0) as session:
            while True:
                try:
                    async with session.get("/readyz", params={"verbose": ""}) as answer:
                        if answer.status == 200:
                            return
                        said = await answer.text()
                except (aiohttp.ClientError, TimeoutError):
                    pass
                if self._process is None or self._process.poll() is not None:
                    self.start()
                if time.monotonic() > deadline_s:
                    log = self.log.read_text(encoding="utf-8", errors="replace")
                    raise TimeoutError(f"not ready in {READY_S:g} s: {said}{log[-4000:]}")
                await asyncio.sleep(0.05)

    async def initializations(self) -> int:
        """Return how often it has listed the configmaps into its watch cache. Raises aiohttp.ClientError, TimeoutError."""
        async with self.session(timeout_s=10.0) as session, session.get("/metrics") as answer:
            found = INITIALIZATIONS.search(await answer.text())
            assert found is not None, "no such metric: has this API server no watch cache of configmaps yet?"
            return int(float(found.group(1)))


def _certificate(
    name: str, issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[1].subject)
        .public_key(key.public_key())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[0].public_key()), critical=False
        )
    return key, builder.sign(key if issuer is None else issuer[0], hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
