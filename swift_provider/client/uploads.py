"""The PUT of a file, or of one segment of it, from the first attempt to the proof.

The steps of :func:`upload`, in the order of this file: make a fresh body for each
attempt, send it (:mod:`swift_provider.client.requester`), compare the ETag in Swift's
answer with the MD5 of what was sent. An object that is not what was sent is overwritten
by the next attempt, and removed after the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from swift_provider.client.answers import ObjectInfo, header, normal_etag, object_info
from swift_provider.client.file_source import FileSource
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester, drained
from swift_provider.client.slots import Lane
from swift_provider.client.threads import Threads
from swift_provider.client.upload_bodies import Body, make_body
from swift_provider.errors import (
    DamagedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ServerBusyError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)


class FilePart(NamedTuple):
    """What becomes one object: a whole file, or one segment. Offset and size in bytes."""

    source: FileSource
    offset: int
    size: int


async def upload(
    requester: Requester,
    reading: Threads,
    container: str,
    name: str,
    part: FilePart,
    *,
    if_absent: bool = False,
    metadata: Mapping[bytes, bytes] | None = None,
) -> ObjectInfo:
    """Store a part of a file as one object.

    :param reading: reads and hashes the file, where the part is large.
    :param if_absent: do not overwrite. Ceph RGW overwrites all the same.
    :param metadata: further headers, which stay with the object.
    :returns: the object's facts; its ETag is the MD5 of what was read.
    :raises ObjectExistsError: if ``if_absent``, and another object is there.
    :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
    :raises OSError: if the file cannot be read.
    :raises SwiftProviderError: if it failed for good.
    """
    headers = {b"Content-Type": b"application/octet-stream", **(metadata or {})}
    if if_absent:
        headers[b"If-None-Match"] = b"*"
    sent: list[Body] = []
    damaged = False

    def fresh_body() -> Body:
        sent.append(make_body(part.source, part.offset, part.size, reading))
        return sent[-1]

    request = Request(
        "PUT",
        container,
        name,
        headers=headers,
        lane=Lane.WRITE,
        make_body=fresh_body,
        size=part.size,
    )

    async def compare(exchange: Exchange) -> ObjectInfo:
        nonlocal damaged
        if exchange.status == 202:
            # Swift stored nothing: a PUT or DELETE with a newer timestamp came before
            # ("Object PUT returning 202 for 409" in its proxy/controllers/obj.py).
            raise request.target.error(
                ServerBusyError,
                "Swift has a newer object, or a newer deletion, of this name",
                status=exchange.status,
            )
        damaged = normal_etag(header(exchange.headers, b"ETag")) != sent[-1].md5
        if damaged:
            # The object that is there now is ours: the next attempt has to overwrite it.
            headers.pop(b"If-None-Match", None)
            raise request.target.error(
                DamagedError, "what Swift stored is not what was sent", status=exchange.status
            )
        await drained(exchange)
        return object_info(name, exchange.headers, part.size)

    try:
        return await requester.perform(request, compare)
    except ObjectExistsError:
        # It may be the object of an earlier attempt whose answer was lost.
        found = await _found(requester, container, name, sent) if len(sent) > 1 else None
        if found is None:
            raise
        return found
    except Exception:  # a cancellation is one of them
        if not damaged:
            raise
        found = await _found_or_removed(requester, container, name, sent)
        if found is None:
            raise
        return found


async def _found(
    requester: Requester, container: str, name: str, sent: list[Body]
) -> ObjectInfo | None:
    """The object, if it is what one of the attempts sent to its end."""
    try:
        info = await requester.head(container, name, newest=True)
    except ObjectNotFoundError:
        return None
    complete = {body.md5 for body in sent if body.finished}
    is_ours = info.is_plain and not info.expires and info.etag in complete
    return info if is_ours else None


async def _found_or_removed(
    requester: Requester, container: str, name: str, sent: list[Body]
) -> ObjectInfo | None:
    """Look whether the object really is damaged, and remove it if so."""
    try:
        info = await _found(requester, container, name, sent)
        if info is None:
            request = Request("DELETE", container, name, accepts=frozenset({404}))
            await requester.perform(request, drained)
        return info
    except SwiftProviderError as error:
        logger.warning("A damaged object is left in Swift as %s/%s: %s", container, name, error)
        return None
