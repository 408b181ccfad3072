"""Downloads the object of a media to see whether its content is what Synapse stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from swift_provider.client import Place
from swift_provider.errors import DamagedError, KeptError
from swift_provider.offload.disk import Expected


async def content_flaw(store: Place, file: Expected, received: Callable[[int], None]) -> str | None:
    """Read an object to its end, and compare its content with the database.

    The SHA-256 in Synapse's database is compared, because nothing in Swift can alter it.
    Media from before Synapse 1.128 have none: their objects are compared with Swift's own
    ETag. No byte is kept.

    :param received: called with the number of bytes of each chunk.
    :returns: what is wrong, for a person; ``None`` if nothing is.
    :raises KeptError: if neither the database nor Swift has anything to compare it with.
    :raises ObjectNotFoundError: if there is no such object.
    :raises SwiftProviderError: if Swift fails for good.
    """
    try:
        return await _compare(store, file, received)
    except DamagedError:
        # On their way, or only one of the object's replicas is bad: read it once more.
        pass
    try:
        return await _compare(store, file, received)
    except DamagedError:
        return "its bytes are not those that were stored"


async def _compare(store: Place, file: Expected, received: Callable[[int], None]) -> str | None:
    content = _Hashed(received)
    download = await store.get(file.path, prove=file.sha256 is None)
    try:
        if file.sha256 is None and not download.checked:
            raise KeptError("neither Synapse's database nor Swift can prove its content")
        await download.deliver(content)
    finally:
        download.abandon()
    if content.size not in file.lengths:
        return "its length is not the one in Synapse's database"
    if file.sha256 is not None and content.sha256.hexdigest() != file.sha256.lower():
        return "its SHA-256 is not the one in Synapse's database"
    return None


@implementer(IConsumer)
class _Hashed:
    """Hashes what it consumes, and keeps nothing."""

    def __init__(self, received: Callable[[int], None]) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0
        self._received = received

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Ignores the producer: this consumer never pauses it."""

    def unregisterProducer(self) -> None:
        """Ignores the end: the result of ``deliver`` tells it."""

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size += len(data)
        self._received(len(data))
