"""What is known of the request that Synapse is answering.

While Synapse looks for a file (``StorageProvider.fetch``), only the log context tells about
the request. While Synapse delivers the file, the consumer is the request or wraps it.
"""

from __future__ import annotations

from synapse.logging.context import ContextRequest, current_context
from twisted.internet.interfaces import IConsumer
from twisted.web.http import Request


def is_head() -> bool:
    """Whether the log context is that of a HEAD request. False if it has no request.

    Synapse may need the file all the same, to make a thumbnail.
    """
    request = request_in_context()
    return request is not None and request.method == "HEAD"


def request_in_context() -> ContextRequest | None:
    """What the log context tells of its request; ``None`` if it has none."""
    return current_context().request


def request_behind(consumer: IConsumer) -> Request | None:
    """The request that a consumer answers; ``None`` if it writes to the disk."""
    request = getattr(consumer, "wrapped_consumer", consumer)
    return request if isinstance(request, Request) else None
