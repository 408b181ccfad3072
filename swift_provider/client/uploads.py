"""The PUT of one object, from the first attempt to the proof.

The steps of :func:`upload`, in the order of this file: prepare what is to be sent (such as
the CRC-32 for the object's metadata), make a fresh body for each attempt, send it
(:mod:`swift_provider.client.requester`), compare the ETag in Swift's answer with the MD5
of what was sent. An object that is not what was sent is overwritten by the next attempt,
and removed after the last one, if Swift still shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from swift_provider.client.answers import (
    CONTENT_CRC32_HEADER,
    ObjectInfo,
    crc32_mark,
    header,
    normal_etag,
    object_info,
)
from swift_provider.client.clean_up import clean_up
from swift_provider.client.drained import drained
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.client.requester import Requester
from swift_provider.client.slots import Lane
from swift_provider.client.symlinks import expires_as_link
from swift_provider.client.upload_bodies import Body
from swift_provider.client.upload_sources import Part
from swift_provider.errors import (
    DamagedError,
    NewerObjectError,
    ObjectExistsError,
    ObjectNotFoundError,
    SwiftProviderError,
)

logger = logging.getLogger(__name__)


class Uploaded(NamedTuple):
    """What was stored: the object's facts, and the CRC-32 of what was read."""

    info: ObjectInfo
    crc32: int


async def upload(
    requester: Requester,
    container: str,
    name: str,
    part: Part,
    *,
    if_absent: bool = False,
    metadata: Mapping[bytes, bytes] | None = None,
) -> Uploaded:
    """Store a part of what is uploaded as one object.

    :param if_absent: do not overwrite. Ceph RGW overwrites all the same.
    :param metadata: further headers, which stay with the object.
    :returns: the ETag is the MD5 of what was read.
    :raises ObjectExistsError: if ``if_absent``, and another object is there.
    :raises FileChangedError: if the file changed meanwhile; nothing was stored then.
    :raises OSError: if the file cannot be read.
    :raises SwiftProviderError: if it failed for good, also what reading the part raised.
    """
    headers = {b"Content-Type": b"application/octet-stream", **(metadata or {})}
    if if_absent:
        headers[b"If-None-Match"] = b"*"
    sent: list[Body] = []
    #: The ETags of answers that do not show what was sent; "" for one without an ETag.
    wrong: set[str] = set()

    def fresh_body() -> Body:
        body = part.fresh_body()
        headers.pop(CONTENT_CRC32_HEADER, None)
        if part.notes and body.declared_crc32 is not None:
            headers.update(crc32_mark(body.declared_crc32))
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
        take_slot=part.take_slot,
    )

    async def compare(exchange: Exchange) -> Uploaded:
        check_stored(request, exchange)
        etag = normal_etag(header(exchange.headers, b"ETag"))
        if etag != sent[-1].md5:
            wrong.add(etag)
            # The object that is there now is ours: the next attempt has to overwrite it.
            headers.pop(b"If-None-Match", None)
            raise request.target.error(DamagedError, _not_proven(etag), status=exchange.status)
        await drained(exchange)
        return Uploaded(object_info(name, exchange.headers, part.size), sent[-1].crc32)

    preparation = part.preparation()
    if preparation is not None:
        await requester.within_limit(preparation, request)
    try:
        return await requester.perform(request, compare, requester.new_tries(part.progress))
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
            logger.warning(
                "A damaged object may be left in Swift, and verify --deep finds it: %s",
                failed,
            )
        if found is None:
            raise
        return found


def check_stored(request: Request, exchange: Exchange) -> None:
    """Refuse an answer to the PUT of an object or a manifest by which nothing was stored.

    A PUT or DELETE with a newer timestamp came before ("Object PUT returning 202 for 409" in
    Swift's proxy/controllers/obj.py). The ETag does not show it: that of a manifest is set by the
    middleware for any 2xx.

    :raises NewerObjectError: if it is one.
    """
    if exchange.status == 202:
        raise request.target.error(
            NewerObjectError,
            "Swift has the object, or its deletion, with a later time",
            status=exchange.status,
        )


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
        info = await requester.head(container, name, newest=True)
        found = _proven(info, sent)
        if found is not None and await expires_as_link(requester, container, info):
            return None
        return found
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
        with suppress(ObjectNotFoundError):
            await requester.perform(Request("DELETE", container, name), drained)
    return found
