"""What is known of a client's request."""

from __future__ import annotations

import io

import pytest
from synapse.logging.context import ContextRequest, LoggingContext
from synapse.media.media_storage import MultipartFileConsumer
from twisted.internet.testing import StringTransport
from twisted.protocols.ftp import FileConsumer
from twisted.web.http import HTTPChannel, Request

from swift_provider.module.client_request import is_head, request_behind


def context_of(method: str, url: str = "") -> LoggingContext:
    """The log context of a request, as ``SynapseRequest.render`` makes it."""
    request = ContextRequest(
        request_id="1",
        ip_address="",
        site_tag="",
        requester=None,
        authenticated_entity=None,
        method=method,
        url=url,
        protocol="",
        user_agent="",
    )
    return LoggingContext(name="1", server_name="here", request=request)


@pytest.mark.parametrize(("method", "expected"), [("HEAD", True), ("GET", False), ("POST", False)])
def test_the_method_is_in_the_log_context(method: str, expected: bool) -> None:
    """Only the log context of a HEAD request is one."""
    with context_of(method):
        assert is_head() is expected


def test_log_contexts_without_a_request() -> None:
    """Neither the sentinel nor a background process is a HEAD request."""
    assert not is_head()
    with LoggingContext(name="background", server_name="here"):
        assert not is_head()


def test_a_part_of_a_request_has_its_method() -> None:
    """A log context within that of a HEAD request counts as one, too."""
    with (
        context_of("HEAD") as whole,
        LoggingContext(name="part", server_name="here", parent_context=whole),
    ):
        assert is_head()


def test_the_request_behind_a_consumer() -> None:
    """A request stands for itself, multipart for what it wraps, and a file for none."""
    channel = HTTPChannel()
    channel.makeConnection(StringTransport())
    channel.setTimeout(None)
    request = Request(channel)
    multipart = MultipartFileConsumer(None, request, "text/plain", {}, "inline", None)
    assert request_behind(request) is request
    assert request_behind(multipart) is request
    assert request_behind(FileConsumer(io.BytesIO())) is None
