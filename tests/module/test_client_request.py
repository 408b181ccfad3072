"""What is known of a client's request."""

from __future__ import annotations

import io

import pytest
from synapse.logging.context import ContextRequest, LoggingContext
from synapse.media._base import FileInfo, ThumbnailInfo
from synapse.media.media_storage import MultipartFileConsumer
from twisted.internet.testing import StringTransport
from twisted.protocols.ftp import FileConsumer
from twisted.web.http import HTTPChannel, Request

from swift_provider.module.client_request import only_looks, request_behind


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


def file(server: str | None = None, thumbnail: ThumbnailInfo | None = None) -> FileInfo:
    return FileInfo(server_name=server, file_id="b", thumbnail=thumbnail)


@pytest.mark.parametrize(("method", "expected"), [("HEAD", True), ("GET", False), ("POST", False)])
def test_the_method_is_in_the_log_context(method: str, expected: bool) -> None:
    """For a HEAD request Synapse needs nothing of the file."""
    with context_of(method):
        assert only_looks(file()) is expected


@pytest.mark.parametrize("prefix", ["/_matrix/client/v1/media", "/_matrix/media/v3"])
@pytest.mark.parametrize(
    ("endpoint", "of", "expected"),
    [
        ("thumbnail", file("other"), True),
        ("thumbnail", file("other", ThumbnailInfo(1, 1, "crop", "image/png", 1)), False),
        ("thumbnail", file(), False),
        ("download", file("other"), False),
    ],
)
def test_thumbnails_of_remote_media(
    prefix: str, endpoint: str, of: FileInfo, expected: bool
) -> None:
    """Synapse fetches the original before it looks for the thumbnail."""
    with context_of("GET", f"{prefix}/{endpoint}/other/b?width=1&height=1"):
        assert only_looks(of) is expected


def test_log_contexts_without_a_request() -> None:
    """Neither the sentinel nor a background process is a HEAD request."""
    assert not only_looks(file())
    with LoggingContext(name="background", server_name="here"):
        assert not only_looks(file())


def test_a_part_of_a_request_has_its_method() -> None:
    """A log context within that of a HEAD request counts as one, too."""
    with (
        context_of("HEAD") as whole,
        LoggingContext(name="part", server_name="here", parent_context=whole),
    ):
        assert only_looks(file())


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
