"""Which responses to a GET bring an object's bytes, and from which byte on.

A status of 2xx and a sign of Swift are not enough. A proxy on the way may compress a body,
or answer with another part of the object than the one that was asked for.
"""

from __future__ import annotations

import re

from swift_provider.client.answers import ObjectInfo, header
from swift_provider.client.http.agent import CONTENT_ENCODING
from swift_provider.client.http.exchange import Exchange
from swift_provider.client.request import Request
from swift_provider.errors import DamagedError, RequestRefusedError

#: RFC 9110 section 14.4. ``*`` stands for a size that is not known.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)

#: Ceph RGW's ETag of an object that was uploaded in parts through its S3 API.
_S3_PARTS = re.compile(r"[0-9a-f]{32}-[0-9]{1,5}")


def check_whole(exchange: Exchange) -> None:
    """Check the status of the answer to a request for a whole object.

    :raises DamagedError: if it does not bring one. Not even 206 and 203 do: nobody asked for
        a part, and 203 stands for a body that a proxy has changed.
    """
    if exchange.status != 200:
        raise exchange.target.error(
            DamagedError, "this is no answer to a GET of a whole object", status=exchange.status
        )


def check_unproven(exchange: Exchange, info: ObjectInfo) -> None:
    """Check the answer to a GET of an object for whose bytes there is no checksum.

    Some objects have none, and only the length of their body can be checked: a dynamic large
    object; a static one whose manifest is not shown; one that was uploaded in parts through
    Ceph's S3 API. Any other object has its MD5 as ETag, so without it a proxy has changed
    the answer: Apache marks the ETag of a body that it compresses, others remove it.

    A body without a checksum that is encoded is served as it is stored, if it has a length.
    A proxy that encodes a body on its way does not know the length in advance.

    :raises DamagedError: if a proxy has changed the answer. It is temporary, because the
        next answer may come another way; what was stored is not in question.
    """
    may_be_unproven = (
        info.static_large or info.dynamic_large or _S3_PARTS.fullmatch(info.etag) is not None
    )
    if not may_be_unproven:
        raise exchange.target.error(
            DamagedError,
            "the answer's ETag is no MD5, so that nothing proves the bytes: a proxy on the way to "
            "Swift may compress or change the answers",
            status=exchange.status,
        )
    if info.size is None and exchange.headers.hasHeader(CONTENT_ENCODING):
        raise exchange.target.error(
            DamagedError,
            "the body is compressed and has no length: a proxy on the way to Swift may compress "
            "the answers",
            status=exchange.status,
        )


def first_byte(request: Request, exchange: Exchange, offset: int, size: int | None) -> int:
    """Where the body of the answer to a request for a part begins in the object.

    :param request: with a ``Range``, or for the whole.
    :param offset: the first byte that was asked for.
    :param size: of the object; ``None`` if it is not known.
    :returns: an offset that is not higher. A server may ignore ``Range``, and send the whole.
    :raises RequestRefusedError: if the body is another part, or one of another object.
    :raises DamagedError: if it is neither the whole nor a part.
    """
    if exchange.status != 206 or b"Range" not in request.headers:
        check_whole(exchange)
        return 0
    shown = header(exchange.headers, b"Content-Range")
    found = _CONTENT_RANGE.fullmatch(shown)
    if found is not None:
        first, last = int(found[1]), int(found[2])
        same_size = size is None or found[3] in ("*", str(size))
        if first <= offset <= last and same_size:
            return first
    raise request.target.error(
        RequestRefusedError, f"asked for the bytes from {offset} on, Swift sends {shown[:60]!r}"
    )
