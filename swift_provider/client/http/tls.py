"""TLS: which certificate authorities to trust, and which client certificate to send.

Trusts what ``requests``, and so keystoneauth1, trusts for Keystone: the bundle named by
``cacert``, else by ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``, else that of the
``certifi`` package. Certificates are not verified only where ``verify`` is false.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import requests.utils
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from swift_provider.errors import ConfigError

_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)


@implementer(IPolicyForHTTPS)
class TlsPolicy:
    """Makes the TLS side of connections to any host.

    :param verify: ``True`` for the usual authorities, the path of a PEM file (or
        of a folder of them) for others, ``False`` to trust any certificate.
    :param cert: path of a PEM file with the client's certificate, or a pair of
        paths, certificate and key; ``None`` to send none.
    :param also_usual: trust the usual authorities, too, where ``verify`` is a path.
    :raises ConfigError: if a file cannot be read or holds no certificate.
    """

    def __init__(
        self,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
        *,
        also_usual: bool = False,
    ) -> None:
        self._client_certificate = _client_certificate(cert)
        self._unverified: CertificateOptions | None = None
        if verify is False:
            own = self._client_certificate
            self._unverified = own.options() if own is not None else CertificateOptions()
            return
        bundles = [verify] if isinstance(verify, str) else []
        if also_usual or not bundles:
            bundles.append(_usual_bundle())
        authorities = [found for bundle in bundles for found in _authorities(Path(bundle))]
        self._trust_root = trustRootFromCertificates(authorities)

    @classmethod
    def of_anybody(cls, verify: bool | str) -> TlsPolicy:
        """Of somebody who has no certificate, and trusts the usual authorities as well.

        :param verify: see :class:`TlsPolicy`.
        """
        return cls(verify, None, also_usual=True)

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """:returns: what sets up TLS with this host."""
        name = hostname.decode("ascii")
        if self._unverified is not None:
            return _TrustAny(self._unverified, hostname)
        creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            name, trustRoot=self._trust_root, clientCertificate=self._client_certificate
        )
        return creator


@implementer(IOpenSSLClientConnectionCreator)
class _TrustAny:
    def __init__(self, options: CertificateOptions, hostname: bytes) -> None:
        self._context = options.getContext()
        self._hostname = hostname
        name = hostname.decode("ascii")
        self._is_address = isIPAddress(name) or isIPv6Address(name)

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """:returns: a connection that names the host but checks nothing."""
        connection = SSL.Connection(self._context, None)
        if not self._is_address:  # which RFC 6066 does not allow as a name
            connection.set_tlsext_host_name(self._hostname)
        return connection


def tls_reason(error: SSL.Error | VerificationError) -> str:
    """Why TLS failed, and what to do."""
    if isinstance(error, VerificationError):
        return "its certificate is for another host: check the URL, or 'cacert'"
    details = "; ".join(part[-1] for part in error.args[0]) if error.args else ""
    if "certificate verify failed" in details:
        return (
            "its certificate is not trusted (certificate verify failed); "
            "name the right authority's file in 'cacert'"
        )
    if "alert" in details and "certificate" in details:
        return f"it wants another client certificate: set 'cert' and 'key' ({details})"
    if not details or "wrong version number" in details:
        return "no TLS connection: it may speak plain http there, so check 'https' in the URL"
    return f"no TLS connection: {details}"


def _usual_bundle() -> str:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(variable):
            return os.environ[variable]
    return requests.utils.DEFAULT_CA_BUNDLE_PATH


def _authorities(bundle: Path) -> Iterator[Certificate]:
    found = False
    for file in sorted(bundle.iterdir()) if bundle.is_dir() else [bundle]:
        readable = file.is_file() or not bundle.exists()
        for pem in _PEM_CERTIFICATE.findall(_read(file, "cacert") if readable else b""):
            found = True
            try:
                yield Certificate.loadPEM(pem)
            except crypto.Error as error:
                raise ConfigError(f"cacert: a certificate in {file} cannot be read") from error
    if not found:
        raise ConfigError(f"cacert: no certificate found in {bundle}")


def _client_certificate(cert: str | tuple[str, str] | None) -> PrivateCertificate | None:
    if cert is None:
        return None
    paths = (cert,) if isinstance(cert, str) else cert
    pem = b"\n".join(_read(Path(path), "cert") for path in paths)
    wrong = ConfigError(
        f"cert: {' and '.join(paths)} must hold a PEM certificate and its unencrypted key"
    )
    if b"ENCRYPTED" in pem:
        raise wrong  # OpenSSL would wait for a passphrase from the terminal
    try:
        certificate: PrivateCertificate = PrivateCertificate.loadPEM(pem)
        return certificate
    except (crypto.Error, ValueError) as error:
        raise wrong from error


def _read(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {file}: {error.strerror}") from error
