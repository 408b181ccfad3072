"""Certificates for tests: a CA of our own, and what it signs.

A second call with another folder makes a CA that does not trust the first.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    trustRootFromCertificates,
)


@dataclass(frozen=True)
class Authority:
    """Paths of PEM files; the server's certificate is for 127.0.0.1 and localhost."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    def server_context(self, require_client: bool = False) -> CertificateOptions:
        """A context factory for a server.

        :param require_client: whether clients need a certificate of this CA.
        """
        pem = self.server_cert.read_bytes() + self.server_key.read_bytes()
        server = PrivateCertificate.loadPEM(pem)
        if not require_client:
            return server.options()
        authority = Certificate.loadPEM(self.ca.read_bytes())
        return CertificateOptions(
            privateKey=server.privateKey.original,
            certificate=server.original,
            trustRoot=trustRootFromCertificates([authority]),
        )


def make_ca(folder: Path) -> Authority:
    """Writes a CA, a server's certificate and a client's into the folder.

    :param folder: made if absent.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Test CA")
    ca = _certificate(name, key, name, key, x509.BasicConstraints(ca=True, path_length=0))
    here = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    paths = {"ca": _write(folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))}
    for role, usage, names in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH, here),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH, None),
    ):
        own = ec.generate_private_key(ec.SECP256R1())
        extensions = [x509.ExtendedKeyUsage([usage]), *([names] if names else [])]
        signed = _certificate(_name(f"Test {role}"), own, name, key, *extensions)
        pem = signed.public_bytes(serialization.Encoding.PEM)
        paths[f"{role}_cert"] = _write(folder / f"{role}.pem", pem)
        paths[f"{role}_key"] = _write(folder / f"{role}.key", _private_pem(own))
    return Authority(**paths)


def _certificate(subject, key, issuer, issuer_key, *extensions) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )
    for extension in extensions:
        builder = builder.add_extension(
            extension, critical=isinstance(extension, x509.BasicConstraints)
        )
    # Strict verifiers (Python 3.13 on) want the key identifiers.
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _private_pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path
