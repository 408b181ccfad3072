"""What Twisted raises, as an error of this project."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web._newclient import ParseError, RequestGenerationFailed
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from swift_provider.client import Place, SwiftClient
from swift_provider.client.http.failures import translated
from swift_provider.client.http.proxies import TunnelRefusedError
from swift_provider.errors import (
    ConfigError,
    ConnectionFailedError,
    FileChangedError,
    SwiftError,
    Target,
    TimedOutError,
    UntrustedServerError,
)
from tests.client.conftest import Faulty


async def test_a_refused_connection_says_so(faulty: Faulty, container: str) -> None:
    """The error names a refused connection, and the server."""
    store = faulty.store(container)
    server = f"127.0.0.1:{faulty.proxy.port}"
    await faulty.proxy.refuse()
    with pytest.raises(ConnectionFailedError) as caught:
        await store.get("object")
    assert caught.value.reason == f"cannot reach Swift at {server}: connection refused"


async def test_an_unknown_host_says_so(
    make_client: Callable[..., SwiftClient], container: str
) -> None:
    """The error names a host that cannot be resolved."""
    store = Place(make_client(storage_url="http://swift.invalid/v1/AUTH_x"), container)
    with pytest.raises(ConnectionFailedError, match="no such host"):
        await store.get("object")


# Each failure of Twisted

TARGET = Target("GET", "box", "name")


def wrapped(*errors: BaseException) -> ResponseNeverReceived:
    """As Twisted raises what broke a request."""
    return ResponseNeverReceived([Failure(error) for error in errors])


def tls_error(reason: str) -> SSL.Error:
    return SSL.Error([("SSL routines", "", reason)])


CASES: list[tuple[BaseException, bool, type[BaseException], str]] = [
    # No connection
    (error.ConnectionRefusedError(), False, ConnectionFailedError, "connection refused"),
    (error.DNSLookupError(), False, ConnectionFailedError, "no such host"),
    (error.TimeoutError(), False, TimedOutError, "no answer in time"),
    (error.TCPTimedOutError(), False, ConnectionFailedError, "cannot reach"),
    (error.NoRouteError(), False, ConnectionFailedError, "network error"),
    (error.ConnectError(), False, ConnectionFailedError, "network error"),
    (
        TunnelRefusedError("it answered CONNECT with '502'"),
        False,
        ConnectionFailedError,
        "the proxy opened no tunnel: it answered CONNECT with '502'",
    ),
    # A connection that is lost
    (wrapped(error.ConnectionLost()), False, ConnectionFailedError, "before it answered"),
    (wrapped(error.ConnectionDone()), False, ConnectionFailedError, "before it answered"),
    (error.ConnectionLost(), True, ConnectionFailedError, "in the middle of its answer"),
    (
        ResponseFailed([Failure(error.ConnectionLost())]),
        True,
        ConnectionFailedError,
        "in the middle",
    ),
    (ParseError("nonsense", b""), False, ConnectionFailedError, "before it answered"),
    (RuntimeError("anything else"), False, ConnectionFailedError, "before it answered"),
    # TLS
    (
        wrapped(tls_error("certificate verify failed")),
        False,
        UntrustedServerError,
        "'cacert'",
    ),
    (
        wrapped(error.ConnectionLost(), tls_error("certificate verify failed")),
        False,
        UntrustedServerError,
        "'cacert'",
    ),
    (wrapped(VerificationError([])), False, UntrustedServerError, "another host"),
    (tls_error("bad record mac"), True, ConnectionFailedError, "in the middle of its answer"),
]


@pytest.mark.parametrize(
    ("raised", "answered", "kind", "reason"), CASES, ids=lambda it: repr(it)[:60]
)
def test_each_failure_has_its_error(
    raised: BaseException, answered: bool, kind: type[BaseException], reason: str
) -> None:
    """Each failure becomes one kind of error, about the request, with its reason."""
    found = translated(raised, TARGET, server="swift.example:443", answered=answered)
    assert type(found) is kind
    assert isinstance(found, SwiftError)
    assert reason in found.reason
    assert (found.operation, found.container, found.name) == ("GET", "box", "name")


@pytest.mark.parametrize(
    "raised",
    [
        CancelledError(),
        error.ConnectingCancelledError(IPv4Address("TCP", "127.0.0.1", 1)),
        wrapped(CancelledError()),
    ],
)
def test_a_cancellation_stays_one(raised: BaseException) -> None:
    """A cancelled request is not an error of Swift, in whatever way Twisted says it."""
    assert type(translated(raised, TARGET, server="x:1", answered=False)) is CancelledError


@pytest.mark.parametrize(
    "raised", [OSError(5, "Input/output error"), FileChangedError("it shrank"), ConfigError("no")]
)
def test_what_the_body_raises_stays_as_it_is(raised: Exception) -> None:
    """The local file's errors and our own reach the caller unchanged, wrapped or not."""
    assert translated(raised, TARGET, server="x:1", answered=False) is raised
    sending = RequestGenerationFailed([Failure(raised)])
    assert translated(sending, TARGET, server="x:1", answered=False) is raised
    assert (
        translated(wrapped(error.ConnectionLost(), raised), TARGET, server="x:1", answered=False)
        is raised
    )
