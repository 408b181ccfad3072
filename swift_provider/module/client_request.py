"""What is known of the request that Synapse is answering.

While Synapse looks for a file (``StorageProvider.fetch``), only the log context tells about
the request. While Synapse delivers the file, the consumer is the request or wraps it.
"""

from __future__ import annotations

import re

from synapse.logging.context import ContextRequest, current_context
from synapse.media._base import FileInfo
from twisted.internet.interfaces import IConsumer
from twisted.web.http import Request

#: The endpoints of the Matrix specification ("Content repository").
AUTHENTICATED = re.compile(r"/_matrix/client/v1/media/(download|thumbnail)/")
OLD = re.compile(r"/_matrix/media/(?:r0|v1|v3)/(download|thumbnail)/")


def only_looks(file_info: FileInfo) -> bool:
    """Whether Synapse probably needs nothing of a file. It may need it all the same, to make a
    thumbnail.

    It needs nothing for a HEAD request. And for a thumbnail of remote media Synapse fetches the
    original first, and drops it (``get_remote_media_info``).
    """
    request = request_in_context()
    if request is None:
        return False
    if request.method == "HEAD":
        return True
    if file_info.server_name is None or file_info.thumbnail is not None:
        return False
    endpoint = AUTHENTICATED.match(request.url) or OLD.match(request.url)
    return endpoint is not None and endpoint[1] == "thumbnail"


def request_in_context() -> ContextRequest | None:
    """What the log context tells of its request; ``None`` if it has none."""
    return current_context().request


def request_behind(consumer: IConsumer) -> Request | None:
    """The request that a consumer answers; ``None`` if it writes to the disk."""
    request = getattr(consumer, "wrapped_consumer", consumer)
    return request if isinstance(request, Request) else None
