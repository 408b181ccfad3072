"""The PUT of a file, or of one segment of it, from the first attempt to the proof.

The steps of :func:`upload`, in the order of this file: compute the file's CRC-32 for the
object's metadata, make a fresh body for each attempt, send it
(:mod:`swift_provider.client.requester`), compare the ETag in Swift's answer with the MD5
of what was sent. An object that is not what was sent is overwritten by the next attempt,
and removed after the last one, if Swift still shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from swift_provider.client.answers import (
    ObjectInfo,
    crc32_mark,
    header,
    normal_etag,
    object_info,
)
from swift_provider.client.clean_up import clean_up
from swift_provider.client.crc32 import crc32_of
from swift_provider.client.file_source import FileSource
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester, drained
from swift_provider.client.slots import Lane
from swift_provider.client.threads import Threads
from swift_provider.client.upload_bodies import AT_ONCE_BYTES, Body, make_body
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


class Uploaded(NamedTuple):
    """What was stored: the object's facts, and the CRC-32 of what was read."""

    info: ObjectInfo
    crc32: int


async def upload(
    requester: Requester,
    reading: Threads,
    container: str,
    name: str,
    part: FilePart,
    *,
    noting: Threads | None,
    if_absent: bool = False,
    metadata: Mapping[bytes, bytes] | None = None,
) -> Uploaded:
    """Store a part of a file as one object.

    :param reading: reads and hashes the file, where the part is large.
    :param noting: computes the CRC-32 for the object's metadata, where the part is large;
        ``None`` to store the object without it.
    :param if_absent: do not overwrite. Ceph RGW overwrites all the same.
    :param metadata: further headers, which stay with the object.
    :returns: the ETag is the MD5 of what was read.
    :raises ObjectExistsError: if ``if_absent``, and another object is there.
    :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
    :raises OSError: if the file cannot be read.
    :raises SwiftProviderError: if it failed for good.
    """
    headers = {b"Content-Type": b"application/octet-stream", **(metadata or {})}
    if if_absent:
        headers[b"If-None-Match"] = b"*"
    sent: list[Body] = []
    #: The ETags of answers that do not show what was sent; "" for one without an ETag.
    wrong: set[str] = set()
    crc32 = None

    def fresh_body() -> Body:
        body = make_body(part.source, part.offset, part.size, reading, crc32)
        if noting is not None:
            headers.update(crc32_mark(body.crc32 if crc32 is None else crc32))
        sent.append(body)
        return body

    request = Request(
        "PUT",
        container,
        name,
        headers=headers,
        lane=Lane.WRITE,
        make_body=fresh_body,
        size=part.size,
    )

    async def compare(exchange: Exchange) -> Uploaded:
        if exchange.status == 202:
            # Swift stored nothing: a PUT or DELETE with a newer timestamp came before
            # ("Object PUT returning 202 for 409" in its proxy/controllers/obj.py).
            raise request.target.error(
                ServerBusyError,
                "Swift has a newer object, or a newer deletion, of this name",
                status=exchange.status,
            )
        etag = normal_etag(header(exchange.headers, b"ETag"))
        if etag != sent[-1].md5:
            wrong.add(etag)
            # The object that is there now is ours: the next attempt has to overwrite it.
            headers.pop(b"If-None-Match", None)
            raise request.target.error(DamagedError, _not_proven(etag), status=exchange.status)
        await drained(exchange)
        return Uploaded(object_info(name, exchange.headers, part.size), sent[-1].crc32)

    if noting is not None and part.size > AT_ONCE_BYTES:
        # Headers go before the body, so the file is read twice; the second time it mostly
        # comes from the page cache. No slot is held meanwhile.
        crc32 = await requester.within_limit(_crc32_of(part.source, noting), request)
    try:
        return await requester.perform(request, compare)
    except ObjectExistsError:
        # It may be the object of an earlier attempt whose answer was lost.
        found = await _found(requester, container, name, sent) if len(sent) > 1 else None
        if found is None:
            raise
        return found
    except Exception as error:  # a cancellation is one of them
        if not wrong:
            raise
        looking = _found_or_removed(requester, container, name, sent, wrong)
        found = None
        try:
            found = await clean_up(requester.clock, request.target, error, looking)
        except SwiftProviderError as failed:
            logger.warning("A damaged object may be left in Swift: %s", failed)
        if found is None:
            raise
        return found


async def _crc32_of(source: FileSource, noting: Threads) -> int:
    return await noting.run(crc32_of, source)


def _not_proven(etag: str) -> str:
    if etag:
        return "what Swift stored is not what was sent"
    return (
        "Swift's answer lacks the ETag, which would show what it stored; perhaps a proxy "
        "in between removes it"
    )


async def _found(
    requester: Requester, container: str, name: str, sent: list[Body]
) -> Uploaded | None:
    """The object, if it is what one of the attempts sent to its end."""
    try:
        return _proven(await requester.head(container, name, newest=True), sent)
    except ObjectNotFoundError:
        return None


def _proven(info: ObjectInfo, sent: list[Body]) -> Uploaded | None:
    if not info.is_plain or info.expires:
        return None
    complete = {body.md5: body.crc32 for body in sent if body.finished}
    return Uploaded(info, complete[info.etag]) if info.etag in complete else None


async def _found_or_removed(
    requester: Requester, container: str, name: str, sent: list[Body], wrong: set[str]
) -> Uploaded | None:
    """Look whether the object really is damaged, and remove it if so.

    :param wrong: ETags with which Swift answered our PUTs. An object with another ETag is
        not the one that those PUTs stored, and one without an ETag may be whole.
    :returns: the object, if it is what was sent after all.
    :raises SwiftProviderError: if it failed for good.
    """
    try:
        info = await requester.head(container, name, newest=True)
    except ObjectNotFoundError:
        return None
    found = _proven(info, sent)
    if found is None and info.is_plain and info.etag in wrong:
        request = Request("DELETE", container, name, accepts=frozenset({404}))
        await requester.perform(request, drained)
    return found
