"""What Twisted raises about a request, as one of this project's errors."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error as network
from twisted.internet.defer import CancelledError

from swift_provider.client.http.proxies import TunnelRefusedError
from swift_provider.client.http.tls import tls_reason
from swift_provider.errors import (
    ConnectionFailedError,
    SwiftProviderError,
    Target,
    TimedOutError,
    UntrustedServerError,
)


def translated(
    error: BaseException, target: Target, *, server: str, answered: bool
) -> BaseException:
    """The error to raise in place of ``error``.

    :param server: host and port that the request is for.
    :param answered: whether the response's headers had come.
    :returns: an error of this project; or, as it is, a ``CancelledError``, and what the
        request's body raised (an ``OSError`` is the local file's).
    """
    reasons = list(_reasons(error))
    for reason in reasons:
        if isinstance(reason, (CancelledError, network.ConnectingCancelledError)):
            return CancelledError()
        if isinstance(reason, (network.ConnectError, network.DNSLookupError)):
            timed_out = isinstance(reason, network.TimeoutError)
            kind = TimedOutError if timed_out else ConnectionFailedError
            return target.error(kind, f"cannot reach Swift at {server}: {_connect_reason(reason)}")
        if isinstance(reason, (SwiftProviderError, OSError)):
            return reason
    for reason in reasons:
        # Once TLS is agreed on, its errors are those of a broken connection.
        if isinstance(reason, (SSL.Error, VerificationError)) and not answered:
            return target.error(UntrustedServerError, f"Swift at {server}: {tls_reason(reason)}")
    where = "in the middle of its answer" if answered else "before it answered"
    return target.error(ConnectionFailedError, f"Swift at {server} closed the connection {where}")


def server_of(url: bytes) -> str:
    """The host and the port of a URL; nothing else of it, which may be secret."""
    parts = urlsplit(url.decode("latin-1"))
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """An error and those it wraps, as Twisted's request failures do."""
    yield error
    for failure in getattr(error, "reasons", ()):
        yield from _reasons(failure.value)


def _connect_reason(error: BaseException) -> str:
    if isinstance(error, TunnelRefusedError):
        return str(error)
    if isinstance(error, network.ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, network.DNSLookupError):
        return "no such host"
    if isinstance(error, network.TimeoutError):
        return "no answer in time"
    return "network error"
